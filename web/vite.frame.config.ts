import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';
import apps from './vite.config.ts';

const OWN = '.vite/frame.json';

/** The server reads one manifest: this build's entries join those of the apps. */
const joinManifests: Plugin = {
  name: 'join-manifests',
  writeBundle({ dir = '' }) {
    const shared = `${dir}/.vite/manifest.json`;
    const read = (file: string): object => (existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as object) : {});
    writeFileSync(shared, `${JSON.stringify({ ...read(shared), ...read(`${dir}/${OWN}`) }, null, 2)}\n`);
    rmSync(`${dir}/${OWN}`);
  },
};

/** The customer's frame is built by itself: in a common build it would share chunks with the console, and every feature
 *  that the console takes from a library would be paid for on a customer's phone. */
export default defineConfig({
  ...apps,
  plugins: [svelte(), joinManifests],
  build: {
    ...apps.build,
    emptyOutDir: false,
    manifest: OWN,
    rolldownOptions: { input: [`${apps.root ?? '.'}/customer-widget/frame/main.ts`] },
  },
});

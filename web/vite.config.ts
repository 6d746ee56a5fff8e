import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

const web = fileURLToPath(new URL('.', import.meta.url));

/** The apps: their paths are the keys under which the server finds them in the manifest. */
const ENTRIES = ['login/main.ts', 'agent/main.ts', 'admin/main.ts'];

export default defineConfig({
  root: web,
  base: '/static/',
  plugins: [svelte()],
  build: {
    outDir: '../server/static',
    emptyOutDir: true,
    manifest: true,
    target: ['chrome111', 'firefox115', 'safari16.4'],
    assetsInlineLimit: 0, // the CSP has no `data:`
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ENTRIES.filter((entry) => existsSync(`${web}/${entry}`)).map((entry) => `${web}/${entry}`) },
  },
  test: {
    include: ['**/*.test.ts'],
    environment: 'node',
  },
});

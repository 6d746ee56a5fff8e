// Fails when the widget outgrows its budget (gzip): the loader on the host page, and all that the frame loads at first.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { gzipSync } from 'node:zlib';

const built = resolve(process.argv[2] ?? '../server/static');
const FRAME = 'customer-widget/frame/main.ts';
const LOADER_BYTES = 3 * 1024;
const FRAME_BYTES = 60 * 1024;

const size = (file) => gzipSync(readFileSync(`${built}/${file}`), { level: 9 }).length;

const manifest = JSON.parse(readFileSync(`${built}/.vite/manifest.json`, 'utf8'));
const files = new Set();
const collect = (key) => {
  const chunk = manifest[key];
  if (!chunk) throw new Error(`${key} is not in the manifest: build first`);
  files.add(chunk.file);
  for (const css of chunk.css ?? []) files.add(css);
  for (const imported of chunk.imports ?? []) collect(imported);
};
collect(FRAME);

const figures = [
  ['loader', size('widget.js'), LOADER_BYTES],
  ['frame', [...files].reduce((sum, file) => sum + size(file), 0), FRAME_BYTES],
];
for (const [name, bytes, budget] of figures) {
  console.log(`${name}: ${bytes} of ${budget} bytes${bytes > budget ? '  OVER BUDGET' : ''}`);
}
if (figures.some(([, bytes, budget]) => bytes > budget)) process.exit(1);

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

/** The loader is one classic script beside the apps, `widget.js`: a host page's `<script async>` takes no module. */
export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  build: {
    outDir: '../server/static',
    emptyOutDir: false,
    copyPublicDir: false,
    target: ['chrome111', 'firefox115', 'safari16.4'],
    lib: {
      entry: 'customer-widget/loader/main.ts',
      formats: ['iife'],
      name: 'patchbayWidget',
      fileName: () => 'widget.js',
    },
  },
});

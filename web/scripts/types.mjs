// Writes core/src/wire.ts from server/signaling/protocol.py. `--check` only compares, and fails when it is stale.
// PATCHBAY_PYTHON names the interpreter that can import `server`; without it: the repository's .venv, then python3.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { compile } from 'json-schema-to-typescript';

const root = fileURLToPath(new URL('../..', import.meta.url));
const target = fileURLToPath(new URL('../core/src/wire.ts', import.meta.url));
const venv = `${root}/.venv/bin/python`;
const python = process.env['PATCHBAY_PYTHON'] ?? (existsSync(venv) ? venv : 'python3');

const schema = JSON.parse(
  execFileSync(python, ['-m', 'server.signaling.wire_schema'], { cwd: root, encoding: 'utf8' }),
);
const compiled = await compile(schema, 'Wire', {
  additionalProperties: false,
  unreachableDefinitions: true,
  ignoreMinAndMaxItems: true,
  bannerComment: '// Made from server/signaling/protocol.py by `npm run types`. Do not edit.',
  style: { singleQuote: true, printWidth: 110 },
});

// The compiler notes at every type where it came from, and writes the root document out as a type: neither tells a
// reader anything.
const source = compiled
  .replace(/^ \* This interface was referenced by `Wire`'s JSON-Schema\n \* via the `definition` "\w+"\.\n/gm, '')
  .replace(/^ \*\n \*\/$/gm, ' */')
  .replace(/^\/\*\*\n \*\/\n/gm, '')
  .replace(/^\/\*\*\n \* Wire version 1\n \*\/\nexport interface Wire \{\n.*\n\}\n/m, '');

if (process.argv.includes('--check')) {
  if (!existsSync(target) || readFileSync(target, 'utf8') !== source) {
    console.error('web/core/src/wire.ts is not current: run `npm run types` in web/');
    process.exit(1);
  }
} else {
  writeFileSync(target, source);
}

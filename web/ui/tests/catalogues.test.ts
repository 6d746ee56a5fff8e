// Every catalogue of these pages: the same keys in both languages, the same placeholders, nothing empty, and no key
// that no view asks for.

import { describe, expect, it } from 'vitest';
import * as admin from '../../admin/texts';
import * as agent from '../../agent/texts';
import * as login from '../../login/texts';
import { uiEn, uiZh } from '../texts';

const SOURCES = import.meta.glob<string>(
  ['/{ui,login,agent,admin}/**/*.{svelte,ts}', '!/**/texts.ts', '!/**/*.test.ts'],
  { query: '?raw', import: 'default', eager: true },
);
const placeholders = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? '').sort();

const CATALOGUES: Record<string, { en: Record<string, string>; zh: Record<string, string>; folders: string[] }> = {
  ui: { en: uiEn, zh: uiZh, folders: ['ui', 'login', 'agent', 'admin'] },
  login: { ...login, folders: ['login'] },
  agent: { ...agent, folders: ['agent'] },
  admin: { ...admin, folders: ['admin'] },
};

function sources(folder: string): string {
  const own = Object.entries(SOURCES).filter(([path]) => path.startsWith(`/${folder}/`));
  return own.map(([, code]) => code).join('\n');
}

/** Keys that views put together: `users.role_${role}` asks for all that begin so. */
function isAsked(key: string, code: string): boolean {
  const stem = key.replace(/\.(one|other)$/, '');
  if (code.includes(`'${key}'`) || code.includes(`'${stem}'`)) return true;
  return [...key.matchAll(/[._]/g)].some((match) => code.includes(`\`${key.slice(0, match.index + 1)}\${`)) || asksByNoun(key, code);
}

/** `${noun}.new` asks for `dispositions.new`. */
function asksByNoun(key: string, code: string): boolean {
  return code.includes(`\`\${noun}${key.slice(key.indexOf('.'))}\``);
}

for (const [name, { en, zh, folders }] of Object.entries(CATALOGUES)) {
  describe(name, () => {
    it('has the same keys in both languages', () => expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort()));

    it('has the same placeholders, and no empty text', () => {
      for (const [key, text] of Object.entries(en)) {
        expect(text, key).not.toBe('');
        expect(zh[key], key).not.toBe('');
        expect(placeholders(zh[key] ?? ''), key).toEqual(placeholders(text));
      }
    });

    it('holds no text that nobody asks for', () => {
      const code = folders.map(sources).join('\n');
      const own = Object.keys(en).filter((key) => name === 'ui' || !(key in uiEn));
      // Error codes come from the server.
      expect(own.filter((key) => !key.startsWith('error.') && !isAsked(key, code))).toEqual([]);
    });
  });
}

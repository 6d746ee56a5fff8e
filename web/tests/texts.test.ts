import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

type Texts = Record<string, string>;

const WEB = fileURLToPath(new URL('..', import.meta.url));

/** Every `texts.ts` of the tree: each has an English and a Chinese catalogue. */
const catalogues = import.meta.glob<Record<string, Texts>>('../*/**/texts.ts', { eager: true });

it('finds the catalogues', () => {
  expect(Object.keys(catalogues)).toContain('../core/src/texts.ts');
  expect(Object.keys(catalogues)).toContain('../customer-widget/frame/texts.ts');
});

describe.each(Object.entries(catalogues))('%s', (_file, exported) => {
  const named = (end: RegExp) => Object.entries(exported).find(([name]) => end.test(name))?.[1] ?? {};
  const en = named(/en$/i);
  const zhCN = named(/zh(cn)?$/i);

  it('has the same keys and placeholders in both languages, and no empty text', () => {
    const holes = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
    expect(Object.keys(en)).not.toEqual([]);
    expect(Object.keys(zhCN).sort()).toEqual(Object.keys(en).sort());
    for (const [key, text] of Object.entries(en)) {
      const other = zhCN[key] ?? '';
      expect(other, key).not.toBe('');
      // A singular may do without its number.
      if (!key.endsWith('.one')) expect(holes(other), key).toEqual(holes(text));
    }
  });
});

/** Letters that a component would show in one language only: between tags, or in an attribute that is read out. */
function hardCoded(source: string): string[] {
  const markup = source
    .replace(/<(script|style|kbd)\b[\s\S]*?<\/\1>/g, '') // keys have the same names everywhere
    .replace(/<!--[\s\S]*?-->/g, '');
  const plain = markup.replace(/\{[^{}]*(\{[^{}]*(\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}/g, '');
  const between = [...plain.replace(/=>/g, '').matchAll(/>([^<]*)</g)].map(([, text]) => (text ?? '').trim());
  const attributes = [...plain.matchAll(/\s(?:title|placeholder|alt|aria-label)="([^"]*)"/g)].map(([, text]) => text ?? '');
  return [...between, ...attributes].filter((text) => /\p{L}{2,}/u.test(text));
}

const components = readdirSync(WEB, { recursive: true, encoding: 'utf8' }).filter(
  (file) => file.endsWith('.svelte') && !file.includes('node_modules'),
);

it.each(components)('%s says nothing that is not in a catalogue', (file) => {
  expect(hardCoded(readFileSync(`${WEB}/${file}`, 'utf8'))).toEqual([]);
});

it('the check finds hard-coded text', () => {
  expect(hardCoded('<p class="x">Hello {name}</p>')).toEqual(['Hello']);
  expect(hardCoded('<button aria-label="Close">{i18n.t("a.b")}</button>')).toEqual(['Close']);
});

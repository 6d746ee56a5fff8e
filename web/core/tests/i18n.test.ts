import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import * as widget from '../../customer-widget/frame/texts';
import { createI18n, pickLocale } from '../src/i18n';
import { en, zhCN } from '../src/texts';

const WEB = fileURLToPath(new URL('../..', import.meta.url));
const english = createI18n({ en: { 'a.one': '{n} thing', 'a.other': '{n} things' }, 'zh-CN': { 'a.one': 'x', 'a.other': '{n} 个' } }, 'en');
const chinese = createI18n({ en: { 'a.one': '', 'a.other': '' }, 'zh-CN': { 'a.one': '', 'a.other': '{n} 个' } }, 'zh-CN');

describe('texts', () => {
  it('number, plural, unknown codes', () => {
    expect(english.plural('a', 1)).toBe('1 thing');
    expect(english.plural('a', 1234)).toBe('1,234 things');
    expect(chinese.plural('a', 2)).toBe('2 个');
    expect(english.error('offer_taken', { agent: 'Bo' })).toBe('Taken by Bo.');
    expect(english.error('brand_new')).toContain('brand_new');
    expect(chinese.endReason('brand_new')).toBe(zhCN['end.unknown']);
  });

  it('durations', () => {
    expect(english.duration(0)).toBe('0:00');
    expect(english.duration(67_900)).toBe('1:07');
    expect(english.duration(3_723_000)).toBe('1:02:03');
    expect(english.duration(-5)).toBe('0:00');
    expect(english.spokenDuration(67_000)).toBe('1 minute 7 seconds');
  });

  it('the locale: what was asked for, else what the browser prefers, else English', () => {
    expect(pickLocale('zh-TW', ['en'])).toBe('zh-CN');
    expect(pickLocale('auto', ['fr', 'zh'])).toBe('zh-CN');
    expect(pickLocale('fr', ['fr'])).toBe('en');
    expect(pickLocale(null, ['de', 'en-GB'])).toBe('en');
  });
});

describe.each([
  ['core', en, zhCN],
  ['widget', widget.en, widget.zhCN],
])('the catalogues of %s', (_name, first, second) => {
  it('have the same keys and the same placeholders, and no empty text', () => {
    const holes = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
    expect(Object.keys(second).sort()).toEqual(Object.keys(first).sort());
    for (const [key, text] of Object.entries(first)) {
      const other = (second as Record<string, string>)[key] ?? '';
      expect(other, key).not.toBe('');
      expect(holes(other), key).toEqual(holes(text));
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

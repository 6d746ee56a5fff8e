import { describe, expect, it } from 'vitest';
import { createI18n, pickLocale } from '../src/i18n';
import { zhCN } from '../src/texts';

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

  it('times to the minute, and to the second', () => {
    const at = new Date(2026, 0, 5, 9, 7, 42).getTime();
    for (const texts of [english, chinese]) {
      expect(texts.dateTime(at)).not.toContain('42');
      expect(texts.exactTime(at)).toContain('07:42'.slice(1));
    }
  });

  it('the locale: what was asked for, else what the browser prefers, else English', () => {
    expect(pickLocale('zh-TW', ['en'])).toBe('zh-CN');
    expect(pickLocale('auto', ['fr', 'zh'])).toBe('zh-CN');
    expect(pickLocale('fr', ['fr'])).toBe('en');
    expect(pickLocale(null, ['de', 'en-GB'])).toBe('en');
  });
});

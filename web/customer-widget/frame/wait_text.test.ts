import { describe, expect, it } from 'vitest';
import { createI18n } from '../../core/src/i18n';
import { en, zhCN } from './texts';
import { waitText } from './wait_text';

const english = createI18n({ en, 'zh-CN': zhCN }, 'en');
const chinese = createI18n({ en, 'zh-CN': zhCN }, 'zh-CN');

describe('the wait', () => {
  it('is a range of seconds or of minutes', () => {
    expect(waitText({ low_s: 20, high_s: 50 }, english)).toBe('About 20–50 sec');
    expect(waitText({ low_s: 60, high_s: 180 }, english)).toBe('About 1–3 min');
    expect(waitText({ low_s: 60, high_s: 180 }, chinese)).toBe('预计还需 1-3分钟');
  });

  it('names one number where that is all there is to say', () => {
    expect(waitText({ low_s: 0, high_s: 10 }, english)).toBe('Up to 10 sec');
    expect(waitText({ low_s: 120, high_s: 120 }, english)).toBe('About 120 sec');
    expect(waitText({ low_s: 0, high_s: 240 }, chinese)).toBe('预计不超过 4分钟');
  });
});

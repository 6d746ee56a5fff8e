import { expect, it } from 'vitest';
import { openingTime } from './opening_time';

it('tells the opening in the zone of who reads it', () => {
  const at = Date.UTC(2026, 10, 23, 8);
  expect(openingTime(at, 'en', 'Europe/Berlin')).toMatch(/^Monday, November 23 at 9:00.AM$/u);
  expect(openingTime(at, 'en', 'Pacific/Auckland')).toMatch(/^Monday, November 23 at 9:00.PM$/u);
  expect(openingTime(at, 'zh-CN', 'Asia/Shanghai')).toContain('16:00');
  expect(openingTime(null, 'en')).toBeNull();
});

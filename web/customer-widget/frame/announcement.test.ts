import { describe, expect, it } from 'vitest';
import { createI18n } from '../../core/src/i18n';
import { initialCustomer, type CustomerState } from '../../core/src/state/customer';
import { callView } from '../../core/tests/fakes';
import { announcement, placeInLine } from './announcement';
import { en, zhCN } from './texts';

const english = createI18n({ en, 'zh-CN': zhCN }, 'en');
const chinese = createI18n({ en, 'zh-CN': zhCN }, 'zh-CN');
const waiting: CustomerState = { ...initialCustomer, phase: 'live', call: callView({}), connection: { name: 'online' } };

describe('the place in the queue', () => {
  it('is named as soon as it is known', () => {
    expect(placeInLine(null, english)).toBe('You are in the queue');
    expect(placeInLine(1, english)).toBe('You are next in line');
    expect(placeInLine(3, english)).toBe('Number 3 in line');
    expect(placeInLine(1, chinese)).toBe('下一位就是您');
    expect(placeInLine(3, chinese)).toBe('您排在第 3 位');
  });

  it('is read out, also to the only one who waits', () => {
    expect(announcement({ ...waiting, position: 1 }, english)).toBe('You are next in line');
    expect(announcement({ ...waiting, position: 2 }, english)).toBe('Number 2 in line');
  });

  it('that is kept is read out when its turn comes', () => {
    const away: CustomerState = { ...waiting, call: callView({ state: 'place_kept' }) };
    expect(announcement({ ...away, position: 3 }, english)).toBe('Your place is kept');
    expect(announcement({ ...away, position: 1 }, english)).toBe('It is your turn soon. Come back now.');
  });
});

import { expect, it } from 'vitest';
import { createI18n } from '../../core/src/i18n';
import { en, zh } from '../texts';
import { endingText } from './ending';

it('tells the agent about themself in the second person', () => {
  const english = createI18n({ en, 'zh-CN': zh }, 'en');
  expect(endingText(english, 'agent_hung_up')).toBe('You ended the call.');
  expect(endingText(english, 'customer_hung_up')).toBe('The customer hung up.');
  expect(endingText(english, null)).toBe('The call is over.');
  expect(endingText(createI18n({ en, 'zh-CN': zh }, 'zh-CN'), 'agent_hung_up')).toBe('您已结束通话。');
});

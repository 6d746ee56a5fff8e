import { expect, it } from 'vitest';
import type { CallPhase } from '../messages';
import { CHINESE, ENGLISH, labelOf } from './launcher';

it.each<[CallPhase, string]>([
  ['starting', 'Waiting'],
  ['queued', 'Waiting'],
  ['place_kept', 'Waiting'],
  ['connecting', 'Waiting'],
  ['talking', 'In a call'],
  ['held', 'In a call'],
  ['ended', 'Call us'],
])('the launcher of a call that is %s says “%s”', (phase, label) => {
  expect(labelOf(phase, ENGLISH)).toBe(label);
});

it('has every word in both languages', () => {
  expect(CHINESE).toHaveLength(ENGLISH.length);
  expect(CHINESE).not.toContain('');
});

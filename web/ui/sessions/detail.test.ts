import { expect, it } from 'vitest';
import { dayStart, segmentShown } from './detail';

it('reads what is there and leaves the rest empty', () => {
  const shown = segmentShown({ segment_id: 'seg_1', user_id: 'usr_1', notes: 'n', offered_at: 5 }, new Map([['usr_1', 'Ana']]));
  expect(shown).toMatchObject({ id: 'seg_1', agentName: 'Ana', notes: 'n', offeredAt: 5, endedAt: null, endReason: null });
});

it('takes a day from its local midnight to the next', () => {
  const from = dayStart('2026-03-28') ?? 0;
  expect(new Date(from).getHours()).toBe(0);
  expect(new Date(dayStart('2026-03-28', 1) ?? 0).getDate()).toBe(29);
  expect(dayStart('')).toBeUndefined();
});

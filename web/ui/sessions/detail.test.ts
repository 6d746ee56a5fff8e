import { expect, it } from 'vitest';
import { dayStart, segmentShown } from './detail';

it('reads what is there and leaves the rest empty', () => {
  const row = { segment_id: 'seg_1', agent_name: 'Ana', notes: 'n', offered_at: 5, talk_ended_at: 9, done_at: null };
  expect(segmentShown(row)).toEqual({
    id: 'seg_1', agentName: 'Ana', cameAs: 'owner', state: 'done', offeredAt: 5, doneAt: 9, endReason: null, notes: 'n', disposition: null,
  });
  expect(segmentShown({ came_as: 'guest' }).cameAs).toBe('guest');
  expect(segmentShown({ came_as: 'something newer' }).cameAs).toBe('owner');
});

it('takes a day from its local midnight to the next', () => {
  const from = dayStart('2026-03-28') ?? 0;
  expect(new Date(from).getHours()).toBe(0);
  expect(new Date(dayStart('2026-03-28', 1) ?? 0).getDate()).toBe(29);
  expect(dayStart('')).toBeUndefined();
});

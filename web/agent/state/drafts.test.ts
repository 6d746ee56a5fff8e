import { expect, it } from 'vitest';
import { parseDrafts, reduce } from './drafts';
import { contact } from './fixtures';

const typed = reduce({}, { type: 'typed', segmentId: 'seg_1', notes: 'call back Monday' });

it('keeps what is typed when a view arrives with older notes', () => {
  const after = reduce(typed, { type: 'contacts', contacts: [contact({ notes: 'call' })] });
  expect(after['seg_1']).toEqual({ notes: 'call back Monday', dispositionId: null, dirty: true });
});

it('is clean once the server has exactly this text', () => {
  const after = reduce(typed, { type: 'contacts', contacts: [contact({ notes: 'call back Monday' })] });
  expect(after['seg_1']?.dirty).toBe(false);
});

it('follows the server while nothing is typed here', () => {
  const after = reduce({}, { type: 'contacts', contacts: [contact({ notes: 'theirs', disposition_id: 'dsp_1' })] });
  expect(after['seg_1']).toEqual({ notes: 'theirs', dispositionId: 'dsp_1', dirty: false });
});

it('keeps the pick beside the text, and leaves with its contact', () => {
  const picked = reduce(typed, { type: 'picked', segmentId: 'seg_1', dispositionId: 'dsp_2' });
  expect(picked['seg_1']).toEqual({ notes: 'call back Monday', dispositionId: 'dsp_2', dirty: true });
  expect(reduce(picked, { type: 'contacts', contacts: [] })).toEqual({});
});

it('survives a reload, and reads nothing from a damaged store', () => {
  expect(parseDrafts(JSON.stringify(typed))).toEqual(typed);
  expect(parseDrafts('{"seg_1": {"notes": 5}}')).toEqual({});
  expect(parseDrafts('nonsense')).toEqual({});
  expect(parseDrafts(null)).toEqual({});
});

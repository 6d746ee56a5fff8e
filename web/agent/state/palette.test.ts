import { expect, it } from 'vitest';
import { matching, type PaletteItem } from './palette';

const item = (id: string, text: string, enabled = true): PaletteItem => ({ id, text, enabled, run: () => undefined });
const items = [item('mute', 'Mute or unmute'), item('break', 'Go on a break'), item('lunch', 'Break: Lunch'), item('end', 'End the call', false)];
const ids = (search: string): string[] => matching(items, search).map((one) => one.id);

it('offers what can be done now', () => expect(ids('')).toEqual(['mute', 'break', 'lunch']));
it('finds every word in any order, beginnings first', () => {
  expect(ids('break')).toEqual(['lunch', 'break']);
  expect(ids('LUNCH br')).toEqual(['lunch']);
});
it('does not find what cannot be done', () => expect(ids('end')).toEqual([]));

import { expect, it } from 'vitest';
import { hiddenSides } from '../overflow';

const at = (scrollLeft: number) => ({ scrollLeft, scrollWidth: 600, clientWidth: 340 });

it('names the sides that go on', () => {
  expect(hiddenSides({ scrollLeft: 0, scrollWidth: 340.6, clientWidth: 340 }, false)).toEqual({ left: false, right: false });
  expect(hiddenSides(at(0), false)).toEqual({ left: false, right: true });
  expect(hiddenSides(at(100), false)).toEqual({ left: true, right: true });
  expect(hiddenSides(at(260), false)).toEqual({ left: true, right: false });
});

it('reads the other direction too', () => {
  expect(hiddenSides(at(0), true)).toEqual({ left: true, right: false });
  expect(hiddenSides(at(-260), true)).toEqual({ left: false, right: true });
});

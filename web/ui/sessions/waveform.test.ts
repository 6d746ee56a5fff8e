import { expect, it } from 'vitest';
import { bars } from './waveform';

it('keeps the loudest peak of each stretch', () => {
  expect(bars([0, 255, 0, 0, 51, 0], 2)).toEqual([1, 0.2]);
});

it('stretches a short list over many bars', () => {
  expect(bars([255, 0], 4)).toEqual([1, 1, 0, 0]);
});

it('draws nothing of nothing', () => {
  expect(bars([], 10)).toEqual([]);
  expect(bars([1, 2], 0)).toEqual([]);
});

it('never exceeds full height', () => {
  expect(bars([999], 1)).toEqual([1]);
});

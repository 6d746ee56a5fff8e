import { describe, expect, it } from 'vitest';
import { shownMarks } from './marks';

describe('marks on the waveform', () => {
  it('lie where they are heard; only a hold has a width', () => {
    const marks = [
      { kind: 'talk', at_ms: 0, length_ms: 0 },
      { kind: 'pause', at_ms: 20_000, length_ms: 60_000 },
      { kind: 'hold', at_ms: 30_000, length_ms: 10_000 },
      { kind: 'mark', at_ms: 50_000, length_ms: 0 },
      { kind: 'of_a_newer_server', at_ms: 1, length_ms: 0 },
    ];
    expect(shownMarks(marks, 100_000).map(({ kind, from, width }) => [kind, from, width])).toEqual([
      ['pause', 0.2, 0],
      ['hold', 0.3, 0.1],
      ['mark', 0.5, 0],
    ]);
  });

  it('stay on the waveform, and need one', () => {
    expect(shownMarks([{ kind: 'hold', at_ms: 900, length_ms: 500 }], 1000)[0]).toMatchObject({ from: 0.9 });
    expect(shownMarks([{ kind: 'hold', at_ms: 900, length_ms: 500 }], 1000)[0]?.width).toBeCloseTo(0.1);
    expect(shownMarks([{ kind: 'mark', at_ms: 5000, length_ms: 0 }], 1000)[0]?.from).toBe(1);
    expect(shownMarks([{ kind: 'mark', at_ms: 5, length_ms: 0 }], null)).toEqual([]);
  });
});

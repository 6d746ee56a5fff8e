import { describe, expect, it } from 'vitest';
import { causeOf, counters, meanOpinionScore, QualityWindow, sampleBetween, type Sample } from '../src/quality';

const good: Sample = { rttMs: 40, jitterMs: 3, lossIn: 0, lossOut: 0, arriving: true };

describe('MOS', () => {
  it('is above 4.3 on a good line, and falls with delay and loss', () => {
    expect(meanOpinionScore(20, 2, 0)).toBeGreaterThan(4.3);
    expect(meanOpinionScore(600, 10, 0)).toBeLessThan(meanOpinionScore(200, 10, 0));
    expect(meanOpinionScore(40, 5, 0.2)).toBeLessThan(3);
    expect(meanOpinionScore(5000, 500, 1)).toBeGreaterThanOrEqual(1);
  });
});

describe('a bad second', () => {
  it.each<[Partial<Sample>, ReturnType<typeof causeOf>]>([
    [{}, null],
    [{ lossIn: 0.02 }, 'loss_in'],
    [{ lossOut: 0.02 }, 'loss_out'],
    [{ jitterMs: 45 }, 'jitter'],
    [{ rttMs: 450 }, 'delay'],
    [{ arriving: false }, 'no_audio'],
    [{ rttMs: null, jitterMs: null, lossIn: null, lossOut: null }, null],
  ])('%o is %s', (change, cause) => {
    expect(causeOf({ ...good, ...change })).toBe(cause);
  });
});

describe('the warning', () => {
  const bad = { ...good, lossIn: 0.1 };

  it('comes with the third bad second of five, and goes after five good ones', () => {
    const window = new QualityWindow();
    const said = [bad, good, bad, good, bad, good, good, good, good, good].map((sample) => window.add(sample).warning);
    expect(said.slice(0, 4)).toEqual([null, null, null, null]);
    expect(said[4]).toBe('loss_in');
    expect(said[8]).toBe('loss_in');
    expect(said[9]).toBeNull();
  });

  it('says after two seconds that no sound comes', () => {
    const window = new QualityWindow();
    const deaf = { ...good, arriving: false };
    expect([good, deaf, deaf].map((sample) => window.add(sample).warning)).toEqual([null, null, 'no_audio']);
  });
});

describe('reading reports', () => {
  const report = (received: number, lost: number) => [
    { type: 'inbound-rtp', kind: 'audio', packetsReceived: received, packetsLost: lost, jitter: 0.012 },
    { type: 'remote-inbound-rtp', kind: 'audio', fractionLost: 0.05, roundTripTime: 0.2 },
    { type: 'candidate-pair', nominated: true, state: 'succeeded', currentRoundTripTime: 0.03 },
    { type: 'candidate-pair', nominated: false, state: 'failed', currentRoundTripTime: 9 },
  ];

  it('measures what lies between two', () => {
    const sample = sampleBetween(counters(report(100, 2)), counters(report(145, 7)), true);
    expect(sample).toEqual({ rttMs: 30, jitterMs: 12, lossIn: 0.1, lossOut: 0.05, arriving: true });
  });

  it('expects nothing of a leg that waits', () => {
    const same = counters(report(100, 2));
    expect(sampleBetween(same, same, false).arriving).toBe(true);
    expect(sampleBetween(same, same, true).arriving).toBe(false);
  });
});

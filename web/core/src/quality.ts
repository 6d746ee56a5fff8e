/**
 * How good a leg sounds, from getStats once a second. Pure.
 *
 * MOS by the E-model reduced to what a browser can measure (ITU-T G.107 with the fits of Cole & Rosenbluth, 2001):
 * R = 93.2 − Id − Ie. Delay d is half the round trip, plus the jitter buffer (twice the jitter), plus 20 ms of packet
 * and codec; Id = 0.024 d + 0.11 (d − 177.3) above 177.3 ms; Ie = 30 ln(1 + 15 loss), for a codec with concealment.
 */

/** What was measured over one second. `null`: unknown, since no report has come yet. */
export interface Sample {
  rttMs: number | null;
  jitterMs: number | null;
  /** Share of packets lost on the way to us, and from us, 0..1. */
  lossIn: number | null;
  lossOut: number | null;
  /** False when packets should have arrived within the second, and none did. */
  arriving: boolean;
}

export type QualityCause = 'loss_in' | 'loss_out' | 'jitter' | 'delay' | 'no_audio';

export interface Quality {
  mos: number;
  rttMs: number | null;
  jitterMs: number | null;
  loss: number;
  /** Set after 3 bad seconds of 5, or 2 without any sound, the worst cause of the newest bad one; cleared when all 5 are good. */
  warning: QualityCause | null;
}

export const BAD_RTT_MS = 400;
export const BAD_JITTER_MS = 30;
export const BAD_LOSS = 0.01;
export const BAD_MOS = 3;
const WINDOW = 5;
const BAD_OF_WINDOW = 3;
const DEAF_SECONDS = 2; // no sound at all is said sooner
const PACKET_AND_CODEC_MS = 20;

export function meanOpinionScore(rttMs: number, jitterMs: number, loss: number): number {
  const delay = rttMs / 2 + 2 * jitterMs + PACKET_AND_CODEC_MS;
  const delayImpairment = 0.024 * delay + (delay > 177.3 ? 0.11 * (delay - 177.3) : 0);
  const lossImpairment = 30 * Math.log(1 + 15 * loss);
  const rating = Math.min(100, Math.max(0, 93.2 - delayImpairment - lossImpairment));
  return 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6;
}

export function causeOf(sample: Sample): QualityCause | null {
  if (!sample.arriving) return 'no_audio';
  if ((sample.lossIn ?? 0) > BAD_LOSS) return 'loss_in';
  if ((sample.lossOut ?? 0) > BAD_LOSS) return 'loss_out';
  if ((sample.jitterMs ?? 0) > BAD_JITTER_MS) return 'jitter';
  if ((sample.rttMs ?? 0) > BAD_RTT_MS || score(sample) < BAD_MOS) return 'delay';
  return null;
}

function score(sample: Sample): number {
  const loss = Math.max(sample.lossIn ?? 0, sample.lossOut ?? 0);
  return meanOpinionScore(sample.rttMs ?? 0, sample.jitterMs ?? 0, loss);
}

export class QualityWindow {
  #causes: (QualityCause | null)[] = [];
  #warning: QualityCause | null = null;

  add(sample: Sample): Quality {
    const cause = causeOf(sample);
    this.#causes = [...this.#causes, cause].slice(-WINDOW);
    const bad = this.#causes.filter((one) => one !== null).length;
    const deaf = this.#causes.slice(-DEAF_SECONDS).filter((one) => one === 'no_audio').length === DEAF_SECONDS;
    if (bad >= BAD_OF_WINDOW || deaf) this.#warning = cause ?? this.#warning;
    else if (bad === 0) this.#warning = null;
    return {
      mos: score(sample),
      rttMs: sample.rttMs,
      jitterMs: sample.jitterMs,
      loss: Math.max(sample.lossIn ?? 0, sample.lossOut ?? 0),
      warning: this.#warning,
    };
  }
}

/** The counters of one getStats report that the sample of the next second is measured from. */
export interface Counters {
  received: number;
  lostIn: number;
  rttMs: number | null;
  jitterMs: number | null;
  lossOut: number | null;
}

/** Reads the audio counters out of a report: the newest inbound stream, the far side's view of ours, the path. */
export function counters(report: Iterable<Record<string, unknown>>): Counters {
  const found: Counters = { received: 0, lostIn: 0, rttMs: null, jitterMs: null, lossOut: null };
  for (const entry of report) {
    if (entry['type'] === 'inbound-rtp' && entry['kind'] === 'audio') {
      found.received += numberOf(entry['packetsReceived']) ?? 0;
      found.lostIn += numberOf(entry['packetsLost']) ?? 0;
      found.jitterMs = seconds(entry['jitter']) ?? found.jitterMs;
    } else if (entry['type'] === 'remote-inbound-rtp' && entry['kind'] === 'audio') {
      found.lossOut = numberOf(entry['fractionLost']);
      found.rttMs ??= seconds(entry['roundTripTime']);
    } else if (entry['type'] === 'candidate-pair' && entry['nominated'] === true && entry['state'] === 'succeeded') {
      found.rttMs = seconds(entry['currentRoundTripTime']) ?? found.rttMs;
    }
  }
  return found;
}

/** `expected`: somebody should be heard. A waiting or held leg may rightly receive nothing. */
export function sampleBetween(before: Counters, after: Counters, expected: boolean): Sample {
  const received = after.received - before.received;
  const lost = Math.max(0, after.lostIn - before.lostIn); // a late packet takes a loss back
  return {
    rttMs: after.rttMs,
    jitterMs: after.jitterMs,
    lossIn: received + lost > 0 ? lost / (received + lost) : null,
    lossOut: after.lossOut,
    arriving: received > 0 || !expected,
  };
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

function seconds(value: unknown): number | null {
  const found = numberOf(value);
  return found === null ? null : found * 1000;
}

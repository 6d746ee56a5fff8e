// Marks of a recording as the player shows them: where on the waveform, in which words. Pure.

import type { RecordingMark } from '../../core/src/rest_types';

export type MarkKind = 'hold' | 'pause' | 'mark';

export interface ShownMark {
  kind: MarkKind;
  atMs: number;
  lengthMs: number;
  /** Where it begins and how far it reaches, as shares of the recording. A pause and a mark are points. */
  from: number;
  width: number;
}

const KINDS: readonly string[] = ['hold', 'pause', 'mark'];

/** In the order of the sound; a kind that this page does not know is left out, and so is the talk's beginning. */
export function shownMarks(marks: readonly RecordingMark[], durationMs: number | null): ShownMark[] {
  if (durationMs === null || durationMs <= 0) return [];
  return marks
    .filter((mark) => KINDS.includes(mark.kind))
    .map((mark) => {
      const from = Math.min(1, mark.at_ms / durationMs);
      const width = mark.kind === 'hold' ? Math.min(1 - from, mark.length_ms / durationMs) : 0;
      return { kind: mark.kind as MarkKind, atMs: mark.at_ms, lengthMs: mark.length_ms, from, width };
    });
}

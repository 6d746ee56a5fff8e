// Getting a recording's audio ready for one player: ask, wait while the server renders, ask again. A newer choice of
// side, or leaving the page, ends the waiting.

import { audioUrl, probeAudio, type Side } from '../../core/src/recording_audio';
import { RestError } from '../../core/src/rest';

export type Readiness =
  | { state: 'idle' }
  | { state: 'asking' }
  | { state: 'rendering' }
  | { state: 'ready'; url: string }
  | { state: 'refused'; code: string };

const PATIENCE_MS = 120_000; // a rendering of an hour-long call takes well under this

export class AudioReady {
  now = $state.raw<Readiness>({ state: 'idle' });
  #turn = 0;

  constructor(private readonly recordingId: string) {}

  /** Resolves to the address, or null when it was refused or given up. */
  async ask(side: Side): Promise<string | null> {
    const turn = ++this.#turn;
    const url = audioUrl(this.recordingId, side);
    const giveUpAt = performance.now() + PATIENCE_MS;
    this.now = { state: 'asking' };
    try {
      for (;;) {
        const answer = await probeAudio(url);
        if (turn !== this.#turn) return null;
        if (answer.state === 'ready') {
          this.now = { state: 'ready', url };
          return url;
        }
        if (performance.now() > giveUpAt) throw new RestError(0, 'timeout', 'rendering took too long');
        this.now = { state: 'rendering' };
        await new Promise((resolve) => setTimeout(resolve, answer.retryAfterS * 1000));
        if (turn !== this.#turn) return null;
      }
    } catch (cause) {
      if (turn === this.#turn) this.now = { state: 'refused', code: cause instanceof RestError ? cause.code : 'unknown' };
      return null;
    }
  }

  refuse(code: string): void {
    this.now = { state: 'refused', code };
  }

  reset(): void {
    this.#turn += 1;
    this.now = { state: 'idle' };
  }
}

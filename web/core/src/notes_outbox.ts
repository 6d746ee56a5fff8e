/** Notes on their way to the server: the newest text of each segment, sent when the keys have rested, and again after an
 *  outage. Nothing that was typed is lost while this page lives. */
import type { Clock, TimerId } from './clock';
import { WireFailure } from './requests';
import type { SaveNotes } from './wire';

const REST_MS = 600;
const AGAIN_MS = 5000;
const LOST = new Set(['timeout', 'disconnected']);
/** The server could not take them now: nothing is wrong with the notes. */
const LATER = new Set(['rate_limited', 'storage_unavailable']);

export interface NotesOutboxOptions {
  clock: Clock;
  send: (notes: SaveNotes) => Promise<unknown>;
  typed: (segmentId: string) => void;
  saved: (segmentId: string) => void;
  refused: (code: string) => void;
}

export class NotesOutbox {
  #drafts = new Map<string, SaveNotes>();
  #timers = new Map<string, TimerId>();

  constructor(private readonly options: NotesOutboxOptions) {}

  type(draft: SaveNotes): void {
    this.#drafts.set(draft.segment_id, draft);
    this.options.typed(draft.segment_id);
    this.#sendAfter(REST_MS, draft);
  }

  /** Sends everything now: the line is back. */
  flush(): void {
    for (const draft of this.#drafts.values()) void this.#send(draft);
  }

  /** Saved in another way, with the wrap-up. */
  forget(segmentId: string): void {
    this.options.clock.cancel(this.#timers.get(segmentId));
    this.#drafts.delete(segmentId);
    this.options.saved(segmentId);
  }

  end(): void {
    for (const timer of this.#timers.values()) this.options.clock.cancel(timer);
    this.#drafts.clear();
  }

  #sendAfter(ms: number, draft: SaveNotes): void {
    this.options.clock.cancel(this.#timers.get(draft.segment_id));
    this.#timers.set(
      draft.segment_id,
      this.options.clock.after(ms, () => void this.#send(draft)),
    );
  }

  async #send(draft: SaveNotes): Promise<void> {
    const newest = () => this.#drafts.get(draft.segment_id) === draft;
    if (!newest()) return;
    try {
      await this.options.send(draft);
    } catch (error) {
      const code = error instanceof WireFailure ? error.code : 'internal';
      if (LOST.has(code)) return; // it stays, and goes out with the next flush
      if (LATER.has(code)) {
        if (newest()) this.#sendAfter(AGAIN_MS, draft);
        return;
      }
      this.options.refused(code);
    }
    if (newest()) this.forget(draft.segment_id);
  }
}

// The agents as they are now: asked at once, then again two seconds after each answer. When asking fails, what was
// there stays, and the page says that it is old. Answers to an older filter are dropped.

import { browserClock, type Clock, type TimerId } from '../../core/src/clock';
import type { Rest } from '../../core/src/rest';
import type { Floor } from '../../core/src/rest_types';
import { faultOf } from './collection.svelte';

export const FLOOR_MS = 2000;
const PAGE = 200; // the contract's greatest page: more names than anybody reads; a search finds the others

export interface FloorFilter {
  text: string;
  onDuty: boolean;
}

export class FloorPoll {
  /** Null until the first answer. */
  floor = $state.raw<Floor | null>(null);
  fault = $state<string | null>(null);
  #filter: FloorFilter = { text: '', onDuty: true };
  #turn = 0;
  #timer: TimerId;

  constructor(
    private readonly rest: Rest,
    private readonly clock: Clock = browserClock,
  ) {}

  show(filter: FloorFilter): void {
    this.#filter = filter;
    void this.again();
  }

  end(): void {
    this.#turn += 1;
    this.clock.cancel(this.#timer);
  }

  async again(): Promise<void> {
    this.end();
    const turn = this.#turn;
    const { text, onDuty } = this.#filter;
    try {
      const floor = await this.rest.get<Floor>('/agents', { limit: PAGE, q: text.trim() || undefined, on_duty: onDuty ? 'true' : undefined });
      if (turn !== this.#turn) return;
      this.floor = floor;
      this.fault = null;
    } catch (cause) {
      if (turn === this.#turn) this.fault = faultOf(cause);
    } finally {
      if (turn === this.#turn) this.#timer = this.clock.after(FLOOR_MS, () => void this.again());
    }
  }
}

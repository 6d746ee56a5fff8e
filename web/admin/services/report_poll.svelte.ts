// The newest report of one day: asked at once, then again and again. When asking fails, the last numbers stay, and the
// page is told that they are old. Numbers of another day are never shown for the one that was asked for.

import { browserClock, type Clock, type TimerId } from '../../core/src/clock';
import { RestError, type Rest } from '../../core/src/rest';
import type { QueueReport } from '../../core/src/rest_types';
import { dateOf, type Day } from '../state/reports';
import { faultOf } from './collection.svelte';

export const REFRESH_MS = 15_000;

export class ReportPoll<R extends { at: number } = QueueReport> {
  /** Null until the first answer. */
  report = $state.raw<R | null>(null);
  /** Why the newest question had no answer. */
  fault = $state<string | null>(null);
  loading = $state(false);
  #day: Day = { kind: 'today' };
  #turn = 0;
  #timer: TimerId;
  #zone: string | undefined;

  constructor(
    private readonly rest: Rest,
    /** The browser's time zone; undefined where it does not tell. */
    zone: string | undefined,
    private readonly clock: Clock = browserClock,
    private readonly path = '/reports/queues',
  ) {
    this.#zone = zone;
  }

  show(day: Day): void {
    this.#day = day;
    this.report = null;
    this.fault = null;
    void this.again();
  }

  end(): void {
    this.#turn += 1;
    this.clock.cancel(this.#timer);
  }

  async again(): Promise<void> {
    this.end();
    const turn = this.#turn;
    this.loading = true;
    try {
      const report = await this.#ask();
      if (turn !== this.#turn) return;
      this.report = report;
      this.fault = null;
    } catch (cause) {
      if (turn === this.#turn) this.fault = faultOf(cause);
    } finally {
      if (turn === this.#turn) {
        this.loading = false;
        this.#timer = this.clock.after(REFRESH_MS, () => void this.again());
      }
    }
  }

  /** A zone that the server does not know (its list may be older than the browser's) is asked for once. */
  async #ask(): Promise<R> {
    const date = dateOf(this.#day, new Date(this.clock.wall()));
    try {
      return await this.rest.get<R>(this.path, { date, zone: this.#zone });
    } catch (cause) {
      const zoneRefused = cause instanceof RestError && cause.fields.some((field) => field.loc === 'zone');
      if (!zoneRefused || this.#zone === undefined) throw cause;
      this.#zone = undefined;
      return this.rest.get<R>(this.path, { date });
    }
  }
}

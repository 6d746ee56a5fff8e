// The rows of a session list: one filter, pages that add up, and only the newest question's answer counts.

import { RestError, type Query, type Rest } from '../../core/src/rest';
import type { Page, SessionRow } from '../../core/src/rest_types';
import { dayStart } from './detail';
import { visitsQuery, type VisitsFilter } from './visits';

export interface Filter {
  search: string;
  queueId: string;
  /** `yyyy-mm-dd` as a date input gives it; both days are included. */
  from: string;
  to: string;
  visits: VisitsFilter | null;
}

const PAGE = 50;
const TYPING_MS = 250; // a pause between keys, so that each letter is not a request

export class SessionPages {
  /** Null until the first answer. */
  rows = $state.raw<readonly SessionRow[] | null>(null);
  loading = $state(false);
  fault = $state<string | null>(null);
  more = $state(false);
  #query: Query = {};
  #cursor: string | null = null;
  #turn = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asked = false;

  constructor(private readonly rest: Rest) {}

  filter(filter: Filter): void {
    this.#query = {
      q: filter.search.trim(),
      queue_id: filter.queueId,
      from: dayStart(filter.from),
      to: dayStart(filter.to, 1),
      ...visitsQuery(filter.visits),
    };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.again(), this.#asked ? TYPING_MS : 0);
    this.#asked = true;
  }

  again(): void {
    this.#cursor = null;
    void this.#load([]);
  }

  older(): void {
    void this.#load(this.rows ?? []);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#turn += 1;
  }

  async #load(before: readonly SessionRow[]): Promise<void> {
    const turn = ++this.#turn;
    this.loading = true;
    this.fault = null;
    try {
      const page = await this.rest.get<Page<SessionRow>>('/sessions', { ...this.#query, cursor: this.#cursor, limit: PAGE });
      if (turn !== this.#turn) return;
      this.rows = [...before, ...page.items];
      this.#cursor = page.next;
      this.more = page.next !== null;
    } catch (cause) {
      if (turn === this.#turn) this.fault = cause instanceof RestError ? cause.code : 'unknown';
    } finally {
      if (turn === this.#turn) this.loading = false;
    }
  }
}

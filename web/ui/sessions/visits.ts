// What a number of the queue report stands for, as the address of the sessions' list says it and as the server asks it.

import type { Query } from '../../core/src/rest';
import { COUNTED_AS, type CountedAs } from '../../core/src/rest_types';

/** Queue visits: `from` ≤ entered < `to`, UTC epoch milliseconds. Null means any. */
export interface VisitsFilter {
  countedAs: CountedAs | null;
  queueId: string | null;
  from: number | null;
  to: number | null;
}

/** From the address bar, so it may hold anything: what makes no sense is left out. Null without a filter on visits. */
export function readVisits(search: string): VisitsFilter | null {
  const query = new URLSearchParams(search);
  const countedAs = COUNTED_AS.find((one) => one === query.get('counted_as')) ?? null;
  const found = { countedAs, queueId: query.get('queue_id'), from: ms(query.get('entered_from')), to: ms(query.get('entered_to')) };
  return asksNothing(found) ? null : found;
}

/** The query of the list's address; empty without a filter. */
export function visitsSearch(filter: VisitsFilter | null): string {
  if (filter === null || asksNothing(filter)) return '';
  const pairs = Object.entries({ ...visitsQuery(filter), queue_id: filter.queueId }).filter(([, value]) => value !== null);
  return `?${new URLSearchParams(pairs.map(([key, value]) => [key, String(value)]))}`;
}

/** For GET /sessions. The queue is the list's own filter. */
export function visitsQuery(filter: VisitsFilter | null): Query {
  if (filter === null) return {};
  return { counted_as: filter.countedAs, entered_from: filter.from, entered_to: filter.to };
}

function asksNothing(filter: VisitsFilter): boolean {
  return filter.countedAs === null && filter.from === null && filter.to === null;
}

function ms(value: string | null): number | null {
  return value !== null && /^\d{1,15}$/.test(value) ? Number(value) : null;
}

// The queue report as a table: which day, which columns, what each cell shows and which sessions it opens.

import type { CountedAs, LongestWait, QueueCount, QueueNumbers, QueueReport, ReportNumbers } from '../../core/src/rest_types';
import { visitsSearch } from '../../ui/sessions/visits';

export type Day = { kind: 'today' } | { kind: 'yesterday' } | { kind: 'date'; date: string };

/** From the address bar; what makes no sense is today. */
export function readDay(search: string): Day {
  const query = new URLSearchParams(search);
  const date = query.get('date');
  if (date !== null && isDate(date)) return { kind: 'date', date };
  return query.get('day') === 'yesterday' ? { kind: 'yesterday' } : { kind: 'today' };
}

export function dayHref(day: Day): string {
  if (day.kind === 'today') return '/admin/reports';
  return day.kind === 'yesterday' ? '/admin/reports?day=yesterday' : `/admin/reports?date=${day.date}`;
}

/** For GET /reports/queues: `yyyy-mm-dd`; undefined for today, which the server knows better. `now` is local. */
export function dateOf(day: Day, now: Date): string | undefined {
  if (day.kind === 'today') return undefined;
  if (day.kind === 'date') return day.date;
  const before = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
  return [before.getFullYear(), before.getMonth() + 1, before.getDate()].map((part) => String(part).padStart(2, '0')).join('-');
}

/** What the server takes: a day that exists, of the years that it knows. */
export function isDate(text: string): boolean {
  if (!/^2(0\d\d|100)-\d\d-\d\d$/.test(text)) return false;
  const day = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
}

export type Column =
  | { key: Count; kind: 'count' }
  | { key: Share; kind: 'share'; opens: QueueCount }
  | { key: 'asa' | 'aht'; kind: 'mean'; opens: CountedAs }
  | { key: 'target'; kind: 'target' }
  | { key: 'longest' | 'now_longest'; kind: 'wait' }
  | { key: 'now_waiting'; kind: 'live' };
type Count = 'offered' | 'answered' | 'abandoned' | 'flowed_out' | 'callback' | 'failed' | 'waiting' | 'short_abandons' | 'handled';
type Share = 'service_level' | 'service_level_answered' | 'service_level_leaving' | 'abandon_rate';

const LIVE: readonly Column[] = [
  { key: 'now_waiting', kind: 'live' },
  { key: 'now_longest', kind: 'wait' },
];
const MAIN: readonly Column[] = [
  { key: 'offered', kind: 'count' },
  { key: 'answered', kind: 'count' },
  { key: 'abandoned', kind: 'count' },
  { key: 'flowed_out', kind: 'count' },
  { key: 'callback', kind: 'count' },
  { key: 'failed', kind: 'count' },
  { key: 'waiting', kind: 'count' },
  { key: 'target', kind: 'target' },
  { key: 'service_level', kind: 'share', opens: 'answered_in_time' },
  { key: 'asa', kind: 'mean', opens: 'answered' },
  { key: 'aht', kind: 'mean', opens: 'handled' },
  { key: 'longest', kind: 'wait' },
];
const MORE: readonly Column[] = [
  { key: 'service_level_answered', kind: 'share', opens: 'answered_in_time' },
  { key: 'service_level_leaving', kind: 'share', opens: 'left_in_time' },
  { key: 'short_abandons', kind: 'count' },
  { key: 'abandon_rate', kind: 'share', opens: 'long_abandons' },
  { key: 'handled', kind: 'count' },
];

/** `live`: of this moment, only where the days hold today. */
export function columns(report: QueueReport, all: boolean): { live: readonly Column[]; days: readonly Column[] } {
  const holdsToday = report.first_day <= report.today && report.today <= report.last_day;
  return { live: holdsToday ? LIVE : [], days: all ? [...MAIN, ...MORE] : MAIN };
}

/** What stands in a cell. `href` null: there is nothing behind it. */
export type Cell =
  | { kind: 'number'; value: number; href: string | null }
  | { kind: 'share'; value: number; href: string | null }
  | { kind: 'time'; ms: number; href: string | null }
  | { kind: 'seconds'; s: number }
  | { kind: 'nothing' };

/** `row` is a queue's line, or the total of all. */
export function cell(report: QueueReport, row: ReportNumbers | QueueNumbers, column: Column): Cell {
  const queueId = 'queue_id' in row ? row.queue_id : null;
  const entered = { queueId, from: report.since, to: report.until };
  const list = (countedAs: CountedAs): string => `/admin/sessions${visitsSearch({ ...entered, countedAs })}`;
  switch (column.kind) {
    case 'count':
      return { kind: 'number', value: row[column.key], href: row[column.key] > 0 ? list(column.key) : null };
    case 'share': {
      const value = row[column.key];
      return value === null ? { kind: 'nothing' } : { kind: 'share', value, href: row[column.opens] > 0 ? list(column.opens) : null };
    }
    case 'mean': {
      const ms = column.key === 'asa' ? row.asa_ms : row.aht_ms;
      return ms === null ? { kind: 'nothing' } : { kind: 'time', ms, href: list(column.opens) };
    }
    case 'target':
      return 'service_level_s' in row ? { kind: 'seconds', s: row.service_level_s } : { kind: 'nothing' };
    case 'wait':
      return wait(column.key === 'longest' ? row.longest : row.now.longest);
    case 'live': {
      const waiting = visitsSearch({ countedAs: 'waiting', queueId, from: null, to: null });
      return { kind: 'number', value: row.now.waiting, href: row.now.waiting > 0 ? `/admin/sessions${waiting}` : null };
    }
  }
}

function wait(longest: LongestWait | null): Cell {
  if (longest === null) return { kind: 'nothing' };
  return { kind: 'time', ms: longest.wait_ms, href: `/admin/sessions/${encodeURIComponent(longest.session_id)}` };
}

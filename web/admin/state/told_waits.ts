// How right the told waits were, as a table: its columns, and what each cell shows and opens.

import type { QueueToldNumbers, ToldAs, ToldNumbers, ToldReport } from '../../core/src/rest_types';
import { visitsSearch } from '../../ui/sessions/visits';
import type { Cell } from './reports';

export interface ToldColumn {
  key: 'told' | 'answered' | 'within' | 'below' | 'off' | 'abandoned';
  opens: ToldAs;
}

export const TOLD_COLUMNS: readonly ToldColumn[] = [
  { key: 'told', opens: 'told' },
  { key: 'answered', opens: 'told_answered' },
  { key: 'within', opens: 'told_within' },
  { key: 'below', opens: 'told_below' },
  { key: 'off', opens: 'told_answered' },
  { key: 'abandoned', opens: 'told_abandoned' },
];

/** `row` is a queue's line, or the total of all. A share opens the sessions of its upper part. */
export function toldCell(report: ToldReport, row: ToldNumbers | QueueToldNumbers, column: ToldColumn): Cell {
  const queueId = 'queue_id' in row ? row.queue_id : null;
  const search = visitsSearch({ queueId, from: report.since, to: report.until, countedAs: column.opens });
  const href = row[column.opens] > 0 ? `/admin/sessions${search}` : null;
  switch (column.key) {
    case 'within':
    case 'below': {
      const value = row[column.key];
      return value === null ? { kind: 'nothing' } : { kind: 'share', value, href };
    }
    case 'off':
      return row.off_ms === null ? { kind: 'nothing' } : { kind: 'time', ms: row.off_ms, href };
    default:
      return { kind: 'number', value: row[column.opens], href };
  }
}

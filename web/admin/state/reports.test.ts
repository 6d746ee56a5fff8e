import { describe, expect, it } from 'vitest';
import { COUNTED_AS, type QueueNumbers, type QueueReport, type ReportNumbers } from '../../core/src/rest_types';
import { readVisits, visitsSearch } from '../../ui/sessions/visits';
import { cell, columns, dateOf, dayHref, isDate, readDay, type Column } from './reports';

const numbers: ReportNumbers = {
  ...(Object.fromEntries(COUNTED_AS.map((one) => [one, 0])) as Record<(typeof COUNTED_AS)[number], number>),
  offered: 7, answered: 3, answered_in_time: 2,
  service_level: 2 / 6, service_level_answered: 2 / 3, service_level_leaving: 0, abandon_rate: null,
  asa_ms: 12_400, aht_ms: null,
  longest: { wait_ms: 90_000, session_id: 'ses_9' },
  now: { waiting: 1, longest: null },
};
const row: QueueNumbers = { ...numbers, queue_id: 'que_1', queue_name: 'Sales', active: true, service_level_s: 20 };
const report: QueueReport = {
  zone: 'Europe/Berlin', today: '2026-05-20', first_day: '2026-05-20', last_day: '2026-05-20', since: 100, until: 200, at: 150, queues: [row], total: numbers,
};
const everyColumn = (): Column[] => {
  const { live, days } = columns(report, true);
  return [...live, ...days];
};
const shown = (key: Column['key'], of: ReportNumbers | QueueNumbers = row) => {
  const column = everyColumn().find((one) => one.key === key);
  if (column === undefined) throw new Error(`no column ${key}`);
  return cell(report, of, column);
};

describe('the day', () => {
  it('is in the address, and nonsense there is today', () => {
    for (const day of [{ kind: 'today' }, { kind: 'yesterday' }, { kind: 'date', date: '2026-05-19' }] as const) {
      expect(readDay(new URL(dayHref(day), 'http://x').search)).toEqual(day);
    }
    for (const search of ['?date=2026-02-30', '?date=x', '?date=9999-01-01', '?day=tomorrow', '']) expect(readDay(search)).toEqual({ kind: 'today' });
  });

  it('is a date that the server takes', () => {
    expect(['2026-02-29', '2024-02-29', '1999-12-31', '2101-01-01', '2026-5-1', '0226-05-20', ''].map(isDate)).toEqual([false, true, false, false, false, false, false]);
  });

  it('leaves today to the server, and counts yesterday in local days', () => {
    expect(dateOf({ kind: 'today' }, new Date(2026, 0, 1, 0, 30))).toBeUndefined();
    expect(dateOf({ kind: 'yesterday' }, new Date(2026, 0, 1, 0, 30))).toBe('2025-12-31');
    expect(dateOf({ kind: 'yesterday' }, new Date(2026, 2, 30, 23, 30))).toBe('2026-03-29');
  });
});

describe('the table', () => {
  it('shows what waits now only where the days hold today', () => {
    expect(columns(report, false).live).toHaveLength(2);
    expect(columns({ ...report, first_day: '2026-05-19', last_day: '2026-05-19' }, false).live).toEqual([]);
    expect(columns({ ...report, first_day: '2026-05-01' }, false).live).toHaveLength(2);
    expect(columns(report, true).days.length).toBeGreaterThan(columns(report, false).days.length);
  });

  it('opens exactly the visits that a number counts', () => {
    const opened = (key: Column['key'], of = row as ReportNumbers) => {
      const { href } = shown(key, of) as { href: string };
      return readVisits(new URL(href, 'http://x').search);
    };
    const entered = { queueId: 'que_1', from: 100, to: 200 };
    expect(opened('offered')).toEqual({ ...entered, countedAs: 'offered' });
    expect(opened('service_level')).toEqual({ ...entered, countedAs: 'answered_in_time' });
    expect(opened('asa')).toEqual({ ...entered, countedAs: 'answered' });
    expect(opened('now_waiting')).toEqual({ queueId: 'que_1', from: null, to: null, countedAs: 'waiting' });
    expect(opened('offered', numbers)).toEqual({ ...entered, queueId: null, countedAs: 'offered' });
    expect(shown('longest')).toEqual({ kind: 'time', ms: 90_000, href: '/admin/sessions/ses_9' });
  });

  it('opens nothing where nothing is, and divides nothing by nothing', () => {
    expect(shown('failed')).toEqual({ kind: 'number', value: 0, href: null });
    expect(shown('service_level_leaving')).toEqual({ kind: 'share', value: 0, href: null });
    for (const key of ['abandon_rate', 'aht', 'now_longest'] as const) expect(shown(key)).toEqual({ kind: 'nothing' });
    expect(shown('target')).toEqual({ kind: 'seconds', s: 20 });
    expect(shown('target', numbers)).toEqual({ kind: 'nothing' });
  });
});

describe('the filter in the address of the list', () => {
  it('comes back as it went', () => {
    const filter = { countedAs: 'long_abandons', queueId: 'que_1', from: 100, to: 200 } as const;
    expect(visitsSearch(filter)).toBe('?counted_as=long_abandons&entered_from=100&entered_to=200&queue_id=que_1');
    expect(readVisits(visitsSearch(filter))).toEqual(filter);
  });

  it('is none without a question about visits, whatever the address holds', () => {
    expect(readVisits('?queue_id=que_1&counted_as=lost&entered_from=-1&entered_to=x')).toBeNull();
    expect(visitsSearch({ countedAs: null, queueId: 'que_1', from: null, to: null })).toBe('');
    expect(visitsSearch(null)).toBe('');
  });
});

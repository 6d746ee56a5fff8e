import { describe, expect, it } from 'vitest';
import type { QueueToldNumbers, ToldNumbers, ToldReport } from '../../core/src/rest_types';
import { TOLD_COLUMNS, toldCell } from './told_waits';

const total: ToldNumbers = {
  told: 7, told_answered: 5, told_within: 4, told_below: 0, told_abandoned: 1, within: 0.8, below: 0, off_ms: 26_000,
};
const row: QueueToldNumbers = { ...total, queue_id: 'que_1', queue_name: 'Sales', active: true };
const report: ToldReport = {
  zone: 'UTC', today: '2026-05-20', first_day: '2026-05-20', last_day: '2026-05-20', since: 100, until: 200, at: 150, queues: [row], total,
};
const cells = (of: ToldNumbers) => Object.fromEntries(TOLD_COLUMNS.map((column) => [column.key, toldCell(report, of, column)]));

describe('the told waits', () => {
  it('open the sessions that they count', () => {
    const list = (countedAs: string) => `/admin/sessions?counted_as=${countedAs}&entered_from=100&entered_to=200&queue_id=que_1`;
    expect(cells(row)).toEqual({
      told: { kind: 'number', value: 7, href: list('told') },
      answered: { kind: 'number', value: 5, href: list('told_answered') },
      within: { kind: 'share', value: 0.8, href: list('told_within') },
      below: { kind: 'share', value: 0, href: null },
      off: { kind: 'time', ms: 26_000, href: list('told_answered') },
      abandoned: { kind: 'number', value: 1, href: list('told_abandoned') },
    });
    expect(cells(total)['told']).toMatchObject({ href: '/admin/sessions?counted_as=told&entered_from=100&entered_to=200' });
  });

  it('say nothing where nobody was answered', () => {
    const none = cells({ ...total, told_answered: 0, told_within: 0, within: null, below: null, off_ms: null });
    expect(['within', 'below', 'off'].map((key) => none[key])).toEqual([{ kind: 'nothing' }, { kind: 'nothing' }, { kind: 'nothing' }]);
  });
});

import { describe, expect, it } from 'vitest';
import type { PlayedColumn, PlayedNumbers, Queue, WhatIf } from '../../core/src/rest_types';
import { change, changeOf, figures, nothingChanged, queuesOf } from './whatif';

const queue = { queue_id: 'que_1', name: 'Sales' } as Queue;

describe('the change', () => {
  it('is empty while nothing is said', () => {
    expect(change(nothingChanged(), 'UTC')).toEqual({});
    expect(change({ ...nothingChanged(), queues: [changeOf(queue)] }, 'UTC')).toEqual({});
  });

  it('says of a queue only what is different', () => {
    const asked = changeOf(queue);
    const numbers = { ...asked.numbers, wrap_up_s: 0, weight: 20 };
    const form = { ...nothingChanged(), queues: [{ ...asked, strategy: 'best_skill' as const, requirement: 'english >= 3', numbers }] };
    expect(change(form, 'UTC')).toEqual({ queue: { que_1: { strategy: 'best_skill', requirement: 'english >= 3', wrap_up_s: 0, weight: 20 } } });
    expect(change({ ...nothingChanged(), queues: [{ ...asked, open: 'always' as const }] }, 'UTC')).toEqual({ queue: { que_1: { hours: 'always' } } });
    expect(change({ ...nothingChanged(), queues: [{ ...asked, open: 'closed' as const }] }, 'UTC')).toEqual({ queue: { que_1: { active: false } } });
  });

  it('names agents who come, go and learn', () => {
    const form = {
      ...nothingChanged(),
      more: [{ count: 2, like: 'usr_1', from: '', to: '' }, { count: 1, like: 'usr_2', from: '09:00', to: '12:00' }],
      removed: ['usr_3'],
      skills: [{ user_id: 'usr_1', skill: 'english', level: 3 }, { user_id: 'usr_1', skill: 'billing', level: 0 }, { user_id: 'usr_1', skill: 'english', level: 7 }],
    };
    expect(change(form, 'Europe/Berlin')).toEqual({
      add: [{ count: 2, like: 'usr_1' }, { count: 1, like: 'usr_2', from: '09:00', to: '12:00', zone: 'Europe/Berlin' }],
      remove: ['usr_3'],
      agent: { usr_1: { skills: { english: 7, billing: 0 } } },
    });
  });
});

const numbers: PlayedNumbers = {
  offered: 4, answered: 3, abandoned: 0, flowed_out: 0, failed: 0, waiting: 0,
  service_level: 0.75, service_level_half: 0.1, asa_ms: 1500, asa_ms_half: null, abandon_rate: null, abandon_rate_half: null,
};
const column = (more: Partial<PlayedColumn> = {}): PlayedColumn => ({ title: 'as it was', total: numbers, occupancy: 0.5, turned_away: 0, queues: { que_1: numbers }, ...more });
const found = (columns: PlayedColumn[]): WhatIf => ({
  zone: 'UTC', first_day: '2026-05-20', last_day: '2026-05-20', since: 0, until: 1, known: 0, drawn: 0, columns, queue_names: { que_1: 'Sales', que_2: 'Billing' },
});

describe('the figures', () => {
  it('leave out counts that are 0 in every column', () => {
    const keys = (one: WhatIf) => figures(one, null).map((row) => row.key);
    expect(keys(found([column()]))).toEqual(['offered', 'answered', 'service_level', 'asa', 'abandon_rate', 'occupancy']);
    expect(keys(found([column(), column({ total: { ...numbers, waiting: 1 }, turned_away: 2 })]))).toEqual(['offered', 'answered', 'waiting', 'service_level', 'asa', 'abandon_rate', 'occupancy', 'turned_away']);
  });

  it('have their interval, or nothing', () => {
    const rows = Object.fromEntries(figures(found([column()]), 'que_1').map((row) => [row.key, row.cells[0]]));
    expect(rows).toEqual({
      offered: { kind: 'number', value: 4 },
      answered: { kind: 'number', value: 3 },
      service_level: { kind: 'share', value: 0.75, half: 0.1 },
      asa: { kind: 'time', value: 1500, half: null },
      abandon_rate: { kind: 'nothing' },
    });
  });

  it('are of queues that any column knows, by name; one without them is empty', () => {
    const both = found([column(), column({ queues: { que_2: numbers } })]);
    expect(queuesOf(both).map((one) => one.name)).toEqual(['Billing', 'Sales']);
    expect(figures(both, 'que_2').map((row) => row.cells[0])).toEqual([
      { kind: 'number', value: 0 }, { kind: 'number', value: 0 }, { kind: 'nothing' }, { kind: 'nothing' }, { kind: 'nothing' },
    ]);
  });
});

// The what-if form as values: what is to be different, the change that goes to the server, and what came of it.

import type { PlayedColumn, PlayedNumbers, Queue, Strategy, WhatIf } from '../../core/src/rest_types';

/** Blank fields stay as they are. Numbers are what stands in their fields. */
export interface QueueChange {
  queue_id: string;
  strategy: Strategy | '';
  requirement: string;
  open: 'as_it_is' | 'always' | 'closed';
  numbers: Record<QueueNumber, number | null>;
}

export const QUEUE_NUMBERS = {
  ring_timeout_s: { min: 5, max: 120 },
  wrap_up_s: { min: 0, max: 600 },
  service_level_s: { min: 1, max: 3600 },
  max_wait_s: { min: 0, max: 86_400 },
  weight: { min: 1, max: 100 },
  priority: { min: 1, max: 10 },
} as const;
export type QueueNumber = keyof typeof QUEUE_NUMBERS;

/** More agents who are like one; `from` and `to` empty: in the hours of that one. */
export interface MoreAgents {
  count: number;
  like: string;
  from: string;
  to: string;
}

/** Level 0 takes the skill away. */
export interface OtherSkill {
  user_id: string;
  skill: string;
  level: number;
}

export interface WhatIfForm {
  queues: QueueChange[];
  more: MoreAgents[];
  removed: string[];
  skills: OtherSkill[];
}

export const nothingChanged = (): WhatIfForm => ({ queues: [], more: [], removed: [], skills: [] });

export function changeOf(queue: Queue): QueueChange {
  const numbers = Object.fromEntries(Object.keys(QUEUE_NUMBERS).map((name) => [name, null])) as QueueChange['numbers'];
  return { queue_id: queue.queue_id, strategy: '', requirement: '', open: 'as_it_is', numbers };
}

export type Change = Record<string, unknown>;

/** As `server/whatif/change.py` reads it. What is said twice about a skill of somebody: the last counts. */
export function change(form: WhatIfForm, zone: string): Change {
  const found: Change = {};
  const queues = form.queues.map((queue) => [queue.queue_id, queueChange(queue)] as const).filter(([, table]) => Object.keys(table).length > 0);
  if (queues.length > 0) found['queue'] = Object.fromEntries(queues);
  if (form.more.length > 0) found['add'] = form.more.map((more) => added(more, zone));
  if (form.removed.length > 0) found['remove'] = [...form.removed];
  const agents: Record<string, { skills: Record<string, number> }> = {};
  for (const { user_id, skill, level } of form.skills) (agents[user_id] ??= { skills: {} }).skills[skill] = level;
  if (form.skills.length > 0) found['agent'] = agents;
  return found;
}

function queueChange(queue: QueueChange): Change {
  const table: Change = {};
  if (queue.strategy !== '') table['strategy'] = queue.strategy;
  if (queue.requirement.trim() !== '') table['requirement'] = queue.requirement;
  if (queue.open === 'always') table['hours'] = 'always';
  if (queue.open === 'closed') table['active'] = false;
  for (const [name, value] of Object.entries(queue.numbers)) if (value !== null) table[name] = value;
  return table;
}

function added(more: MoreAgents, zone: string): Change {
  const hours = more.from === '' && more.to === '' ? {} : { from: more.from, to: more.to, zone };
  return { count: more.count, like: more.like, ...hours };
}

export interface FigureRow {
  key: 'offered' | 'answered' | 'abandoned' | 'flowed_out' | 'failed' | 'waiting' | 'service_level' | 'asa' | 'abandon_rate' | 'occupancy' | 'turned_away';
  cells: FigureCell[];
}

/** `half`: of the 95 % confidence interval. */
export type FigureCell =
  | { kind: 'number'; value: number }
  | { kind: 'share' | 'time'; value: number; half: number | null }
  | { kind: 'nothing' };

const COUNTS = ['offered', 'answered', 'abandoned', 'flowed_out', 'failed', 'waiting'] as const;

/** The lines of one queue, or of all (`null`), a cell for each column. Counts that are 0 everywhere are left out. */
export function figures(found: WhatIf, queueId: string | null): FigureRow[] {
  const columns = found.columns;
  const of = (column: PlayedColumn): PlayedNumbers | undefined => (queueId === null ? column.total : column.queues[queueId]);
  const rows: FigureRow[] = [];
  for (const key of COUNTS) {
    const counts = columns.map((column) => of(column)?.[key] ?? 0);
    if (key === 'offered' || counts.some((count) => count > 0)) rows.push({ key, cells: counts.map((value) => ({ kind: 'number', value })) });
  }
  rows.push(
    { key: 'service_level', cells: columns.map((column) => share(of(column)?.service_level, of(column)?.service_level_half)) },
    { key: 'asa', cells: columns.map((column) => cell('time', of(column)?.asa_ms, of(column)?.asa_ms_half)) },
    { key: 'abandon_rate', cells: columns.map((column) => share(of(column)?.abandon_rate, of(column)?.abandon_rate_half)) },
  );
  if (queueId !== null) return rows;
  rows.push({ key: 'occupancy', cells: columns.map((column) => share(column.occupancy, null)) });
  const turnedAway = columns.map((column) => column.turned_away);
  if (turnedAway.some((count) => count > 0)) rows.push({ key: 'turned_away', cells: turnedAway.map((value) => ({ kind: 'number', value })) });
  return rows;
}

/** Queues that somebody waited in, in any column; by name. */
export function queuesOf(found: WhatIf): { queue_id: string; name: string }[] {
  const ids = new Set(found.columns.flatMap((column) => Object.keys(column.queues)));
  const named = [...ids].map((queue_id) => ({ queue_id, name: found.queue_names[queue_id] ?? queue_id }));
  return named.sort((a, b) => a.name.localeCompare(b.name));
}

const share = (value: number | null | undefined, half: number | null | undefined): FigureCell => cell('share', value, half);

function cell(kind: 'share' | 'time', value: number | null | undefined, half: number | null | undefined): FigureCell {
  return value === null || value === undefined ? { kind: 'nothing' } : { kind, value, half: half ?? null };
}

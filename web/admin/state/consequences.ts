// Each save says what it will change for the people who are working now. These are the sentences' keys, picked by
// what differs between the row and the form.

import { CHANNELS, type Capacity, type Queue, type User } from '../../core/src/rest_types';
import type { QueueForm, UserForm } from './forms';

export type Consequence =
  | 'none'
  | 'queue_new'
  | 'queue_name'
  | 'queue_skills'
  | 'queue_ring'
  | 'queue_wrap_up'
  | 'queue_no_wrap_up'
  | 'queue_disposition'
  | 'queue_record_on'
  | 'queue_record_off'
  | 'queue_service_level'
  | 'queue_routing'
  | 'queue_life'
  | 'user_new'
  | 'user_name'
  | 'user_login'
  | 'user_role'
  | 'user_skills'
  | 'user_capacity';

export function ofQueue(before: Queue | null, form: QueueForm): Consequence[] {
  if (before === null) return ['queue_new'];
  const said: Consequence[] = [];
  if (form.name.trim() !== before.name) said.push('queue_name');
  if (!sameLevels(levels(form.skills, 'min_level'), levels(before.skills, 'min_level'))) said.push('queue_skills');
  if (form.ring_timeout_s !== before.ring_timeout_s) said.push('queue_ring');
  if (form.wrap_up_s !== before.wrap_up_s) said.push(form.wrap_up_s === 0 ? 'queue_no_wrap_up' : 'queue_wrap_up');
  if (form.disposition_required !== before.disposition_required) said.push('queue_disposition');
  if (form.record !== before.record) said.push(form.record ? 'queue_record_on' : 'queue_record_off');
  if (form.service_level_s !== before.service_level_s) said.push('queue_service_level');
  if (JSON.stringify(form.routing) !== JSON.stringify(before.routing)) said.push('queue_routing');
  if (JSON.stringify(form.life) !== JSON.stringify(before.life)) said.push('queue_life');
  return orNone(said);
}

export function ofUser(before: User | null, form: UserForm): Consequence[] {
  if (before === null) return ['user_new'];
  const said: Consequence[] = [];
  if (form.name.trim() !== before.name) said.push('user_name');
  if (form.login.trim() !== before.login) said.push('user_login');
  if (form.role !== before.role) said.push('user_role');
  if (!sameLevels(levels(form.skills, 'level'), levels(before.skills, 'level'))) said.push('user_skills');
  if (capacityKey(form.capacity) !== capacityKey(before.capacity)) said.push('user_capacity');
  return orNone(said);
}

/** The pairs have no order. */
function capacityKey(capacity: Capacity): string {
  const pairs = capacity.on_top.map((pair) => `${pair.channel} ${pair.over}`).sort();
  return JSON.stringify([CHANNELS.map((channel) => capacity.channels[channel]), pairs]);
}

function orNone(said: Consequence[]): Consequence[] {
  return said.length === 0 ? ['none'] : said;
}

function levels<K extends string>(skills: readonly ({ skill_id: string } & Record<K, number>)[], key: K): Map<string, number> {
  return new Map(skills.map((one) => [one.skill_id, one[key]]));
}

function sameLevels(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  return a.size === b.size && [...a].every(([id, level]) => b.get(id) === level);
}

// What an admin types, checked before it is sent: the same limits as the REST contract, as stable codes per field.
// The server checks again and has the last word.

import { CHANNELS, type Capacity, type Channel, type Queue, type QueueRouting, type Role, type UserSkill } from '../../core/src/rest_types';

export type Faults = Readonly<Record<string, string>>;

export interface Limits {
  min: number;
  max: number;
}

export const RING_S: Limits = { min: 5, max: 120 };
export const WRAP_UP_S: Limits = { min: 0, max: 600 };
export const SERVICE_LEVEL_S: Limits = { min: 1, max: 3600 };
export const LEVEL: Limits = { min: 1, max: 10 };
export const MAX_WAIT_S: Limits = { min: 5, max: 86_400 }; // or 0: no limit
export const MAX_LENGTH: Limits = { min: 0, max: 100_000 };
export const PRIORITY: Limits = { min: 1, max: 10 };
export const GROW_S: Limits = { min: 0, max: 3600 };
export const WEIGHT: Limits = { min: 0, max: 100 };
export const STICKY_S: Limits = { min: 0, max: 600 };
export const WRAP_UP_EXTEND_S: Limits = { min: 10, max: 600 };
export const WRAP_UP_EXTENSIONS: Limits = { min: 0, max: 5 };
export const STEP_AFTER_S: Limits = { min: 1, max: 86_400 };
export const MAX_STEPS = 10;
export const RETURN_S: Limits = { min: 0, max: 3600 };
export const PAUSE_LIMIT_S: Limits = { min: 30, max: 3600 }; // or 0: no limit
export const PARK_LIMIT_S: Limits = { min: 15, max: 3600 };
export const KEEP_PLACE_S: Limits = { min: 60, max: 28_800 }; // or 0: not offered

const LOGIN = /^[A-Za-z0-9][A-Za-z0-9._@+-]*$/; // as the server's: typed at every start of a shift

export interface UserForm {
  login: string;
  name: string;
  role: Role;
  skills: UserSkill[];
  capacity: Capacity;
}

export const AT_ONCE: Readonly<Record<Channel, Limits>> = {
  voice: { min: 0, max: 1 }, // two voices at once can't be listened to
  chat: { min: 0, max: 20 },
  email: { min: 0, max: 20 },
};

export const NEW_CAPACITY: Capacity = {
  channels: { voice: 1, chat: 0, email: 0 },
  on_top: [
    { channel: 'chat', over: 'email' },
    { channel: 'email', over: 'chat' },
  ],
};

export function comesOnTop(capacity: Capacity, channel: Channel, over: Channel): boolean {
  return capacity.on_top.some((pair) => pair.channel === channel && pair.over === over);
}

export function withOnTop(capacity: Capacity, channel: Channel, over: Channel, allowed: boolean): Capacity {
  const others = capacity.on_top.filter((pair) => pair.channel !== channel || pair.over !== over);
  return { ...capacity, on_top: allowed ? [...others, { channel, over }] : others };
}

/** The pairs that mean something: of two channels that the agent takes at all. */
export function mixable(capacity: Capacity): { channel: Channel; over: Channel }[] {
  const taken = CHANNELS.filter((channel) => capacity.channels[channel] > 0);
  return taken.flatMap((channel) => taken.filter((over) => over !== channel).map((over) => ({ channel, over })));
}

export type QueueForm = Omit<Queue, 'queue_id' | 'active' | 'version' | 'warnings'>;

export const NEW_QUEUE: QueueForm = {
  name: '',
  skills: [],
  ring_timeout_s: 20,
  wrap_up_s: 60,
  disposition_required: true,
  record: true,
  service_level_s: 20,
  life: { max_wait_s: 0, max_length: 0, overflow_queue_id: null, return_s: 0, keep_place_s: 0, pause_limit_s: 600, park_limit_s: 120, when_unrecorded: 'go_on', hours: null, exit: 'end' },
  routing: {
    strategy: 'longest_idle',
    requirement: '',
    steps: [],
    priority: 5,
    grow_s: 0,
    weight: 10,
    sticky_s: 0,
    time_zone: 'UTC',
    wrap_up_extend_s: 60,
    wrap_up_extensions: 1,
  },
};

export function checkName(name: string): Faults {
  return name.trim() === '' ? { name: 'required' } : {};
}

export function checkUser(form: UserForm): Faults {
  const login = form.login.trim();
  return {
    ...checkName(form.name),
    ...(login === '' ? { login: 'required' } : LOGIN.test(login) ? {} : { login: 'login_pattern' }),
    ...(form.skills.every((one) => within(one.level, LEVEL)) ? {} : { skills: 'out_of_range' }),
    ...Object.fromEntries(
      CHANNELS.filter((channel) => !within(form.capacity.channels[channel], AT_ONCE[channel])).map((channel) => [
        `capacity.channels.${channel}`,
        'out_of_range',
      ]),
    ),
  };
}

export function checkQueue(form: QueueForm): Faults {
  const numbers: [keyof QueueForm, number, Limits][] = [
    ['ring_timeout_s', form.ring_timeout_s, RING_S],
    ['wrap_up_s', form.wrap_up_s, WRAP_UP_S],
    ['service_level_s', form.service_level_s, SERVICE_LEVEL_S],
  ];
  const wrong = numbers.filter(([, value, limits]) => !within(value, limits)).map(([field]) => [field, 'out_of_range']);
  const levels = form.skills.every((one) => within(one.min_level, LEVEL)) ? {} : { skills: 'out_of_range' };
  const { max_wait_s, max_length, return_s, keep_place_s, pause_limit_s, park_limit_s } = form.life;
  const wait = max_wait_s === 0 || within(max_wait_s, MAX_WAIT_S) ? {} : { 'life.max_wait_s': 'out_of_range' };
  const length = within(max_length, MAX_LENGTH) ? {} : { 'life.max_length': 'out_of_range' };
  const back = within(return_s, RETURN_S) ? {} : { 'life.return_s': 'out_of_range' };
  const keep = keep_place_s === 0 || within(keep_place_s, KEEP_PLACE_S) ? {} : { 'life.keep_place_s': 'out_of_range' };
  const pause = pause_limit_s === 0 || within(pause_limit_s, PAUSE_LIMIT_S) ? {} : { 'life.pause_limit_s': 'out_of_range' };
  const park = within(park_limit_s, PARK_LIMIT_S) ? {} : { 'life.park_limit_s': 'out_of_range' };
  const life = { ...wait, ...length, ...back, ...keep, ...pause, ...park };
  return { ...checkName(form.name), ...Object.fromEntries(wrong), ...levels, ...life, ...checkRouting(form.routing) };
}

function checkRouting(routing: QueueRouting): Faults {
  const numbers: [string, number, Limits][] = [
    ['priority', routing.priority, PRIORITY],
    ['grow_s', routing.grow_s, GROW_S],
    ['weight', routing.weight, WEIGHT],
    ['sticky_s', routing.sticky_s, STICKY_S],
    ['wrap_up_extend_s', routing.wrap_up_extend_s, WRAP_UP_EXTEND_S],
    ['wrap_up_extensions', routing.wrap_up_extensions, WRAP_UP_EXTENSIONS],
  ];
  const wrong = numbers.filter(([, value, limits]) => !within(value, limits)).map(([field]) => field);
  const steps = routing.steps.flatMap((step, index) => {
    const before = index === 0 ? 0 : (routing.steps[index - 1]?.after_s ?? 0);
    return within(step.after_s, STEP_AFTER_S) && step.after_s > before ? [] : [`steps.${index}.after_s`];
  });
  return Object.fromEntries([...wrong, ...steps].map((field) => [`routing.${field}`, 'out_of_range']));
}

function within(value: number, limits: Limits): boolean {
  return Number.isInteger(value) && value >= limits.min && value <= limits.max;
}

/** One site a line (or comma) → origins; `fault` names the first line that is none. */
export function parseSites(text: string): { sites: string[]; fault: string | null } {
  const sites: string[] = [];
  for (const line of text.split(/[\s,]+/).filter((one) => one !== '')) {
    const site = origin(line);
    if (site === null) return { sites, fault: line };
    if (!sites.includes(site)) sites.push(site);
  }
  return { sites, fault: null };
}

/** The site that a fault is about: the line that was no origin, or the one of `sent` that the server refused. */
export function faultySite(fields: Faults, fault: string | null, sent: readonly string[]): string | null {
  if (fields['allowed_sites'] === 'not_a_site') return fault;
  const refused = Object.keys(fields).find((field) => field.startsWith('allowed_sites.'));
  return refused === undefined ? null : (sent[Number(refused.split('.')[1])] ?? null);
}

function origin(text: string): string | null {
  try {
    const url = new URL(text); // without a scheme it is none: http or https is not ours to guess
    const bare = url.pathname === '/' && url.search === '' && url.hash === '' && url.username === '';
    return bare && (url.protocol === 'https:' || url.protocol === 'http:') ? url.origin : null;
  } catch {
    return null;
  }
}

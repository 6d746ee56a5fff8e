/** Shapes of /api/v1. Times are UTC epoch milliseconds. */
import type { AgentState, ChosenState, IceServers } from './wire';

export type Role = 'admin' | 'supervisor' | 'agent';

export interface Me {
  user_id: string;
  login: string;
  name: string;
  role: Role;
  locale: string;
  csrf: string;
  tenant: string;
}

export interface LoggedIn {
  user: Me;
  csrf: string;
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

export interface UserSkill {
  skill_id: string;
  level: number;
}

export const CHANNELS = ['voice', 'chat', 'email'] as const;
export type Channel = (typeof CHANNELS)[number];

/** How many sessions of each channel at once (0: none of it), and which may come while others are held. */
export interface Capacity {
  channels: Record<Channel, number>;
  on_top: { channel: Channel; over: Channel }[];
}

export interface User {
  user_id: string;
  login: string;
  name: string;
  role: Role;
  active: boolean;
  skills: UserSkill[];
  capacity: Capacity;
  created_at: number;
  version: number;
}

export interface FloorContact {
  session_id: string;
  segment_id: string;
  channel: Channel;
  state: 'ringing' | 'on_contact' | 'wrap_up';
  queue_name: string;
  customer_name: string;
  since: number;
}

/** An agent as supervisors see them now. `since` is null for somebody who was never here. */
export interface FloorAgent {
  user_id: string;
  name: string;
  state: AgentState;
  reason_id: string | null;
  since: number | null;
  live: boolean;
  fault: 'no_microphone' | 'microphone_muted' | 'no_media' | null;
  forced_by: string | null;
  next_state: { state: ChosenState; reason_id: string | null; forced_by: string | null } | null;
  contacts: FloorContact[];
}

export interface Floor extends Page<FloorAgent> {
  at: number;
}

export interface ForcedState {
  user_id: string;
  state: AgentState;
  next_state: FloorAgent['next_state'];
}

export interface Skill {
  skill_id: string;
  name: string;
  version: number;
}

export interface Queue {
  queue_id: string;
  name: string;
  skills: { skill_id: string; min_level: number }[];
  ring_timeout_s: number;
  wrap_up_s: number;
  disposition_required: boolean;
  record: boolean;
  service_level_s: number;
  life: QueueLife;
  routing: QueueRouting;
  active: boolean;
  version: number;
  /** What is asked in vain; null in lists. */
  warnings: QueueWarning[] | null;
}

export const STRATEGIES = ['longest_idle', 'least_occupied', 'best_skill', 'fewest_sessions', 'round_robin', 'ring_all'] as const;
export type Strategy = (typeof STRATEGIES)[number];

/** Requirements are texts: `english >= 5 and (billing or refunds)`; empty: anyone. */
export interface QueueRouting {
  strategy: Strategy;
  requirement: string;
  steps: { after_s: number; requirement: string }[];
  priority: number;
  grow_s: number;
  weight: number;
  sticky_s: number;
  time_zone: string;
  wrap_up_extend_s: number;
  wrap_up_extensions: number;
}

export interface QueueWarning {
  code: 'skill_nobody_has' | 'nobody_fits';
  step: number;
  skill: string | null;
  level: number | null;
}

export interface RoutingDecision {
  at: number;
  agent_name: string | null;
  outcome: string | null;
  candidates: { agent_id: string; agent_name: string; verdict: string; score: number | null; idle_ms: number }[];
  others: Record<string, number>;
  words: string[];
}

export interface SessionRouting {
  session_id: string;
  decisions: RoutingDecision[];
  waiting: RoutingDecision | null;
  /** Of a session that waits, for supervisors and admins. */
  steering: Steering | null;
}

/** Agents are users' ids. `requirement` is asked beside the queue's; empty: nothing. */
export interface Steering {
  priority: number;
  requirement: string;
  preferred: string[];
  excluded: string[];
}

/** `hh:mm`, 24:00 too; a span whose end is not after its beginning ends on the next day. */
export interface OpenSpan {
  opens: string;
  closes: string;
}

/** `week`: seven days, Monday first. A holiday's spans take the place of the weekday's. */
export interface OpeningHours {
  time_zone: string;
  week: OpenSpan[][];
  holidays: { day: string; spans: OpenSpan[] }[];
}

/** 0: no limit. Without a queue to overflow to the call ends. `hours` null: always open. */
export interface QueueLife {
  max_wait_s: number;
  max_length: number;
  overflow_queue_id: string | null;
  /** Who drops out while waiting and calls again so soon has the old place; 0: nobody. */
  return_s: number;
  /** Who asks for it may be away so long and is served in turn; 0: not offered. */
  keep_place_s: number;
  /** An agent's pause of the recording ends by itself after so long; 0: never. */
  pause_limit_s: number;
  /** What becomes of a talk whose recording fails. */
  when_unrecorded: 'go_on' | 'end';
  /** A parked call that nobody fetches waits in the queue again after so long. */
  park_limit_s: number;
  hours: OpeningHours | null;
  /** Callback and voicemail where the installation can do them. */
  exit: 'queue' | 'callback' | 'voicemail' | 'end';
}

export interface EntryPoint {
  entry_point_id: string;
  name: string;
  kind: 'widget';
  queue_id: string;
  key: string;
  allowed_sites: string[];
  embed_code: string;
  active: boolean;
  version: number;
}

export interface Disposition {
  disposition_id: string;
  name: string;
  position: number;
  active: boolean;
  version: number;
}

export interface BreakReason {
  break_reason_id: string;
  name: string;
  position: number;
  active: boolean;
  version: number;
}

export interface SessionRow {
  session_id: string;
  channel: 'voice';
  state: string;
  customer_name: string;
  queue_id: string;
  queue_name: string;
  agents: { user_id: string; name: string }[];
  queued_at: number;
  talk_started_at: number | null;
  ended_at: number | null;
  talk_ms: number | null;
  end_reason: string | null;
  disposition_name: string | null;
  recordings: { recording_id: string; duration_ms: number | null; state: RecordingFileState }[];
  /** How many of its queue visits a filter on visits asks for; null without such a filter. */
  matching_visits?: number | null;
}

/** What the queue report counts a visit as; the sessions' list takes it as `counted_as`. */
export const COUNTED_AS = [
  'offered', 'answered', 'abandoned', 'flowed_out', 'callback', 'failed', 'waiting', 'answered_in_time', 'left_in_time', 'service_level_base',
  'short_abandons', 'long_abandons', 'abandon_rate_base', 'handled',
  'told', 'told_answered', 'told_within', 'told_below', 'told_abandoned',
] as const;
export type CountedAs = (typeof COUNTED_AS)[number];
/** Of the queue report: all but those of what was told. */
export type QueueCount = Exclude<CountedAs, ToldAs>;
export type ToldAs = 'told' | 'told_answered' | 'told_within' | 'told_below' | 'told_abandoned';

export interface LongestWait {
  wait_ms: number;
  session_id: string;
}

/** Shares are 0 to 1; null where there is nothing to divide. */
export interface ReportNumbers extends Record<QueueCount, number> {
  service_level: number | null;
  service_level_answered: number | null;
  service_level_leaving: number | null;
  abandon_rate: number | null;
  asa_ms: number | null;
  aht_ms: number | null;
  longest: LongestWait | null;
  now: { waiting: number; longest: LongestWait | null };
}

export interface QueueNumbers extends ReportNumbers {
  queue_id: string;
  queue_name: string;
  active: boolean;
  service_level_s: number;
}

interface ReportSpan {
  zone: string;
  /** `yyyy-mm-dd`, days of the zone. */
  today: string;
  first_day: string;
  last_day: string;
  since: number;
  until: number;
  at: number;
}

/** How right the ranges of the wait were that customers were told. Shares are of those who were answered. */
export interface ToldNumbers extends Record<ToldAs, number> {
  within: number | null;
  below: number | null;
  off_ms: number | null;
}

export interface QueueToldNumbers extends ToldNumbers {
  queue_id: string;
  queue_name: string;
  active: boolean;
}

export interface ToldReport extends ReportSpan {
  queues: QueueToldNumbers[];
  total: ToldNumbers;
}

export interface QueueReport extends ReportSpan {
  queues: QueueNumbers[];
  total: ReportNumbers;
}

/** Counts and figures of a played span; `…_half` is half of the 95 % confidence interval. */
export interface PlayedNumbers {
  offered: number;
  answered: number;
  abandoned: number;
  flowed_out: number;
  failed: number;
  waiting: number;
  service_level: number | null;
  service_level_half: number | null;
  asa_ms: number | null;
  asa_ms_half: number | null;
  abandon_rate: number | null;
  abandon_rate_half: number | null;
}

export interface PlayedColumn {
  title: 'happened' | 'as it was' | 'with the change';
  total: PlayedNumbers;
  occupancy: number | null;
  /** Calls that opening hours refused. */
  turned_away: number;
  queues: Record<string, PlayedNumbers>;
}

/** The answer of POST /whatif. */
export interface WhatIf {
  zone: string;
  first_day: string;
  last_day: string;
  since: number;
  until: number;
  /** Patiences that the days tell, and those that are drawn from them. */
  known: number;
  drawn: number;
  columns: PlayedColumn[];
  queue_names: Record<string, string>;
}

export interface SessionDetail extends SessionRow {
  segments: Record<string, unknown>[];
  visits: Record<string, unknown>[];
  /** Supervisors and admins only. */
  events?: { version: number; at: number; type: string; body: Record<string, unknown> }[];
}

export type RecordingFileState = 'recording' | 'archiving' | 'ready' | 'failed' | 'lost';

export interface Recording {
  recording_id: string;
  session_id: string;
  state: RecordingFileState;
  reason?: string;
  duration_ms: number | null;
  started_at: number;
  parts: number;
  sha256: { customer: string; agent: string } | null;
  size_bytes: number | null;
  peaks: { customer: number[]; agent: number[] } | null;
  /** Older servers tell none. */
  marks?: RecordingMark[];
}

/** A place in a recording: talk, hold, pause, mark; others are passed over. Pauses are left out of the sound. */
export interface RecordingMark {
  kind: string;
  at_ms: number;
  /** How long the hold or the pause was; 0 for a point. */
  length_ms: number;
}

export interface WidgetInfo {
  key: string;
  name: string;
  locale_default: string;
  queue_name: string;
  agents_ready: boolean;
  recording_notice: boolean;
  /** Within the queue's hours. */
  open: boolean;
  /** When it opens next; null while it is open, or when that is not known. */
  opens_at: number | null;
}

export interface SessionCreated extends IceServers {
  session_id: string;
  token: string;
  expires_at: number;
  recording_notice: boolean;
  queue_name: string;
  /** For this browser's next call; null where the queue does not ask for it. */
  return_token: string | null;
}

/** Agents on duty, the free ones first, and active queues. */
export interface TransferTargets {
  agents: { user_id: string; name: string; state: AgentState; free: boolean }[];
  queues: { queue_id: string; name: string; waiting: number; open: boolean }[];
}

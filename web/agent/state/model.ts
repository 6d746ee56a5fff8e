// What the console knows. Everything here is plain data; `reduce.ts` is the only place that makes a new one.
//
// Two sources feed it: the server's views (agent, contacts, queues), which carry versions and win over whatever the
// console hoped for, and the tab's own facts (link, microphone, drafts), which the server does not know.

import type { AgentView, ContactView, QueueLine } from '../../core/src/wire';

/** Which tab of this person speaks to the server. `superseded`: another browser or computer took over. */
export type TabRole = 'starting' | 'leader' | 'follower' | 'superseded';

export interface Link {
  state: 'connecting' | 'up' | 'down';
  /** Local epoch milliseconds of the last change. */
  since: number;
}

export type MicFault = 'denied' | 'none' | 'busy' | 'host_blocked' | 'silent' | 'ended' | 'failed';
/** `off`: not asked for yet. An agent without a working microphone can't be ready. */
export type Mic = { state: 'off' } | { state: 'asking' } | { state: 'on' } | { state: 'fault'; fault: MicFault };

/** What the agent types during a contact. `dirty` until the server has confirmed exactly this text. */
export interface Draft {
  notes: string;
  dispositionId: string | null;
  dirty: boolean;
}

/** Why something that rang, or a contact, is gone. Codes are the wire's `end_reason` and error codes. */
export interface Farewell {
  code: string;
  customer: string;
  at: number;
}

/** Intents under way, so that a button answers at once and can't be pressed twice. */
export type Pending = 'ready' | 'state' | 'accept' | 'reject' | 'hold' | 'hang_up' | 'wrap_up';

export interface Model {
  tab: TabRole;
  link: Link;
  agent: AgentView | null;
  contacts: readonly ContactView[];
  /** Versions of segments that are done: an older view that arrives late must not bring one back. */
  closed: Readonly<Record<string, number>>;
  queues: readonly QueueLine[] | null;
  mic: Mic;
  muted: boolean;
  drafts: Readonly<Record<string, Draft>>;
  farewell: Farewell | null;
  /** Code of the last refusal, until the next intent or a dismissal. */
  fault: string | null;
  pending: readonly Pending[];
  /** Plain causes of a bad connection, worst first; empty when it is good. */
  quality: readonly string[];
}

export const INITIAL: Model = {
  tab: 'starting',
  link: { state: 'connecting', since: 0 },
  agent: null,
  contacts: [],
  closed: {},
  queues: null,
  mic: { state: 'off' },
  muted: false,
  drafts: {},
  farewell: null,
  fault: null,
  pending: [],
  quality: [],
};

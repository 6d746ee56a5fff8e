// Questions that the console's views ask of the desk, answered in one place. Pure.

import { consult, ringing, talking, wrappingUp, type DeskState } from '../../core/src/state/agent';
import type { AgentState, ChosenState, ContactView, ParkedCall, QueueLine } from '../../core/src/wire';

export interface Allowed {
  choose: boolean;
  goReady: boolean;
  accept: boolean;
  reject: boolean;
  mute: boolean;
  hold: boolean;
  record: boolean;
  mark: boolean;
  hangUp: boolean;
  keys: boolean;
  transfer: boolean;
  invite: boolean;
  park: boolean;
  /** A parked call: takes who would be offered one. */
  fetch: boolean;
  swap: boolean;
  confer: boolean;
  complete: boolean;
  endConsult: boolean;
  supervise: boolean;
  monitor: boolean;
  wrapUp: boolean;
  extend: boolean;
}

/** Which intents make sense now. A line that is down keeps mute, which is local, and takes the rest. */
export function allowed(state: DeskState): Allowed {
  const online = state.connection.name === 'online' && state.tab === 'leader' && state.agent !== null;
  const offered = ringing(state);
  const live = talking(state);
  const wrapping = wrappingUp(state)[0];
  const free = (command: string, of: ContactView | null | undefined): boolean => of != null && !state.pending.includes(`${command}:${of.segment_id}`);
  const answering = online && free('accept', offered) && free('reject', offered);
  const owns = live !== null && (live.role ?? 'owner') === 'owner'; // a node of before guests does not say
  const supervises = live?.role === 'supervisor';
  const between = owns ? consult(live) : 'none';
  const inTalk = live?.state === 'talking' || live?.state === 'held';
  const invite = online && inTalk && owns && (between === 'none' || between === 'all') && free('transfer', live) && free('consult', live);
  const directs = online && free('swap', live) && free('confer', live) && free('complete', live);
  const choose = online && !state.pending.includes('set_state');
  return {
    choose,
    goReady: choose && state.microphone.state !== 'asking',
    accept: answering,
    reject: answering,
    mute: live !== null,
    hold: online && inTalk && owns && between === 'none' && free('hold', live),
    record: online && recorded(live) && free('record', live),
    mark: online && recorded(live) && free('mark', live),
    hangUp: online && (between === 'none' || between === 'all') && free('hang_up', live),
    keys: online && (live?.customer_hears ?? false),
    transfer: invite && between === 'none',
    invite,
    park: invite && between === 'none' && free('park', live),
    fetch: online && state.parked.length > 0 && state.contacts.length === 0 && state.agent?.state === 'ready' && !state.pending.some((command) => command.startsWith('fetch:')),
    swap: directs && (between === 'private' || between === 'customer'),
    confer: directs && (between === 'private' || between === 'customer'),
    complete: directs && between !== 'none' && between !== 'asking',
    supervise: online && state.contacts.length === 0 && !state.pending.some((command) => command.startsWith('supervise:')),
    monitor: online && supervises && free('monitor', live) && free('take_over', live),
    endConsult: online && between !== 'none' && free('end_consult', live),
    wrapUp: online && free('wrap_up', wrapping),
    extend: online && wrapping !== undefined && wrapping.wrap_up_extend_s !== null && free('extend', wrapping) && free('wrap_up', wrapping),
  };
}

/** A recording runs that can be paused and marked. */
function recorded(live: ContactView | null): boolean {
  return live !== null && (live.state === 'talking' || live.state === 'held') && (live.recording === 'on' || live.recording === 'paused');
}

/** What was asked for last: the media worker may still have to say so. Asking for the opposite takes it back. */
export function wantsPause(contact: ContactView): boolean {
  return contact.recording_change === 'pause' || (contact.recording === 'paused' && contact.recording_change === null);
}

/** What the badge shows; offline until the server has spoken. */
export function shownState(state: DeskState): AgentState {
  return state.agent?.state ?? 'offline';
}

/** During a contact a choice waits for its end; otherwise it takes effect at once. */
export function choiceWaits(state: DeskState): boolean {
  return state.contacts.length > 0;
}

/** The contact that the panel is about: the one that is spoken with, else the one that is wrapped up. */
export function current(state: DeskState): ContactView | null {
  return talking(state) ?? wrappingUp(state)[0] ?? null;
}

/** Ready, and nothing is offered: what the banner above says stands in the way. */
export function waitsForEquipment(state: DeskState): boolean {
  return state.agent?.state === 'ready' && state.agent.fault !== null;
}

export interface Forced {
  by: string;
  state: ChosenState;
  reasonId: string | null;
  /** After the contacts that are held. */
  later: boolean;
  /** Tells one from the next. */
  key: string;
}

/** The state that a supervisor has put the agent into, or will have. */
export function forced(state: DeskState): Forced | null {
  const { agent } = state;
  if (agent === null) return null;
  const next = agent.next_state;
  if (next?.forced_by) return { by: next.forced_by, state: next.state, reasonId: next.reason_id, later: true, key: `next ${next.forced_by} ${next.state} ${next.reason_id}` };
  if (!agent.forced_by || agent.state !== agent.chosen) return null;
  return { by: agent.forced_by, state: agent.chosen, reasonId: agent.reason_id, later: false, key: `${agent.forced_by} ${agent.since} ${agent.reason_id}` };
}

/** Refusals of an accept that say why the offer is gone. */
const OFFER_GONE: ReadonlySet<string> = new Set(['offer_taken', 'offer_expired', 'customer_left', 'offer_withdrawn']);
/** Endings of an offer that the agent did not choose. A missed one has a state, and a page of its own. */
const TOLD_WHILE_RINGING: ReadonlySet<string> = new Set(['customer_left', 'withdrawn', 'taken', 'no_media', 'system_failed']);

export interface Farewell {
  customer: string;
  reason: string;
  /** Who was first, where it rang for several. */
  takenBy: string | null;
}

/** What to tell about a contact that vanished between two states: one that rang, or a call without a wrap-up. */
export function farewell(told: Farewell | null, before: DeskState, after: DeskState): Farewell | null {
  if (ringing(after) !== null && ringing(before) === null) return null; // there is something newer to look at
  if (after.lastError !== null && after.lastError !== before.lastError && OFFER_GONE.has(after.lastError.code)) return null;
  for (const one of after.ended) {
    const was = before.contacts.find((contact) => contact.segment_id === one.segment_id);
    if (was === undefined || was.state === 'wrap_up' || one.end_reason === null || refusedSince(after, was.offered_at)) continue;
    const worth = was.state === 'offered' ? TOLD_WHILE_RINGING.has(one.end_reason) : one.end_reason !== 'agent_hung_up';
    if (worth) return { customer: one.customer_name, reason: one.end_reason, takenBy: one.taken_by };
  }
  return told;
}

/** The refusal of an accept has said already why this offer is gone. */
function refusedSince(state: DeskState, at: number): boolean {
  return state.lastError !== null && OFFER_GONE.has(state.lastError.code) && state.lastError.at >= at;
}

/** The refusal to show: none from before the newest offer, and none that the microphone's fault says better. */
export function refusal(state: DeskState, newestOfferAt: number): DeskState['lastError'] {
  const error = state.lastError;
  return error === null || error.code === 'microphone' || error.at < newestOfferAt ? null : error;
}

/** The queues that need a look first: most waiting, then the longest wait, then by name. */
export function longestParked(calls: readonly ParkedCall[]): ParkedCall[] {
  return [...calls].sort((a, b) => a.since - b.since || a.session_id.localeCompare(b.session_id));
}

export function busiestFirst(queues: readonly QueueLine[]): QueueLine[] {
  return [...queues].sort(
    (a, b) =>
      b.waiting - a.waiting ||
      (a.longest_wait_since ?? Infinity) - (b.longest_wait_since ?? Infinity) ||
      a.name.localeCompare(b.name),
  );
}

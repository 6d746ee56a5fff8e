// Questions that the views ask of the model, answered in one place.

import type { AgentState, ContactView, SegmentState } from '../../core/src/wire';
import type { Draft, Model, Pending } from './model';

const ON_CALL: ReadonlySet<SegmentState> = new Set<SegmentState>(['connecting', 'talking', 'held']);

/** The contact that is ringing and not yet answered. */
export function offer(model: Model): ContactView | null {
  return model.contacts.find((one) => one.state === 'offered') ?? null;
}

/** The contact with a live leg: one at most, since a person has one voice. */
export function call(model: Model): ContactView | null {
  return model.contacts.find((one) => ON_CALL.has(one.state)) ?? null;
}

export function wrapUp(model: Model): ContactView | null {
  return model.contacts.find((one) => one.state === 'wrap_up') ?? null;
}

export function draftOf(model: Model, segmentId: string): Draft {
  return model.drafts[segmentId] ?? { notes: '', dispositionId: null, dirty: false };
}

export function isPending(model: Model, intent: Pending): boolean {
  return model.pending.includes(intent);
}

/** What the badge shows. `offline` until the server has spoken. */
export function shownState(model: Model): AgentState {
  return model.agent?.state ?? 'offline';
}

/** During a contact a choice waits for its end; otherwise it takes effect at once. */
export function choiceWaits(model: Model): boolean {
  const state = shownState(model);
  return state === 'ringing' || state === 'on_contact' || state === 'wrap_up';
}

export interface Allowed {
  goReady: boolean;
  accept: boolean;
  reject: boolean;
  mute: boolean;
  hold: boolean;
  hangUp: boolean;
  wrapUp: boolean;
}

/** Which intents make sense now. A link that is down keeps mute (it is local) and takes the rest. */
export function allowed(model: Model): Allowed {
  const up = model.link.state === 'up' && model.tab === 'leader';
  const ringing = offer(model) !== null;
  const live = call(model);
  return {
    goReady: up && model.agent !== null && !isPending(model, 'ready'),
    accept: up && ringing && !isPending(model, 'accept') && !isPending(model, 'reject'),
    reject: up && ringing && !isPending(model, 'accept') && !isPending(model, 'reject'),
    mute: live !== null,
    hold: up && (live?.state === 'talking' || live?.state === 'held') && !isPending(model, 'hold'),
    hangUp: up && live !== null && !isPending(model, 'hang_up'),
    wrapUp: up && wrapUp(model) !== null && !isPending(model, 'wrap_up'),
  };
}

/** The queues that need a look first: most waiting, then the longest wait, then by name. */
export function busiestFirst(queues: Model['queues']): NonNullable<Model['queues']> {
  return [...(queues ?? [])].sort(
    (a, b) =>
      b.waiting - a.waiting ||
      (a.longest_wait_since ?? Infinity) - (b.longest_wait_since ?? Infinity) ||
      a.name.localeCompare(b.name),
  );
}

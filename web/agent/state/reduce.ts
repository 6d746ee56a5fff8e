// reduce(model, event) is pure: the same model and event always give the same model.
//
// Rules that keep it true under duplicates, losses and reordering:
// - a view replaces the one it has only when its version is newer;
// - a segment that is done leaves the list, and its version is remembered so that a late view can't revive it;
// - a sync says which segments exist; it never takes a newer view back;
// - a draft that is dirty is the agent's: the server's notes don't overwrite what is being typed.

import type { AgentPush, AgentSync, AgentView, ContactView } from '../../core/src/wire';
import type { Draft, Farewell, Link, Mic, Model, Pending, TabRole } from './model';

const REMEMBERED_CLOSED = 20; // one tab sees a few late messages at most

export type Event =
  | { type: 'tab'; role: TabRole }
  | { type: 'link'; link: Link }
  | { type: 'synced'; sync: AgentSync }
  | { type: 'pushed'; push: AgentPush; at: number }
  | { type: 'mic'; mic: Mic }
  | { type: 'muted'; on: boolean }
  | { type: 'typed'; segmentId: string; notes: string }
  | { type: 'picked'; segmentId: string; dispositionId: string | null }
  | { type: 'restored'; drafts: Readonly<Record<string, Draft>> }
  | { type: 'saved'; segmentId: string; notes: string; dispositionId: string | null }
  | { type: 'asked'; intent: Pending }
  | { type: 'settled'; intent: Pending }
  | { type: 'refused'; intent: Pending; code: string; contact: ContactView | null; at: number }
  | { type: 'quality'; causes: readonly string[] }
  | { type: 'dismissed' };

/** Refusals of an accept that say the offer is gone; the card leaves and the reason stays. */
const OFFER_GONE: ReadonlySet<string> = new Set(['offer_taken', 'offer_expired', 'customer_left', 'offer_withdrawn']);
/** Endings of an offer that the agent did not choose and should be told about. */
const TOLD: ReadonlySet<string> = new Set(['customer_left', 'withdrawn', 'missed', 'system_failed', 'no_media']);

export function reduce(model: Model, event: Event): Model {
  switch (event.type) {
    case 'tab':
      return event.role === model.tab ? model : { ...model, tab: event.role };
    case 'link':
      return { ...model, link: event.link };
    case 'synced':
      return synced(model, event.sync);
    case 'pushed':
      return pushed(model, event.push, event.at);
    case 'mic':
      return { ...model, mic: event.mic };
    case 'muted':
      return { ...model, muted: event.on };
    case 'typed':
      return draft(model, event.segmentId, (old) => ({ ...old, notes: event.notes, dirty: true }));
    case 'picked':
      return draft(model, event.segmentId, (old) => ({ ...old, dispositionId: event.dispositionId, dirty: true }));
    case 'restored':
      return { ...model, drafts: { ...model.drafts, ...event.drafts } };
    case 'saved':
      return saved(model, event.segmentId, event.notes, event.dispositionId);
    case 'asked':
      return {
        ...model,
        fault: null,
        farewell: event.intent === 'ready' || event.intent === 'accept' ? null : model.farewell,
        pending: [...without(model.pending, event.intent), event.intent],
      };
    case 'settled':
      return { ...model, pending: without(model.pending, event.intent) };
    case 'refused':
      return refused(model, event.intent, event.code, event.contact, event.at);
    case 'quality':
      return { ...model, quality: event.causes };
    case 'dismissed':
      return { ...model, farewell: null, fault: null };
  }
}

function pushed(model: Model, push: AgentPush, at: number): Model {
  switch (push.type) {
    case 'agent.changed':
      return { ...model, agent: newer(model.agent, push.agent) };
    case 'offer.made':
    case 'contact.changed':
      return contactChanged(model, push.contact, at);
    case 'queues.changed':
      return { ...model, queues: push.queues };
    case 'superseded':
      return { ...model, tab: 'superseded' };
    case 'leg.answer':
    case 'leg.refused':
      return model; // the leg's own machine in core reads these
  }
}

function synced(model: Model, sync: AgentSync): Model {
  const agent = newer(model.agent, sync.agent);
  let next: Model = { ...model, agent, contacts: [] };
  for (const contact of sync.contacts) {
    const known = model.contacts.find((one) => one.segment_id === contact.segment_id);
    next = put(next, known !== undefined && known.version > contact.version ? known : contact);
  }
  return { ...next, drafts: keepDrafts(next) };
}

function contactChanged(model: Model, contact: ContactView, at: number): Model {
  const known = model.contacts.find((one) => one.segment_id === contact.segment_id);
  if (known !== undefined && known.version >= contact.version) return model;
  const next = put(model, contact);
  if (contact.state !== 'done') return next;
  const told = farewell(known, contact, at);
  return { ...next, drafts: keepDrafts(next), ...(told === null ? {} : { farewell: told }) };
}

/** What to tell about a segment that just ended; null when the agent ended it or wrap-up finished it. */
function farewell(known: ContactView | undefined, done: ContactView, at: number): Farewell | null {
  const before = known?.state;
  if (before === undefined || before === 'wrap_up') return null;
  const code = done.end_reason ?? '';
  const rang = before === 'offered' || before === 'connecting';
  if (rang ? !TOLD.has(code) : code === 'agent_hung_up' || code === '') return null;
  return { code, customer: done.customer.name, at };
}

function put(model: Model, contact: ContactView): Model {
  const gone = model.closed[contact.segment_id];
  if (gone !== undefined && gone >= contact.version) return model;
  const others = model.contacts.filter((one) => one.segment_id !== contact.segment_id);
  if (contact.state === 'done') {
    const kept = Object.entries(model.closed).slice(1 - REMEMBERED_CLOSED);
    return { ...model, contacts: others, closed: { ...Object.fromEntries(kept), [contact.segment_id]: contact.version } };
  }
  const contacts = [...others, contact].sort((a, b) => a.offered_at - b.offered_at);
  const old = model.drafts[contact.segment_id];
  if (old?.dirty === true) return { ...model, contacts };
  const drafts = {
    ...model.drafts,
    [contact.segment_id]: { notes: contact.notes, dispositionId: contact.disposition_id, dirty: false },
  };
  return { ...model, contacts, drafts };
}

function refused(model: Model, intent: Pending, code: string, contact: ContactView | null, at: number): Model {
  const settled = { ...model, pending: without(model.pending, intent) };
  if (intent !== 'accept' || contact === null || !OFFER_GONE.has(code)) return { ...settled, fault: code };
  // The server's own view of the end follows; the card goes at once so that nobody presses it again.
  const contacts = settled.contacts.filter((one) => one.segment_id !== contact.segment_id || one.state !== 'offered');
  return { ...settled, contacts, farewell: { code, customer: contact.customer.name, at } };
}

function saved(model: Model, segmentId: string, notes: string, dispositionId: string | null): Model {
  const old = model.drafts[segmentId];
  if (old === undefined || old.notes !== notes || old.dispositionId !== dispositionId) return model;
  return { ...model, drafts: { ...model.drafts, [segmentId]: { ...old, dirty: false } } };
}

function draft(model: Model, segmentId: string, change: (old: Draft) => Draft): Model {
  const old = model.drafts[segmentId] ?? { notes: '', dispositionId: null, dirty: false };
  return { ...model, drafts: { ...model.drafts, [segmentId]: change(old) } };
}

function keepDrafts(model: Model): Readonly<Record<string, Draft>> {
  const alive = new Set(model.contacts.map((one) => one.segment_id));
  return Object.fromEntries(Object.entries(model.drafts).filter(([id]) => alive.has(id)));
}

function newer(known: AgentView | null, view: AgentView): AgentView {
  return known !== null && known.version > view.version ? known : view;
}

function without(pending: readonly Pending[], intent: Pending): readonly Pending[] {
  return pending.filter((one) => one !== intent);
}

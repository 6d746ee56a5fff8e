import { describe, expect, it } from 'vitest';
import type { AgentView, ContactView } from '../../core/src/wire';
import { INITIAL, type Model } from './model';
import { type Event, reduce } from './reduce';
import { allowed, call, choiceWaits, draftOf, offer, shownState, wrapUp } from './select';

const AT = 1_700_000_000_000;

function contact(over: Partial<ContactView> = {}): ContactView {
  return {
    session_id: 'ses_1',
    segment_id: 'seg_1',
    version: 1,
    channel: 'voice',
    state: 'offered',
    customer: { name: 'Li Wei', locale: 'zh-CN', page_url: '', context: {} },
    queue_id: 'que_1',
    queue_name: 'Sales',
    queued_at: AT - 30_000,
    offered_at: AT,
    offer_deadline_at: AT + 20_000,
    talk_started_at: null,
    ended_at: null,
    wrap_up_deadline_at: null,
    end_reason: null,
    customer_reconnecting: false,
    recording: 'off',
    leg: { leg_id: 'leg_1', generation: 0, state: 'wanted' },
    notes: '',
    disposition_id: null,
    ...over,
  };
}

function agent(over: Partial<AgentView> = {}): AgentView {
  return {
    user_id: 'usr_1', version: 1, state: 'ready', chosen: 'ready', reason_id: null, since: AT, next_state: null, ...over,
  };
}

function run(start: Model, ...events: Event[]): Model {
  return events.reduce(reduce, start);
}

const up: Event = { type: 'link', link: { state: 'up', since: AT } };
const leader: Event = { type: 'tab', role: 'leader' };
const changed = (view: ContactView): Event => ({ type: 'pushed', at: AT, push: { type: 'contact.changed', contact: view } });
const made = (view: ContactView): Event => ({ type: 'pushed', at: AT, push: { type: 'offer.made', contact: view } });
const agentIs = (view: AgentView): Event => ({ type: 'pushed', at: AT, push: { type: 'agent.changed', agent: view } });
const ringing = run(INITIAL, leader, up, agentIs(agent({ state: 'ringing' })), made(contact()));

describe('views and versions', () => {
  it('rings once for an offer that is sent twice', () => {
    expect(run(ringing, made(contact()))).toBe(ringing);
    expect(offer(ringing)?.segment_id).toBe('seg_1');
  });

  it('ignores an older view of a contact and of the agent', () => {
    const talking = run(ringing, changed(contact({ version: 3, state: 'talking' })), agentIs(agent({ version: 3, state: 'on_contact' })));
    const late = run(talking, changed(contact({ version: 2, state: 'connecting' })), agentIs(agent({ version: 2, state: 'ringing' })));
    expect(call(late)?.state).toBe('talking');
    expect(shownState(late)).toBe('on_contact');
  });

  it('does not bring a finished contact back', () => {
    const done = run(ringing, changed(contact({ version: 5, state: 'done', end_reason: 'rejected' })));
    expect(done.contacts).toEqual([]);
    expect(run(done, made(contact({ version: 1 }))).contacts).toEqual([]);
  });

  it('takes what exists from a sync, and keeps a newer view', () => {
    const talking = run(ringing, changed(contact({ version: 4, state: 'talking' })));
    const other = contact({ segment_id: 'seg_2', session_id: 'ses_2', version: 1, state: 'wrap_up' });
    const sync = { head: 9, now: AT, agent: agent({ version: 2 }), contacts: [contact({ version: 3, state: 'connecting' }), other] };
    const after = run(talking, { type: 'synced', sync });
    expect(after.contacts.map((one) => [one.segment_id, one.state])).toEqual([['seg_1', 'talking'], ['seg_2', 'wrap_up']]);
    expect(run(after, { type: 'synced', sync: { ...sync, contacts: [] } }).contacts).toEqual([]);
  });

  it('gives the same model for snapshot and for events', () => {
    const end = contact({ version: 4, state: 'wrap_up', ended_at: AT });
    const byEvents = run(ringing, changed(contact({ version: 2, state: 'talking' })), changed(end));
    const bySync = run(INITIAL, leader, up, { type: 'synced', sync: { head: 3, now: AT, agent: agent({ state: 'ringing' }), contacts: [end] } });
    expect(byEvents.contacts).toEqual(bySync.contacts);
    expect(byEvents.drafts).toEqual(bySync.drafts);
  });
});

describe('losing an offer', () => {
  for (const code of ['offer_taken', 'offer_expired', 'customer_left', 'offer_withdrawn']) {
    it(`tells the loser of two accepts: ${code}`, () => {
      const after = run(ringing, { type: 'asked', intent: 'accept' }, { type: 'refused', intent: 'accept', code, contact: contact(), at: AT });
      expect(offer(after)).toBeNull();
      expect(after.farewell).toEqual({ code, customer: 'Li Wei', at: AT });
      expect(after.pending).toEqual([]);
    });
  }

  it('keeps the card when the refusal is about something else', () => {
    const after = run(ringing, { type: 'refused', intent: 'accept', code: 'rate_limited', contact: contact(), at: AT });
    expect(offer(after)).not.toBeNull();
    expect(after.fault).toBe('rate_limited');
  });

  it('does not take away a contact that the accept had already connected', () => {
    const connected = run(ringing, changed(contact({ version: 2, state: 'connecting' })));
    const after = run(connected, { type: 'refused', intent: 'accept', code: 'offer_expired', contact: contact(), at: AT });
    expect(call(after)?.state).toBe('connecting');
  });

  it('explains a customer who left while it rang, and says nothing of a rejection', () => {
    const left = run(ringing, changed(contact({ version: 2, state: 'done', end_reason: 'customer_left' })));
    expect(left.farewell?.code).toBe('customer_left');
    const rejected = run(ringing, changed(contact({ version: 2, state: 'done', end_reason: 'rejected' })));
    expect(rejected.farewell).toBeNull();
  });

  it('explains a call that ended without wrap-up when the customer hung up', () => {
    const talking = run(ringing, changed(contact({ version: 2, state: 'talking' })));
    expect(run(talking, changed(contact({ version: 3, state: 'done', end_reason: 'customer_hung_up' }))).farewell?.code).toBe('customer_hung_up');
    expect(run(talking, changed(contact({ version: 3, state: 'done', end_reason: 'agent_hung_up' }))).farewell).toBeNull();
  });
});

describe('drafts', () => {
  const talking = run(ringing, changed(contact({ version: 2, state: 'talking' })));
  const typed = run(talking, { type: 'typed', segmentId: 'seg_1', notes: 'call back Monday' });

  it('keeps what is typed when a view arrives with older notes', () => {
    const after = run(typed, changed(contact({ version: 3, state: 'talking', notes: 'call' })));
    expect(draftOf(after, 'seg_1')).toEqual({ notes: 'call back Monday', dispositionId: null, dirty: true });
  });

  it('is clean only when exactly this text was saved', () => {
    const stale = run(typed, { type: 'saved', segmentId: 'seg_1', notes: 'call back', dispositionId: null });
    expect(draftOf(stale, 'seg_1').dirty).toBe(true);
    const clean = run(typed, { type: 'saved', segmentId: 'seg_1', notes: 'call back Monday', dispositionId: null });
    expect(draftOf(clean, 'seg_1').dirty).toBe(false);
  });

  it('survives a reload: restored drafts win over the server’s notes while dirty', () => {
    const restored = run(INITIAL, { type: 'restored', drafts: { seg_1: { notes: 'mine', dispositionId: 'dsp_1', dirty: true } } });
    const after = run(restored, { type: 'synced', sync: { head: 1, now: AT, agent: agent(), contacts: [contact({ state: 'talking', notes: 'old' })] } });
    expect(draftOf(after, 'seg_1').notes).toBe('mine');
  });

  it('leaves with its contact', () => {
    const done = run(typed, changed(contact({ version: 4, state: 'wrap_up' })), changed(contact({ version: 5, state: 'done' })));
    expect(done.drafts).toEqual({});
  });
});

describe('what is allowed', () => {
  it('offers accept while it rings, once', () => {
    expect(allowed(ringing)).toMatchObject({ accept: true, reject: true, hold: false, hangUp: false });
    expect(allowed(run(ringing, { type: 'asked', intent: 'accept' })).accept).toBe(false);
  });

  it('keeps mute and takes the rest while the link is down', () => {
    const talking = run(ringing, changed(contact({ version: 2, state: 'talking' })));
    expect(allowed(talking)).toMatchObject({ mute: true, hold: true, hangUp: true });
    const cut = run(talking, { type: 'link', link: { state: 'down', since: AT } });
    expect(allowed(cut)).toMatchObject({ mute: true, hold: false, hangUp: false });
  });

  it('finishes a wrap-up and lets a choice wait for it', () => {
    const wrapping = run(ringing, changed(contact({ version: 2, state: 'wrap_up' })), agentIs(agent({ version: 2, state: 'wrap_up' })));
    expect(wrapUp(wrapping)).not.toBeNull();
    expect(allowed(wrapping).wrapUp).toBe(true);
    expect(choiceWaits(wrapping)).toBe(true);
  });

  it('stops at a superseded tab', () => {
    const taken = run(ringing, { type: 'pushed', at: AT, push: { type: 'superseded' } });
    expect(taken.tab).toBe('superseded');
    expect(allowed(taken).accept).toBe(false);
  });
});

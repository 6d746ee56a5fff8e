import { describe, expect, it } from 'vitest';
import { consult, guests, hearsSomebody, initialDesk, reconnecting, reduce, ringing, talking, wrappingUp, type DeskEvent, type DeskState } from '../src/state/agent';
import type { AgentView, ContactView, OtherAgent } from '../src/wire';
import { contactView, NO_ICE } from './fakes';

const agent: AgentView = {
  user_id: 'usr_1',
  version: 3,
  state: 'ready',
  chosen: 'ready',
  reason_id: null,
  since: 1,
  next_state: null,
  forced_by: null,
  fault: null,
};

function after(...events: DeskEvent[]): DeskState {
  return events.reduce(reduce, initialDesk);
}

const view = (change: Partial<ContactView>): DeskEvent => ({
  type: 'Pushed',
  push: { type: 'contact.changed', contact: contactView(change) },
  at: 9,
});
const synced = (...contacts: ContactView[]): DeskEvent => ({
  type: 'Synced',
  sync: { head: 1, now: 9, routing_paused: false, agent, contacts, ice: NO_ICE },
});

describe('contacts', () => {
  it('ring, talk, wrap up, and go with their reason', () => {
    expect(ringing(after(view({})))?.segment_id).toBe('seg_1');
    expect(talking(after(view({ state: 'connecting' })))?.segment_id).toBe('seg_1');
    expect(wrappingUp(after(view({ state: 'wrap_up' })))).toHaveLength(1);
    const gone = after(view({}), view({ version: 2, state: 'done', end_reason: 'customer_left' }));
    expect(gone.contacts).toEqual([]);
    expect(gone.ended).toMatchObject([{ segment_id: 'seg_1', end_reason: 'customer_left', customer_name: 'Ana' }]);
  });

  it('do not go back to an older version', () => {
    const state = after(view({ version: 5, state: 'talking' }));
    expect(reduce(state, view({ version: 4, state: 'connecting' }))).toBe(state);
  });

  it('that are done do not come back by a replay', () => {
    const state = after(view({ version: 7, state: 'done' }), view({ version: 3, state: 'talking' }));
    expect(state.contacts).toEqual([]);
  });

  it('follow the snapshot: what it lacks is over, what it has older is kept newer', () => {
    const other = contactView({ segment_id: 'seg_2', version: 2 });
    const state = after(view({ version: 4, state: 'talking' }), synced(contactView({ version: 3 }), other));
    expect(state.contacts.map(({ segment_id, version }) => [segment_id, version])).toEqual([
      ['seg_1', 4],
      ['seg_2', 2],
    ]);
    expect(reduce(state, synced(other)).ended[0]?.segment_id).toBe('seg_1');
  });
});

it('keeps the newer view of the agent', () => {
  const older: DeskEvent = { type: 'Pushed', push: { type: 'agent.changed', agent: { ...agent, version: 2, state: 'break' } }, at: 9 };
  expect(after(synced(), older).agent?.state).toBe('ready');
});

it('counts commands on their way and keeps the last error', () => {
  const sent = after({ type: 'CommandSent', command: 'accept:seg_1' });
  expect(sent.pending).toEqual(['accept:seg_1']);
  const failed = reduce(sent, { type: 'CommandFailed', command: 'accept:seg_1', code: 'offer_taken', params: { agent: 'Bo' }, at: 9 });
  expect(failed.pending).toEqual([]);
  expect(failed.lastError).toEqual({ code: 'offer_taken', params: { agent: 'Bo' }, at: 9 });
});

it('names what is being mended', () => {
  const online: DeskEvent = { type: 'ConnectionChanged', connection: { name: 'online' } };
  const up: DeskEvent = { type: 'LegChanged', leg: 'up' };
  expect(reconnecting(after(online, up, view({ state: 'talking' })))).toBeNull();
  expect(reconnecting(after(online, view({ state: 'talking' })))).toBe('sound');
  expect(reconnecting(after(online, up, view({ state: 'talking', customer_reconnecting: true })))).toBe('customer');
  expect(reconnecting(after({ type: 'ConnectionChanged', connection: { name: 'reconnecting', since: 1 } }))).toBe('line');
});

describe('routing', () => {
  it('shows the parked calls that were told last, and none while the line is down', () => {
    const call = { session_id: 'ses_1', customer_name: 'Li', queue_name: 'Sales', parked_by: 'Ana', since: 1, until: 121_000 };
    const online = reduce(initialDesk, { type: 'ConnectionChanged', connection: { name: 'online' } });
    const shown = reduce(online, { type: 'Pushed', push: { type: 'parked.changed', calls: [call] }, at: 9 });
    expect(shown.parked).toEqual([call]);
    expect(reduce(shown, { type: 'Pushed', push: { type: 'parked.changed', calls: [] }, at: 10 }).parked).toEqual([]);
    expect(reduce(shown, { type: 'ConnectionChanged', connection: { name: 'online' } }).parked).toEqual([call]);
    expect(reduce(shown, { type: 'ConnectionChanged', connection: { name: 'reconnecting', since: 9 } }).parked).toEqual([]);
  });

  const told = (paused: boolean): DeskEvent => ({ type: 'Pushed', push: { type: 'queues.changed', queues: [], paused }, at: 9 });

  it('is paused when the server says so, and until it says otherwise', () => {
    expect(after(told(true)).routingPaused).toBe(true);
    expect(after(told(true), view({ state: 'talking' })).routingPaused).toBe(true);
    expect(after(told(true), told(false)).routingPaused).toBe(false);
  });

  it('is what the snapshot says, for a page that was loaded meanwhile', () => {
    const snapshot = (routing_paused: boolean): DeskEvent => ({
      type: 'Synced',
      sync: { head: 1, now: 9, routing_paused, agent, contacts: [], ice: NO_ICE },
    });
    expect(after(snapshot(true)).routingPaused).toBe(true);
    expect(after(told(true), snapshot(false)).routingPaused).toBe(false);
  });
});

describe('who speaks with whom', () => {
  const other = (change: Partial<OtherAgent> = {}): OtherAgent => ({ segment_id: 'seg_2', agent_name: 'Bo', role: 'guest', state: 'talking', reconnecting: false, monitor: null, ...change });
  const of = (state: ContactView['state'], ...others: OtherAgent[]): ContactView => contactView({ state, others });

  it.each([
    ['none', of('talking')],
    ['asking', of('held', other({ state: 'offered' }))],
    ['asking', of('held', other({ state: 'connecting' }))],
    ['private', of('held', other())],
    ['customer', of('talking', other({ state: 'held' }))],
    ['all', of('talking', other())],
    ['all', of('talking', other({ state: 'held' }), other({ segment_id: 'seg_3' }))],
  ] as const)('%s', (between, contact) => {
    expect(consult(contact)).toBe(between);
  });

  it('is nobody beside the customer for a node of before guests', () => {
    const { others: _, ...old } = contactView({ state: 'talking' });
    expect(guests(old as ContactView)).toEqual([]);
    expect(consult(old as ContactView)).toBe('none');
    expect(hearsSomebody(old as ContactView)).toBe(true);
  });

  it.each([
    [true, of('talking')],
    [false, contactView({ state: 'talking', customer_reconnecting: true })],
    [false, of('held')],
    [false, of('held', other({ state: 'offered' }))],
    [true, of('held', other())],
    [false, of('held', other({ reconnecting: true }))],
    [true, contactView({ state: 'talking', role: 'guest', others: [other({ role: 'owner', state: 'held' })] })],
    [false, contactView({ state: 'held', role: 'guest', others: [other({ role: 'owner' })] })],
  ])('expects sound: %s', (expected, contact) => {
    expect(hearsSomebody(contact)).toBe(expected);
  });
});

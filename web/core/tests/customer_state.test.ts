import { describe, expect, it } from 'vitest';
import { initialCustomer, reconnecting, reduce, screenOf, type CustomerEvent, type CustomerState } from '../src/state/customer';
import { callView } from './fakes';

const info = {
  key: 'wk_1',
  name: 'Shop',
  locale_default: 'en',
  queue_name: 'Sales',
  agents_ready: true,
  recording_notice: true,
  open: true,
  opens_at: null,
};

function after(...events: CustomerEvent[]): CustomerState {
  return events.reduce(reduce, initialCustomer);
}

const live: CustomerEvent[] = [
  { type: 'InfoLoaded', info },
  { type: 'Started' },
  { type: 'MicrophoneOpened' },
  { type: 'ConnectionChanged', connection: { name: 'online' } },
];
const push = (call: Parameters<typeof callView>[0]): CustomerEvent => ({
  type: 'Pushed',
  push: { type: 'call.changed', call: callView(call) },
});

describe('the screens of a call, in order', () => {
  it.each<[string, CustomerEvent[]]>([
    ['loading', []],
    ['unavailable', [{ type: 'InfoFailed', code: 'unknown_key' }]],
    ['form', [{ type: 'InfoLoaded', info }]],
    ['closed', [{ type: 'InfoLoaded', info: { ...info, open: false, opens_at: 9 } }]],
    ['microphone', [{ type: 'InfoLoaded', info }, { type: 'Started' }, { type: 'MicrophoneAsked' }]],
    ['microphone', [{ type: 'Started' }, { type: 'MicrophoneFailed', fault: 'denied' }]],
    ['connecting', live],
    ['queue', [...live, push({})]],
    ['connecting', [...live, push({ state: 'connecting' })]],
    ['call', [...live, push({ state: 'talking' })]],
    ['call', [...live, push({ state: 'held' })]],
    ['elsewhere', [...live, push({}), { type: 'ConnectionChanged', connection: { name: 'superseded' } }]],
    ['ended', [...live, push({ state: 'ended' })]],
  ])('%s', (screen, events) => {
    expect(screenOf(after(...events))).toBe(screen);
  });
});

describe('views', () => {
  it('an older one, or the same one again, changes nothing', () => {
    const state = after(...live, push({ version: 4, state: 'talking' }));
    expect(reduce(state, push({ version: 3, state: 'queued' }))).toBe(state);
    expect(reduce(state, push({ version: 4, state: 'queued' }))).toBe(state);
  });

  it('none brings an ended call back', () => {
    const state = after(...live, push({ version: 4 }), { type: 'HungUp', at: 1 });
    expect(screenOf(reduce(state, push({ version: 9, state: 'talking' })))).toBe('ended');
  });

  it('a snapshot without the call ends it', () => {
    const state = after(...live, push({}), { type: 'Synced', call: null });
    expect(screenOf(state)).toBe('ended');
    expect(state.error).toBe('not_found');
  });

  it('a snapshot without a call means nothing before the request', () => {
    expect(screenOf(after(...live, { type: 'Synced', call: null }))).toBe('connecting');
  });
});

describe('the position', () => {
  const told = (wait_low_s: number | null, wait_high_s: number | null): CustomerEvent => ({
    type: 'Pushed',
    push: { type: 'queue.position', session_id: 'ses_1', position: 2, wait_low_s, wait_high_s },
  });
  const position = told(null, null);

  it('is kept when it overtakes the view, and dropped when the waiting is over', () => {
    expect(after(...live, position, push({})).position).toBe(2);
    expect(after(...live, push({}), position, push({ version: 2, state: 'connecting' })).position).toBeNull();
  });

  it('has the wait beside it, where the server knows it', () => {
    const known = told(60, 180);
    const earlier = { type: 'Pushed', push: { type: 'queue.position', session_id: 'ses_1', position: 2 } } as CustomerEvent;
    expect(after(...live, push({}), known).wait).toEqual({ low_s: 60, high_s: 180 });
    expect(after(...live, push({}), known, position).wait).toBeNull();
    expect(after(...live, push({}), known, earlier).wait).toBeNull();
    expect(after(...live, push({}), known, push({ version: 2, state: 'connecting' })).wait).toBeNull();
  });
});

describe('hanging up', () => {
  it('says what it was: left, or ended', () => {
    expect(after(...live, push({}), { type: 'HungUp', at: 7 }).call).toMatchObject({ end_reason: 'abandoned', ended_at: 7 });
    const talked = after(...live, push({ state: 'talking', talk_started_at: 5 }), { type: 'HungUp', at: 7 });
    expect(talked.call?.end_reason).toBe('customer_hung_up');
  });

  it('before there is a call goes back to the form', () => {
    expect(screenOf(after(...live, { type: 'HungUp', at: 7 }))).toBe('form');
  });
});

describe('reconnecting', () => {
  const talking = push({ state: 'talking', talk_started_at: 5 });
  const up: CustomerEvent = { type: 'LegChanged', leg: 'up' };

  it('names the worst: line, then sound, then the agent', () => {
    expect(reconnecting(after(...live, talking, up))).toBeNull();
    const lost: CustomerEvent = { type: 'ConnectionChanged', connection: { name: 'reconnecting', since: 1 } };
    expect(reconnecting(after(...live, talking, lost))).toBe('line');
    expect(reconnecting(after(...live, talking))).toBe('sound');
    const agent = push({ state: 'talking', talk_started_at: 5, agent_reconnecting: true });
    expect(reconnecting(after(...live, agent, up))).toBe('agent');
  });
});

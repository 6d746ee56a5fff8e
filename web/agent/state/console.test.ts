import { describe, expect, it } from 'vitest';
import { initialDesk, reduce, type DeskState } from '../../core/src/state/agent';
import type { ContactView } from '../../core/src/wire';
import { allowed, busiestFirst, choiceWaits, current, farewell, mustStepDown, refusal, shownState } from './console';
import { agent, AT, contact } from './fixtures';

const online: DeskState = { ...initialDesk, connection: { name: 'online' }, tab: 'leader', agent: agent() };
const ringing: DeskState = { ...online, contacts: [contact()], agent: agent({ state: 'ringing' }) };
const talk = contact({ version: 2, state: 'talking', talk_started_at: AT });
const talking: DeskState = { ...online, contacts: [talk] };

function ended(before: DeskState, view: Partial<ContactView>): DeskState {
  const done = contact({ version: 9, state: 'done', ...view });
  return reduce(before, { type: 'Pushed', push: { type: 'contact.changed', contact: done }, at: AT });
}

describe('what is allowed', () => {
  it('nothing before the server has spoken', () => {
    expect(Object.values(allowed(initialDesk)).some(Boolean)).toBe(false);
    expect(shownState(initialDesk)).toBe('offline');
  });

  it('answers an offer once', () => {
    expect(allowed(ringing)).toMatchObject({ accept: true, reject: true, hold: false, hangUp: false });
    const accepting = { ...ringing, pending: ['accept:seg_1'] };
    expect(allowed(accepting)).toMatchObject({ accept: false, reject: false });
  });

  it('keeps mute and takes the rest while the line is down', () => {
    expect(allowed(talking)).toMatchObject({ mute: true, hold: true, hangUp: true });
    const down: DeskState = { ...talking, connection: { name: 'reconnecting', since: AT } };
    expect(allowed(down)).toMatchObject({ mute: true, hold: false, hangUp: false, goReady: false });
  });

  it('has no hold before the talk, and one wrap-up at a time', () => {
    expect(allowed({ ...online, contacts: [contact({ state: 'connecting' })] })).toMatchObject({ hold: false, hangUp: true });
    const wrapping = { ...online, contacts: [contact({ state: 'wrap_up' })] };
    expect(allowed(wrapping).wrapUp).toBe(true);
    expect(allowed({ ...wrapping, pending: ['wrap_up:seg_1'] }).wrapUp).toBe(false);
  });
});

it('lets a choice wait for the end of a contact', () => {
  expect(choiceWaits(online)).toBe(false);
  expect(choiceWaits(talking)).toBe(true);
});

it('shows the call before the wrap-up', () => {
  const wrapping = contact({ segment_id: 'seg_0', state: 'wrap_up' });
  expect(current({ ...online, contacts: [wrapping, talk] })?.segment_id).toBe('seg_1');
  expect(current({ ...online, contacts: [wrapping] })?.segment_id).toBe('seg_0');
  expect(current(ringing)).toBeNull();
});

it('steps down when the microphone of a ready agent fails, and not in a call', () => {
  const failed: DeskState = { ...online, microphone: { state: 'failed', fault: 'none' } };
  expect(mustStepDown(failed)).toBe(true);
  expect(mustStepDown({ ...failed, contacts: [talk] })).toBe(false);
  expect(mustStepDown({ ...failed, agent: agent({ state: 'offline', chosen: 'offline' }) })).toBe(false);
});

describe('farewell', () => {
  it('explains an offer that vanished', () => {
    expect(farewell(null, ringing, ended(ringing, { end_reason: 'customer_left' }))).toEqual({ customer: 'Li Wei', reason: 'customer_left' });
    expect(farewell(null, ringing, ended(ringing, { end_reason: 'withdrawn' }))?.reason).toBe('withdrawn');
  });

  it('is silent where the agent knows, or another place says it', () => {
    expect(farewell(null, ringing, ended(ringing, { end_reason: 'rejected' }))).toBeNull();
    expect(farewell(null, ringing, ended(ringing, { end_reason: 'missed' }))).toBeNull();
    const refused = { ...ringing, lastError: { code: 'offer_taken', params: {}, at: AT } };
    expect(farewell(null, refused, ended(refused, { end_reason: 'withdrawn' }))).toBeNull();
    const earlier = { ...ringing, lastError: { code: 'offer_taken', params: {}, at: AT - 1 } };
    expect(farewell(null, earlier, ended(earlier, { end_reason: 'withdrawn' }))?.reason).toBe('withdrawn');
  });

  it('explains a call that ended without a wrap-up, unless the agent ended it', () => {
    expect(farewell(null, talking, ended(talking, { end_reason: 'customer_hung_up' }))?.reason).toBe('customer_hung_up');
    expect(farewell(null, talking, ended(talking, { end_reason: 'agent_hung_up' }))).toBeNull();
    const wrapping: DeskState = { ...online, contacts: [contact({ version: 3, state: 'wrap_up' })] };
    expect(farewell(null, wrapping, ended(wrapping, { end_reason: 'customer_hung_up' }))).toBeNull();
  });

  it('stays until something newer rings or a refusal says it better', () => {
    const after = ended(ringing, { end_reason: 'customer_left' });
    const told = farewell(null, ringing, after);
    expect(farewell(told, after, after)).toBe(told);
    expect(farewell(told, after, ringing)).toBeNull();
    expect(farewell(told, after, { ...after, lastError: { code: 'offer_taken', params: {}, at: AT } })).toBeNull();
  });
});

it('shows a refusal until the next offer', () => {
  const error = { code: 'offer_expired', params: {}, at: AT };
  expect(refusal({ ...online, lastError: error }, 0)).toBe(error);
  expect(refusal({ ...online, lastError: error }, AT + 1)).toBeNull();
  expect(refusal({ ...online, lastError: { ...error, code: 'microphone' } }, 0)).toBeNull();
});

it('sorts the queues by need', () => {
  const line = (name: string, waiting: number, since: number | null) => ({ queue_id: name, name, waiting, longest_wait_since: since, agents_ready: 0 });
  expect(busiestFirst([line('a', 0, null), line('b', 2, 5), line('c', 2, 3)]).map((one) => one.name)).toEqual(['c', 'b', 'a']);
});

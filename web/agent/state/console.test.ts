import { describe, expect, it } from 'vitest';
import { initialDesk, reduce, type DeskState } from '../../core/src/state/agent';
import type { ContactView } from '../../core/src/wire';
import { allowed, busiestFirst, choiceWaits, current, farewell, forced, longestParked, refusal, shownState, waitsForEquipment } from './console';
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

  it('lets the owner call somebody in, and then swap, confer, hand over or end it', () => {
    expect(allowed(talking)).toMatchObject({ transfer: true, invite: true, swap: false, confer: false, complete: false, endConsult: false });
    const bo = { segment_id: 'seg_2', agent_name: 'Bo', role: 'guest', state: 'offered', reconnecting: false, monitor: null } as const;
    const asking = { ...online, contacts: [{ ...talk, state: 'held' as const, others: [bo] }] };
    expect(allowed(asking)).toMatchObject({ transfer: false, invite: false, hold: false, hangUp: false, complete: false, endConsult: true });
    const between = { ...online, contacts: [{ ...talk, state: 'held' as const, others: [{ ...bo, state: 'talking' as const }] }] };
    expect(allowed(between)).toMatchObject({ swap: true, confer: true, complete: true, endConsult: true, hangUp: false });
    const conference = { ...online, contacts: [{ ...talk, others: [{ ...bo, state: 'talking' as const }] }] };
    expect(allowed(conference)).toMatchObject({ transfer: false, invite: true, swap: false, confer: false, complete: true, hangUp: true });
    expect(allowed({ ...between, pending: ['swap:seg_1'] })).toMatchObject({ swap: false, confer: false, complete: false });
  });

  it('lets a guest leave and be silent, and nothing else', () => {
    const guest = { ...online, contacts: [{ ...talk, role: 'guest' as const, invited_by: 'Ana' }] };
    expect(allowed(guest)).toMatchObject({ mute: true, hangUp: true, hold: false, transfer: false, invite: false, swap: false, complete: false, endConsult: false });
  });

  it('lets the owner park a call that nobody else is in, once', () => {
    expect(allowed(talking).park).toBe(true);
    expect(allowed({ ...talking, pending: ['park:seg_1'] }).park).toBe(false);
    const bo = { segment_id: 'seg_2', agent_name: 'Bo', role: 'guest', state: 'talking', reconnecting: false, monitor: null } as const;
    expect(allowed({ ...online, contacts: [{ ...talk, others: [bo] }] }).park).toBe(false);
    expect(allowed({ ...online, contacts: [contact({ state: 'connecting' })] }).park).toBe(false);
  });

  it('lets who is free fetch a parked call, one at a time', () => {
    const call = { session_id: 'ses_1', customer_name: 'Li', queue_name: 'Sales', parked_by: 'Ana', since: AT, until: AT + 120_000 };
    const seen: DeskState = { ...online, parked: [call] };
    expect([seen, online, { ...seen, contacts: [talk] }, { ...seen, agent: agent({ state: 'break' }) }, { ...seen, pending: ['fetch:ses_2'] }].map((state) => allowed(state).fetch))
      .toEqual([true, false, false, false, false]);
    const older = { ...call, session_id: 'ses_2', since: AT - 1 };
    expect(longestParked([call, older])).toEqual([older, call]);
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

it('tells a ready agent whose equipment fails that nothing comes in', () => {
  expect(waitsForEquipment(online)).toBe(false);
  expect(waitsForEquipment({ ...online, agent: agent({ fault: 'no_microphone' }) })).toBe(true);
  expect(waitsForEquipment({ ...online, agent: agent({ fault: 'no_microphone', state: 'break', chosen: 'break' }) })).toBe(false);
});

it('tells who forced a state, now or after the contact', () => {
  const set = agent({ state: 'break', chosen: 'break', reason_id: 'brk_1', forced_by: 'Sam' });
  expect(forced(online)).toBeNull();
  expect(forced({ ...online, agent: set })).toMatchObject({ by: 'Sam', state: 'break', reasonId: 'brk_1', later: false });
  const next_state = { state: 'offline', reason_id: null, forced_by: 'Sam' } as const;
  expect(forced({ ...online, agent: agent({ next_state }) })).toMatchObject({ by: 'Sam', state: 'offline', later: true });
  const own = { state: 'offline', reason_id: null, forced_by: null } as const;
  expect(forced({ ...online, agent: agent({ next_state: own }) })).toBeNull();
});

it('extends a wrap-up while the queue allows it', () => {
  const wrapping = contact({ state: 'wrap_up', wrap_up_extend_s: 60 });
  expect(allowed({ ...online, contacts: [wrapping] }).extend).toBe(true);
  expect(allowed({ ...online, contacts: [contact({ state: 'wrap_up' })] }).extend).toBe(false);
  expect(allowed({ ...online, contacts: [wrapping], pending: ['extend:seg_1'] }).extend).toBe(false);
});

describe('farewell', () => {
  it('explains an offer that vanished', () => {
    expect(farewell(null, ringing, ended(ringing, { end_reason: 'customer_left' }))).toEqual({ customer: 'Li Wei', reason: 'customer_left', takenBy: null });
    expect(farewell(null, ringing, ended(ringing, { end_reason: 'withdrawn' }))?.reason).toBe('withdrawn');
    expect(farewell(null, ringing, ended(ringing, { end_reason: 'taken', taken_by: 'Ana' }))).toEqual({ customer: 'Li Wei', reason: 'taken', takenBy: 'Ana' });
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

import { describe, expect, it } from 'vitest';
import type { FloorAgent } from '../../core/src/rest_types';
import { liveCalls } from './live_calls';

function agent(user_id: string, ...contacts: { session_id: string; since: number; state?: string }[]): FloorAgent {
  const shown = contacts.map(({ session_id, since, state = 'on_contact' }) => ({
    session_id, segment_id: `${session_id}-${user_id}`, queue_name: 'Sales', customer_name: 'Li Wei', channel: 'voice', state, since,
  }));
  return { user_id, name: user_id.toUpperCase(), contacts: shown } as unknown as FloorAgent;
}

describe('liveCalls', () => {
  it('shows a conference once, with all who are in it', () => {
    const calls = liveCalls([agent('bo', { session_id: 's1', since: 20 }), agent('ana', { session_id: 's1', since: 10 })], 'sam');
    expect(calls.map(({ session_id, agents, since }) => [session_id, agents, since])).toEqual([['s1', ['ANA', 'BO'], 10]]);
  });

  it('leaves out the reader and whoever is not in the call yet or any more', () => {
    const agents = [agent('sam', { session_id: 's1', since: 5 }), agent('bo', { session_id: 's2', since: 20, state: 'offered' })];
    expect(liveCalls(agents, 'sam')).toEqual([]);
  });

  it('puts the longest call first', () => {
    const calls = liveCalls([agent('bo', { session_id: 's2', since: 20 }), agent('ana', { session_id: 's1', since: 10 })], 'sam');
    expect(calls.map(({ session_id }) => session_id)).toEqual(['s1', 's2']);
  });
});

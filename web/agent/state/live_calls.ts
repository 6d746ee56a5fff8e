import type { FloorAgent } from '../../core/src/rest_types';

/** A call that somebody could listen to. `agents`: the names of those who are in it, who joined first comes first. */
export interface LiveCall {
  readonly session_id: string;
  readonly agents: readonly string[];
  readonly customer_name: string;
  readonly queue_name: string;
  readonly since: number;
}

/** The calls of all agents but `me`, one for each session however many agents are in it; the longest comes first. */
export function liveCalls(agents: readonly FloorAgent[], me: string): LiveCall[] {
  const joined = agents
    .filter(({ user_id }) => user_id !== me)
    .flatMap(({ name, contacts }) => contacts.filter(({ state }) => state === 'on_contact').map((contact) => ({ name, contact })))
    .toSorted((a, b) => a.contact.since - b.contact.since);
  const calls = new Map<string, LiveCall>();
  for (const { name, contact } of joined) {
    const known = calls.get(contact.session_id);
    const { session_id, customer_name, queue_name, since } = contact;
    calls.set(session_id, known === undefined ? { session_id, agents: [name], customer_name, queue_name, since } : { ...known, agents: [...known.agents, name] });
  }
  return [...calls.values()];
}

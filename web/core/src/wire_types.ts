/** The two namespaces as types: what may be sent, what comes back, what is pushed. */
import type {
  AgentEnvelope,
  AgentMessage,
  AgentPush,
  AgentStream,
  AgentSync,
  CustomerEnvelope,
  CustomerMessage,
  CustomerPush,
  CustomerStream,
  CustomerSync,
  IceServers,
} from './wire';

export interface Wires {
  customer: {
    message: CustomerMessage;
    envelope: CustomerEnvelope;
    push: CustomerPush;
    sync: CustomerSync;
    stream: CustomerStream;
  };
  agent: {
    message: AgentMessage;
    envelope: AgentEnvelope;
    push: AgentPush;
    sync: AgentSync;
    stream: AgentStream;
  };
}

export type Namespace = keyof Wires;
export type TypeOf<N extends Namespace> = Wires[N]['message']['type'];
export type BodyOf<N extends Namespace, T extends TypeOf<N>> = Extract<Wires[N]['message'], { type: T }>['body'];
export type AnswerOf<N extends Namespace, T> = T extends 'sync'
  ? Wires[N]['sync']
  : T extends 'stream.fetch'
    ? Wires[N]['stream']
    : T extends 'ice.servers'
      ? IceServers
      : unknown;

/** A record, so that the compiler misses none. */
const CUSTOMER_PUSHES: Record<CustomerPush['type'], true> = {
  'call.changed': true,
  'leg.answer': true,
  'leg.refused': true,
  'queue.position': true,
  superseded: true,
  moving: true,
};
const AGENT_PUSHES: Record<AgentPush['type'], true> = {
  'agent.changed': true,
  'offer.made': true,
  'contact.changed': true,
  'leg.answer': true,
  'leg.refused': true,
  'queues.changed': true,
  'parked.changed': true,
  superseded: true,
  moving: true,
};

/** The pushes that this build understands; a newer server may send others. */
export const KNOWN_PUSHES: Record<Namespace, ReadonlySet<string>> = {
  customer: new Set(Object.keys(CUSTOMER_PUSHES)),
  agent: new Set(Object.keys(AGENT_PUSHES)),
};

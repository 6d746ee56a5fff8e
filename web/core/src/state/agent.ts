/**
 * The agent's desk. Pure: `reduce(state, event)`, and what the views derive from it.
 *
 * The server's views are the truth; an older version never replaces a newer one, and a contact that is done does not
 * come back when a replayed message tells of its past.
 */
import { assertNever } from '../assert_never';
import type { MicrophoneFault, MicrophoneQuiet } from '../devices';
import type { LegStatus } from '../leg';
import type { ConnectionState } from '../signalling';
import type { TabRole } from '../tab_leader';
import type { AgentPush, AgentSync, AgentView, ContactView, OtherAgent, ParkedCall, QueueLine } from '../wire';

export type EquipmentFault = NonNullable<AgentView['fault']>;

export interface EndedContact {
  segment_id: string;
  version: number;
  customer_name: string;
  end_reason: string | null;
  /** Who was first, of an offer that rang for several. */
  taken_by: string | null;
  at: number;
}

export interface DeskState {
  connection: ConnectionState;
  tab: TabRole;
  /** Null until the first snapshot. */
  agent: AgentView | null;
  /** Not done; offered ones included. The oldest first. */
  contacts: ContactView[];
  queues: QueueLine[];
  /** Parked calls that may be fetched; none while the line is down. */
  parked: ParkedCall[];
  /** Nothing is routed now; calls in progress go on. */
  routingPaused: boolean;
  microphone: { state: 'off' | 'asking' | 'on' | 'failed'; fault: MicrophoneFault | null };
  /** Whether the browser can make calls; null: not known yet. */
  mediaWorks: boolean | null;
  leg: LegStatus;
  /** Commands on their way, as `accept:seg_…`; those that name no contact as `set_state`. */
  pending: readonly string[];
  /** Segments whose notes the server does not have yet. */
  unsavedNotes: readonly string[];
  lastError: { code: string; params: Readonly<Record<string, string>>; at: number } | null;
  /** The last contacts that were done, the newest first: why an offer vanished. */
  ended: EndedContact[];
}

export const initialDesk: DeskState = {
  connection: { name: 'connecting' },
  tab: 'waiting',
  agent: null,
  contacts: [],
  queues: [],
  parked: [],
  routingPaused: false,
  microphone: { state: 'off', fault: null },
  mediaWorks: null,
  leg: 'idle',
  pending: [],
  unsavedNotes: [],
  lastError: null,
  ended: [],
};

export type DeskEvent =
  | { type: 'ConnectionChanged'; connection: ConnectionState }
  | { type: 'TabChanged'; tab: TabRole }
  | { type: 'Synced'; sync: AgentSync }
  | { type: 'Pushed'; push: AgentPush; at: number }
  | { type: 'MicrophoneAsked' }
  | { type: 'MicrophoneOpened' }
  | { type: 'MicrophoneFailed'; fault: MicrophoneFault }
  | { type: 'MicrophoneReleased' }
  | { type: 'MediaChecked'; works: boolean }
  | { type: 'LegChanged'; leg: LegStatus }
  | { type: 'CommandSent'; command: string }
  | { type: 'CommandDone'; command: string }
  | { type: 'CommandFailed'; command: string; code: string; params: Readonly<Record<string, string>>; at: number }
  | { type: 'NotesTyped'; segment_id: string }
  | { type: 'NotesSaved'; segment_id: string }
  | { type: 'ErrorSeen' };

const ENDED_KEPT = 20;

export function reduce(state: DeskState, event: DeskEvent): DeskState {
  switch (event.type) {
    case 'ConnectionChanged':
      return { ...state, connection: event.connection, parked: event.connection.name === 'online' ? state.parked : [] };
    case 'TabChanged':
      return { ...state, tab: event.tab };
    case 'Synced':
      return synced(state, event.sync);
    case 'Pushed':
      return pushed(state, event.push, event.at);
    case 'MicrophoneAsked':
      return { ...state, microphone: { state: 'asking', fault: state.microphone.fault } }; // until it is better known
    case 'MicrophoneOpened':
      return { ...state, microphone: { state: 'on', fault: null } };
    case 'MicrophoneFailed':
      return { ...state, microphone: { state: 'failed', fault: event.fault } };
    case 'MicrophoneReleased':
      return { ...state, microphone: { state: 'off', fault: null } };
    case 'MediaChecked':
      return { ...state, mediaWorks: event.works };
    case 'LegChanged':
      return { ...state, leg: event.leg };
    case 'CommandSent':
      return { ...state, pending: [...state.pending, event.command], lastError: null };
    case 'CommandDone':
      return { ...state, pending: without(state.pending, event.command) };
    case 'CommandFailed':
      return {
        ...state,
        pending: without(state.pending, event.command),
        lastError: { code: event.code, params: event.params, at: event.at },
      };
    case 'NotesTyped':
      return { ...state, unsavedNotes: [...without(state.unsavedNotes, event.segment_id), event.segment_id] };
    case 'NotesSaved':
      return { ...state, unsavedNotes: without(state.unsavedNotes, event.segment_id) };
    case 'ErrorSeen':
      return { ...state, lastError: null };
    default:
      return assertNever(event);
  }
}

function synced(state: DeskState, sync: AgentSync): DeskState {
  const listed = new Set(sync.contacts.map((contact) => contact.segment_id));
  const gone = state.contacts.filter((contact) => !listed.has(contact.segment_id));
  const ended = gone.reduce((list, contact) => remember(list, contact, sync.now), state.ended);
  const contacts = sync.contacts.map((contact) => newer(find(state, contact.segment_id), contact));
  return { ...state, agent: newer(state.agent, sync.agent), contacts: ordered(contacts), ended, routingPaused: sync.routing_paused };
}

function pushed(state: DeskState, push: AgentPush, at: number): DeskState {
  switch (push.type) {
    case 'agent.changed':
      return { ...state, agent: newer(state.agent, push.agent) };
    case 'offer.made':
    case 'contact.changed':
      return viewed(state, push.contact, at);
    case 'queues.changed':
      return { ...state, queues: push.queues, routingPaused: push.paused };
    case 'parked.changed':
      return { ...state, parked: push.calls };
    case 'leg.answer': // the leg's own business
    case 'leg.refused':
    case 'superseded': // the line's
    case 'moving':
      return state;
    default:
      return assertNever(push);
  }
}

function viewed(state: DeskState, contact: ContactView, at: number): DeskState {
  const known = find(state, contact.segment_id);
  const over = state.ended.find((one) => one.segment_id === contact.segment_id);
  if ((known && known.version >= contact.version) || (over && over.version >= contact.version)) return state;
  const others = state.contacts.filter((one) => one.segment_id !== contact.segment_id);
  if (contact.state === 'done') return { ...state, contacts: others, ended: remember(state.ended, contact, at) };
  return { ...state, contacts: ordered([...others, contact]) };
}

function remember(ended: EndedContact[], contact: ContactView, at: number): EndedContact[] {
  const { segment_id, version, end_reason } = contact;
  const taken_by = contact.taken_by ?? null; // a node of before ring all does not say
  const entry: EndedContact = { segment_id, version, end_reason, taken_by, customer_name: contact.customer.name, at };
  return [entry, ...ended.filter((one) => one.segment_id !== segment_id)].slice(0, ENDED_KEPT);
}

function newer<V extends { version: number }>(known: V | null | undefined, view: V): V {
  return known && known.version > view.version ? known : view;
}

function find(state: DeskState, segmentId: string): ContactView | undefined {
  return state.contacts.find((contact) => contact.segment_id === segmentId);
}

function ordered(contacts: ContactView[]): ContactView[] {
  return [...contacts].sort((a, b) => a.offered_at - b.offered_at);
}

function without(list: readonly string[], one: string): readonly string[] {
  return list.filter((other) => other !== one);
}

// --- what the views show --------------------------------------------------------------------------------

export function ringing(state: DeskState): ContactView | null {
  return state.contacts.find((contact) => contact.state === 'offered') ?? null;
}

/** The contact whose leg is, or is about to be, open. */
export function talking(state: DeskState): ContactView | null {
  return state.contacts.find(({ state: at }) => at === 'connecting' || at === 'talking' || at === 'held') ?? null;
}

/** Whom the owner has called in, or is asking. */
export function guests(contact: ContactView): OtherAgent[] {
  return (contact.others ?? []).filter((other) => other.role === 'guest'); // a node of before guests does not say
}

export type Consult = 'none' | 'asking' | 'private' | 'customer' | 'all';

/** What is going on between an owner, the customer and the guests. */
export function consult(contact: ContactView): Consult {
  const called = guests(contact);
  const joined = called.filter((guest) => guest.state === 'talking' || guest.state === 'held');
  if (called.length === 0) return 'none';
  if (joined.length === 0) return 'asking';
  if (contact.state === 'held') return 'private';
  return joined.some((guest) => guest.state === 'talking') ? 'all' : 'customer';
}

/** Sound is to be expected on the leg: somebody speaks, whose own leg is there. */
export function hearsSomebody(contact: ContactView): boolean {
  const others = contact.others ?? [];
  const agents = others.some((other) => other.state === 'talking' && !other.reconnecting);
  if (contact.role === 'supervisor') return false; // a pause in somebody's talk is no fault of this line
  if (contact.role === 'guest') return contact.state === 'talking' && others.some((other) => !other.reconnecting);
  if (contact.state === 'held') return agents;
  return contact.state === 'talking' && (agents || !contact.customer_reconnecting);
}

export function wrappingUp(state: DeskState): ContactView[] {
  return state.contacts.filter((contact) => contact.state === 'wrap_up');
}

/**
 * What the server is to know of this tab's equipment: null when it works, undefined while that is not known, or is
 * nobody's business since the agent is offline.
 */
export function equipmentFault(state: DeskState, quiet: MicrophoneQuiet | null): EquipmentFault | null | undefined {
  const { agent, microphone, mediaWorks } = state;
  if (agent === null || (agent.chosen === 'offline' && state.contacts.length === 0)) return undefined;
  if (microphone.state === 'failed') return 'no_microphone';
  if (microphone.state !== 'on') return undefined;
  if (quiet === 'muted') return 'microphone_muted';
  if (mediaWorks === false) return 'no_media';
  return mediaWorks === null && agent.fault === 'no_media' ? undefined : null;
}

/** What is being mended, the worst one: the line to the server, this side's sound, the customer's side. */
export function reconnecting(state: DeskState): 'line' | 'sound' | 'customer' | null {
  if (state.connection.name === 'reconnecting') return 'line';
  const contact = talking(state);
  if (contact === null) return null;
  if (state.leg === 'recovering' || (contact.state !== 'connecting' && state.leg !== 'up')) return 'sound';
  return contact.customer_reconnecting ? 'customer' : null;
}

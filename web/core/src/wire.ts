// Made from server/signaling/protocol.py by `npm run types`. Do not edit.

export type AgentState = 'offline' | 'ready' | 'break' | 'ringing' | 'on_contact' | 'wrap_up' | 'missed';
export type ChosenState = 'offline' | 'ready' | 'break';
export type AgentPush =
  | AgentChanged
  | OfferMade
  | ContactChanged
  | LegAnswer
  | LegRefused
  | QueuesChanged
  | ParkedChanged
  | Superseded
  | Moving;
export type SegmentState = 'offered' | 'connecting' | 'talking' | 'held' | 'wrap_up' | 'done';
export type RecordingState = 'off' | 'on' | 'paused' | 'failed';
export type LegState = 'wanted' | 'opening' | 'up' | 'lost' | 'closed';
export type AgentMessage =
  | SetStateMessage
  | EquipmentMessage
  | OfferAckMessage
  | OfferAcceptMessage
  | OfferRejectMessage
  | LegOfferMessage
  | ContactHoldMessage
  | ContactRecordMessage
  | ContactMarkMessage
  | ContactMuteMessage
  | ContactDigitsMessage
  | ContactTransferMessage
  | ContactParkMessage
  | ContactFetchMessage
  | ConsultBeginMessage
  | ConsultEndMessage
  | ConsultSwapMessage
  | ConsultConferMessage
  | ConsultCompleteMessage
  | SuperviseBeginMessage
  | SuperviseModeMessage
  | SuperviseTakeOverMessage
  | ContactHangUpMessage
  | ContactNotesMessage
  | ContactExtendMessage
  | ContactWrapUpMessage
  | IceServersMessage
  | StreamFetchMessage
  | SyncMessage;
export type CallState = 'queued' | 'place_kept' | 'connecting' | 'talking' | 'held' | 'ended';
export type CustomerPush = CallChanged | LegAnswer | LegRefused | QueuePosition | Superseded | Moving;
export type CustomerMessage =
  | CallRequestMessage
  | CallHangUpMessage
  | PlaceKeepMessage
  | PlaceTakeMessage
  | CallbackAskMessage
  | LegOfferMessage
  | IceServersMessage
  | StreamFetchMessage
  | SyncMessage;

export interface AgentChanged {
  type: 'agent.changed';
  agent: AgentView;
}
/**
 * `state` is what the wallboard shows; `chosen` is what the agent picked; `missed` needs a new choice. `forced_by`
 * is the name of the supervisor who picked it. With a `fault` of the tab nothing is offered.
 */
export interface AgentView {
  user_id: string;
  version: number;
  state: AgentState;
  chosen: ChosenState;
  reason_id: string | null;
  /**
   * UTC epoch milliseconds, server clock
   */
  since: number;
  next_state: NextState | null;
  forced_by: string | null;
  fault: ('no_microphone' | 'microphone_muted' | 'no_media') | null;
}
export interface NextState {
  state: ChosenState;
  reason_id: string | null;
  forced_by: string | null;
}
export interface AgentEnvelope {
  v: 1;
  seq: number | null;
  /**
   * UTC epoch milliseconds, server clock
   */
  at: number;
  body: AgentPush;
}
/**
 * Ring. The client answers `offer.ack` at once; without it the message is sent again after 1 s.
 */
export interface OfferMade {
  type: 'offer.made';
  contact: ContactView;
}
/**
 * A segment as its agent sees it. The `owner` has the session and may call others in, the `guest` was called in. An
 * owner who is `held` has the customer on hold, and speaks with the guests who are `talking`; a guest who is `held`
 * hears music meanwhile; where both talk, all do. `customer_hears`: the customer hears what the agent says. A
 * `supervisor` came unasked; an agent sees one who is to be heard, and not one who listens.
 */
export interface ContactView {
  session_id: string;
  segment_id: string;
  version: number;
  channel: 'voice';
  state: SegmentState;
  customer: CustomerView;
  queue_id: string;
  queue_name: string;
  /**
   * UTC epoch milliseconds, server clock
   */
  queued_at: number;
  /**
   * UTC epoch milliseconds, server clock
   */
  offered_at: number;
  offer_deadline_at: number | null;
  talk_started_at: number | null;
  /**
   * when the talk ended and wrap-up began
   */
  ended_at: number | null;
  wrap_up_deadline_at: number | null;
  /**
   * by which the wrap-up may be extended now; null: no more
   */
  wrap_up_extend_s: number | null;
  /**
   * customer_hung_up, agent_hung_up, rejected, missed, customer_left, withdrawn, taken, customer_lost, agent_lost, no_media, system_failed, transferred, parked, released, taken_over
   */
  end_reason: string | null;
  /**
   * the agent who was first, when it rang for several; null: nobody was
   */
  taken_by: string | null;
  customer_reconnecting: boolean;
  /**
   * why the customer's voice does not come
   */
  customer_unheard: ('no_packets' | 'silence') | null;
  /**
   * why the reader's own voice does not come
   */
  you_unheard: ('no_packets' | 'silence') | null;
  recording: RecordingState;
  /**
   * asked for, and the media worker has not said yet that it holds
   */
  recording_change: ('pause' | 'resume') | null;
  /**
   * when a pause that nobody ends is over
   */
  recording_resumes_at: number | null;
  leg: LegView;
  notes: string;
  disposition_id: string | null;
  role: 'owner' | 'guest' | 'supervisor';
  /**
   * the agent who hands the customer over, or calls in; empty: nobody
   */
  invited_by: string;
  muted: boolean;
  customer_hears: boolean;
  others: OtherAgent[];
  /**
   * of a supervisor: who hears the reader
   */
  monitor: ('listen' | 'coach' | 'barge') | null;
  /**
   * who has the session now; empty: nobody
   */
  agent_name: string;
}
export interface CustomerView {
  name: string;
  locale: string;
  page_url: string;
  context: {
    [k: string]: string;
  };
}
/**
 * The reader's own leg. In `wanted` and `lost` the reader must send `leg.offer` with `generation` + 1.
 * After a reload it must too, and when `generation` is one that it did not make: whatever the state says.
 */
export interface LegView {
  leg_id: string;
  generation: number;
  state: LegState;
}
/**
 * Another agent of the same session. `state` as in ContactView, without wrap_up and done; `reconnecting`: their leg
 * is lost, and its grace is running. `monitor`: of a supervisor, who hears them: the reader alone, or all.
 */
export interface OtherAgent {
  segment_id: string;
  agent_name: string;
  role: 'owner' | 'guest' | 'supervisor';
  state: SegmentState;
  reconnecting: boolean;
  monitor: ('listen' | 'coach' | 'barge') | null;
}
export interface ContactChanged {
  type: 'contact.changed';
  contact: ContactView;
}
export interface LegAnswer {
  type: 'leg.answer';
  session_id: string;
  leg_id: string;
  generation: number;
  sdp: string;
}
/**
 * The offer of this generation can't be served; `code` as in docs/architecture.md#error-codes.
 */
export interface LegRefused {
  type: 'leg.refused';
  session_id: string;
  leg_id: string;
  generation: number;
  code: string;
}
/**
 * Passing (seq null): the queues that the agent serves.
 */
export interface QueuesChanged {
  type: 'queues.changed';
  queues: QueueLine[];
  paused: boolean;
}
export interface QueueLine {
  queue_id: string;
  name: string;
  waiting: number;
  longest_wait_since: number | null;
  agents_ready: number;
}
/**
 * Passing (seq null): the parked calls that the agent may fetch, those that nobody fetches already.
 */
export interface ParkedChanged {
  type: 'parked.changed';
  calls: ParkedCall[];
}
/**
 * `until`: goes back to its queue then.
 */
export interface ParkedCall {
  session_id: string;
  customer_name: string;
  queue_name: string;
  parked_by: string;
  /**
   * UTC epoch milliseconds, server clock
   */
  since: number;
  /**
   * UTC epoch milliseconds, server clock
   */
  until: number;
}
/**
 * Passing: another tab or computer of the same person holds the connection now; do not reconnect by itself.
 */
export interface Superseded {
  type: 'superseded';
}
/**
 * Passing: this node is about to stop; connect anew at once, to whichever node answers. Nothing else changes.
 */
export interface Moving {
  type: 'moving';
}
export interface SetStateMessage {
  v: 1;
  id: string;
  type: 'agent.set_state';
  body: SetState;
}
/**
 * During a contact this picks the next state; otherwise it takes effect at once.
 */
export interface SetState {
  state: ChosenState;
  reason_id?: string | null;
}
export interface EquipmentMessage {
  v: 1;
  id: string;
  type: 'agent.equipment';
  body: Equipment;
}
/**
 * What the tab's microphone and media are like now; null: they work. While there is a fault nothing is offered.
 */
export interface Equipment {
  fault: ('no_microphone' | 'microphone_muted' | 'no_media') | null;
}
export interface OfferAckMessage {
  v: 1;
  id: string;
  type: 'offer.ack';
  body: SegmentRef;
}
export interface SegmentRef {
  session_id: string;
  segment_id: string;
}
export interface OfferAcceptMessage {
  v: 1;
  id: string;
  type: 'offer.accept';
  body: OfferAccept;
}
/**
 * `sdp` (an offer, generation 1) saves one round trip.
 */
export interface OfferAccept {
  session_id: string;
  segment_id: string;
  sdp?: string | null;
}
export interface OfferRejectMessage {
  v: 1;
  id: string;
  type: 'offer.reject';
  body: SegmentRef;
}
export interface LegOfferMessage {
  v: 1;
  id: string;
  type: 'leg.offer';
  body: LegOffer;
}
/**
 * A new peer connection for the sender's leg: first, or a re-anchor. `generation` = the view's + 1.
 */
export interface LegOffer {
  session_id: string;
  leg_id: string;
  generation: number;
  sdp: string;
}
export interface ContactHoldMessage {
  v: 1;
  id: string;
  type: 'contact.hold';
  body: Hold;
}
export interface Hold {
  session_id: string;
  segment_id: string;
  on: boolean;
}
export interface ContactRecordMessage {
  v: 1;
  id: string;
  type: 'contact.record';
  body: Record;
}
/**
 * `paused`: nothing is to be kept from now on (a payment, say). The contact's `recording` tells when it holds.
 */
export interface Record {
  session_id: string;
  segment_id: string;
  paused: boolean;
}
/**
 * A mark at this place of the recording.
 */
export interface ContactMarkMessage {
  v: 1;
  id: string;
  type: 'contact.mark';
  body: SegmentRef;
}
export interface ContactMuteMessage {
  v: 1;
  id: string;
  type: 'contact.mute';
  body: Mute;
}
/**
 * Nobody hears the sender; also after a reload.
 */
export interface Mute {
  session_id: string;
  segment_id: string;
  on: boolean;
}
export interface ContactDigitsMessage {
  v: 1;
  id: string;
  type: 'contact.digits';
  body: SendDigits;
}
/**
 * Keys of a phone, pressed for the customer's side.
 */
export interface SendDigits {
  session_id: string;
  segment_id: string;
  digits: string;
}
export interface ContactTransferMessage {
  v: 1;
  id: string;
  type: 'contact.transfer';
  body: Transfer;
}
/**
 * Without a word before: to a queue, or to an agent who is asked at once. One of the two.
 */
export interface Transfer {
  session_id: string;
  segment_id: string;
  queue_id?: string | null;
  agent_id?: string | null;
}
/**
 * The customer stays on hold, for whoever fetches them; the sender's part is over.
 */
export interface ContactParkMessage {
  v: 1;
  id: string;
  type: 'contact.park';
  body: SegmentRef;
}
/**
 * Take a parked call; the answer has the contact, as one that was accepted.
 */
export interface ContactFetchMessage {
  v: 1;
  id: string;
  type: 'contact.fetch';
  body: Fetch;
}
/**
 * `session_id` as in `parked.changed`.
 */
export interface Fetch {
  session_id: string;
}
export interface ConsultBeginMessage {
  v: 1;
  id: string;
  type: 'consult.begin';
  body: ConsultBegin;
}
/**
 * `agent_id` is asked; the customer hears music meanwhile, unless they are in a conference already.
 */
export interface ConsultBegin {
  session_id: string;
  segment_id: string;
  agent_id: string;
}
/**
 * The guest leaves, or is not asked any more. With the last one gone the sender is back with the customer.
 */
export interface ConsultEndMessage {
  v: 1;
  id: string;
  type: 'consult.end';
  body: GuestRef;
}
/**
 * `guest_segment_id` as in the view's `others`.
 */
export interface GuestRef {
  session_id: string;
  segment_id: string;
  guest_segment_id: string;
}
export interface ConsultSwapMessage {
  v: 1;
  id: string;
  type: 'consult.swap';
  body: ConsultSwap;
}
/**
 * Speak with the customer, or with the agent who is consulted; the other one hears music.
 */
export interface ConsultSwap {
  session_id: string;
  segment_id: string;
  to_customer: boolean;
}
/**
 * Customer, owner and guests all hear each other.
 */
export interface ConsultConferMessage {
  v: 1;
  id: string;
  type: 'consult.confer';
  body: SegmentRef;
}
/**
 * The guest has the session from now on; the sender's part is over.
 */
export interface ConsultCompleteMessage {
  v: 1;
  id: string;
  type: 'consult.complete';
  body: GuestRef;
}
/**
 * Listen to a talk, with the microphone off; the answer has the contact. `contact.hang_up` ends it.
 */
export interface SuperviseBeginMessage {
  v: 1;
  id: string;
  type: 'supervise.begin';
  body: Supervise;
}
export interface Supervise {
  session_id: string;
}
export interface SuperviseModeMessage {
  v: 1;
  id: string;
  type: 'supervise.mode';
  body: Monitoring;
}
/**
 * `listen`: nobody hears the sender; `coach`: the agent does; `barge`: everybody does.
 */
export interface Monitoring {
  session_id: string;
  segment_id: string;
  monitor: 'listen' | 'coach' | 'barge';
}
/**
 * The session is the sender's from now on; its agent goes to wrap-up.
 */
export interface SuperviseTakeOverMessage {
  v: 1;
  id: string;
  type: 'supervise.take_over';
  body: SegmentRef;
}
export interface ContactHangUpMessage {
  v: 1;
  id: string;
  type: 'contact.hang_up';
  body: SegmentRef;
}
export interface ContactNotesMessage {
  v: 1;
  id: string;
  type: 'contact.notes';
  body: SaveNotes;
}
/**
 * The draft, saved while it is typed. `disposition_id` may be picked early.
 */
export interface SaveNotes {
  session_id: string;
  segment_id: string;
  notes: string;
  disposition_id?: string | null;
}
export interface ContactExtendMessage {
  v: 1;
  id: string;
  type: 'contact.extend_wrap_up';
  body: ExtendWrapUp;
}
/**
 * `deadline_at` is the deadline that is to move: the view's, so that a repeated wish moves it once.
 */
export interface ExtendWrapUp {
  session_id: string;
  segment_id: string;
  deadline_at: number;
}
export interface ContactWrapUpMessage {
  v: 1;
  id: string;
  type: 'contact.wrap_up';
  body: WrapUp;
}
/**
 * Finish the wrap-up. Refused with `disposition_required` when the queue wants one.
 */
export interface WrapUp {
  session_id: string;
  segment_id: string;
  notes: string;
  disposition_id?: string | null;
}
export interface IceServersMessage {
  v: 1;
  id: string;
  type: 'ice.servers';
  body: Empty;
}
export interface Empty {}
export interface StreamFetchMessage {
  v: 1;
  id: string;
  type: 'stream.fetch';
  body: StreamFetch;
}
export interface StreamFetch {
  after: number;
}
export interface SyncMessage {
  v: 1;
  id: string;
  type: 'sync';
  body: Empty;
}
export interface AgentStream {
  head: number;
  reset: boolean;
  messages: AgentEnvelope[];
}
export interface AgentSync {
  head: number;
  /**
   * UTC epoch milliseconds, server clock
   */
  now: number;
  /**
   * as in queues.changed, which does not come while nothing is routed
   */
  routing_paused: boolean;
  agent: AgentView;
  /**
   * every segment of the agent that is not done
   */
  contacts: ContactView[];
  ice: IceServers;
}
/**
 * What the reader's peer connections may use. Ask `ice.servers` for newer ones once half of the time until
 * `ice_expires_at` is over; null: they do not expire. `relay_only`: no path but through a TURN server.
 */
export interface IceServers {
  ice_servers: IceServer[];
  relay_only: boolean;
  ice_expires_at: number | null;
}
/**
 * As RTCIceServer; without credentials for STUN.
 */
export interface IceServer {
  urls: string[];
  username: string | null;
  credential: string | null;
}
export interface CallChanged {
  type: 'call.changed';
  call: CallView;
}
/**
 * A session as its customer sees it. `end_reason` when ended: customer_hung_up, agent_hung_up, abandoned, no_media,
 * customer_lost, system_failed, no_lines, waited_too_long, queue_full, place_expired. In `place_kept` the customer is
 * away: the leg is closed until `place.take`.
 */
export interface CallView {
  session_id: string;
  version: number;
  state: CallState;
  queue_name: string;
  /**
   * UTC epoch milliseconds, server clock
   */
  queued_at: number;
  agent_name: string | null;
  talk_started_at: number | null;
  ended_at: number | null;
  end_reason: string | null;
  recording: RecordingState;
  leg: LegView;
  /**
   * the agent's leg is lost, and its grace is running
   */
  agent_reconnecting: boolean;
  /**
   * `place.keep` is possible now
   */
  may_keep_place: boolean;
  /**
   * in place_kept: for how long it is kept
   */
  place_until: number | null;
  /**
   * no worker has room for its sound; one is looked for, for a minute
   */
  no_lines: boolean;
}
export interface CallHangUpMessage {
  v: 1;
  id: string;
  type: 'call.hang_up';
  body: Empty;
}
/**
 * Start the session that the socket's token names. Sending it again returns the same session.
 * `sdp` (an offer, generation 1) saves one round trip. `return_token`: that of this browser's last session.
 */
export interface CallRequest {
  name?: string;
  locale?: string;
  page_url?: string;
  context?: {
    [k: string]: string;
  };
  consent_version?: string;
  return_token?: string | null;
  sdp?: string | null;
}
export interface CallRequestMessage {
  v: 1;
  id: string;
  type: 'call.request';
  body: CallRequest;
}
/**
 * `number` is E.164: + and 7 to 15 digits.
 */
export interface CallbackAsk {
  number: string;
}
/**
 * The customer, who waits or keeps a place, wants to be called in turn. Refused with `callback_not_offered` where
 * the queue does not call back.
 */
export interface CallbackAskMessage {
  v: 1;
  id: string;
  type: 'callback.ask';
  body: CallbackAsk;
}
export interface CustomerEnvelope {
  v: 1;
  seq: number | null;
  /**
   * UTC epoch milliseconds, server clock
   */
  at: number;
  body: CustomerPush;
}
/**
 * Passing (seq null). `position` is 1-based. The wait from now on is `wait_low_s` to `wait_high_s` (half of such
 * waits are over by the first, nine in ten by the second; whole tens up to 120, whole minutes above, 0 for "up to"),
 * or both are null: nobody knows.
 */
export interface QueuePosition {
  type: 'queue.position';
  session_id: string;
  position: number;
  wait_low_s: number | null;
  wait_high_s: number | null;
}
/**
 * The customer, who waits, goes away for a while, and is served in turn when back.
 */
export interface PlaceKeepMessage {
  v: 1;
  id: string;
  type: 'place.keep';
  body: Empty;
}
/**
 * The customer is back: the leg is wanted again.
 */
export interface PlaceTakeMessage {
  v: 1;
  id: string;
  type: 'place.take';
  body: Empty;
}
/**
 * `reset`: what came after `after` is not kept any more; ask `sync` instead.
 */
export interface CustomerStream {
  head: number;
  reset: boolean;
  messages: CustomerEnvelope[];
}
/**
 * `call` is null before `call.request`.
 */
export interface CustomerSync {
  head: number;
  /**
   * UTC epoch milliseconds, server clock
   */
  now: number;
  call: CallView | null;
  ice: IceServers;
}
export interface Ping {
  head: number;
  /**
   * UTC epoch milliseconds, server clock
   */
  now: number;
}
export interface Pong {
  seq: number;
}
/**
 * `code` is stable and translated by the client; `message` is English, for logs; `params` fill the
 * translation, e.g. `{"agent": "Bo"}` of `offer_taken`.
 */
export interface WireError {
  code: string;
  message: string;
  params: {
    [k: string]: string;
  };
}

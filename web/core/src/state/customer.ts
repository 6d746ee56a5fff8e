/**
 * The customer's call as the widget sees it. Pure: `reduce(state, event)`, and what the screens derive from it.
 *
 * The server's CallView is the truth of a call; what is added here is what only this browser knows: the microphone, the
 * line, the leg, and what the customer just asked for. An older view never replaces a newer one, and a call that has
 * ended stays ended.
 */
import { assertNever } from '../assert_never';
import type { MicrophoneFault } from '../devices';
import type { LegStatus } from '../leg';
import type { WidgetInfo } from '../rest_types';
import type { ConnectionState } from '../signalling';
import type { CallView, CustomerPush, QueuePosition } from '../wire';

/** idle: nothing asked for. starting: clicked, or resumed after a reload, and no view yet. live, ended: see `call`. */
export type Phase = 'idle' | 'starting' | 'live' | 'ended';

/** Half of such waits are over by `low_s`, nine in ten by `high_s`. */
export interface WaitRange {
  low_s: number;
  high_s: number;
}

export interface CustomerState {
  phase: Phase;
  info: WidgetInfo | null;
  /** Why there is no `info`. */
  infoError: string | null;
  call: CallView | null;
  position: number | null;
  /** The wait from here, in seconds; null: the server does not know. */
  wait: WaitRange | null;
  microphone: 'off' | 'asking' | 'on' | 'failed';
  fault: MicrophoneFault | null;
  connection: ConnectionState | null;
  leg: LegStatus;
  /** A call that could not be made, or that the server no longer knows; or a wish that was refused. */
  error: string | null;
}

export const initialCustomer: CustomerState = {
  phase: 'idle',
  info: null,
  infoError: null,
  call: null,
  position: null,
  wait: null,
  microphone: 'off',
  fault: null,
  connection: null,
  leg: 'idle',
  error: null,
};

export type CustomerEvent =
  | { type: 'InfoLoaded'; info: WidgetInfo }
  | { type: 'InfoFailed'; code: string }
  | { type: 'Started' }
  | { type: 'MicrophoneAsked' }
  | { type: 'MicrophoneOpened' }
  | { type: 'MicrophoneFailed'; fault: MicrophoneFault }
  | { type: 'MicrophoneReleased' }
  | { type: 'ConnectionChanged'; connection: ConnectionState }
  | { type: 'LegChanged'; leg: LegStatus }
  | { type: 'Synced'; call: CallView | null }
  | { type: 'Pushed'; push: CustomerPush }
  | { type: 'HungUp'; at: number }
  | { type: 'Failed'; code: string }
  | { type: 'Refused'; code: string }
  | { type: 'Cleared' };

export function reduce(state: CustomerState, event: CustomerEvent): CustomerState {
  switch (event.type) {
    case 'InfoLoaded':
      return { ...state, info: event.info, infoError: null };
    case 'InfoFailed':
      return { ...state, infoError: event.code };
    case 'Started':
      return { ...cleared(state), phase: 'starting' };
    case 'MicrophoneAsked':
      return { ...state, microphone: 'asking', fault: null };
    case 'MicrophoneOpened':
      return { ...state, microphone: 'on', fault: null };
    case 'MicrophoneFailed':
      return { ...state, microphone: 'failed', fault: event.fault };
    case 'MicrophoneReleased':
      return { ...state, microphone: 'off', fault: null };
    case 'ConnectionChanged':
      return { ...state, connection: event.connection };
    case 'LegChanged':
      return { ...state, leg: event.leg };
    case 'Synced':
      return synced(state, event.call);
    case 'Pushed':
      return pushed(state, event.push);
    case 'HungUp':
      return hungUp(state, event.at);
    case 'Failed':
      return { ...state, phase: state.call === null ? 'idle' : 'ended', error: event.code };
    case 'Refused':
      return { ...state, error: event.code };
    case 'Cleared':
      return cleared(state);
    default:
      return assertNever(event);
  }
}

function cleared(state: CustomerState): CustomerState {
  return { ...initialCustomer, info: state.info, infoError: state.infoError };
}

function synced(state: CustomerState, call: CallView | null): CustomerState {
  if (call !== null) return viewed(state, call);
  // Before `call.request` there is no call yet; after it, the server no longer knows of it.
  return state.phase === 'live' ? { ...state, phase: 'ended', error: 'not_found' } : state;
}

function pushed(state: CustomerState, push: CustomerPush): CustomerState {
  switch (push.type) {
    case 'call.changed':
      return viewed(state, push.call);
    case 'queue.position':
      // It may overtake the view, and is not sent again until it changes.
      return state.call && state.call.session_id !== push.session_id
        ? state
        : { ...state, position: push.position, wait: waitOf(push) };
    case 'leg.answer': // the leg's own business
    case 'leg.refused':
    case 'superseded': // the line's
    case 'moving':
      return state;
    default:
      return assertNever(push);
  }
}

/** Of a server of an earlier version both are missing. */
function waitOf(push: QueuePosition): WaitRange | null {
  const low_s = push.wait_low_s ?? null;
  const high_s = push.wait_high_s ?? null;
  return low_s === null || high_s === null ? null : { low_s, high_s };
}

function viewed(state: CustomerState, call: CallView): CustomerState {
  if (state.phase === 'idle' || state.phase === 'ended') return state;
  const known = state.call;
  if (known && (known.session_id !== call.session_id || known.version >= call.version)) return state;
  const waits = call.state === 'queued' || call.state === 'place_kept';
  const { position, wait } = waits ? state : { position: null, wait: null };
  return { ...state, call, position, wait, error: null, phase: call.state === 'ended' ? 'ended' : 'live' };
}

/** At once, without waiting for the server: nobody wants to be kept on a call that they have left. */
function hungUp(state: CustomerState, at: number): CustomerState {
  if (state.phase === 'idle' || state.phase === 'ended') return state;
  if (state.call === null) return cleared(state);
  const end_reason = state.call.talk_started_at === null ? 'abandoned' : 'customer_hung_up';
  const call: CallView = { ...state.call, state: 'ended', ended_at: at, end_reason };
  return { ...state, call, phase: 'ended' };
}

// --- what the screens show ------------------------------------------------------------------------------

export type CustomerScreen =
  | 'loading'
  | 'unavailable'
  | 'closed'
  | 'form'
  | 'microphone'
  | 'queue'
  | 'place'
  | 'connecting'
  | 'call'
  | 'elsewhere'
  | 'ended';

export function screenOf(state: CustomerState): CustomerScreen {
  switch (state.phase) {
    case 'idle':
      if (state.info !== null) return state.info.open ? 'form' : 'closed';
      return state.infoError === null ? 'loading' : 'unavailable';
    case 'ended':
      return 'ended';
    case 'starting':
    case 'live':
      if (state.connection?.name === 'superseded') return 'elsewhere';
      if (state.microphone === 'failed') return 'microphone';
      if (state.call === null) return state.microphone === 'asking' ? 'microphone' : 'connecting';
      return screenOfCall(state.call);
    default:
      return assertNever(state.phase);
  }
}

function screenOfCall(call: CallView): CustomerScreen {
  switch (call.state) {
    case 'queued':
      return 'queue';
    case 'place_kept':
      return 'place';
    case 'connecting':
      return 'connecting';
    case 'talking':
    case 'held':
      return 'call';
    case 'ended':
      return 'ended';
    default:
      return assertNever(call.state);
  }
}

/** What is being mended: the line to the server, this side's sound, the agent's side. The worst one. */
export function reconnecting(state: CustomerState): 'line' | 'sound' | 'agent' | null {
  if (state.phase !== 'live' || state.call === null) return null;
  if (state.connection?.name === 'reconnecting') return 'line';
  const inTalk = state.call.state === 'talking' || state.call.state === 'held';
  if (state.leg === 'recovering' || (inTalk && state.leg !== 'up')) return 'sound';
  return state.call.agent_reconnecting ? 'agent' : null;
}

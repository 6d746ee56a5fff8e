// The console's side of the desk: what core's stores hold as runes, the drafts, and each intent of the views as one
// call. A refused command is not thrown here: core keeps it in `state.lastError`, and the views show that.

import type { AgentDesk, MonitorMode } from '../../core/src/agent_desk';
import type { MicrophoneQuiet } from '../../core/src/devices';
import type { Quality } from '../../core/src/quality';
import type { Rest } from '../../core/src/rest';
import type { BreakReason, Disposition, Floor, Page, Queue, TransferTargets } from '../../core/src/rest_types';
import { guests, initialDesk, ringing, talking, wrappingUp, type DeskState } from '../../core/src/state/agent';
import type { KeyValues } from '../../core/src/tab_storage';
import type { ChosenState, ContactView } from '../../core/src/wire';
import { allowed, farewell, forced, longestParked, refusal, wantsPause, type Farewell, type Forced } from '../state/console';
import { NO_DRAFT, parseDrafts, reduce, type Draft, type DraftEvent, type Drafts } from '../state/drafts';

const DRAFTS_KEY = 'patchbay.drafts';
const PAGE = 200;

export class Console {
  state = $state.raw<DeskState>(initialDesk);
  now = $state(0);
  level = $state(0);
  quality = $state.raw<Quality | null>(null);
  quiet = $state<MicrophoneQuiet | null>(null);
  muted = $state(false);
  soundBlocked = $state(false);
  drafts = $state.raw<Drafts>({});
  farewell = $state.raw<Farewell | null>(null);
  /** The last refusal of the server that is still worth reading. */
  refusal = $state.raw<DeskState['lastError']>(null);
  /** Pressed "Done" without the disposition that the queue wants. */
  dispositionMissing = $state(false);
  dispositions = $state.raw<readonly Disposition[]>([]);
  breakReasons = $state.raw<readonly BreakReason[]>([]);
  queues = $state.raw<readonly Queue[]>([]);
  /** Chosen devices; null: as the browser decides. */
  input = $state<string | null>(null);
  output = $state<string | null>(null);
  ringOutput = $state<string | null>(null);
  readonly can = $derived(allowed(this.state));
  #readForced = $state<string | null>(null);
  #ringTested = false;
  #newestOfferAt = 0;

  constructor(
    readonly desk: AgentDesk,
    private readonly rest: Rest,
    private readonly storage: KeyValues,
  ) {
    this.drafts = parseDrafts(storage.getItem(DRAFTS_KEY));
  }

  start(): void {
    const { desk } = this;
    desk.state.subscribe((state) => this.#changed(state));
    desk.now.subscribe((now) => (this.now = now));
    desk.level.subscribe((level) => (this.level = level));
    desk.quality.subscribe((quality) => (this.quality = quality));
    desk.quiet.subscribe((quiet) => (this.quiet = quiet));
    desk.muted.subscribe((muted) => (this.muted = muted));
    desk.soundBlocked.subscribe((blocked) => (this.soundBlocked = blocked));
    desk.start();
    void this.loadLists();
  }

  /** The lists that menus offer. Without them the console still takes calls. */
  async loadLists(): Promise<void> {
    const list = async <T>(path: string): Promise<T[]> => {
      try {
        return (await this.rest.get<Page<T>>(path, { limit: PAGE })).items;
      } catch {
        return [];
      }
    };
    [this.dispositions, this.breakReasons, this.queues] = await Promise.all([
      list<Disposition>('/dispositions'),
      list<BreakReason>('/break-reasons'),
      list<Queue>('/queues'),
    ]);
  }

  draft(segmentId: string): Draft {
    return this.drafts[segmentId] ?? NO_DRAFT;
  }

  needsDisposition(contact: ContactView): boolean {
    const queue = this.queues.find((one) => one.queue_id === contact.queue_id);
    return queue?.disposition_required ?? false; // unknown: the server refuses with the same words
  }

  reasonName(reasonId: string | null): string | null {
    return this.breakReasons.find((one) => one.break_reason_id === reasonId)?.name ?? null;
  }

  async goReady(): Promise<void> {
    if (!this.can.goReady) return;
    this.dismiss();
    try {
      await this.desk.goReady();
    } catch {
      return;
    }
    if (this.#ringTested) return;
    this.#ringTested = true;
    this.desk.testRing();
    await this.desk.askNotifications();
  }

  choose(state: ChosenState, reasonId: string | null = null): void {
    if (this.can.choose) quietly(this.desk.setState(state, reasonId));
  }

  accept(): void {
    const offered = ringing(this.state);
    if (offered !== null && this.can.accept) quietly(this.desk.accept(offered.segment_id));
  }

  reject(): void {
    const offered = ringing(this.state);
    if (offered !== null && this.can.reject) quietly(this.desk.reject(offered.segment_id));
  }

  toggleMute(): void {
    if (this.can.mute) this.desk.setMuted(!this.muted);
  }

  toggleHold(): void {
    const live = talking(this.state);
    if (live !== null && this.can.hold) quietly(this.desk.hold(live.segment_id, live.state !== 'held'));
  }

  toggleRecording(): void {
    const live = talking(this.state);
    if (live !== null && this.can.record) quietly(this.desk.pauseRecording(live.segment_id, !wantsPause(live)));
  }

  mark(): void {
    const live = talking(this.state);
    if (live !== null && this.can.mark) quietly(this.desk.markRecording(live.segment_id));
  }

  supervise(sessionId: string): void {
    if (this.can.supervise) quietly(this.desk.supervise(sessionId));
  }

  monitor(mode: MonitorMode): void {
    const live = talking(this.state);
    if (live !== null && this.can.monitor) quietly(this.desk.monitor(live.segment_id, mode));
  }

  takeOverCall(): void {
    const live = talking(this.state);
    if (live !== null && this.can.monitor) quietly(this.desk.takeOverCall(live.segment_id));
  }

  /** Agents who are in a talk now. Raises RestError. */
  liveAgents(): Promise<Floor> {
    return this.rest.get<Floor>('/agents', { on_duty: true, limit: PAGE });
  }

  press(digit: string): void {
    const live = talking(this.state);
    if (live !== null && this.can.keys) quietly(this.desk.sendDigits(live.segment_id, digit));
  }

  transfer(to: { queue_id: string } | { agent_id: string }): void {
    const live = talking(this.state);
    if (live !== null && this.can.transfer) quietly(this.desk.transfer(live.segment_id, to));
  }

  park(): void {
    const live = talking(this.state);
    if (live !== null && this.can.park) quietly(this.desk.park(live.segment_id));
  }

  /** The call that is named, or the one that is parked longest. */
  fetch(sessionId?: string): void {
    const call = sessionId ?? longestParked(this.state.parked)[0]?.session_id;
    if (call !== undefined && this.can.fetch) quietly(this.desk.fetch(call));
  }

  consult(agentId: string): void {
    const live = talking(this.state);
    if (live !== null && this.can.invite) quietly(this.desk.consult(live.segment_id, agentId));
  }

  swap(): void {
    const live = talking(this.state);
    if (live !== null && this.can.swap) quietly(this.desk.swap(live.segment_id, live.state === 'held'));
  }

  confer(): void {
    const live = talking(this.state);
    if (live !== null && this.can.confer) quietly(this.desk.confer(live.segment_id));
  }

  /** To a guest who has joined: the one that is named, or the first. */
  completeConsult(guestId?: string): void {
    const live = talking(this.state);
    const joined = live === null ? [] : guests(live).filter(({ state }) => state === 'talking' || state === 'held');
    const guest = joined.find((one) => one.segment_id === (guestId ?? one.segment_id));
    if (live !== null && guest !== undefined && this.can.complete) quietly(this.desk.completeConsult(live.segment_id, guest.segment_id));
  }

  /** The guest who is named, or the newest, is not needed any more. */
  endConsult(guestId?: string): void {
    const live = talking(this.state);
    const called = live === null ? [] : guests(live);
    const guest = guestId === undefined ? called.at(-1) : called.find((one) => one.segment_id === guestId);
    if (live !== null && guest !== undefined && this.can.endConsult) quietly(this.desk.endConsult(live.segment_id, guest.segment_id));
  }

  /** Whom and what a call can be handed over to. Raises RestError. */
  targets(search: string): Promise<TransferTargets> {
    return this.rest.get<TransferTargets>('/transfer-targets', search === '' ? {} : { q: search });
  }

  hangUp(): void {
    const live = talking(this.state);
    if (live !== null && this.can.hangUp) quietly(this.desk.hangUp(live.segment_id));
  }

  finish(): void {
    const contact = wrappingUp(this.state)[0];
    if (contact === undefined || !this.can.wrapUp) return;
    const { notes, dispositionId } = this.draft(contact.segment_id);
    this.dispositionMissing = dispositionId === null && this.needsDisposition(contact);
    if (!this.dispositionMissing) quietly(this.desk.wrapUp(contact.segment_id, notes, dispositionId));
  }

  extend(): void {
    const contact = wrappingUp(this.state)[0];
    if (contact !== undefined && this.can.extend) quietly(this.desk.extendWrapUp(contact.segment_id));
  }

  /** What a supervisor chose, until it was read. */
  get forced(): Forced | null {
    const now = forced(this.state);
    return now?.key === this.#readForced ? null : now;
  }

  forcedRead(): void {
    this.#readForced = forced(this.state)?.key ?? null;
  }

  type(segmentId: string, notes: string): void {
    this.#drafted({ type: 'typed', segmentId, notes });
    this.#save(segmentId);
  }

  pick(segmentId: string, dispositionId: string | null): void {
    this.dispositionMissing = false;
    this.#drafted({ type: 'picked', segmentId, dispositionId });
    this.#save(segmentId);
  }

  dismiss(): void {
    this.farewell = null;
    this.desk.errorSeen();
  }

  /** A microphone that failed during a call: from a gesture, so that the browser may ask again. */
  retryMicrophone(): void {
    void this.desk.retryMicrophone();
  }

  setInput(deviceId: string | null): void {
    this.input = deviceId;
    quietly(this.desk.setInput(deviceId));
  }

  setOutput(deviceId: string | null): Promise<boolean> {
    this.output = deviceId;
    return this.desk.setOutput(deviceId);
  }

  setRingOutput(deviceId: string | null): Promise<boolean> {
    this.ringOutput = deviceId;
    return this.desk.setRingOutput(deviceId);
  }

  /** From a gesture: the browser may have kept the ringer silent so far. */
  async testRing(): Promise<void> {
    this.desk.resumeSound();
    this.desk.testRing();
  }

  #changed(state: DeskState): void {
    const before = this.state;
    const first = before.agent === null && state.agent !== null;
    this.state = state;
    this.farewell = farewell(this.farewell, before, state);
    this.#newestOfferAt = ringing(state)?.offered_at ?? this.#newestOfferAt;
    this.refusal = refusal(state, this.#newestOfferAt);
    if (state.agent !== null && (first || state.contacts !== before.contacts)) this.#drafted({ type: 'contacts', contacts: state.contacts });
    if (first) this.#saveRestored();
  }

  /** What was typed just before a reload may not have reached the server. */
  #saveRestored(): void {
    for (const [segmentId, draft] of Object.entries(this.drafts)) if (draft.dirty) this.#save(segmentId);
  }

  #save(segmentId: string): void {
    if (!this.state.contacts.some((one) => one.segment_id === segmentId)) return;
    const { notes, dispositionId } = this.draft(segmentId);
    this.desk.saveNotes(segmentId, notes, dispositionId);
  }

  #drafted(event: DraftEvent): void {
    this.drafts = reduce(this.drafts, event);
    this.storage.setItem(DRAFTS_KEY, JSON.stringify(this.drafts));
  }
}

function quietly(command: Promise<void>): void {
  command.catch(() => undefined); // core keeps the refusal in `state.lastError`
}

/**
 * The agent's desk: tab leader, line, microphone, leg, ringer and state, held together. A view reads the stores and
 * calls the methods; nothing else here is its business.
 *
 * Only the leading tab holds the line and the audio. The microphone opens with "go ready" or an accept, and after a
 * reload by itself when the agent was ready or in a call. The server is told whether it works: without one nothing is
 * offered, since it would ring where nobody can answer. One that is back is taken up by itself.
 */
import { every, ServerClock, ticker } from './clock';
import { browserDesk, type DeskEnvironment } from './desk_environment';
import { MicrophoneError, type DeviceList, type Microphone, type MicrophoneFault, type MicrophoneQuiet } from './devices';
import { HeldMicrophone } from './held_microphone';
import { IceAccess } from './ice_access';
import { Leg, type LegStatus } from './leg';
import { NotesOutbox } from './notes_outbox';
import type { Quality } from './quality';
import { WireFailure } from './requests';
import type { Ring } from './ringer';
import { Scope } from './scope';
import { Signalling } from './signalling';
import { equipmentFault, hearsSomebody, initialDesk, reduce, ringing, talking, type DeskEvent, type DeskState, type EquipmentFault } from './state/agent';
import { derived, store, type Readable } from './store';
import type { TabRole } from './tab_leader';
import type { AgentPush, ChosenState, ContactView, Monitoring } from './wire';

export type MonitorMode = Monitoring['monitor'];

export interface DeskOptions {
  /** The words of a ring, in the app's language. */
  ring: (contact: ContactView) => Ring;
  /** URL of the page's icon while it rings. */
  ringIcon?: string;
  environment?: DeskEnvironment;
}

const MUTED_KEY = 'patchbay.muted'; // the segment that was muted: a reload must not open a microphone

const TRY_MICROPHONE_MS = 5000; // no event tells that another program has let go of it
const TRY_MEDIA_MS = 10_000;
/** What no waiting mends, or what would ask the person again and again. */
const NEEDS_A_GESTURE: ReadonlySet<MicrophoneFault | null> = new Set(['denied', 'host_blocked', 'insecure_context']);

export class AgentDesk {
  readonly state: Readable<DeskState>;
  readonly level: Readable<number>;
  readonly quiet: Readable<MicrophoneQuiet | null>;
  readonly quality: Readable<Quality | null>;
  readonly muted: Readable<boolean>;
  readonly devices: Readable<DeviceList>;
  readonly soundBlocked: Readable<boolean>;
  readonly ringArmed: Readable<boolean>;
  readonly clock: ServerClock;
  /** Server milliseconds, once a second. */
  readonly now: Readable<number>;

  readonly #env: DeskEnvironment;
  readonly #ring: DeskOptions['ring'];
  readonly #scope = new Scope();
  readonly #state = store(initialDesk);
  readonly #quality = store<Quality | null>(null);
  readonly #line: Signalling<'agent'>;
  readonly #ice: IceAccess;
  readonly #notes: NotesOutbox;
  readonly #microphone: HeldMicrophone;
  #leg: { segmentId: string; leg: Leg; scope: Scope } | null = null;
  #rung: string | null = null;
  /** What the server is being told of the equipment; undefined: nothing. */
  #telling: EquipmentFault | null | undefined;
  #tellingMuted = false;
  /** The segment in which this agent is, or just was, a supervisor. */
  #supervised: string | null = null;

  constructor(options: DeskOptions) {
    this.#env = options.environment ?? browserDesk(options.ringIcon);
    this.#ring = options.ring;
    const { clock, tab, ringer, devices } = this.#env;
    this.clock = new ServerClock(clock);
    const now = ticker(this.clock, clock);
    this.#line = new Signalling<'agent'>({
      namespace: 'agent',
      openSocket: this.#env.openSocket,
      clock,
      serverClock: this.clock,
      network: this.#env.network,
      onSync: (sync) => {
        this.#ice.take(sync.ice);
        this.#did({ type: 'Synced', sync });
        void this.#follow();
      },
      onPush: (batch) => this.#pushed(batch),
    });
    this.#ice = new IceAccess({ clock, serverClock: this.clock, ask: () => this.#line.send('ice.servers', {}) });
    this.#notes = new NotesOutbox({
      clock,
      send: (body) => this.#line.send('contact.notes', body),
      typed: (segment_id) => this.#did({ type: 'NotesTyped', segment_id }),
      saved: (segment_id) => this.#did({ type: 'NotesSaved', segment_id }),
      refused: (code) => this.#did({ type: 'CommandFailed', command: 'notes', code, params: {}, at: this.clock.now() }),
    });
    this.#microphone = new HeldMicrophone({
      open: this.#env.openMicrophone,
      did: (event) => this.#did(event),
      replaced: () => void this.#follow(),
    });
    for (const held of [this.#line, this.#ice, now, tab, ringer, devices]) this.#scope.add(() => held.end());
    this.state = this.#state;
    this.level = this.#microphone.level;
    this.quiet = this.#microphone.quiet;
    this.quality = this.#quality;
    this.muted = this.#microphone.muted;
    this.devices = devices;
    this.soundBlocked = this.#env.speaker.blocked;
    this.ringArmed = ringer.armed;
    this.now = now;
  }

  /** Stands for election among the tabs; the leader connects. */
  start(): void {
    this.#scope.add(
      this.#line.state.subscribe((connection) => {
        this.#telling = undefined;
        this.#did({ type: 'ConnectionChanged', connection });
        if (connection.name === 'online') this.#notes.flush();
        if (connection.name === 'superseded') this.#letGo();
      }),
    );
    this.#scope.add(this.#env.tab.role.subscribe((role) => this.#roleChanged(role)));
    this.#scope.add(this.quiet.subscribe(() => this.#tellEquipment()));
    this.#scope.add(this.devices.subscribe(() => this.#tryMicrophone()));
    this.#scope.add(every(this.#env.clock, TRY_MICROPHONE_MS, () => this.#tryMicrophone()));
    this.#scope.add(every(this.#env.clock, TRY_MEDIA_MS, () => void this.#checkMedia()));
  }

  /** From a gesture. Resolves once the server has the state. */
  async goReady(): Promise<void> {
    await this.#needMicrophone();
    await this.#env.ringer.arm();
    await this.setState('ready');
  }

  setState(state: ChosenState, reasonId: string | null = null): Promise<void> {
    return this.#command('set_state', () => this.#line.send('agent.set_state', { state, reason_id: reasonId }));
  }

  accept(segmentId: string): Promise<void> {
    return this.#command(`accept:${segmentId}`, async () => {
      const contact = this.#contact(segmentId);
      this.#env.ringer.stop();
      const microphone = await this.#needMicrophone();
      this.#mute(false, segmentId);
      const leg = this.#legFor(contact, microphone);
      try {
        await this.#line.send('offer.accept', { ...refOf(contact), sdp: await leg.firstOffer() });
      } catch (failure) {
        this.#endLeg();
        throw failure;
      }
    });
  }

  reject(segmentId: string): Promise<void> {
    return this.#command(`reject:${segmentId}`, () => {
      this.#env.ringer.stop();
      return this.#line.send('offer.reject', refOf(this.#contact(segmentId)));
    });
  }

  hold(segmentId: string, on: boolean): Promise<void> {
    return this.#command(`hold:${segmentId}`, () =>
      this.#line.send('contact.hold', { ...refOf(this.#contact(segmentId)), on }),
    );
  }

  pauseRecording(segmentId: string, paused: boolean): Promise<void> {
    return this.#command(`record:${segmentId}`, () =>
      this.#line.send('contact.record', { ...refOf(this.#contact(segmentId)), paused }),
    );
  }

  markRecording(segmentId: string): Promise<void> {
    return this.#command(`mark:${segmentId}`, () =>
      this.#line.send('contact.mark', refOf(this.#contact(segmentId))),
    );
  }

  hangUp(segmentId: string): Promise<void> {
    return this.#command(`hang_up:${segmentId}`, () =>
      this.#line.send('contact.hang_up', refOf(this.#contact(segmentId))),
    );
  }

  /** A supervisor goes into somebody's talk: to listen, with the microphone off. From a gesture. */
  supervise(sessionId: string): Promise<void> {
    return this.#command(`supervise:${sessionId}`, async () => {
      await this.#needMicrophone();
      await this.#line.send('supervise.begin', { session_id: sessionId });
    });
  }

  monitor(segmentId: string, mode: MonitorMode): Promise<void> {
    return this.#command(`monitor:${segmentId}`, () =>
      this.#line.send('supervise.mode', { ...refOf(this.#contact(segmentId)), monitor: mode }),
    );
  }

  /** The talk is this supervisor's from now on. */
  takeOverCall(segmentId: string): Promise<void> {
    return this.#command(`take_over:${segmentId}`, () =>
      this.#line.send('supervise.take_over', refOf(this.#contact(segmentId))),
    );
  }

  /** Keys of a phone, for the customer's side. */
  sendDigits(segmentId: string, digits: string): Promise<void> {
    return this.#command(`digits:${segmentId}`, () =>
      this.#line.send('contact.digits', { ...refOf(this.#contact(segmentId)), digits }),
    );
  }

  /** Without a word before: the customer goes there at once. */
  transfer(segmentId: string, to: { queue_id: string } | { agent_id: string }): Promise<void> {
    return this.#command(`transfer:${segmentId}`, () =>
      this.#line.send('contact.transfer', { ...refOf(this.#contact(segmentId)), ...to }),
    );
  }

  /** The customer stays on hold, for whoever fetches them. */
  park(segmentId: string): Promise<void> {
    return this.#command(`park:${segmentId}`, () =>
      this.#line.send('contact.park', refOf(this.#contact(segmentId))),
    );
  }

  /** Take a parked call. From a gesture. */
  fetch(sessionId: string): Promise<void> {
    return this.#command(`fetch:${sessionId}`, async () => {
      await this.#needMicrophone();
      await this.#line.send('contact.fetch', { session_id: sessionId });
    });
  }

  consult(segmentId: string, agentId: string): Promise<void> {
    return this.#command(`consult:${segmentId}`, () =>
      this.#line.send('consult.begin', { ...refOf(this.#contact(segmentId)), agent_id: agentId }),
    );
  }

  swap(segmentId: string, toCustomer: boolean): Promise<void> {
    return this.#command(`swap:${segmentId}`, () =>
      this.#line.send('consult.swap', { ...refOf(this.#contact(segmentId)), to_customer: toCustomer }),
    );
  }

  /** Customer, owner and guests all hear each other. */
  confer(segmentId: string): Promise<void> {
    return this.#command(`confer:${segmentId}`, () =>
      this.#line.send('consult.confer', refOf(this.#contact(segmentId))),
    );
  }

  completeConsult(segmentId: string, guestSegmentId: string): Promise<void> {
    return this.#command(`complete:${segmentId}`, () =>
      this.#line.send('consult.complete', { ...refOf(this.#contact(segmentId)), guest_segment_id: guestSegmentId }),
    );
  }

  endConsult(segmentId: string, guestSegmentId: string): Promise<void> {
    return this.#command(`end_consult:${segmentId}`, () =>
      this.#line.send('consult.end', { ...refOf(this.#contact(segmentId)), guest_segment_id: guestSegmentId }),
    );
  }

  /** Saved shortly after the last key; kept and sent again over an outage (`state.unsavedNotes`). */
  saveNotes(segmentId: string, notes: string, dispositionId: string | null): void {
    this.#notes.type({ ...refOf(this.#contact(segmentId)), notes, disposition_id: dispositionId });
  }

  wrapUp(segmentId: string, notes: string, dispositionId: string | null): Promise<void> {
    return this.#command(`wrap_up:${segmentId}`, async () => {
      const body = { ...refOf(this.#contact(segmentId)), notes, disposition_id: dispositionId };
      await this.#line.send('contact.wrap_up', body);
      this.#notes.forget(segmentId);
    });
  }

  extendWrapUp(segmentId: string): Promise<void> {
    return this.#command(`extend:${segmentId}`, async () => {
      const contact = this.#contact(segmentId);
      const deadline_at = contact.wrap_up_deadline_at;
      if (deadline_at !== null) await this.#line.send('contact.extend_wrap_up', { ...refOf(contact), deadline_at });
    });
  }

  /** Here at once; the server follows, so that nobody hears what another tab or computer would send. */
  setMuted(muted: boolean): void {
    const contact = talking(this.#state.get());
    if (contact === null) return;
    this.#mute(muted, contact.segment_id);
    this.#tellMuted();
  }

  /** This tab, or this computer, takes the desk. */
  takeOver(): void {
    if (this.#env.tab.role.get() === 'leader') this.#line.start();
    else this.#env.tab.takeOver();
  }

  setInput(deviceId: string | null): Promise<void> {
    return this.#microphone.choose(deviceId);
  }

  setOutput(deviceId: string | null): Promise<boolean> {
    return this.#env.speaker.output(deviceId);
  }

  setRingOutput(deviceId: string | null): Promise<boolean> {
    return this.#env.ringer.setSecondOutput(deviceId);
  }

  testRing(): void {
    this.#env.ringer.test();
  }

  askNotifications(): Promise<boolean> {
    return this.#env.ringer.askNotifications();
  }

  /** From a gesture, when `soundBlocked`. */
  resumeSound(): void {
    this.#env.speaker.resume();
    void this.#env.ringer.arm();
  }

  /** From a gesture: a microphone that failed, perhaps in the middle of a call. What is wrong shows in the state. */
  async retryMicrophone(): Promise<void> {
    await this.#needMicrophone().catch(() => undefined);
    await this.#follow();
  }

  /** The shown error was read. */
  errorSeen(): void {
    this.#did({ type: 'ErrorSeen' });
  }

  /** For diagnostics and browser tests. */
  get diagnostics(): { remoteStream: MediaStream | null; generation: number | null; leg: LegStatus; seq: number | null } {
    return {
      remoteStream: this.#env.speaker.stream,
      generation: this.#leg?.leg.generation ?? null,
      leg: this.#state.get().leg,
      seq: this.#line.seq,
    };
  }

  end(): void {
    this.#letGo();
    this.#notes.end();
    this.#scope.end();
  }

  #roleChanged(tab: TabRole): void {
    this.#did({ type: 'TabChanged', tab });
    if (tab === 'leader') {
      this.#line.start();
    } else {
      this.#letGo();
      this.#line.pause();
    }
  }

  #pushed(batch: AgentPush[]): void {
    const at = this.clock.now();
    this.#state.set(batch.reduce((state, push) => reduce(state, { type: 'Pushed', push, at }), this.#state.get()));
    this.#tellEquipment();
    for (const push of batch) {
      if (push.type === 'leg.answer') this.#leg?.leg.answer(push);
      else if (push.type === 'leg.refused') this.#leg?.leg.refused(push);
    }
    void this.#follow();
  }

  /** Brings ringer, leg and microphone to what the newest views say. */
  async #follow(): Promise<void> {
    this.#followRing();
    const contact = talking(this.#state.get());
    if (contact === null) {
      if (this.#leg && !this.#state.get().pending.includes(`accept:${this.#leg.segmentId}`)) this.#endLeg();
      this.#followChosen();
      return;
    }
    try {
      const microphone = await this.#needMicrophone();
      if (talking(this.#state.get())?.segment_id !== contact.segment_id) return;
      const newest = this.#contact(contact.segment_id);
      if (this.#leg?.segmentId !== contact.segment_id && newest.muted) this.#mute(true, contact.segment_id);
      this.#muteSupervisor(newest);
      const leg = this.#legFor(newest, microphone);
      void leg.replaceLocal(microphone.stream);
      leg.expectsAudio = hearsSomebody(newest);
      leg.view(newest.session_id, newest.leg);
      this.#tellMuted();
    } catch {
      // The fault shows in the state; "try again" is a gesture.
    }
  }

  #followRing(): void {
    const offered = ringing(this.#state.get());
    if (offered === null) {
      this.#env.ringer.stop();
      this.#rung = null;
    } else if (this.#rung !== offered.segment_id) {
      this.#rung = offered.segment_id;
      this.#line.send('offer.ack', refOf(offered)).catch(() => undefined); // late: the offer itself moves on
      this.#env.ringer.start(this.#ring(offered));
    }
  }

  #followChosen(): void {
    const { agent, microphone, contacts } = this.#state.get();
    if (agent === null || contacts.length > 0) return;
    if (agent.chosen === 'offline' && !this.#microphone.opening) this.#microphone.release();
    else if (agent.chosen === 'ready' && microphone.state === 'off') void this.#readyAgain();
  }

  /** After a reload: the microphone first, then the ringer may sound; without one the agent is not ready. */
  async #readyAgain(): Promise<void> {
    try {
      await this.#needMicrophone();
      await this.#env.ringer.arm();
    } catch {
      // The server is told, and offers nothing until it works.
    }
  }

  /** One that failed may be back: plugged in again, or let go by another program. */
  #tryMicrophone(): void {
    const { agent, microphone, contacts } = this.#state.get();
    const wanted = agent?.chosen === 'ready' || contacts.length > 0;
    if (microphone.state === 'failed' && wanted && !NEEDS_A_GESTURE.has(microphone.fault)) void this.retryMicrophone();
  }

  /** With each microphone that opens, and again while it does not work. A call that is up has shown it already. */
  async #checkMedia(): Promise<void> {
    const { mediaWorks, leg } = this.#state.get();
    const microphone = this.#microphone.current;
    if (microphone === null || mediaWorks === true) return;
    const works = leg === 'up' || (await this.#env.mediaWorks(this.#ice.configuration, microphone.stream));
    if (this.#microphone.current === microphone) this.#did({ type: 'MediaChecked', works });
  }

  /** Brings what the server knows of this tab's equipment to what is so. */
  #tellEquipment(): void {
    const state = this.#state.get();
    const fault = equipmentFault(state, this.quiet.get());
    if (state.agent !== null && state.agent.fault === this.#telling) this.#telling = undefined;
    const known = this.#telling === undefined ? state.agent?.fault : this.#telling;
    if (fault === undefined || fault === known || state.connection.name !== 'online' || state.tab !== 'leader') return;
    this.#telling = fault;
    this.#line.send('agent.equipment', { fault }).catch(() => {
      this.#telling = undefined; // the next change, or the line when it is back, tells again
    });
  }

  /** Open, with the mute of before a reload, and the devices' names known. */
  async #needMicrophone(): Promise<Microphone> {
    if (this.#microphone.current) return this.#microphone.current;
    const contact = talking(this.#state.get());
    const muted = contact !== null && this.#env.storage.getItem(MUTED_KEY) === contact.segment_id;
    if (muted) this.#microphone.setMuted(true);
    const microphone = await this.#microphone.need();
    this.#env.devices.refresh();
    return microphone;
  }

  #mute(muted: boolean, segmentId?: string): void {
    this.#microphone.setMuted(muted);
    if (muted && segmentId) this.#env.storage.setItem(MUTED_KEY, segmentId);
    else this.#env.storage.removeItem(MUTED_KEY);
  }

  /** What a supervisor does decides who hears them, and with it their microphone: until they have taken over. */
  #muteSupervisor(contact: ContactView): void {
    const supervises = contact.role === 'supervisor';
    if (!supervises && this.#supervised !== contact.segment_id) return;
    this.#supervised = supervises ? contact.segment_id : null;
    if (!this.#tellingMuted) this.#mute(contact.muted, contact.segment_id);
  }

  /** Brings what the server knows of the mute to what it is here. What fails is told again with the next view. */
  #tellMuted(): void {
    const contact = talking(this.#state.get());
    const muted = this.muted.get();
    if (contact === null || contact.state === 'connecting' || this.#tellingMuted || (contact.muted ?? false) === muted) return;
    if (this.#state.get().connection.name !== 'online' || this.#state.get().tab !== 'leader') return;
    this.#tellingMuted = true;
    this.#line
      .send('contact.mute', { ...refOf(contact), on: muted })
      .then(() => true, () => false)
      .then((told) => {
        this.#tellingMuted = false;
        if (told && this.muted.get() !== muted) this.#tellMuted(); // pressed again meanwhile
      });
  }

  #legFor(contact: ContactView, microphone: Microphone): Leg {
    if (this.#leg?.segmentId === contact.segment_id) return this.#leg.leg;
    this.#endLeg();
    const leg = new Leg({
      clock: this.#env.clock,
      createPeer: () => this.#env.createPeer(this.#ice.configuration),
      local: microphone.stream,
      sendOffer: (offer) => this.#line.send('leg.offer', offer),
      online: derived(this.#line.state, ({ name }) => name === 'online'),
      network: this.#env.network,
      play: this.#env.speaker.play,
    });
    const scope = new Scope();
    scope.add(leg.status.subscribe((status) => this.#did({ type: 'LegChanged', leg: status })));
    scope.add(leg.quality.subscribe((quality) => this.#quality.set(quality)));
    this.#leg = { segmentId: contact.segment_id, leg, scope };
    return leg;
  }

  #endLeg(): void {
    if (this.#leg === null) return;
    this.#leg.scope.end();
    this.#leg.leg.end();
    this.#leg = null;
    this.#did({ type: 'LegChanged', leg: 'idle' });
    this.#quality.set(null);
    this.#mute(false);
  }

  /** Another tab or computer has the desk: no sound, no ring, no microphone here. */
  #letGo(): void {
    this.#env.ringer.stop();
    this.#rung = null;
    this.#endLeg();
    this.#microphone.release();
  }

  #contact(segmentId: string): ContactView {
    const found = this.#state.get().contacts.find((contact) => contact.segment_id === segmentId);
    if (found === undefined) throw new WireFailure('not_found');
    return found;
  }

  async #command(command: string, run: () => Promise<unknown>): Promise<void> {
    this.#did({ type: 'CommandSent', command });
    try {
      await run();
      this.#did({ type: 'CommandDone', command });
    } catch (error) {
      const code = error instanceof WireFailure ? error.code : error instanceof MicrophoneError ? 'microphone' : 'internal';
      const params = error instanceof WireFailure ? error.params : {};
      this.#did({ type: 'CommandFailed', command, code, params, at: this.clock.now() });
      throw error;
    }
  }

  #did(event: DeskEvent): void {
    this.#state.set(reduce(this.#state.get(), event));
    this.#tellEquipment();
    if (event.type === 'MicrophoneOpened') void this.#checkMedia();
  }
}

function refOf(contact: ContactView): { session_id: string; segment_id: string } {
  return { session_id: contact.session_id, segment_id: contact.segment_id };
}

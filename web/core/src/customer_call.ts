/**
 * The customer's call: microphone, session, line, leg and state, held together. A view reads the stores and calls the
 * methods; nothing else here is its business.
 *
 * A click starts the microphone and `POST /sessions` side by side, and the line as soon as the token is there; the
 * offer goes out with `call.request`. The token is kept (kept_call.ts), so that a reload of the frame or of the page
 * around it finds the call again: line, snapshot, microphone, and a leg of the next generation.
 *
 * A customer who keeps the place has the line only. The microphone is asked for before the place is taken again, so
 * that whoever is back can be heard.
 */
import { browserClock, ServerClock, ticker, type Clock, type TimerId } from './clock';
import { MicrophoneError, openMicrophone, type Microphone, type MicrophoneQuiet } from './devices';
import { HeldMicrophone } from './held_microphone';
import { IceAccess } from './ice_access';
import { KeptCall, type Kept } from './kept_call';
import { Leg } from './leg';
import type { RtcPeer } from './peer';
import type { Quality } from './quality';
import { WireFailure } from './requests';
import { RestError, type Rest } from './rest';
import type { SessionCreated, WidgetInfo } from './rest_types';
import { Scope } from './scope';
import { browserStorage, tabStorage, type KeyValues } from './tab_storage';
import { Signalling } from './signalling';
import { openSocket, type OpenSocket } from './socket';
import { initialCustomer, reduce, type CustomerEvent, type CustomerState } from './state/customer';
import { derived, store, type Readable } from './store';
import type { CallRequest, CustomerPush } from './wire';

export interface CustomerCallOptions {
  key: string;
  rest: Rest;
  play: (stream: MediaStream | null) => void;
  environment?: CustomerEnvironment;
}

/** What the call needs of a browser; the tests bring their own. */
export interface CustomerEnvironment {
  /** Of this tab. */
  storage: KeyValues;
  /** Of this browser, over visits. */
  lasting: KeyValues;
  openSocket: OpenSocket;
  openMicrophone: () => Promise<Microphone>;
  createPeer: (configuration: RTCConfiguration) => RtcPeer;
  clock: Clock;
  /** Where `online` and `offline` are heard. */
  network: EventTarget;
}

function browserCall(): CustomerEnvironment {
  return {
    storage: tabStorage(),
    lasting: browserStorage(),
    openSocket,
    openMicrophone: () => openMicrophone(),
    createPeer: (configuration) => new RTCPeerConnection(configuration),
    clock: browserClock,
    network: window,
  };
}

const OPENING_LATE_MS = 5_000; // and up to as much again: clocks differ, and not everybody asks at once
const LOOK_AGAIN_MS = 3_600_000; // hours are changed, and computers sleep

type Returning = Pick<SessionCreated, 'return_token'>;

/** What the form says; the call adds the rest. */
export type Asked = Omit<CallRequest, 'sdp' | 'return_token'>;

/** What one call holds, from the click to its end. */
interface Attempt {
  scope: Scope;
  ice: IceAccess;
  /** `call.request` went out: a hang-up has to follow it, view or not. */
  asked: boolean;
  session: Kept | null;
  /** The customer keeps the place, as far as is known here. */
  away: boolean;
  /** And wants it back. */
  returning: boolean;
  line: Signalling<'customer'> | null;
  leg: Leg | null;
}

export class CustomerCall {
  readonly state: Readable<CustomerState>;
  readonly level: Readable<number>;
  readonly quiet: Readable<MicrophoneQuiet | null>;
  readonly quality: Readable<Quality | null>;
  readonly muted: Readable<boolean>;
  readonly now: Readable<number>;

  readonly #options: CustomerCallOptions;
  readonly #env: CustomerEnvironment;
  readonly #serverClock: ServerClock;
  readonly #scope = new Scope();
  readonly #state = store(initialCustomer);
  readonly #quality = store<Quality | null>(null);
  readonly #microphone: HeldMicrophone;
  readonly #kept: KeptCall;
  #attempt: Attempt | null = null;
  #opening: TimerId;

  constructor(options: CustomerCallOptions) {
    this.#options = options;
    this.#env = options.environment ?? browserCall();
    this.#serverClock = new ServerClock(this.#env.clock);
    this.#kept = new KeptCall(options.key, this.#env.storage, this.#env.lasting);
    const now = ticker(this.#serverClock, this.#env.clock);
    this.#scope.add(() => now.end());
    this.now = now;
    this.state = this.#state;
    this.#microphone = new HeldMicrophone({
      open: () => this.#env.openMicrophone(),
      did: (event) => this.#did(event),
      replaced: () => this.#attempt && this.#follow(this.#attempt),
    });
    this.level = this.#microphone.level;
    this.quiet = this.#microphone.quiet;
    this.muted = this.#microphone.muted;
    this.quality = this.#quality;
  }

  /** Availability; and the call of before a reload, or the place that is kept, if there is one. */
  async load(): Promise<void> {
    if (this.#attempt === null) this.#resume();
    try {
      this.#did({ type: 'InfoLoaded', info: await this.#options.rest.get<WidgetInfo>(`/widget/${this.#options.key}`) });
    } catch (error) {
      this.#did({ type: 'InfoFailed', code: codeOf(error) });
    }
    this.#loadAtOpening();
  }

  /** A page that waits for the morning shows the form by itself, a moment after the others so that not all ask at once. */
  #loadAtOpening(): void {
    this.#env.clock.cancel(this.#opening);
    const opensAt = this.#state.get().info?.opens_at ?? null;
    if (opensAt === null) return;
    const wait = Math.max(0, opensAt - this.#serverClock.now()) + OPENING_LATE_MS * (1 + Math.random());
    this.#opening = this.#env.clock.after(Math.min(wait, LOOK_AGAIN_MS), () => void this.load());
  }

  async start(request: Asked): Promise<void> {
    if (this.#attempt !== null) return;
    const attempt = this.#begin();
    this.#did({ type: 'Started' });
    try {
      const [session] = await Promise.all([this.#createSession(attempt, request.locale), this.#microphone.need()]);
      if (!attempt.scope.ended) await this.#request(attempt, session, request);
    } catch (error) {
      // A microphone fault has its own screen, and may be mended.
      if (attempt.scope.ended || error instanceof MicrophoneError) return;
      this.#part(attempt); // a request without an answer may have begun a session all the same
      this.#did({ type: 'Failed', code: codeOf(error) });
      if (codeOf(error) === 'outside_hours') void this.load(); // it closed meanwhile: now it says when it opens
    }
  }

  /** After a microphone fault: the call that was asked for goes on from there. */
  async retryMicrophone(request: Asked): Promise<void> {
    const attempt = this.#attempt;
    if (attempt === null || this.#microphone.opening) return;
    if (attempt.returning) {
      this.#return(attempt);
    } else if (attempt.asked) {
      this.#reopenMicrophone(attempt);
    } else {
      this.#finish(attempt);
      await this.start(request);
    }
  }

  hangUp(): void {
    const attempt = this.#attempt;
    this.#did({ type: 'HungUp', at: this.#serverClock.now() });
    if (attempt !== null) this.#part(attempt);
  }

  /** Go away for a while, and be served in turn all the same. */
  keepPlace(): void {
    const attempt = this.#attempt;
    attempt?.line?.send('place.keep', {}).catch((error: unknown) => this.#refused(attempt, error));
  }

  comeBack(): void {
    const attempt = this.#attempt;
    if (attempt === null || attempt.returning) return;
    attempt.returning = true;
    this.#return(attempt);
  }

  /** Not back after all: the microphone can't be had. */
  stayAway(): void {
    if (this.#attempt !== null) this.#attempt.returning = false;
    this.#microphone.release();
    this.#did({ type: 'MicrophoneReleased' });
  }

  /** From the end of a call back to the form. */
  again(): void {
    if (this.#attempt !== null) this.#finish(this.#attempt);
    this.#did({ type: 'Cleared' });
  }

  /** The call is in another tab: bring it here. */
  takeOver(): void {
    const attempt = this.#attempt;
    if (attempt === null) return;
    attempt.line?.start();
    if (!attempt.away) this.#reopenMicrophone(attempt);
  }

  setMuted(muted: boolean): void {
    this.#microphone.setMuted(muted);
  }

  end(): void {
    if (this.#attempt !== null) this.#release(this.#attempt);
    this.#env.clock.cancel(this.#opening);
    this.#scope.end();
  }

  get leg(): Leg | null {
    return this.#attempt?.leg ?? null;
  }

  get line(): Signalling<'customer'> | null {
    return this.#attempt?.line ?? null;
  }

  /** End an attempt here, and let its line live until the server knows. */
  #part(attempt: Attempt): void {
    const line = attempt.line;
    attempt.line = null;
    this.#finish(attempt);
    if (line === null) return;
    const farewell: Promise<unknown> = attempt.asked ? line.send('call.hang_up', {}) : Promise.resolve();
    farewell.catch(() => undefined).finally(() => line.end());
  }

  #begin(): Attempt {
    const attempt: Attempt = {
      scope: new Scope(),
      ice: new IceAccess({
        clock: this.#env.clock,
        serverClock: this.#serverClock,
        ask: () => attempt.line?.send('ice.servers', {}) ?? Promise.reject(new WireFailure('unavailable')),
      }),
      asked: false,
      session: null,
      away: false,
      returning: false,
      line: null,
      leg: null,
    };
    attempt.scope.add(() => attempt.ice.end());
    this.#attempt = attempt;
    this.#microphone.setMuted(false);
    return attempt;
  }

  async #createSession(attempt: Attempt, locale: string | undefined): Promise<Kept & Returning> {
    const session = await this.#options.rest.post<SessionCreated>('/sessions', {
      key: this.#options.key,
      ...(locale === undefined ? {} : { locale }),
    });
    if (!attempt.scope.ended) {
      attempt.session = { token: session.token, expires_at: session.expires_at };
      attempt.ice.take(session);
      this.#openLine(attempt, session);
    }
    return { token: session.token, expires_at: session.expires_at, return_token: session.return_token };
  }

  #resume(): void {
    const now = this.#serverClock.now();
    const call = this.#kept.call(now);
    const kept = call ?? this.#kept.place(now);
    if (kept === null) return;
    const attempt = this.#begin();
    this.#did({ type: 'Started' });
    attempt.asked = true;
    attempt.session = kept;
    attempt.away = call === null;
    this.#openLine(attempt, kept);
    if (!attempt.away) this.#reopenMicrophone(attempt);
  }

  #openLine(attempt: Attempt, session: Kept): void {
    const line = new Signalling<'customer'>({
      namespace: 'customer',
      auth: () => ({ token: session.token }),
      openSocket: this.#env.openSocket,
      clock: this.#env.clock,
      serverClock: this.#serverClock,
      network: this.#env.network,
      onSync: ({ call, ice }) => {
        attempt.ice.take(ice);
        const lost = call === null && attempt.asked && this.#state.get().call === null && attempt.leg === null;
        this.#did({ type: 'Synced', call });
        if (lost) this.again(); // a reload before the server had heard of the call
        else this.#follow(attempt);
      },
      onPush: (batch) => this.#pushed(attempt, batch),
    });
    attempt.line = line;
    attempt.scope.add(
      line.state.subscribe((connection) => {
        this.#did({ type: 'ConnectionChanged', connection });
        if (connection.name === 'superseded') {
          attempt.returning = false; // whoever takes it over here asks again
          this.#letGo(attempt);
        }
        if (connection.name === 'refused') {
          this.#did({ type: 'Failed', code: connection.code });
          this.#finish(attempt);
        }
      }),
    );
    line.start();
  }

  /** For a call that is under way: its leg follows as soon as there is one. A fault shows in the state. */
  #reopenMicrophone(attempt: Attempt): void {
    this.#microphone.need().then(
      () => this.#follow(attempt),
      () => undefined,
    );
  }

  async #request(attempt: Attempt, session: Kept & Returning, request: Asked): Promise<void> {
    const leg = this.#makeLeg(attempt);
    const sdp = await leg.firstOffer();
    if (attempt.scope.ended || attempt.line === null) return;
    const { return_token } = session;
    this.#kept.inCall(session);
    attempt.asked = true;
    const earlier = this.#env.lasting.getItem(this.#returnKey);
    if (return_token === null) this.#env.lasting.removeItem(this.#returnKey);
    else this.#env.lasting.setItem(this.#returnKey, return_token);
    await attempt.line.send('call.request', { ...request, sdp, ...(earlier === null ? {} : { return_token: earlier }) });
  }

  #makeLeg(attempt: Attempt): Leg {
    const { line, ice } = attempt;
    const microphone = this.#microphone.current;
    if (microphone === null || line === null) throw new Error('a leg needs microphone and line');
    const leg = new Leg({
      clock: this.#env.clock,
      createPeer: () => this.#env.createPeer(ice.configuration),
      local: microphone.stream,
      sendOffer: (offer) => line.send('leg.offer', offer),
      online: derived(line.state, ({ name }) => name === 'online'),
      network: this.#env.network,
      play: this.#options.play,
    });
    attempt.leg = leg;
    const stops = [
      leg.status.subscribe((status) => this.#did({ type: 'LegChanged', leg: status })),
      leg.quality.subscribe((quality) => this.#quality.set(quality)),
    ];
    attempt.scope.add(() => stops.forEach((stop) => stop()));
    return leg;
  }

  #pushed(attempt: Attempt, batch: CustomerPush[]): void {
    let state = this.#state.get();
    for (const push of batch) state = reduce(state, { type: 'Pushed', push });
    this.#state.set(state);
    for (const push of batch) {
      if (push.type === 'leg.answer') attempt.leg?.answer(push);
      else if (push.type === 'leg.refused') attempt.leg?.refused(push);
    }
    this.#follow(attempt);
  }

  /** Brings the leg to what the newest view says. */
  #follow(attempt: Attempt): void {
    const { call, phase } = this.#state.get();
    if (attempt.scope.ended || call === null) return;
    if (phase === 'ended') {
      this.#finish(attempt);
      return;
    }
    if (call.state === 'place_kept') {
      this.#beAway(attempt);
      return;
    }
    if (attempt.away) this.#beBack(attempt);
    const microphone = this.#microphone.current;
    if (microphone === null || call.state === 'ended') return;
    const leg = attempt.leg ?? this.#makeLeg(attempt);
    void leg.replaceLocal(microphone.stream);
    leg.expectsAudio = call.state === 'talking' && !call.agent_reconnecting;
    leg.view(call.session_id, call.leg);
  }

  /** No sound and no microphone, until the customer wants the place back. */
  #beAway(attempt: Attempt): void {
    attempt.away = true;
    if (attempt.session !== null) this.#kept.away(attempt.session);
    if (!attempt.returning) this.#letGo(attempt);
  }

  #beBack(attempt: Attempt): void {
    attempt.away = attempt.returning = false;
    if (attempt.session !== null) this.#kept.inCall(attempt.session);
    if (this.#microphone.current === null) this.#reopenMicrophone(attempt);
  }

  /** The view that follows says whether it worked. A microphone fault has its own screen, and may be mended. */
  #return(attempt: Attempt): void {
    this.#microphone.need().then(
      () => {
        if (!attempt.scope.ended && attempt.returning) {
          attempt.line?.send('place.take', {}).catch((error: unknown) => this.#refused(attempt, error));
        }
      },
      () => undefined,
    );
  }

  /** What the customer asked for about the place could not be done; the call goes on as it was. */
  #refused(attempt: Attempt, error: unknown): void {
    if (attempt.scope.ended) return;
    attempt.returning = false;
    this.#did({ type: 'Refused', code: codeOf(error) });
    this.#follow(attempt);
  }

  /** Another tab has the call: give back microphone and sound, keep the line's object to take it back. */
  #letGo(attempt: Attempt): void {
    attempt.leg?.end();
    attempt.leg = null;
    this.#microphone.release();
  }

  /** The call is over: nothing of it stays. */
  #finish(attempt: Attempt): void {
    if (attempt.session !== null) this.#kept.forget(attempt.session);
    this.#release(attempt);
  }

  #release(attempt: Attempt): void {
    if (this.#attempt === attempt) this.#attempt = null;
    attempt.scope.end();
    this.#letGo(attempt);
    attempt.line?.end();
    attempt.line = null;
    this.#quality.set(null);
  }

  get #returnKey(): string {
    return `patchbay.last.${this.#options.key}`;
  }

  #did(event: CustomerEvent): void {
    this.#state.set(reduce(this.#state.get(), event));
  }
}

function codeOf(error: unknown): string {
  return error instanceof RestError || error instanceof WireFailure ? error.code : 'internal';
}

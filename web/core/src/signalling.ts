/**
 * The line to the server: one namespace, one person's stream. Theory of operation:
 *
 * Each connection begins with `sync`, a snapshot of the views; then the stream goes on from where this tab was, and
 * what it missed is fetched (`reset` means that it is not kept any more: the snapshot has to do). Until the snapshot is
 * there the state reads connecting or reconnecting.
 *
 * The server pings every 2 s. A ping tells the newest seq, so that the loss of the last message shows, and the server's
 * time. No ping for 5 s means a dead line, whatever TCP says; the browser's `offline` event puts the line in doubt at
 * once, and a ping takes the doubt away.
 *
 * `moving` says that the node behind the line stops: the line is made anew at once, and the state stays online unless that
 * takes longer than QUIET_MS.
 *
 * `superseded` ends it until `start()` is called again: another tab or computer of the same person has the line.
 */
import { every, type Clock, type ServerClock, type TimerId } from './clock';
import { Requests } from './requests';
import { Scope } from './scope';
import type { OpenSocket, SocketEvents, WireSocket } from './socket';
import { store, type Readable } from './store';
import { PersonStream } from './stream';
import { KNOWN_PUSHES, type AnswerOf, type BodyOf, type Namespace, type TypeOf, type Wires } from './wire_types';

export type ConnectionState =
  | { name: 'connecting' }
  | { name: 'online' }
  | { name: 'reconnecting'; since: number }
  | { name: 'superseded' }
  | { name: 'refused'; code: string };

export interface SignallingOptions<N extends Namespace> {
  namespace: N;
  auth?: () => Record<string, string>;
  openSocket: OpenSocket;
  clock: Clock;
  serverClock: ServerClock;
  random?: () => number;
  newId?: () => string;
  /** Where `online` and `offline` are heard: the window. */
  network?: EventTarget;
  onSync: (sync: Wires[N]['sync']) => void;
  onPush: (batch: Wires[N]['push'][]) => void;
}

const SILENCE_MS = 5000; // two pings are missing
const SNAPSHOT_MS = 6000;
const QUIET_MS = 2000; // a move to another node takes a fraction of a second and is nobody's business
const SPREAD_MS = 200; // over which those who move at once come back
const FIRST_RETRY_MS = 500; // drawn evenly from 0 to this: a thousand agents whose node died come back spread
const LONGEST_RETRY_MS = 2500; // a killed node is back in 2 s: waiting for long after that would be our own doing
const STALE_ROUNDS = 3; // snapshots older than the stream, one after the other: then the stream itself has shrunk
const FETCH_ROUNDS = 20; // fetches in a row without catching up, before a snapshot is asked instead
const RETRIED_REFUSALS = new Set([
  'rate_limited',
  'overloaded',
  'draining',
  'unavailable',
  'storage_unavailable',
  'internal',
  'Unable to connect',
]);

export class Signalling<N extends Namespace> {
  readonly state: Readable<ConnectionState>;
  /** Messages that this build does not understand. */
  ignored = 0;

  readonly #options: SignallingOptions<N>;
  readonly #state = store<ConnectionState>({ name: 'connecting' });
  readonly #scope = new Scope();
  readonly #requests: Requests;
  readonly #stream: PersonStream<Wires[N]['envelope']>;
  #socket: WireSocket | null = null;
  #attempt = 0;
  #retryTimer: TimerId;
  /** Runs while the line moves to another node. */
  #quietTimer: TimerId;
  #heardAt = 0;
  #catchingUp = false;
  /** The browser says that the network is gone, but the socket has not said so yet. */
  #doubted = false;

  constructor(options: SignallingOptions<N>) {
    this.#options = options;
    this.state = this.#state;
    this.#requests = new Requests(options.clock, options.newId ?? (() => crypto.randomUUID()));
    this.#stream = new PersonStream((batch) => this.#apply(batch));
    this.#scope.add(every(options.clock, 1000, () => this.#watch()));
    if (options.network) {
      this.#scope.listen(options.network, 'offline', () => this.#doubt());
      this.#scope.listen(options.network, 'online', () => this.#hurry());
    }
  }

  get online(): boolean {
    return this.#state.get().name === 'online';
  }

  /** The newest seq that was applied, for diagnostics. */
  get seq(): number | null {
    return this.#stream.last;
  }

  /** Connects; after `superseded` or `refused`, takes the line back. */
  start(): void {
    if (this.#scope.ended || this.#socket !== null) return;
    this.#state.set({ name: 'connecting' });
    this.#attempt = 0;
    this.#open();
  }

  /** Lets go of the line without ending: `start()` comes back. */
  pause(): void {
    this.#loud();
    this.#close();
    this.#state.set({ name: 'connecting' });
  }

  send<T extends TypeOf<N>>(type: T, body: BodyOf<N, T>, overMs?: number): Promise<AnswerOf<N, T>> {
    return this.#requests.ask(type, body, overMs) as Promise<AnswerOf<N, T>>;
  }

  end(): void {
    this.#scope.end();
    this.#loud();
    this.#close();
    this.#requests.end();
  }

  #open(): void {
    const { namespace, auth, openSocket, clock } = this.#options;
    clock.cancel(this.#retryTimer);
    this.#heardAt = clock.monotonic();
    let own: WireSocket | null = null;
    const current = () => own !== null && own === this.#socket;
    const events: SocketEvents = {
      connected: () => {
        if (current() && own) this.#connected(own);
      },
      closed: (code) => {
        if (current()) this.#closed(code);
      },
      message: (data) => {
        if (current()) this.#received(data);
      },
      ping: (data, answer) => {
        if (current()) this.#pinged(data, answer);
      },
    };
    own = openSocket(namespace, auth?.() ?? {}, events);
    this.#socket = own;
  }

  #connected(socket: WireSocket): void {
    this.#heardAt = this.#options.clock.monotonic();
    this.#requests.connected((request, answered) => socket.send(request, answered));
    void this.#snapshot(socket);
  }

  async #snapshot(socket: WireSocket): Promise<void> {
    try {
      const sync = await this.#freshSync(socket);
      if (sync === null) return;
      this.#options.onSync(sync);
      if (this.#stream.last === null) this.#stream.rebase(sync.head);
      this.#stream.heard(sync.head);
      this.#attempt = 0;
      this.#loud();
      this.#state.set({ name: 'online' });
      await this.#catchUp(socket);
    } catch {
      if (socket === this.#socket) this.#closed(null);
    }
  }

  /** A snapshot no older than what was applied: a push may overtake it, and then it lacks what the push told. Null when
   *  the connection has gone meanwhile. */
  async #freshSync(socket: WireSocket): Promise<Wires[N]['sync'] | null> {
    for (let round = 1; ; round += 1) {
      const sync = (await this.#requests.ask('sync', {}, SNAPSHOT_MS, true)) as Wires[N]['sync'];
      if (socket !== this.#socket) return null;
      this.#options.serverClock.observe(sync.now);
      if (this.#stream.last === null || sync.head >= this.#stream.last) return sync;
      if (round === STALE_ROUNDS) {
        this.#stream.restart(sync.head);
        return sync;
      }
    }
  }

  /** Fetches what is missing. One at a time; a gap that shows meanwhile is seen by the loop. */
  async #catchUp(socket: WireSocket): Promise<void> {
    if (this.#catchingUp) return;
    this.#catchingUp = true;
    try {
      for (let round = 0; this.#stream.behind && socket === this.#socket; round += 1) {
        const after = this.#stream.last ?? 0;
        const got = (await this.#requests.ask('stream.fetch', { after }, SNAPSHOT_MS, true)) as Wires[N]['stream'];
        if (socket !== this.#socket) return;
        const kept = !got.reset && round < FETCH_ROUNDS;
        if (kept) this.#stream.fetched(got.messages, got.head);
        if (!kept || this.#stream.last === after) {
          const sync = await this.#freshSync(socket);
          if (sync === null) return;
          this.#options.onSync(sync);
          this.#stream.rebase(sync.head);
        }
      }
    } catch {
      if (socket === this.#socket) this.#closed(null);
    } finally {
      this.#catchingUp = false;
    }
  }

  #received(data: unknown): void {
    const envelope = data as Wires[N]['envelope'];
    const type: unknown = typeof data === 'object' && data !== null ? envelope.body?.type : undefined;
    if (type === undefined || envelope.v !== 1) {
      this.ignored += 1;
      return;
    }
    if (type === 'superseded') {
      this.#loud();
      this.#close();
      this.#state.set({ name: 'superseded' });
      return;
    }
    if (type === 'moving') {
      this.#move();
      return;
    }
    this.#stream.receive(envelope);
    this.#mind();
  }

  #move(): void {
    const { clock, random } = this.#options;
    if (!this.online) return; // it reconnects already
    this.#close();
    this.#quietTimer = clock.after(QUIET_MS, () => {
      this.#loud();
      this.#reconnecting();
    });
    this.#retryTimer = clock.after(SPREAD_MS * (random ?? Math.random)(), () => this.#open());
  }

  #loud(): void {
    this.#options.clock.cancel(this.#quietTimer);
    this.#quietTimer = undefined;
  }

  #apply(batch: Wires[N]['envelope'][]): void {
    const known = batch.filter(({ body }) => KNOWN_PUSHES[this.#options.namespace].has(body.type));
    this.ignored += batch.length - known.length;
    if (known.length > 0) this.#options.onPush(known.map(({ body }) => body));
  }

  #pinged(data: unknown, answer: (data: unknown) => void): void {
    const ping = data as { head: number; now: number };
    this.#heardAt = this.#options.clock.monotonic();
    this.#options.serverClock.observe(ping.now);
    answer({ seq: this.#stream.last ?? 0 });
    if (this.#doubted) {
      this.#doubted = false;
      this.#state.set({ name: 'online' });
    }
    this.#stream.heard(ping.head);
    this.#mind();
  }

  #mind(): void {
    if (this.#stream.behind && this.#socket !== null && this.online) void this.#catchUp(this.#socket);
  }

  #watch(): void {
    if (this.#socket !== null && this.#options.clock.monotonic() - this.#heardAt > SILENCE_MS) this.#closed(null);
  }

  #doubt(): void {
    if (!this.online) return;
    this.#doubted = true;
    this.#reconnecting();
  }

  #hurry(): void {
    if (this.#socket === null && this.#state.get().name === 'reconnecting') {
      this.#options.clock.cancel(this.#retryTimer);
      this.#open();
    }
  }

  #closed(code: string | null): void {
    this.#close();
    if (code !== null && !RETRIED_REFUSALS.has(code)) {
      this.#loud();
      this.#state.set({ name: 'refused', code });
      return;
    }
    this.#reconnecting();
    this.#retryTimer = this.#options.clock.after(this.#retryMs(), () => this.#open());
    this.#attempt += 1;
  }

  #reconnecting(): void {
    if (this.#quietTimer !== undefined) return;
    const before = this.#state.get();
    if (before.name === 'reconnecting' || (before.name === 'connecting' && this.#attempt === 0)) return;
    this.#state.set({ name: 'reconnecting', since: this.#options.serverClock.now() });
  }

  #retryMs(): number {
    const random = (this.#options.random ?? Math.random)();
    if (this.#attempt === 0) return FIRST_RETRY_MS * random;
    return Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempt) * (0.5 + random / 2);
  }

  #close(): void {
    this.#options.clock.cancel(this.#retryTimer);
    this.#doubted = false;
    this.#requests.disconnected();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}

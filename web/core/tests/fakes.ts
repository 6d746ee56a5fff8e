/** Twins of what a browser and a server would do, driven by hand. */
import type { Clock, TimerId } from '../src/clock';
import type { Meter, MicrophoneEnvironment } from '../src/devices';
import { Microphone } from '../src/devices';
import type { RtcPeer } from '../src/peer';
import type { OpenSocket, SocketEvents, WireSocket } from '../src/socket';
import type { CallView, ContactView, IceServers } from '../src/wire';
import type { Namespace } from '../src/wire_types';

export class FakeClock implements Clock {
  #now = 1000;
  #timers: { at: number; run: () => void }[] = [];

  monotonic(): number {
    return this.#now;
  }

  wall(): number {
    return this.#now + 1_000_000;
  }

  after(ms: number, run: () => void): TimerId {
    const timer = { at: this.#now + ms, run };
    this.#timers.push(timer);
    return timer;
  }

  cancel(timer: TimerId): void {
    this.#timers = this.#timers.filter((one) => one !== timer);
  }

  /** Time passes; promises settle between timers. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((one) => one !== due);
      this.#now = Math.max(this.#now, due.at);
      due.run();
      await settle();
    }
    this.#now = end;
  }
}

export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

export interface Sent {
  v: 1;
  id: string;
  type: string;
  body: unknown;
}

export const NO_ICE: IceServers = { ice_servers: [], relay_only: false, ice_expires_at: null };

export function turnServer(username: string, ice_expires_at: number): IceServers {
  return { ice_servers: [{ urls: ['turn:relay:3478'], username, credential: 'pw' }], relay_only: true, ice_expires_at };
}

/** One server for one person: it keeps the stream and answers what the test tells it to. */
export class FakeServer {
  head = 0;
  now = 5_000_000;
  stream: { v: 1; seq: number; at: number; body: { type: string } }[] = [];
  reset = false;
  sent: Sent[] = [];
  pongs: unknown[] = [];
  opened = 0;
  refuse: string | null = null;
  unreachable = false;
  deaf = false;
  /** Answers by type; `undefined`: no answer at all. */
  answers: Record<string, (message: Sent) => unknown> = {};
  sync: (message: Sent) => object = () => ({ call: null });
  ice = NO_ICE;
  #events: SocketEvents | null = null;

  readonly open: OpenSocket = (_namespace: Namespace, _auth, events): WireSocket => {
    this.opened += 1;
    let open = true;
    void Promise.resolve().then(() => {
      if (!open) return;
      if (this.unreachable) return events.closed(null);
      if (this.refuse !== null) return events.closed(this.refuse);
      this.#events = events;
      events.connected();
    });
    return {
      send: (data, answered) => {
        const message = data as Sent;
        this.sent.push(message);
        const answer = this.deaf ? undefined : this.#answer(message);
        if (answer !== undefined) void Promise.resolve().then(() => open && answered(answer));
      },
      close: () => {
        open = false;
        if (this.#events === events) this.#events = null;
      },
    };
  };

  types(): string[] {
    return this.sent.map(({ type }) => type);
  }

  /** A stream message; `lost` ones are stored but never arrive. */
  push(body: { type: string }, how: 'sent' | 'lost' = 'sent'): number {
    this.head += 1;
    const envelope = { v: 1 as const, seq: this.head, at: this.now, body };
    this.stream.push(envelope);
    if (how === 'sent') this.#events?.message(envelope);
    return this.head;
  }

  deliver(seq: number): void {
    this.#events?.message(this.stream.find((envelope) => envelope.seq === seq));
  }

  pass(body: { type: string }): void {
    this.#events?.message({ v: 1, seq: null, at: this.now, body });
  }

  raw(data: unknown): void {
    this.#events?.message(data);
  }

  ping(): void {
    this.#events?.ping({ head: this.head, now: this.now }, (pong) => this.pongs.push(pong));
  }

  drop(): void {
    this.#events?.closed(null);
  }

  #answer(message: Sent): unknown {
    const own = this.answers[message.type];
    if (own) return own(message);
    const ok = (body: object) => ({ ok: true, body });
    if (message.type === 'sync') return ok({ head: this.head, now: this.now, ice: this.ice, routing_paused: false, ...this.sync(message) });
    if (message.type === 'ice.servers') return ok(this.ice);
    if (message.type === 'stream.fetch') {
      const { after } = message.body as { after: number };
      const messages = this.reset ? [] : this.stream.filter(({ seq }) => seq > after);
      return ok({ head: this.head, reset: this.reset, messages });
    }
    return ok({});
  }
}

export class FakeTrack extends EventTarget {
  enabled = true;
  muted = false;
  stopped = false;
  readonly kind = 'audio';
  readonly label = 'Fake microphone';

  stop(): void {
    this.stopped = true;
  }

  getSettings(): MediaTrackSettings {
    return { deviceId: 'fake' };
  }
}

export class FakeStream {
  readonly tracks: FakeTrack[] = [new FakeTrack()];

  getAudioTracks(): FakeTrack[] {
    return this.tracks;
  }

  getTracks(): FakeTrack[] {
    return this.tracks;
  }

  clone(): FakeStream {
    return new FakeStream();
  }
}

export const asStream = (stream: FakeStream): MediaStream => stream as unknown as MediaStream;

export function microphoneEnvironment(
  clock: Clock,
  change: Partial<MicrophoneEnvironment> & { samples?: () => Float32Array } = {},
): MicrophoneEnvironment {
  const { samples = () => new Float32Array([0.1]), ...rest } = change;
  return {
    secure: true,
    allowed: () => true,
    getUserMedia: () => Promise.resolve(asStream(new FakeStream())),
    meter: (): Meter => ({ samples, end: () => undefined }),
    clock,
    ...rest,
  };
}

export function fakeMicrophone(clock: Clock): { microphone: Microphone; track: FakeTrack } {
  const stream = new FakeStream();
  const microphone = new Microphone(asStream(stream), microphoneEnvironment(clock, {}));
  return { microphone, track: stream.tracks[0] as FakeTrack };
}

/** A peer connection whose fate the test decides. */
export class FakePeer extends EventTarget {
  connectionState: RTCPeerConnectionState = 'new';
  localDescription: { sdp: string } | null = null;
  answered: string | null = null;
  closed = false;
  sender = { transport: null, replaced: null as unknown, replaceTrack: (track: unknown) => this.#replace(track) };
  stats: Record<string, unknown>[] = [];
  readonly theirs = new FakeTrack();

  constructor(readonly nth: number) {
    super();
    this.theirs.muted = true;
  }

  addTransceiver(): { sender: unknown } {
    return { sender: this.sender };
  }

  setLocalDescription(): Promise<void> {
    this.localDescription = { sdp: `offer ${this.nth}` };
    return Promise.resolve();
  }

  setRemoteDescription({ sdp }: { sdp: string }): Promise<void> {
    this.answered = sdp;
    const event = Object.assign(new Event('track'), { track: this.theirs, streams: [`remote ${this.nth}`] });
    this.dispatchEvent(event);
    return Promise.resolve();
  }

  getStats(): Promise<Map<string, unknown>> {
    return Promise.resolve(new Map(this.stats.map((entry, at) => [String(at), entry])));
  }

  close(): void {
    this.closed = true;
  }

  become(state: RTCPeerConnectionState): void {
    this.connectionState = state;
    this.dispatchEvent(new Event('connectionstatechange'));
  }

  /** The first packet has arrived. */
  sound(): void {
    this.theirs.muted = false;
    this.theirs.dispatchEvent(new Event('unmute'));
  }

  #replace(track: unknown): Promise<void> {
    this.sender.replaced = track;
    return Promise.resolve();
  }
}

export const asPeer = (peer: FakePeer): RtcPeer => peer as unknown as RtcPeer;

export function callView(change: Partial<CallView> = {}): CallView {
  return {
    session_id: 'ses_1',
    version: 1,
    state: 'queued',
    queue_name: 'Sales',
    queued_at: 5_000_000,
    agent_name: null,
    talk_started_at: null,
    ended_at: null,
    end_reason: null,
    recording: 'off',
    leg: { leg_id: 'leg_1', generation: 1, state: 'opening' },
    agent_reconnecting: false,
    no_lines: false,
    may_keep_place: false,
    place_until: null,
    ...change,
  };
}

export function contactView(change: Partial<ContactView> = {}): ContactView {
  return {
    session_id: 'ses_1',
    segment_id: 'seg_1',
    version: 1,
    channel: 'voice',
    state: 'offered',
    customer: { name: 'Ana', locale: 'en', page_url: '', context: {} },
    queue_id: 'que_1',
    queue_name: 'Sales',
    queued_at: 5_000_000,
    offered_at: 5_000_000,
    offer_deadline_at: 5_020_000,
    talk_started_at: null,
    ended_at: null,
    wrap_up_deadline_at: null,
    wrap_up_extend_s: null,
    end_reason: null,
    taken_by: null,
    customer_reconnecting: false,
    customer_unheard: null,
    you_unheard: null,
    recording: 'off',
    recording_change: null,
    recording_resumes_at: null,
    leg: { leg_id: 'leg_a', generation: 0, state: 'wanted' },
    notes: '',
    disposition_id: null,
    role: 'owner',
    invited_by: '',
    muted: false,
    customer_hears: true,
    others: [],
    monitor: null,
    agent_name: 'Ana',
    ...change,
  };
}

/**
 * This person's own leg: the sound between this browser and the server. Theory of operation:
 *
 * The server keeps the call; a peer connection is only how this tab takes part, and may be replaced at any time. Each one
 * has a *generation*, higher than any before it. Replacing one (a *re-anchor*) happens when the server's view wants it
 * (`wanted`, `lost`, or a generation that this tab did not make: a page that was just loaded), when the connection has
 * failed or was cut for a second, and when the network came back or changed. The old connection keeps playing until
 * sound comes from the new one.
 *
 * An attempt that brings nothing (no answer, a refusal, no connection) is followed by another, after a pause that grows.
 * Without a line to the server an attempt waits for it.
 */
import { every, type Clock, type TimerId } from './clock';
import { Peer, type RtcPeer } from './peer';
import { QualityWindow, sampleBetween, type Counters, type Quality } from './quality';
import { Scope } from './scope';
import { store, type Readable } from './store';
import type { LegAnswer, LegRefused, LegView } from './wire';

/** opening: not heard yet. recovering: was heard, and is not now. */
export type LegStatus = 'idle' | 'opening' | 'up' | 'recovering' | 'ended';

export interface LegOptions {
  clock: Clock;
  createPeer: () => RtcPeer;
  local: MediaStream;
  /** Sends `leg.offer` for a leg whose ids the view has told. */
  sendOffer: (offer: { session_id: string; leg_id: string; generation: number; sdp: string }) => Promise<unknown>;
  online: Readable<boolean>;
  /** Where the `online` event is heard: the window. */
  network?: EventTarget;
  play: (stream: MediaStream | null) => void;
  random?: () => number;
}

const ANSWER_MS = 8000; // the server answers in 50 ms; a worker that just died, within its 5 s
const CONNECT_MS = 8000; // ICE and DTLS over a mobile network with loss
const CUT_MS = 1000; // `disconnected` often mends itself sooner
const SILENT_SWITCH_MS = 1500; // a held leg gets no sound: then being connected has to do
const NETWORK_SETTLES_MS = 250; // `online` and a change of network come in pairs
const STEADY_MS = 5000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 5000;

export class Leg {
  readonly status: Readable<LegStatus>;
  readonly quality: Readable<Quality | null>;
  /** Somebody should be heard now: no packets is a fault then. */
  expectsAudio = false;

  readonly #options: LegOptions;
  readonly #scope = new Scope();
  readonly #status = store<LegStatus>('idle');
  readonly #quality = store<Quality | null>(null);
  readonly #timers = new Map<string, TimerId>();
  #local: MediaStream;
  #target: { session_id: string; leg_id: string } | null = null;
  #viewLost = false;
  #heardOnce = false;
  #current: Peer | null = null;
  #next: Peer | null = null;
  #top = 0;
  #failures = 0;
  #waitsForLine = false;
  #window = new QualityWindow();
  #counted: { generation: number; counters: Counters } | null = null;

  constructor(options: LegOptions) {
    this.#options = options;
    this.#local = options.local;
    this.status = this.#status;
    this.quality = this.#quality;
    this.#scope.add(options.online.subscribe((online) => online && this.#lineIsBack()));
    this.#scope.add(every(options.clock, 1000, () => void this.#measure()));
    if (options.network) this.#scope.listen(options.network, 'online', () => this.networkChanged());
  }

  /** The newest generation that this tab made or knows of. */
  get generation(): number {
    return this.#top;
  }

  /** The offer of generation 1, for `call.request` or `offer.accept`, before the leg's id is known. */
  async firstOffer(): Promise<string> {
    const peer = this.#begin();
    const sdp = await peer.offer();
    this.#after('answer', ANSWER_MS, () => this.#failed(peer));
    return sdp;
  }

  /** What the server's view says of this leg. Older views than the newest offer say nothing. */
  view(sessionId: string, view: LegView): void {
    if (this.#scope.ended) return;
    this.#target = { session_id: sessionId, leg_id: view.leg_id };
    if (view.state === 'closed' || view.generation < this.#top) return;
    const ours = view.generation === this.#top && (this.#current !== null || this.#next !== null);
    const broken = view.state === 'wanted' || view.state === 'lost';
    this.#top = view.generation;
    // While a replacement is under way the old connection is dead, even if the browser has not noticed.
    if (broken || this.#next === null) this.#viewLost = broken;
    if ((!ours || broken) && !this.#timers.has('retry')) this.#anchor();
    this.#tell();
  }

  answer(push: LegAnswer): void {
    const peer = this.#next;
    if (peer === null || peer.generation !== push.generation || peer.answered) return;
    this.#cancel('answer');
    this.#after('connect', CONNECT_MS, () => this.#failed(peer));
    peer.answer(push.sdp).catch(() => this.#failed(peer));
  }

  refused(push: LegRefused): void {
    if (this.#next?.generation === push.generation) this.#failed(this.#next);
  }

  /** The computer went to another network: what worked a moment ago may be dead without a sign. */
  networkChanged(): void {
    if (this.#current === null && this.#next === null) return;
    this.#after('network', NETWORK_SETTLES_MS, () => {
      this.#failures = 0;
      this.#cancel('retry');
      this.#anchor();
    });
  }

  /** Another microphone, without a new connection. */
  async replaceLocal(local: MediaStream): Promise<void> {
    if (local === this.#local) return;
    this.#local = local;
    const [track] = local.getAudioTracks();
    if (track) await Promise.all([this.#current?.replaceTrack(track), this.#next?.replaceTrack(track)]);
  }

  end(): void {
    this.#scope.end();
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    this.#current?.end();
    this.#next?.end();
    this.#current = this.#next = null;
    this.#options.play(null);
    this.#status.set('ended');
  }

  #begin(): Peer {
    const [track] = this.#local.getAudioTracks();
    if (track === undefined) throw new Error('a leg needs an audio track');
    this.#next?.end();
    this.#top += 1;
    const peer = new Peer(this.#top, this.#options.createPeer(), track, this.#local, (one) => this.#changed(one));
    this.#next = peer;
    this.#tell();
    return peer;
  }

  #anchor(): void {
    if (this.#scope.ended || this.#target === null) return;
    if (!this.#options.online.get()) {
      this.#waitsForLine = true;
      return;
    }
    this.#waitsForLine = false;
    const target = this.#target;
    const peer = this.#begin();
    this.#cancel('connect');
    this.#after('answer', ANSWER_MS, () => this.#failed(peer));
    peer
      .offer()
      .then((sdp) => this.#next === peer && this.#options.sendOffer({ ...target, generation: peer.generation, sdp }))
      .catch(() => this.#failed(peer));
  }

  #lineIsBack(): void {
    if (this.#waitsForLine) this.#anchor();
  }

  #failed(peer: Peer): void {
    if (peer !== this.#next || this.#scope.ended) return;
    peer.end();
    this.#next = null;
    this.#cancel('answer', 'connect', 'switch');
    this.#failures += 1;
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (this.#failures - 1));
    this.#after('retry', longest * (0.5 + (this.#options.random ?? Math.random)() / 2), () => this.#anchor());
    this.#tell();
  }

  #changed(peer: Peer): void {
    if (peer === this.#next) this.#nextChanged(peer);
    else if (peer === this.#current) this.#currentChanged(peer);
    this.#tell();
  }

  #nextChanged(peer: Peer): void {
    if (peer.state === 'failed' || peer.state === 'closed') {
      this.#failed(peer);
    } else if (peer.state === 'connected') {
      this.#cancel('connect');
      if (peer.hearing || this.#current?.state !== 'connected') this.#switchTo(peer);
      else if (!this.#timers.has('switch')) this.#after('switch', SILENT_SWITCH_MS, () => this.#switchTo(peer));
    }
  }

  #switchTo(peer: Peer): void {
    if (peer !== this.#next) return;
    this.#cancel('answer', 'connect', 'switch', 'cut');
    const old = this.#current;
    this.#current = peer;
    this.#next = null;
    this.#heardOnce = true;
    this.#viewLost = false;
    this.#options.play(peer.remote);
    old?.end();
    this.#after('steady', STEADY_MS, () => {
      this.#failures = 0;
    });
    this.#tell();
  }

  #currentChanged(peer: Peer): void {
    if (peer.state === 'connected') {
      this.#cancel('cut');
    } else if (peer.state === 'disconnected') {
      this.#after('cut', CUT_MS, () => this.#replace());
    } else if (peer.state === 'failed' || peer.state === 'closed') {
      this.#replace();
    }
  }

  /** Unless an attempt is under way, or about to be. */
  #replace(): void {
    this.#cancel('steady');
    if (this.#next === null && !this.#timers.has('retry')) this.#anchor();
  }

  async #measure(): Promise<void> {
    const peer = this.#current;
    if (peer === null || peer.state !== 'connected') return;
    const counters = await peer.counters();
    if (peer !== this.#current) return;
    if (this.#counted?.generation === peer.generation) {
      this.#quality.set(this.#window.add(sampleBetween(this.#counted.counters, counters, this.expectsAudio)));
    }
    this.#counted = { generation: peer.generation, counters };
  }

  #tell(): void {
    if (this.#scope.ended) return;
    const up = this.#current?.state === 'connected' && !this.#viewLost;
    if (up) this.#status.set('up');
    else if (this.#heardOnce) this.#status.set('recovering');
    else this.#status.set(this.#next || this.#timers.has('retry') || this.#waitsForLine ? 'opening' : 'idle');
  }

  #after(name: string, ms: number, run: () => void): void {
    this.#cancel(name);
    const timer = this.#options.clock.after(ms, () => {
      this.#timers.delete(name);
      run();
    });
    this.#timers.set(name, timer);
  }

  #cancel(...names: string[]): void {
    for (const name of names) {
      this.#options.clock.cancel(this.#timers.get(name));
      this.#timers.delete(name);
    }
  }
}

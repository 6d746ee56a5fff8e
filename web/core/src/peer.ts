/** One generation of a leg: one peer connection, from its offer to its end. */
import { counters, type Counters } from './quality';
import { Scope } from './scope';

/** What is used of RTCPeerConnection; tests bring their own. */
export type RtcPeer = Pick<
  RTCPeerConnection,
  | 'addTransceiver'
  | 'setLocalDescription'
  | 'localDescription'
  | 'setRemoteDescription'
  | 'connectionState'
  | 'getStats'
  | 'close'
  | 'addEventListener'
  | 'removeEventListener'
>;

export class Peer {
  /** The far side's stream, once the answer is applied. */
  remote: MediaStream | null = null;
  /** Its sound arrives. */
  hearing = false;
  answered = false;
  readonly #rtc: RtcPeer;
  readonly #sender: RTCRtpSender;
  readonly #changed: (peer: Peer) => void;
  readonly #scope = new Scope();

  constructor(
    readonly generation: number,
    rtc: RtcPeer,
    track: MediaStreamTrack,
    local: MediaStream,
    changed: (peer: Peer) => void,
  ) {
    this.#rtc = rtc;
    this.#changed = changed;
    this.#scope.add(() => rtc.close());
    this.#sender = rtc.addTransceiver(track, { direction: 'sendrecv', streams: [local] }).sender;
    this.#scope.listen(rtc as unknown as EventTarget, 'connectionstatechange', () => changed(this));
    this.#scope.listen(rtc as unknown as EventTarget, 'track', (event) => {
      const { track: theirs, streams } = event as RTCTrackEvent;
      this.remote = streams[0] ?? new MediaStream([theirs]);
      const heard = () => {
        this.hearing = true;
        changed(this);
      };
      // Unmuted when the first packet has arrived.
      this.#scope.listen(theirs, 'unmute', heard);
      if (!theirs.muted) heard();
    });
  }

  get state(): RTCPeerConnectionState {
    if (this.#scope.ended) return 'closed';
    // A far side that says goodbye shows here at once; the connection state takes until ICE misses its answers, 9 s.
    const transport = this.#sender.transport?.state;
    return transport === 'closed' || transport === 'failed' ? 'failed' : this.#rtc.connectionState;
  }

  /** The SDP offer, at once: the server learns our addresses from the packets, so nothing waits for candidates. */
  async offer(): Promise<string> {
    await this.#rtc.setLocalDescription();
    const sdp = this.#rtc.localDescription?.sdp;
    if (!sdp) throw new Error('the browser made no offer');
    return sdp;
  }

  async answer(sdp: string): Promise<void> {
    this.answered = true;
    await this.#rtc.setRemoteDescription({ type: 'answer', sdp });
    const transport = this.#sender.transport;
    if (transport) this.#scope.listen(transport, 'statechange', () => this.#changed(this));
  }

  async replaceTrack(track: MediaStreamTrack): Promise<void> {
    await this.#sender.replaceTrack(track);
  }

  async counters(): Promise<Counters> {
    const entries: Record<string, unknown>[] = [];
    (await this.#rtc.getStats()).forEach((entry: Record<string, unknown>) => entries.push(entry));
    return counters(entries);
  }

  end(): void {
    this.#scope.end();
  }
}

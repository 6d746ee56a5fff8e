/**
 * The ICE servers that this person's peer connections may use. Their credentials last ten minutes; newer ones are asked
 * for when half of that is over, and come with each snapshot of the line. So a peer connection never waits for them, and
 * where nothing is configured nothing is ever asked. One that stands outlives its credentials: the TURN server
 * refreshes what it has once let in.
 */
import type { Clock, ServerClock, TimerId } from './clock';
import type { IceServer, IceServers } from './wire';

export interface IceAccessOptions {
  clock: Clock;
  serverClock: ServerClock;
  /** `ice.servers` on this person's line. */
  ask: () => Promise<IceServers>;
}

const AGAIN_MS = 10_000; // after an ask that failed; a line that comes back brings newer ones by itself
const SOONEST_MS = 1000; // a server clock that is not known yet must not make it ask in a loop

export class IceAccess {
  readonly #options: IceAccessOptions;
  #servers: IceServers = { ice_servers: [], relay_only: false, ice_expires_at: null };
  #timer: TimerId;
  #ended = false;

  constructor(options: IceAccessOptions) {
    this.#options = options;
  }

  /** What the server gave, with whichever answer. */
  take(servers: IceServers): void {
    if (this.#ended) return;
    this.#servers = servers;
    const { clock, serverClock } = this.#options;
    clock.cancel(this.#timer);
    if (servers.ice_expires_at === null) return;
    this.#askIn(Math.max(SOONEST_MS, (servers.ice_expires_at - serverClock.now()) / 2));
  }

  /** For a new peer connection. */
  get configuration(): RTCConfiguration {
    const { ice_servers, relay_only } = this.#servers;
    return { iceServers: ice_servers.map(forBrowser), iceTransportPolicy: relay_only ? 'relay' : 'all' };
  }

  end(): void {
    this.#ended = true;
    this.#options.clock.cancel(this.#timer);
  }

  #askIn(ms: number): void {
    this.#timer = this.#options.clock.after(ms, () => {
      this.#options.ask().then(
        (servers) => this.take(servers),
        () => this.#ended || this.#askIn(AGAIN_MS),
      );
    });
  }
}

/** Browsers read null as the text "null". */
function forBrowser({ urls, username, credential }: IceServer): RTCIceServer {
  return username === null || credential === null ? { urls } : { urls, username, credential };
}

/** Time: the browser's timers behind an interface that tests replace, and the server's clock as this tab sees it. */
import { store, type Readable } from './store';

export type TimerId = unknown;

export interface Clock {
  /** Milliseconds that only grow; their zero means nothing. */
  monotonic(): number;
  /** UTC epoch milliseconds of this computer, which may be wrong. */
  wall(): number;
  after(ms: number, run: () => void): TimerId;
  cancel(timer: TimerId): void;
}

export const browserClock: Clock = {
  monotonic: () => performance.now(),
  wall: () => Date.now(),
  after: (ms, run) => setTimeout(run, ms),
  cancel: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout> | undefined),
};

/** Runs `run` every `ms` until the returned function is called. */
export function every(clock: Clock, ms: number, run: () => void): () => void {
  let timer: TimerId;
  const next = () => {
    timer = clock.after(ms, () => {
      next();
      run();
    });
  };
  next();
  return () => clock.cancel(timer);
}

/**
 * The server's time, UTC epoch milliseconds, from the `now` of its pings and snapshots. A message is late by its
 * way here, never early, so the greatest offset seen is the best one; it may shrink by a little per minute, so that a
 * drifting computer follows. It rests on the monotonic clock: setting the computer's clock moves no timer.
 */
export class ServerClock {
  static readonly SHRINK_PER_MS = 1e-4; // 6 ms a minute: above the drift of any quartz
  #offset: number;
  #seenAt: number;
  #known = false;

  constructor(private readonly clock: Clock) {
    this.#offset = clock.wall() - clock.monotonic();
    this.#seenAt = clock.monotonic();
  }

  now(): number {
    return this.clock.monotonic() + this.#offset;
  }

  observe(serverNow: number): void {
    const at = this.clock.monotonic();
    const offset = serverNow - at;
    const floor = this.#offset - (at - this.#seenAt) * ServerClock.SHRINK_PER_MS;
    this.#offset = this.#known ? Math.max(offset, floor) : offset;
    this.#known = true;
    this.#seenAt = at;
  }
}

/** Server milliseconds, once a second: the one clock that every counter of an app draws from. */
export function ticker(server: ServerClock, clock: Clock): Readable<number> & { end(): void } {
  const now = store(server.now());
  const end = every(clock, 1000, () => now.set(server.now()));
  return { get: now.get, subscribe: now.subscribe, end };
}

/** Never negative: a start that lies a moment in the future reads as zero. */
export function elapsedMs(since: number, now: number): number {
  return Math.max(0, now - since);
}

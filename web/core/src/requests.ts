/**
 * Requests on their way. Each has an id that stays the same however often it is sent: the server does a repeated one
 * once. It is sent again when its answer is late and after each reconnection, in the order of asking, until it is
 * answered or its time is over.
 */
import type { Clock, TimerId } from './clock';
import type { WireError } from './wire';

/** The server said no (its code), or the answer never came: `timeout`, `disconnected`, `ended`, `bad_answer`. */
export class WireFailure extends Error {
  constructor(
    readonly code: string,
    message = code,
    /** What the translation names, such as the agent who was quicker. */
    readonly params: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.name = 'WireFailure';
  }
}

export interface Request {
  v: 1;
  id: string;
  type: string;
  body: unknown;
}

interface Pending {
  request: Request;
  /** Of no use to the next connection. */
  thisLine: boolean;
  resolve: (body: unknown) => void;
  reject: (failure: WireFailure) => void;
  lateTimer: TimerId;
  overTimer: TimerId;
}

export type Transmit = (request: Request, answered: (data: unknown) => void) => void;

export class Requests {
  static readonly LATE_MS = 4000; // twice the longest answer that was seen on a loaded server
  static readonly OVER_MS = 20_000; // a person has given up by then
  #pending = new Map<string, Pending>();
  #transmit: Transmit | null = null;

  constructor(
    private readonly clock: Clock,
    private readonly newId: () => string,
  ) {}

  /** The connection is up: everything unanswered goes out again. */
  connected(transmit: Transmit): void {
    this.#transmit = transmit;
    for (const pending of this.#pending.values()) this.#send(pending);
  }

  disconnected(): void {
    this.#transmit = null;
    for (const { request, thisLine, lateTimer } of [...this.#pending.values()]) {
      this.clock.cancel(lateTimer);
      if (thisLine) this.#settle(request.id)?.reject(new WireFailure('disconnected'));
    }
  }

  ask(type: string, body: unknown, overMs = Requests.OVER_MS, thisLine = false): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const request: Request = { v: 1, id: this.newId(), type, body };
      const overTimer = this.clock.after(overMs, () => this.#settle(request.id)?.reject(new WireFailure('timeout')));
      const pending: Pending = { request, thisLine, resolve, reject, lateTimer: undefined, overTimer };
      this.#pending.set(request.id, pending);
      this.#send(pending);
    });
  }

  end(): void {
    this.#transmit = null;
    for (const id of [...this.#pending.keys()]) this.#settle(id)?.reject(new WireFailure('ended'));
  }

  #send(pending: Pending): void {
    if (this.#transmit === null) return;
    this.clock.cancel(pending.lateTimer);
    pending.lateTimer = this.clock.after(Requests.LATE_MS, () => this.#send(pending));
    this.#transmit(pending.request, (data) => this.#answered(pending.request.id, data));
  }

  #answered(id: string, data: unknown): void {
    const pending = this.#settle(id);
    if (pending === undefined) return; // the answer to an earlier copy came first
    if (!isAnswer(data)) pending.reject(new WireFailure('bad_answer'));
    else if (data.ok) pending.resolve(data.body);
    else pending.reject(new WireFailure(data.error.code, data.error.message, data.error.params));
  }

  #settle(id: string): Pending | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    this.#pending.delete(id);
    this.clock.cancel(pending.lateTimer);
    this.clock.cancel(pending.overTimer);
    return pending;
  }
}

type Answer = { ok: true; body?: unknown } | { ok: false; error: WireError };

function isAnswer(data: unknown): data is Answer {
  if (typeof data !== 'object' || data === null || !('ok' in data)) return false;
  return data.ok === true || ('error' in data && typeof data.error === 'object' && data.error !== null);
}

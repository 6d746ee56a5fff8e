/**
 * One tab of a browser holds the audio and the line; the others know that they are followers and can take over.
 *
 * The lock of the Web Locks API decides: the browser frees it when its tab closes or crashes, and the next tab in line
 * has it at once. Taking over steals the lock: the loser's request rejects, and it queues again as a follower.
 */
import { store, type Readable } from './store';

export type TabRole = 'waiting' | 'leader' | 'follower';

export interface TabEnvironment {
  locks: Pick<LockManager, 'request' | 'query'>;
  channel: (name: string) => BroadcastChannel;
}

export class TabLeader {
  readonly role: Readable<TabRole>;
  readonly #role = store<TabRole>('waiting');
  readonly #channel: BroadcastChannel;
  readonly #locks: TabEnvironment['locks'];
  #release: (() => void) | null = null;
  #queue: AbortController | null = null;
  #ended = false;

  constructor(
    private readonly name: string,
    environment: TabEnvironment = { locks: navigator.locks, channel: (channel) => new BroadcastChannel(channel) },
  ) {
    this.role = this.#role;
    this.#locks = environment.locks;
    this.#channel = environment.channel(name);
    void this.#standInLine();
    void this.#seeWhetherTaken();
  }

  takeOver(): void {
    if (this.#ended || this.#role.get() === 'leader') return;
    this.#queue?.abort();
    void this.#hold({ steal: true });
  }

  /** To the other tabs of this browser. */
  post(message: unknown): void {
    this.#channel.postMessage(message);
  }

  onMessage(handler: (message: unknown) => void): () => void {
    const heard = (event: MessageEvent) => handler(event.data);
    this.#channel.addEventListener('message', heard);
    return () => this.#channel.removeEventListener('message', heard);
  }

  end(): void {
    this.#ended = true;
    this.#queue?.abort();
    this.#release?.();
    this.#channel.close();
  }

  #standInLine(): Promise<void> {
    this.#queue = new AbortController();
    return this.#hold({ signal: this.#queue.signal });
  }

  async #hold(options: LockOptions): Promise<void> {
    try {
      await this.#locks.request(this.name, options, () => {
        if (this.#ended) return undefined;
        this.#role.set('leader');
        return new Promise<void>((resolve) => {
          this.#release = resolve;
        });
      });
    } catch {
      // Stolen by another tab, or our place in line was given up for stealing.
      if (this.#ended || options.signal?.aborted) return;
      this.#release = null;
      this.#role.set('follower');
      await this.#standInLine();
    }
  }

  async #seeWhetherTaken(): Promise<void> {
    const { held = [] } = await this.#locks.query();
    const taken = held.some((lock) => lock.name === this.name);
    if (taken && this.#role.get() === 'waiting' && !this.#ended) this.#role.set('follower');
  }
}

/**
 * The order of one person's stream. Theory of operation:
 *
 * Messages carry a seq without gaps. The next one is applied, an old one is a duplicate, a newer one is held until what
 * lies between has come. `behind` says that something is missing: the owner then fetches, or asks for a snapshot.
 * Before the first snapshot nothing is known of the past, so everything is held; then all that was held is applied,
 * even what the snapshot covers, since an SDP answer is in no view and applying a view twice changes nothing.
 *
 * What is applied comes out in batches: a replay after an outage is folded into the state at once, and an offer that
 * came and went meanwhile never rings.
 */
export interface Sequenced {
  seq: number | null;
}

export class PersonStream<E extends Sequenced> {
  duplicates = 0;
  #last: number | null = null;
  #head = 0;
  #held = new Map<number, E>();

  constructor(private readonly apply: (batch: E[]) => void) {}

  /** The newest seq that was applied with all before it; null before the first snapshot. */
  get last(): number | null {
    return this.#last;
  }

  /** Something newer than `last` is known to exist. */
  get behind(): boolean {
    return this.#last !== null && this.#head > this.#last;
  }

  heard(head: number): void {
    this.#head = Math.max(this.#head, head);
  }

  receive(message: E): void {
    if (message.seq === null) this.apply([message]);
    else this.#take([{ ...message, seq: message.seq }]);
  }

  /** What `stream.fetch` brought. */
  fetched(messages: readonly E[], head: number): void {
    this.heard(head);
    this.#take(messages.filter((message): message is E & { seq: number } => message.seq !== null));
  }

  /** A snapshot at `head` was applied for want of the messages themselves, or for the first time. */
  rebase(head: number): void {
    this.heard(head);
    const covered = [...this.#held.keys()].filter((seq) => seq <= head).sort((a, b) => a - b);
    const batch = covered.map((seq) => this.#claim(seq));
    this.#last = Math.max(this.#last ?? 0, head);
    this.#deliver([...batch, ...this.#drain()]);
  }

  /** The server's stream is shorter than what was applied: its database is an older copy. Goes on from there. */
  restart(head: number): void {
    this.#held.clear();
    this.#last = head;
    this.#head = head;
  }

  #take(messages: readonly (E & { seq: number })[]): void {
    for (const message of messages) {
      this.heard(message.seq);
      if ((this.#last !== null && message.seq <= this.#last) || this.#held.has(message.seq)) this.duplicates += 1;
      else this.#held.set(message.seq, message);
    }
    if (this.#last !== null) this.#deliver(this.#drain());
  }

  #drain(): E[] {
    const batch: E[] = [];
    for (let next = (this.#last ?? 0) + 1; this.#held.has(next); next += 1) {
      batch.push(this.#claim(next));
      this.#last = next;
    }
    return batch;
  }

  #claim(seq: number): E {
    const message = this.#held.get(seq);
    if (message === undefined) throw new Error(`stream: ${seq} is not held`);
    this.#held.delete(seq);
    return message;
  }

  #deliver(batch: E[]): void {
    if (batch.length > 0) this.apply(batch);
  }
}

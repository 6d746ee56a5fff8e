/** Observables with the contract of Svelte's stores, so that views write `$name` and core needs no framework. */

export interface Readable<T> {
  get(): T;
  /** Calls `run` at once and at each change. Returns the way out. */
  subscribe(run: (value: T) => void): () => void;
}

export interface Writable<T> extends Readable<T> {
  set(value: T): void;
}

export function store<T>(initial: T): Writable<T> {
  let value = initial;
  const readers = new Set<(value: T) => void>();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const run of [...readers]) run(value);
    },
    subscribe(run) {
      const reader = (next: T) => run(next); // the same function may subscribe twice
      readers.add(reader);
      run(value);
      return () => readers.delete(reader);
    },
  };
}

export function derived<A, B>(source: Readable<A>, map: (value: A) => B): Readable<B> {
  return {
    get: () => map(source.get()),
    subscribe(run) {
      let first = true;
      let last: B;
      return source.subscribe((value) => {
        const next = map(value);
        if (!first && Object.is(next, last)) return;
        first = false;
        last = next;
        run(next);
      });
    },
  };
}

/** Owns resources: `end()` releases them in reverse order, once, on every path. What is added later ends at once. */
export class Scope {
  #releases: (() => void)[] = [];
  #ended = false;

  get ended(): boolean {
    return this.#ended;
  }

  add(release: () => void): void {
    if (this.#ended) release();
    else this.#releases.push(release);
  }

  listen(target: EventTarget, type: string, handler: (event: Event) => void): void {
    target.addEventListener(type, handler);
    this.add(() => target.removeEventListener(type, handler));
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const release of this.#releases.reverse()) release();
    this.#releases = [];
  }
}

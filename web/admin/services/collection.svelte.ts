// The rows of one noun (users, queues, …) as this page knows them. Each change carries the version that the page has
// seen; when somebody else was quicker, the rows are loaded again and the page is told.

import { RestError, type Rest } from '../../core/src/rest';
import type { Page } from '../../core/src/rest_types';

const PAGE = 200; // the contract's greatest page

export class Collection<T extends { version: number }> {
  /** Null until the first answer. */
  items = $state.raw<readonly T[] | null>(null);
  fault = $state<string | null>(null);

  constructor(
    private readonly rest: Rest,
    private readonly path: string,
    readonly idOf: (row: T) => string,
  ) {}

  async load(): Promise<void> {
    try {
      const items: T[] = [];
      let cursor: string | null = null;
      do {
        const page: Page<T> = await this.rest.get<Page<T>>(this.path, { limit: PAGE, cursor });
        items.push(...page.items);
        cursor = page.next;
      } while (cursor !== null);
      this.items = items;
      this.fault = null;
    } catch (cause) {
      this.fault = faultOf(cause);
    }
  }

  find(id: string): T | undefined {
    return this.items?.find((row) => this.idOf(row) === id);
  }

  async create<A extends T>(body: object): Promise<A> {
    const made = await this.rest.post<A>(this.path, body);
    await this.load();
    return made;
  }

  async change(row: T, body: object): Promise<T> {
    try {
      const changed = await this.rest.patch<T>(this.#one(row), { ...body, version: row.version });
      this.items = (this.items ?? []).map((one) => (this.idOf(one) === this.idOf(row) ? changed : one));
      return changed;
    } catch (cause) {
      if (faultOf(cause) === 'changed_meanwhile') await this.load();
      throw cause;
    }
  }

  async remove(row: T): Promise<void> {
    await this.rest.delete(this.#one(row));
    await this.load();
  }

  #one(row: T): string {
    return `${this.path}/${encodeURIComponent(this.idOf(row))}`;
  }
}

export function faultOf(cause: unknown): string {
  return cause instanceof RestError ? cause.code : 'unknown';
}

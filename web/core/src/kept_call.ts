/**
 * What lets a browser back into its call. While the call runs it lies in the tab, so that a reload finds it. While the
 * customer is away and the place is kept it lies in the browser, so that a later page finds it too, however this one went.
 */
import type { SessionCreated } from './rest_types';
import type { KeyValues } from './tab_storage';

export type Kept = Pick<SessionCreated, 'token' | 'expires_at'>;

export class KeptCall {
  readonly #callKey: string;
  readonly #placeKey: string;

  /** `key` is the entry point's. */
  constructor(
    key: string,
    private readonly tab: KeyValues,
    private readonly lasting: KeyValues,
  ) {
    this.#callKey = `patchbay.call.${key}`;
    this.#placeKey = `patchbay.place.${key}`;
  }

  call(now: number): Kept | null {
    return read(this.tab, this.#callKey, now);
  }

  place(now: number): Kept | null {
    return read(this.lasting, this.#placeKey, now);
  }

  inCall({ token, expires_at }: Kept): void {
    this.tab.setItem(this.#callKey, JSON.stringify({ token, expires_at }));
    this.#forgetPlace(token);
  }

  away({ token, expires_at }: Kept): void {
    this.lasting.setItem(this.#placeKey, JSON.stringify({ token, expires_at }));
    this.tab.removeItem(this.#callKey);
  }

  forget({ token }: Kept): void {
    this.tab.removeItem(this.#callKey);
    this.#forgetPlace(token);
  }

  /** Another tab may keep the place of another call. */
  #forgetPlace(token: string): void {
    if (read(this.lasting, this.#placeKey, 0)?.token === token) this.lasting.removeItem(this.#placeKey);
  }
}

function read(from: KeyValues, key: string, now: number): Kept | null {
  const text = from.getItem(key);
  if (text === null) return null;
  const kept = JSON.parse(text) as Kept;
  return kept.expires_at > now ? kept : null;
}

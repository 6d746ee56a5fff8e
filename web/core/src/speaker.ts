/** Plays what a leg receives. Browsers allow sound only after a gesture, or while the page has a microphone. */
import { store, type Readable } from './store';

export class Speaker {
  /** The browser refused to play without a gesture: call `resume` from one. */
  readonly blocked: Readable<boolean>;
  readonly #blocked = store(false);
  readonly #element: HTMLAudioElement;

  constructor(element: HTMLAudioElement = new Audio()) {
    this.#element = element;
    this.blocked = this.#blocked;
    element.autoplay = true;
  }

  get stream(): MediaStream | null {
    return this.#element.srcObject as MediaStream | null;
  }

  readonly play = (stream: MediaStream | null): void => {
    this.#element.srcObject = stream;
    if (stream === null) this.#blocked.set(false);
    else this.resume();
  };

  resume(): void {
    this.#element.play().then(
      () => this.#blocked.set(false),
      // AbortError: another stream was set meanwhile, and plays.
      (error: unknown) => this.#blocked.set(error instanceof DOMException && error.name === 'NotAllowedError'),
    );
  }

  /** Resolves to false where the browser can't choose, or the device has gone. */
  async output(deviceId: string | null): Promise<boolean> {
    if (!('setSinkId' in this.#element)) return false;
    try {
      await this.#element.setSinkId(deviceId ?? '');
      return true;
    } catch {
      return false;
    }
  }
}

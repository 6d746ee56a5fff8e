/** The one microphone of a page: opened when it is needed, replaced when it is unplugged, released on every path. */
import { MicrophoneError, type Microphone, type MicrophoneFault, type MicrophoneQuiet } from './devices';
import { store, type Readable } from './store';

export type MicrophoneEvent =
  | { type: 'MicrophoneAsked' }
  | { type: 'MicrophoneOpened' }
  | { type: 'MicrophoneFailed'; fault: MicrophoneFault }
  | { type: 'MicrophoneReleased' };

export interface HeldMicrophoneOptions {
  open: (deviceId: string | null) => Promise<Microphone>;
  did: (event: MicrophoneEvent) => void;
  /** Another one has taken the place of one that was unplugged. */
  replaced: () => void;
}

export class HeldMicrophone {
  readonly level: Readable<number>;
  readonly quiet: Readable<MicrophoneQuiet | null>;
  readonly muted: Readable<boolean>;
  readonly #level = store(0);
  readonly #quiet = store<MicrophoneQuiet | null>(null);
  readonly #muted = store(false);
  #current: Microphone | null = null;
  #opening: Promise<Microphone> | null = null;
  #deviceId: string | null = null;

  constructor(private readonly options: HeldMicrophoneOptions) {
    this.level = this.#level;
    this.quiet = this.#quiet;
    this.muted = this.#muted;
  }

  get current(): Microphone | null {
    return this.#current;
  }

  get opening(): boolean {
    return this.#opening !== null;
  }

  /** Rejects with MicrophoneError; `released` in its message when nobody wants it any more. */
  need(): Promise<Microphone> {
    if (this.#current) return Promise.resolve(this.#current);
    this.#opening ??= this.#open();
    return this.#opening;
  }

  /** Null: the browser's choice. Takes effect at once when one is open. */
  async choose(deviceId: string | null): Promise<void> {
    this.#deviceId = deviceId;
    if (this.#current === null) return;
    this.release();
    await this.need();
    this.options.replaced();
  }

  setMuted(muted: boolean): void {
    this.#muted.set(muted);
    if (this.#current) this.#current.track.enabled = !muted;
  }

  release(): void {
    const held = this.#current;
    if (held === null && this.#opening === null) return;
    this.#current = null;
    this.#opening = null;
    held?.end();
    this.#level.set(0);
    this.#quiet.set(null);
    this.options.did({ type: 'MicrophoneReleased' });
  }

  #open(): Promise<Microphone> {
    this.options.did({ type: 'MicrophoneAsked' });
    const opening: Promise<Microphone> = this.options.open(this.#deviceId).then(
      (microphone) => {
        if (this.#opening !== opening) {
          microphone.end();
          throw new MicrophoneError('unknown', 'released');
        }
        this.#opening = null;
        this.#hold(microphone);
        return microphone;
      },
      (error: unknown) => {
        if (this.#opening === opening) {
          this.#opening = null;
          const fault = error instanceof MicrophoneError ? error.fault : 'unknown';
          this.options.did({ type: 'MicrophoneFailed', fault });
        }
        throw error;
      },
    );
    return opening;
  }

  #hold(microphone: Microphone): void {
    this.#current = microphone;
    microphone.track.enabled = !this.#muted.get();
    this.options.did({ type: 'MicrophoneOpened' });
    microphone.level.subscribe((level) => {
      if (microphone === this.#current) this.#level.set(level);
    });
    microphone.quiet.subscribe((quiet) => {
      if (microphone !== this.#current) return;
      this.#quiet.set(quiet);
      if (quiet === 'ended') this.#replace();
    });
  }

  /** The browser may have another one. */
  #replace(): void {
    this.release();
    this.need().then(
      () => this.options.replaced(),
      () => undefined, // the fault shows in the state
    );
  }
}

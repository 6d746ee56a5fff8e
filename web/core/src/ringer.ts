/**
 * Rings: a sound on the headset and, if wanted, on a second output; the title, the icon and a system notification for
 * those who look elsewhere. Sound needs a gesture or a microphone first: `arm()` from there.
 */
import { every, type Clock } from './clock';
import { Scope } from './scope';
import { store, type Readable } from './store';

export interface Ring {
  title: string;
  body: string;
}

const PHRASE_MS = 3000; // two short double tones, then quiet: heard through a conversation, not a nuisance
const TONES_HZ = [660, 880];
const FLASH_MS = 1000;
const VOLUME = 0.25;

export class Ringer {
  readonly armed: Readable<boolean>;
  readonly #armed = store(false);
  readonly #clock: Clock;
  readonly #ringIcon: string;
  #context: AudioContext | null = null;
  #second: { context: AudioContext; deviceId: string } | null = null;
  #ringing: Scope | null = null;

  constructor(options: { clock: Clock; /** URL of the page icon while it rings. */ ringIcon?: string }) {
    this.#clock = options.clock;
    this.#ringIcon = options.ringIcon ?? '';
    this.armed = this.#armed;
  }

  /** False when the browser still refuses sound. */
  async arm(): Promise<boolean> {
    this.#context ??= new AudioContext();
    await Promise.race([
      this.#context.resume(),
      new Promise<void>((resolve) => this.#clock.after(500, resolve)), // resume() waits for a gesture for ever
    ]);
    this.#armed.set(this.#context.state === 'running');
    return this.#armed.get();
  }

  async askNotifications(): Promise<boolean> {
    if (typeof Notification === 'undefined') return false;
    return (await Notification.requestPermission()) === 'granted';
  }

  /** Rings on this output too; null: only where the page plays. False when the browser can't. */
  async setSecondOutput(deviceId: string | null): Promise<boolean> {
    await this.#second?.context.close();
    this.#second = null;
    if (deviceId === null) return true;
    const context = new AudioContext() as AudioContext & { setSinkId?: (id: string) => Promise<void> };
    try {
      if (!context.setSinkId) throw new Error('this browser has one output');
      await context.setSinkId(deviceId);
      await context.resume();
      this.#second = { context, deviceId };
      return true;
    } catch {
      await context.close();
      return false;
    }
  }

  start(ring: Ring): void {
    this.stop();
    const scope = new Scope();
    this.#ringing = scope;
    this.#sound(scope);
    scope.add(every(this.#clock, PHRASE_MS, () => this.#sound(scope)));
    this.#flash(scope, ring.title);
    this.#notify(scope, ring);
  }

  stop(): void {
    this.#ringing?.end();
    this.#ringing = null;
  }

  /** One phrase, for "test my ring". */
  test(): void {
    const scope = new Scope();
    this.#sound(scope);
    this.#clock.after(PHRASE_MS, () => scope.end());
  }

  end(): void {
    this.stop();
    void this.#context?.close();
    void this.#second?.context.close();
    this.#context = null;
    this.#second = null;
    this.#armed.set(false);
  }

  #sound(scope: Scope): void {
    for (const context of [this.#context, this.#second?.context]) {
      if (context?.state === 'running') playPhrase(context, scope);
    }
  }

  #flash(scope: Scope, title: string): void {
    const before = document.title;
    const icon = document.querySelector<HTMLLinkElement>('link[rel~="icon"]');
    const iconBefore = icon?.href ?? '';
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    let shown = true;
    const show = () => {
      document.title = shown ? title : before;
      if (icon && this.#ringIcon) icon.href = shown ? this.#ringIcon : iconBefore;
    };
    show();
    if (!still) {
      scope.add(
        every(this.#clock, FLASH_MS, () => {
          shown = !shown;
          show();
        }),
      );
    }
    scope.add(() => {
      shown = false;
      show();
    });
  }

  #notify(scope: Scope, ring: Ring): void {
    if (typeof Notification === 'undefined' || Notification.permission !== 'granted' || document.hasFocus()) return;
    try {
      const notification = new Notification(ring.title, { body: ring.body, tag: 'patchbay-ring', silent: true });
      notification.onclick = () => {
        window.focus();
        notification.close();
      };
      scope.add(() => notification.close());
    } catch {
      // Android allows notifications from service workers only; sound and title have to do.
    }
  }
}

function playPhrase(context: AudioContext, scope: Scope): void {
  const gain = context.createGain();
  gain.gain.value = 0;
  gain.connect(context.destination);
  scope.add(() => gain.disconnect());
  for (const start of [0, 0.6]) {
    TONES_HZ.forEach((hertz, nth) => {
      const from = context.currentTime + start + nth * 0.18;
      const tone = context.createOscillator();
      tone.frequency.value = hertz;
      tone.connect(gain);
      gain.gain.setTargetAtTime(VOLUME, from, 0.01);
      gain.gain.setTargetAtTime(0, from + 0.14, 0.02);
      tone.start(from);
      tone.stop(from + 0.25);
    });
  }
}

/**
 * The microphone, with the reason when there is none, and the list of devices.
 *
 * What goes wrong has to be told apart, since each has another remedy: the person refused (`denied`), the page around
 * us forbids it (`host_blocked`), there is none (`none`), another program has it (`busy`), the page is not served
 * over https (`insecure_context`). A microphone that opens and then delivers nothing is named too (`MicrophoneQuiet`).
 */
import { browserClock, every, type Clock } from './clock';
import { Scope } from './scope';
import { store, type Readable } from './store';

export type MicrophoneFault = 'insecure_context' | 'host_blocked' | 'denied' | 'none' | 'busy' | 'unknown';

/** Unplugged; muted by the system or a switch on the headset; open, but every sample is zero for 3 s. */
export type MicrophoneQuiet = 'ended' | 'muted' | 'silent';

export class MicrophoneError extends Error {
  constructor(
    readonly fault: MicrophoneFault,
    message: string = fault,
  ) {
    super(message);
    this.name = 'MicrophoneError';
  }
}

/** What `openMicrophone` needs of a browser. */
export interface MicrophoneEnvironment {
  secure: boolean;
  /** Does the permissions policy of this document, and of those around it, allow a microphone? */
  allowed(): boolean;
  getUserMedia: ((constraints: MediaStreamConstraints) => Promise<MediaStream>) | null;
  meter: ((stream: MediaStream) => Meter) | null;
  clock: Clock;
}

/** Reads the newest samples, −1..1. */
export interface Meter {
  samples(): Float32Array;
  end(): void;
}

const LEVEL_EVERY_MS = 60;
const SILENT_AFTER_MS = 3000;
const FULL_SCALE_DB = -12; // speech peaks reach this; −60 dB and below reads as nothing
const FLOOR_DB = -60;

export class Microphone {
  readonly level: Readable<number>;
  readonly quiet: Readable<MicrophoneQuiet | null>;
  readonly track: MediaStreamTrack;
  readonly #level = store(0);
  readonly #quiet = store<MicrophoneQuiet | null>(null);
  readonly #scope = new Scope();
  #zeroSince: number | null = null;

  constructor(
    readonly stream: MediaStream,
    environment: MicrophoneEnvironment,
  ) {
    const [track] = stream.getAudioTracks();
    if (track === undefined) throw new MicrophoneError('none');
    this.track = track;
    this.level = this.#level;
    this.quiet = this.#quiet;
    this.#scope.add(() => {
      for (const one of stream.getTracks()) one.stop();
    });
    this.#scope.listen(track, 'ended', () => this.#quiet.set('ended'));
    this.#scope.listen(track, 'mute', () => this.#quiet.set('muted'));
    this.#scope.listen(track, 'unmute', () => this.#quiet.set(null));
    if (track.muted) this.#quiet.set('muted');
    if (environment.meter) this.#measure(environment.meter, environment.clock);
  }

  get label(): string {
    return this.track.label;
  }

  get deviceId(): string | null {
    return this.track.getSettings().deviceId ?? null;
  }

  get ended(): boolean {
    return this.#scope.ended;
  }

  end(): void {
    this.#scope.end();
  }

  /** Measures a clone: muting the call must neither blind the meter nor look like a dead microphone. */
  #measure(open: (stream: MediaStream) => Meter, clock: Clock): void {
    const clone = this.stream.clone();
    const meter = open(clone);
    this.#scope.add(() => {
      meter.end();
      for (const one of clone.getTracks()) one.stop();
    });
    this.#scope.add(every(clock, LEVEL_EVERY_MS, () => this.#sampled(meter.samples(), clock.monotonic())));
  }

  #sampled(samples: Float32Array, at: number): void {
    const peak = samples.reduce((greatest, sample) => Math.max(greatest, Math.abs(sample)), 0);
    this.#level.set(levelOf(peak));
    if (peak > 0) {
      this.#zeroSince = null;
      if (this.#quiet.get() === 'silent') this.#quiet.set(null);
    } else {
      this.#zeroSince ??= at;
      if (at - this.#zeroSince >= SILENT_AFTER_MS && this.#quiet.get() === null) this.#quiet.set('silent');
    }
  }
}

/** 0..1 on a scale of decibels, as ears hear. */
export function levelOf(peak: number): number {
  if (peak <= 0) return 0;
  const decibels = 20 * Math.log10(peak);
  return Math.min(1, Math.max(0, (decibels - FLOOR_DB) / (FULL_SCALE_DB - FLOOR_DB)));
}

export function browserEnvironment(): MicrophoneEnvironment {
  const devices = navigator.mediaDevices as MediaDevices | undefined; // undefined outside secure contexts
  return {
    secure: window.isSecureContext,
    allowed: () => policyAllows(document, 'microphone'),
    getUserMedia: devices ? (constraints) => devices.getUserMedia(constraints) : null,
    meter: openMeter,
    clock: browserClock,
  };
}

/** True where the browser can't tell. */
export function policyAllows(page: Document, feature: string): boolean {
  const holder = page as { permissionsPolicy?: Policy; featurePolicy?: Policy };
  const policy = holder.permissionsPolicy ?? holder.featurePolicy;
  return policy?.allowsFeature(feature) ?? true;
}

interface Policy {
  allowsFeature(feature: string): boolean;
}

/** Rejects with MicrophoneError. The caller owns the microphone and ends it. */
export async function openMicrophone(
  environment: MicrophoneEnvironment = browserEnvironment(),
  deviceId: string | null = null,
): Promise<Microphone> {
  if (!environment.secure) throw new MicrophoneError('insecure_context');
  if (!environment.allowed()) throw new MicrophoneError('host_blocked');
  if (environment.getUserMedia === null) throw new MicrophoneError('insecure_context');
  const audio: MediaTrackConstraints = {
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
    ...(deviceId === null ? {} : { deviceId: { ideal: deviceId } }), // a headset left at home must not stop a shift
  };
  try {
    return new Microphone(await environment.getUserMedia({ audio }), environment);
  } catch (error) {
    if (error instanceof MicrophoneError) throw error;
    throw new MicrophoneError(faultOf(error), String(error));
  }
}

/** Names as in https://www.w3.org/TR/mediacapture-streams/#dom-mediadevices-getusermedia */
function faultOf(error: unknown): MicrophoneFault {
  switch (error instanceof Error || error instanceof DOMException ? error.name : '') {
    case 'NotAllowedError':
    case 'SecurityError':
      return 'denied';
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'none';
    case 'NotReadableError':
    case 'AbortError':
      return 'busy';
    default:
      return 'unknown';
  }
}

function openMeter(stream: MediaStream): Meter {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 2048; // 43 ms at 48 kHz, about the time between two readings
  const source = context.createMediaStreamSource(stream);
  source.connect(analyser);
  void context.resume(); // may be suspended until a gesture; getUserMedia counts as one
  const samples = new Float32Array(analyser.fftSize);
  return {
    samples() {
      // A suspended context delivers zeros that say nothing of the microphone.
      if (context.state !== 'running') return samples.fill(Number.EPSILON);
      analyser.getFloatTimeDomainData(samples);
      return samples;
    },
    end() {
      source.disconnect();
      void context.close();
    },
  };
}

export interface Device {
  deviceId: string;
  label: string;
}

export interface DeviceList {
  inputs: Device[];
  outputs: Device[];
}

/** The audio devices, now and after each change. Labels are empty until a microphone was allowed: call `refresh` then. */
export function watchDevices(devices: MediaDevices): Readable<DeviceList> & { refresh(): void; end(): void } {
  const list = store<DeviceList>({ inputs: [], outputs: [] });
  const scope = new Scope();
  const refresh = () => {
    devices.enumerateDevices().then(
      (found) => list.set({ inputs: ofKind(found, 'audioinput'), outputs: ofKind(found, 'audiooutput') }),
      () => undefined, // a browser that refuses the list still calls with its default devices
    );
  };
  scope.listen(devices, 'devicechange', refresh);
  refresh();
  return { get: list.get, subscribe: list.subscribe, refresh, end: () => scope.end() };
}

function ofKind(found: MediaDeviceInfo[], kind: MediaDeviceKind): Device[] {
  return found
    .filter((device) => device.kind === kind && device.deviceId !== '')
    .map(({ deviceId, label }) => ({ deviceId, label }));
}

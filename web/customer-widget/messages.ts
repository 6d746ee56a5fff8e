/** What the loader on the host page and the frame on our origin say to each other, by postMessage. Both name the target
 *  origin and check origin and source of what they get. */

export type Theme = 'auto' | 'light' | 'dark';

export interface Setup {
  locale: string;
  theme: Theme;
  pageUrl: string;
  context: Record<string, string>;
}

export type ToFrame =
  | ({ patchbay: 'setup' } & Setup)
  /** The panel was opened: the keyboard goes inside. */
  | { patchbay: 'shown' };

export type CallPhase = 'starting' | 'queued' | 'place_kept' | 'connecting' | 'talking' | 'held' | 'ended';

export type ToHost =
  | { patchbay: 'ready' }
  /** Esc or the close button: hide the panel. */
  | { patchbay: 'close' }
  | { patchbay: 'event'; name: 'call'; detail: { state: CallPhase; end_reason: string | null } }
  | { patchbay: 'event'; name: 'queue'; detail: { position: number; ewt: { low_s: number; high_s: number } | null } }
  | { patchbay: 'event'; name: 'availability'; detail: { agents_ready: boolean } }
  | { patchbay: 'event'; name: 'quality'; detail: { mos: number } }
  | { patchbay: 'event'; name: 'device' | 'error'; detail: { code: string } };

// Alt + a physical key (`event.code`), so that the same key works on every keyboard layout.
// The palette has Ctrl or ⌘ + K. Nothing here ends a call: that one stays a deliberate press.

export type Command = 'accept' | 'mute' | 'hold' | 'record' | 'mark' | 'keys' | 'transfer' | 'park' | 'fetch' | 'wrap_up' | 'ready' | 'palette' | 'help';

export const SHORTCUTS: readonly { command: Command; code: string; label: string }[] = [
  { command: 'accept', code: 'KeyA', label: 'Alt+A' },
  { command: 'mute', code: 'KeyM', label: 'Alt+M' },
  { command: 'hold', code: 'KeyH', label: 'Alt+H' },
  { command: 'record', code: 'KeyP', label: 'Alt+P' },
  { command: 'mark', code: 'KeyB', label: 'Alt+B' },
  { command: 'keys', code: 'KeyD', label: 'Alt+D' },
  { command: 'transfer', code: 'KeyT', label: 'Alt+T' },
  { command: 'park', code: 'KeyQ', label: 'Alt+Q' },
  { command: 'fetch', code: 'KeyG', label: 'Alt+G' },
  { command: 'wrap_up', code: 'KeyW', label: 'Alt+W' },
  { command: 'ready', code: 'KeyR', label: 'Alt+R' },
  { command: 'help', code: 'Slash', label: 'Alt+/' },
];

export interface Press {
  code: string;
  altKey: boolean;
  ctrlKey: boolean;
  metaKey: boolean;
  shiftKey: boolean;
  repeat: boolean;
}

/** The command of a key press, or null. AltGr arrives as Ctrl+Alt and types letters, so it never counts. */
export function commandOf(press: Press, enabled: boolean): Command | null {
  if (press.repeat || press.shiftKey) return null;
  if (press.code === 'KeyK' && !press.altKey && press.ctrlKey !== press.metaKey) return 'palette';
  if (!enabled || !press.altKey || press.ctrlKey || press.metaKey) return null;
  return SHORTCUTS.find((one) => one.code === press.code)?.command ?? null;
}

// Whether the Alt shortcuts are on: some screen readers and keyboard layouts need these keys for themselves.

const KEY = 'patchbay.shortcuts';

export function shortcutsOn(): boolean {
  try {
    return localStorage.getItem(KEY) !== 'off';
  } catch {
    return true; // storage is switched off
  }
}

export function setShortcuts(on: boolean): void {
  try {
    localStorage.setItem(KEY, on ? 'on' : 'off');
  } catch {
    // storage is switched off: the choice lasts as long as the page
  }
}

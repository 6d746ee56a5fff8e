// The language picked on the sign-in page, before the server knows who asks.

const KEY = 'patchbay.locale';

export function chosenLocale(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is switched off
  }
}

export function chooseLocale(locale: string): void {
  try {
    localStorage.setItem(KEY, locale);
  } catch {
    // storage is switched off: the choice lasts as long as the page
  }
}

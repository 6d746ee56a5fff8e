/** sessionStorage, or its like in memory where the browser forbids storage (an iframe with site data blocked). */
export type KeyValues = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;

export function tabStorage(): KeyValues {
  return allowed(() => window.sessionStorage);
}

/** What the next visit may know of this one: localStorage, or its like in memory. */
export function browserStorage(): KeyValues {
  return allowed(() => window.localStorage);
}

function allowed(open: () => Storage): KeyValues {
  try {
    const storage = open();
    storage.getItem('patchbay');
    return storage;
  } catch {
    return memoryStorage();
  }
}

export function memoryStorage(): KeyValues {
  const values = new Map<string, string>();
  return {
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => void values.set(key, value),
    removeItem: (key) => void values.delete(key),
  };
}

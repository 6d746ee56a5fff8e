// Where to go after signing in. `next` comes from the address bar, so it may hold anything: only a path on this very
// origin is followed, or else a link could send people who just signed in to a stranger's look-alike page.

import type { Role } from '../core/src/rest_types';

export function nextPage(search: string, origin: string, role: Role): string {
  return safePath(new URLSearchParams(search).get('next'), origin) ?? (role === 'agent' ? '/agent' : '/admin');
}

function safePath(next: string | null, origin: string): string | null {
  // `//host` and `/\host` name another host; control characters are dropped by URL parsers and may hide one.
  if (next === null || !next.startsWith('/') || /^\/[/\\]/.test(next) || /[\u0000-\u001f\\]/.test(next)) return null;
  let url: URL;
  try {
    url = new URL(next, origin);
  } catch {
    return null;
  }
  if (url.origin !== origin || url.pathname === '/login' || url.pathname === '/') return null;
  return url.pathname + url.search + url.hash;
}

/** The frame's side of the talk with the host page, or with the page that opened our window. */
import type { Setup, Theme, ToFrame, ToHost } from '../messages';

export interface HostLink {
  /** Embedded in a panel that can be closed, not a window of its own. */
  readonly embedded: boolean;
  /** What the address said, before the host page has spoken. */
  readonly first: Setup;
  tell(message: ToHost): void;
  listen(onMessage: (message: ToFrame) => void): void;
}

export function hostLink(view: Window = window): HostLink {
  const query = new URLSearchParams(view.location.search);
  const embedded = view.parent !== view;
  const peer: Window | null = embedded ? view.parent : (view.opener as Window | null);
  // The host names its origin in our address. A false name gains nothing: what we say would not arrive.
  const origin = originOf(query.get('host'));
  return {
    embedded,
    first: {
      locale: query.get('locale') ?? 'auto',
      theme: themeOf(query.get('theme')),
      pageUrl: view.document.referrer,
      context: {},
    },
    tell(message) {
      if (peer && origin) peer.postMessage(message, origin);
    },
    listen(onMessage) {
      view.addEventListener('message', (event) => {
        if (event.source !== peer || event.origin !== origin) return;
        const message = event.data as ToFrame | undefined;
        if (message?.patchbay === 'setup' || message?.patchbay === 'shown') onMessage(message);
      });
    },
  };
}

export function themeOf(value: string | null): Theme {
  return value === 'light' || value === 'dark' ? value : 'auto';
}

function originOf(value: string | null): string | null {
  try {
    return value === null ? null : new URL(value).origin;
  } catch {
    return null;
  }
}

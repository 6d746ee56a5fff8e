// What the agent types during a contact, per segment. The agent's text wins over the server's copy while it is dirty:
// a view that arrives late must not overwrite what is being typed, and a reload must not lose it.

import type { ContactView } from '../../core/src/wire';

export interface Draft {
  notes: string;
  dispositionId: string | null;
  /** Typed here, and the server has not yet sent exactly this back. */
  dirty: boolean;
}

export type Drafts = Readonly<Record<string, Draft>>;

export type DraftEvent =
  | { type: 'typed'; segmentId: string; notes: string }
  | { type: 'picked'; segmentId: string; dispositionId: string | null }
  /** The contacts that exist now: drafts of others go, clean ones follow the server. */
  | { type: 'contacts'; contacts: readonly ContactView[] };

/** The server's limit (MAX_NOTES_CHARS of protocol.py). */
export const MAX_NOTES_CHARS = 10_000;

export const NO_DRAFT: Draft = { notes: '', dispositionId: null, dirty: false };

export function reduce(drafts: Drafts, event: DraftEvent): Drafts {
  switch (event.type) {
    case 'typed':
      return change(drafts, event.segmentId, { notes: event.notes });
    case 'picked':
      return change(drafts, event.segmentId, { dispositionId: event.dispositionId });
    case 'contacts':
      return Object.fromEntries(event.contacts.map((one) => [one.segment_id, follow(drafts[one.segment_id], one)]));
  }
}

function change(drafts: Drafts, segmentId: string, part: Partial<Draft>): Drafts {
  return { ...drafts, [segmentId]: { ...(drafts[segmentId] ?? NO_DRAFT), ...part, dirty: true } };
}

function follow(draft: Draft | undefined, contact: ContactView): Draft {
  const theirs: Draft = { notes: contact.notes, dispositionId: contact.disposition_id, dirty: false };
  if (draft?.dirty !== true) return theirs;
  const same = draft.notes === theirs.notes && draft.dispositionId === theirs.dispositionId;
  return same ? theirs : draft;
}

/** Drafts from storage, or none where it holds something else. */
export function parseDrafts(text: string | null): Drafts {
  if (text === null) return {};
  let stored: unknown;
  try {
    stored = JSON.parse(text);
  } catch {
    return {};
  }
  if (typeof stored !== 'object' || stored === null) return {};
  return Object.fromEntries(Object.entries(stored).filter((entry): entry is [string, Draft] => isDraft(entry[1])));
}

function isDraft(value: unknown): value is Draft {
  if (typeof value !== 'object' || value === null) return false;
  const draft = value as Record<string, unknown>;
  const picked = draft['dispositionId'];
  return typeof draft['notes'] === 'string' && typeof draft['dirty'] === 'boolean' && (picked === null || typeof picked === 'string');
}

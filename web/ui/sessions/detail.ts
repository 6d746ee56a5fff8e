// The segments of a session as the page shows them. The type of their rows is open (they differ by channel), so each
// field is read on its own and a missing one is shown as nothing.

export interface SegmentShown {
  id: string;
  agentName: string;
  cameAs: 'owner' | 'guest' | 'supervisor';
  state: string;
  offeredAt: number | null;
  doneAt: number | null;
  endReason: string | null;
  notes: string;
  disposition: string | null;
}

type Row = Readonly<Record<string, unknown>>;

export function segmentShown(row: Row): SegmentShown {
  return {
    id: text(row, 'segment_id') ?? '',
    agentName: text(row, 'agent_name') ?? '',
    cameAs: cameAs(text(row, 'came_as')),
    state: text(row, 'state') ?? 'done',
    offeredAt: time(row, 'offered_at'),
    doneAt: time(row, 'done_at') ?? time(row, 'talk_ended_at'),
    endReason: text(row, 'end_reason'),
    notes: text(row, 'notes') ?? '',
    disposition: text(row, 'disposition_name'),
  };
}

function cameAs(value: string | null): SegmentShown['cameAs'] {
  return value === 'guest' || value === 'supervisor' ? value : 'owner';
}

function text(row: Row, key: string): string | null {
  const value = row[key];
  return typeof value === 'string' ? value : null;
}

function time(row: Row, key: string): number | null {
  const value = row[key];
  return typeof value === 'number' ? value : null;
}

/** Local midnight of a date input's `yyyy-mm-dd`, plus whole days; undefined for an empty or unreadable one. */
export function dayStart(value: string, plusDays = 0): number | undefined {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(value);
  if (match === null) return undefined;
  return new Date(Number(match[1]), Number(match[2]) - 1, Number(match[3]) + plusDays).getTime();
}

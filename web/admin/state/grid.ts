// The agents × skills grid: levels as edited on top of levels as saved. 0 means "does not have the skill".

import type { User, UserSkill } from '../../core/src/rest_types';
import { LEVEL } from './forms';

/** user id → skill id → level, only where it differs from what is saved. */
export type Edits = Readonly<Record<string, Readonly<Record<string, number>>>>;

export function savedLevel(user: User, skillId: string): number {
  return user.skills.find((one) => one.skill_id === skillId)?.level ?? 0;
}

export function levelOf(edits: Edits, user: User, skillId: string): number {
  return edits[user.user_id]?.[skillId] ?? savedLevel(user, skillId);
}

/** A cell set to a level; setting it back to what is saved takes the edit away. */
export function setLevel(edits: Edits, user: User, skillId: string, level: number): Edits {
  const { [skillId]: _, ...rest } = edits[user.user_id] ?? {};
  const mine = level === savedLevel(user, skillId) ? rest : { ...rest, [skillId]: level };
  const { [user.user_id]: __, ...others } = edits;
  return Object.keys(mine).length === 0 ? others : { ...others, [user.user_id]: mine };
}

/** All of a user's skills with the edits applied, as the REST contract wants them. */
export function skillsWith(edits: Edits, user: User): UserSkill[] {
  const levels = new Map(user.skills.map((one) => [one.skill_id, one.level]));
  for (const [skillId, level] of Object.entries(edits[user.user_id] ?? {})) levels.set(skillId, level);
  return [...levels].filter(([, level]) => level > 0).map(([skill_id, level]) => ({ skill_id, level }));
}

/** What a typed cell means: empty or 0 is none; null when it is no level at all. */
export function parseLevel(text: string): number | null {
  const trimmed = text.trim();
  if (trimmed === '' || trimmed === '0') return 0;
  const level = Number(trimmed);
  return Number.isInteger(level) && level >= LEVEL.min && level <= LEVEL.max ? level : null;
}

export interface Cell {
  row: number;
  column: number;
}

/** Where an arrow, Home, End or Enter leads; null when the key is not for moving. Stays inside the grid. */
export function moved(at: Cell, key: string, rows: number, columns: number): Cell | null {
  const clamp = (value: number, size: number): number => Math.min(Math.max(0, value), size - 1);
  const to = (row: number, column: number): Cell => ({ row: clamp(row, rows), column: clamp(column, columns) });
  switch (key) {
    case 'ArrowUp':
      return to(at.row - 1, at.column);
    case 'ArrowDown':
    case 'Enter':
      return to(at.row + 1, at.column);
    case 'ArrowLeft':
      return to(at.row, at.column - 1);
    case 'ArrowRight':
      return to(at.row, at.column + 1);
    case 'Home':
      return to(at.row, 0);
    case 'End':
      return to(at.row, columns - 1);
    default:
      return null;
  }
}

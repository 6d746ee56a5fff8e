// Who stands on what, by name, as the server counts it: only active rows. A skill can't be deleted while an active queue
// or user has it, nor a queue be switched off while an active entry point leads to it.

import type { EntryPoint, Queue, User } from '../../core/src/rest_types';

export interface SkillUse {
  queues: string[];
  users: string[];
}

export function whereUsed(skillId: string, queues: readonly Queue[], users: readonly User[]): SkillUse {
  const has = (row: { active: boolean; skills: readonly { skill_id: string }[] }): boolean =>
    row.active && row.skills.some((one) => one.skill_id === skillId);
  return { queues: queues.filter(has).map((one) => one.name), users: users.filter(has).map((one) => one.name) };
}

export function leadingTo(queueId: string, entryPoints: readonly EntryPoint[]): string[] {
  return entryPoints.filter((one) => one.active && one.queue_id === queueId).map((one) => one.name);
}

// Who stands on a skill, by name: it can't be deleted while anybody does. Switched-off rows count, as on the server.

import type { Queue, User } from '../../core/src/rest_types';

export interface SkillUse {
  queues: string[];
  users: string[];
}

export function whereUsed(skillId: string, queues: readonly Queue[], users: readonly User[]): SkillUse {
  const has = (row: { skills: readonly { skill_id: string }[] }): boolean => row.skills.some((one) => one.skill_id === skillId);
  return { queues: queues.filter(has).map((one) => one.name), users: users.filter(has).map((one) => one.name) };
}

// Everything the admin pages edit, loaded once and shared, since the nouns name each other.

import type { Rest } from '../../core/src/rest';
import type { BreakReason, Disposition, EntryPoint, Me, Queue, Skill, User } from '../../core/src/rest_types';
import { Collection } from './collection.svelte';

export class Catalog {
  readonly users: Collection<User>;
  readonly skills: Collection<Skill>;
  readonly queues: Collection<Queue>;
  readonly entryPoints: Collection<EntryPoint>;
  readonly dispositions: Collection<Disposition>;
  readonly breakReasons: Collection<BreakReason>;

  constructor(
    readonly rest: Rest,
    readonly me: Me,
  ) {
    this.users = new Collection(rest, '/users', (row) => row.user_id);
    this.skills = new Collection(rest, '/skills', (row) => row.skill_id);
    this.queues = new Collection(rest, '/queues', (row) => row.queue_id);
    this.entryPoints = new Collection(rest, '/entry-points', (row) => row.entry_point_id);
    this.dispositions = new Collection(rest, '/dispositions', (row) => row.disposition_id);
    this.breakReasons = new Collection(rest, '/break-reasons', (row) => row.break_reason_id);
  }

  get mayLook(): boolean {
    return this.me.role !== 'agent';
  }

  /** A supervisor sees everything and changes nothing here. */
  get mayEdit(): boolean {
    return this.me.role === 'admin';
  }

  async load(): Promise<void> {
    const lists = [this.users, this.skills, this.queues, this.entryPoints, this.dispositions, this.breakReasons];
    await Promise.all(lists.map((list) => list.load()));
  }

  async newPassword(user: User): Promise<string> {
    const path = `/users/${encodeURIComponent(user.user_id)}/password`;
    return (await this.rest.post<{ one_time_password: string }>(path)).one_time_password;
  }
}

// Switching a row off keeps its history and can be undone; the toast offers it for a while.

import type { I18n } from '../../core/src/i18n';
import { toasts } from '../../ui/toasts.svelte';
import type { AdminKey } from '../texts';
import { faultOf, type Collection } from './collection.svelte';

interface Switchable {
  name: string;
  active: boolean;
  version: number;
}

export async function deactivate<T extends Switchable>(i18n: I18n<AdminKey>, list: Collection<T>, row: T): Promise<void> {
  await list.remove(row);
  const undo = { label: i18n.t('admin.undo'), run: () => void activate(i18n, list, list.find(list.idOf(row)) ?? row) };
  toasts.say(i18n.t('admin.deactivated', { name: row.name }), undo);
}

export async function activate<T extends Switchable>(i18n: I18n<AdminKey>, list: Collection<T>, row: T): Promise<void> {
  try {
    await list.change(row, { active: true });
    toasts.say(i18n.t('admin.activated', { name: row.name }));
  } catch (cause) {
    toasts.say(i18n.error(faultOf(cause)));
  }
}

/** What a screen reader is told as the call goes on. Null: nothing new to say. */
import { reconnecting, screenOf, type CustomerState } from '../../core/src/state/customer';
import type { WidgetI18n } from './context';

export function announcement(state: CustomerState, i18n: WidgetI18n): string | null {
  const screen = screenOf(state);
  const mending = reconnecting(state);
  if (mending !== null) return i18n.t(`reconnecting.${mending}`);
  const agent = state.call?.agent_name ?? i18n.t('call.agent');
  switch (screen) {
    case 'queue':
      return placeInLine(state.position, i18n);
    case 'place':
      return placeKept(state.position, i18n);
    case 'connecting':
      return i18n.t('connecting.title');
    case 'call':
      return state.call?.state === 'held' ? i18n.t('call.held.said') : i18n.t('call.talking', { agent });
    case 'ended':
      return i18n.endReason(state.call?.end_reason ?? 'unknown');
    default:
      return null;
  }
}

/** A place that is kept: only the last step matters, and to come back then. */
export function placeKept(position: number | null, i18n: WidgetI18n): string {
  return i18n.t(position === 1 ? 'place.soon' : 'place.title');
}

/** The place, in words, as soon as the server has told it. */
export function placeInLine(position: number | null, i18n: WidgetI18n): string {
  if (position === null) return i18n.t('queue.title');
  return position === 1 ? i18n.t('queue.next') : i18n.t('queue.place', { n: position });
}

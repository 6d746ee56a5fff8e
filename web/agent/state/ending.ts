// Why a contact is over, as its own agent is told. Pure.

import type { I18n } from '../../core/src/i18n';
import type { AgentKey } from '../texts';

export function endingText(i18n: I18n<AgentKey>, reason: string | null): string {
  if (reason === null) return i18n.t('contact.ended');
  return reason === 'agent_hung_up' ? i18n.t('contact.ended_by_you') : i18n.endReason(reason);
}

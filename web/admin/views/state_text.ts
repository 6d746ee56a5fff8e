// An agent's state in words, with the reason of a break.

import type { I18n } from '../../core/src/i18n';
import type { AgentState } from '../../core/src/wire';
import type { AdminKey } from '../texts';

export function stateText(i18n: I18n<AdminKey>, state: AgentState, reason: string | null): string {
  const plain = i18n.t(`agents.state_${state}`);
  return state === 'break' && reason !== null ? i18n.t('agents.with_reason', { state: plain, reason }) : plain;
}

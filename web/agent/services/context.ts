// What every console view needs, handed down once.

import { createContext } from 'svelte';
import type { I18n } from '../../core/src/i18n';
import type { AgentKey } from '../texts';
import type { Console } from './console.svelte';

export interface Agent {
  i18n: I18n<AgentKey>;
  console: Console;
}

export const [useAgent, provideAgent] = createContext<Agent>();

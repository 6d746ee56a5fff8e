// The i18n of the app, for shared components: they know only the shared texts.

import { createContext } from 'svelte';
import type { I18n } from '../core/src/i18n';
import type { UiKey } from './texts';

export const [useI18n, provideI18n] = createContext<I18n<UiKey>>();

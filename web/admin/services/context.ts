// What every admin view needs, handed down once.

import { createContext } from 'svelte';
import type { I18n } from '../../core/src/i18n';
import type { AdminKey } from '../texts';
import type { Catalog } from './catalog.svelte';

export interface Admin {
  i18n: I18n<AdminKey>;
  catalog: Catalog;
}

export const [useAdmin, provideAdmin] = createContext<Admin>();

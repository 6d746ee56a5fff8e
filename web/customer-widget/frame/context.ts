/** What all parts of the frame draw with. */
import { createContext } from 'svelte';
import type { I18n } from '../../core/src/i18n';
import type { en } from './texts';

export type WidgetI18n = I18n<keyof typeof en>;

const [get, provide] = createContext<{ readonly i18n: WidgetI18n }>();

export const provideWords = provide;
/** An object whose `i18n` changes with the language. */
export const words = get;

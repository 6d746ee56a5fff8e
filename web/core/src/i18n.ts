/** Texts and formats. A catalogue per language, its keys checked by the compiler; numbers and times by Intl. */
import { en, zhCN } from './texts';

export type Locale = 'en' | 'zh-CN';
export type Catalogue = Readonly<Record<string, string>>;
export type Params = Readonly<Record<string, string | number>>;
type CoreKey = keyof typeof en;
/** `queue.ahead.other` and its siblings are asked for as `queue.ahead`. */
type PluralKey<K> = K extends `${infer Stem}.other` ? Stem : never;

export const LOCALES: readonly Locale[] = ['en', 'zh-CN'];

const RIGHT_TO_LEFT = new Set(['ar', 'fa', 'he', 'ur']);

/** `wanted` may be a tag, `auto` or nothing: then what the browser prefers. */
export function pickLocale(
  wanted: string | null | undefined,
  preferred: readonly string[] = navigator.languages,
): Locale {
  const asked = wanted && wanted !== 'auto' ? [wanted, ...preferred] : preferred;
  for (const tag of asked) {
    const language = tag.toLowerCase().split(/[-_]/)[0];
    const found = LOCALES.find((locale) => locale.toLowerCase().split('-')[0] === language);
    if (found) return found;
  }
  return 'en';
}

export interface I18n<K extends string = never> {
  readonly locale: Locale;
  readonly dir: 'ltr' | 'rtl';
  t(key: K | CoreKey, params?: Params): string;
  /** `{n}` is the number, formatted. */
  plural(key: PluralKey<K>, n: number, params?: Params): string;
  /** What went wrong, for a person. A code that this build does not know gets a general text with the code. */
  error(code: string, params?: Params): string;
  /** Why a call is over. */
  endReason(code: string): string;
  /** `0:07`, `12:40`, `1:02:03`. */
  duration(ms: number): string;
  /** The same for a screen reader: `12 minutes 40 seconds`. */
  spokenDuration(ms: number): string;
  /** `Ana, Bo and Chen`. */
  list(names: readonly string[]): string;
  number(value: number, options?: Intl.NumberFormatOptions): string;
  percent(share: number): string;
  time(ms: number): string;
  date(ms: number): string;
  dateTime(ms: number): string;
  /** To the second, where the order of what happened matters. */
  exactTime(ms: number): string;
  relative(ms: number, now: number): string;
}

export function createI18n<C extends Catalogue>(
  catalogues: { en: C; 'zh-CN': Readonly<Record<keyof C, string>> },
  locale: Locale,
): I18n<Extract<keyof C, string>> {
  const texts: Catalogue = { ...(locale === 'en' ? en : zhCN), ...catalogues[locale] };
  const plurals = new Intl.PluralRules(locale);
  const number = new Intl.NumberFormat(locale);
  const percent = new Intl.NumberFormat(locale, { style: 'percent', maximumFractionDigits: 1 });
  const formats = {
    time: new Intl.DateTimeFormat(locale, { timeStyle: 'short' }),
    date: new Intl.DateTimeFormat(locale, { dateStyle: 'medium' }),
    dateTime: new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' }),
    exactTime: new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium' }),
  };
  const list = new Intl.ListFormat(locale);
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' });
  const units = (['hour', 'minute', 'second'] as const).map(
    (unit) => new Intl.NumberFormat(locale, { style: 'unit', unit, unitDisplay: 'long' }),
  );

  const text = (key: string, params: Params = {}) => fill(texts[key] ?? key, params, number);
  const coded = (stem: string, code: string, params?: Params) =>
    texts[`${stem}.${code}`] === undefined ? text(`${stem}.unknown`, { code }) : text(`${stem}.${code}`, params);

  return {
    locale,
    dir: RIGHT_TO_LEFT.has(locale.split('-')[0] ?? '') ? 'rtl' : 'ltr',
    t: text,
    plural(key, n, params = {}) {
      const form = `${key}.${plurals.select(n)}`;
      return text(texts[form] === undefined ? `${key}.other` : form, { ...params, n });
    },
    error: (code, params) => coded('error', code, params),
    endReason: (code) => coded('end', code),
    duration: clockFace,
    spokenDuration(ms) {
      const parts = split(ms);
      const said = parts.flatMap((value, at) => (value > 0 ? [units[at]?.format(value) ?? ''] : []));
      return said.length > 0 ? said.join(' ') : (units[2]?.format(0) ?? '');
    },
    list: (names) => list.format(names),
    number: (value, options) => (options ? new Intl.NumberFormat(locale, options) : number).format(value),
    percent: (share) => percent.format(share),
    time: (ms) => formats.time.format(ms),
    date: (ms) => formats.date.format(ms),
    dateTime: (ms) => formats.dateTime.format(ms),
    exactTime: (ms) => formats.exactTime.format(ms),
    relative(ms, now) {
      const seconds = Math.round((ms - now) / 1000);
      if (Math.abs(seconds) < 60) return relative.format(seconds, 'second');
      if (Math.abs(seconds) < 3600) return relative.format(Math.round(seconds / 60), 'minute');
      if (Math.abs(seconds) < 86_400) return relative.format(Math.round(seconds / 3600), 'hour');
      return relative.format(Math.round(seconds / 86_400), 'day');
    },
  };
}

/** Tells the page its language and direction. */
export function applyLocale(i18n: Pick<I18n, 'locale' | 'dir'>, root: HTMLElement = document.documentElement): void {
  root.lang = i18n.locale;
  root.dir = i18n.dir;
}

function fill(template: string, params: Params, number: Intl.NumberFormat): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = params[name];
    if (value === undefined) return whole;
    return typeof value === 'number' ? number.format(value) : value;
  });
}

function split(ms: number): [number, number, number] {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
}

function clockFace(ms: number): string {
  const [hours, minutes, seconds] = split(ms);
  const two = (value: number) => String(value).padStart(2, '0');
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}

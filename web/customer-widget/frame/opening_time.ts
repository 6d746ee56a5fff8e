/** When it opens next, in the customer's own time zone and language: the day's name too, it may be tomorrow or after a
 *  holiday. */
export function openingTime(at: number | null, locale: string, timeZone?: string): string | null {
  if (at === null) return null;
  const parts = { weekday: 'long', day: 'numeric', month: 'long', hour: 'numeric', minute: '2-digit' } as const;
  return new Intl.DateTimeFormat(locale, timeZone === undefined ? parts : { ...parts, timeZone }).format(at);
}

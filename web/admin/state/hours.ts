// Opening hours as an admin types them: "9:00-12:00, 13:00-17:00" a weekday, one holiday a line.

import type { OpeningHours, OpenSpan } from '../../core/src/rest_types';

export interface HoursForm {
  time_zone: string;
  /** Monday first. */
  week: string[];
  holidays: string;
}

/** What is wrong, and in which line of the form: a weekday's number, or the holiday's text. */
export type HoursFault = { kind: 'weekday'; weekday: number } | { kind: 'holiday'; line: string } | { kind: 'zone' };

const SPAN = /^(\d{1,2}):(\d{2})\s*[-–—]\s*(\d{1,2}):(\d{2})$/;
const DAY = /^(2\d{3}-\d{2}-\d{2})\b[\s:]*(.*)$/;

export function newHours(zone: string): HoursForm {
  return { time_zone: zone, week: [...Array<string>(5).fill('9:00-17:00'), '', ''], holidays: '' };
}

export function formOf(hours: OpeningHours): HoursForm {
  return {
    time_zone: hours.time_zone,
    week: hours.week.map(spansText),
    holidays: hours.holidays.map(({ day, spans }) => `${day} ${spansText(spans)}`.trim()).join('\n'),
  };
}

export function readHours(form: HoursForm): { hours: OpeningHours; fault: null } | { hours: null; fault: HoursFault } {
  if (form.time_zone.trim() === '') return { hours: null, fault: { kind: 'zone' } };
  const week: OpenSpan[][] = [];
  for (const [weekday, text] of form.week.entries()) {
    const spans = readSpans(text);
    if (spans === null) return { hours: null, fault: { kind: 'weekday', weekday } };
    week.push(spans);
  }
  const holidays: OpeningHours['holidays'] = [];
  for (const line of form.holidays.split('\n').map((one) => one.trim())) {
    if (line === '') continue;
    const [, day, rest] = DAY.exec(line) ?? [];
    const spans = readSpans(rest ?? '');
    const known = day !== undefined && isDay(day) && holidays.every((one) => one.day !== day);
    if (!known || spans === null) return { hours: null, fault: { kind: 'holiday', line } };
    holidays.push({ day, spans });
  }
  return { hours: { time_zone: form.time_zone.trim(), week, holidays }, fault: null };
}

/** Null: not understood. Empty: closed. */
function readSpans(text: string): OpenSpan[] | null {
  const spans: OpenSpan[] = [];
  for (const part of text.split(',').map((one) => one.trim())) {
    if (part === '') continue;
    const [, fromHour, fromMinute, toHour, toMinute] = SPAN.exec(part) ?? [];
    if (fromHour === undefined || fromMinute === undefined || toHour === undefined || toMinute === undefined) return null;
    const [opens, closes] = [clock(fromHour, fromMinute), clock(toHour, toMinute)];
    if (opens === null || closes === null || opens === '24:00' || closes === '00:00' || opens === closes) return null;
    spans.push({ opens, closes });
  }
  return spans;
}

function clock(hour: string, minute: string): string | null {
  const minutes = Number(hour) * 60 + Number(minute);
  return Number(minute) < 60 && minutes <= 1440 ? `${hour.padStart(2, '0')}:${minute}` : null;
}

function spansText(spans: readonly OpenSpan[]): string {
  return spans.map(({ opens, closes }) => `${opens}-${closes}`).join(', ');
}

function isDay(text: string): boolean {
  const day = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
}

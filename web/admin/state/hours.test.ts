import { describe, expect, it } from 'vitest';
import { formOf, newHours, readHours, type HoursForm } from './hours';

const form: HoursForm = {
  time_zone: 'Europe/Berlin',
  week: ['9:00-12:00, 13:00–17:00', '', '', '', '', '22:00-6:00', '0:00-24:00'],
  holidays: '2026-12-25\n\n2026-12-24 9:00-12:00\n',
};

describe('opening hours', () => {
  it('reads spans, nights and holidays, and writes them back', () => {
    const { hours } = readHours(form);
    expect(hours?.week[0]).toEqual([{ opens: '09:00', closes: '12:00' }, { opens: '13:00', closes: '17:00' }]);
    expect(hours?.week[5]).toEqual([{ opens: '22:00', closes: '06:00' }]);
    expect(hours?.week[6]).toEqual([{ opens: '00:00', closes: '24:00' }]);
    expect(hours?.holidays).toEqual([{ day: '2026-12-25', spans: [] }, { day: '2026-12-24', spans: [{ opens: '09:00', closes: '12:00' }] }]);
    expect(readHours(formOf(hours!)).hours).toEqual(hours);
    expect(readHours(newHours('UTC')).fault).toBeNull();
  });

  it.each(['9-17', '9:00', '9:60-17:00', '25:00-26:00', '9:00-9:00', '24:00-1:00', '22:00-0:00', 'closed'])('does not take %s', (text) => {
    const week = form.week.with(2, text);
    expect(readHours({ ...form, week }).fault).toEqual({ kind: 'weekday', weekday: 2 });
  });

  it.each(['25.12.2026', '2026-02-30', '2026-12-25 closed', '2026-12-24\n2026-12-24'])('names the holiday that makes no sense: %s', (text) => {
    expect(readHours({ ...form, holidays: text }).fault).toEqual({ kind: 'holiday', line: text.split('\n').at(-1) });
  });
});

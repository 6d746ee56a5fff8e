/** The wait as a range, in words: seconds up to two minutes, minutes above, as the server has rounded it. */
import type { WaitRange } from '../../core/src/state/customer';
import type { WidgetI18n } from './context';

export function waitText(wait: WaitRange, i18n: WidgetI18n): string {
  const inMinutes = wait.high_s > 120;
  const unit = inMinutes ? 'minute' : 'second';
  const size = inMinutes ? 60 : 1;
  const format = new Intl.NumberFormat(i18n.locale, { style: 'unit', unit, unitDisplay: 'short' });
  const [low, high] = [wait.low_s / size, wait.high_s / size];
  if (low === 0) return i18n.t('queue.wait_up_to', { time: format.format(high) });
  if (low === high) return i18n.t('queue.wait', { range: format.format(high) });
  // Browsers of before 2023 have no ranges.
  const range = format.formatRange?.(low, high) ?? `${i18n.number(low)}–${format.format(high)}`;
  return i18n.t('queue.wait', { range });
}

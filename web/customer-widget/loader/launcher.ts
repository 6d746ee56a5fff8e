/** The words on the host page. */
import type { CallPhase } from '../messages';

/** Launcher: nobody called, waiting, talking; the panel's name; what is said when it stays empty, and its button. A tuple,
 *  since names of properties would stay in the script that every page of the host loads. */
export type Words = readonly [call: string, waiting: string, talking: string, panel: string, fault: string, retry: string];

export const ENGLISH: Words = [
  'Call us',
  'Waiting',
  'In a call',
  'Call panel',
  'The call window can’t be shown here.',
  'Try again',
];
export const CHINESE: Words = ['在线通话', '等待中', '通话中', '通话面板', '通话窗口无法在此处显示。', '重试'];

/** Nobody is in a call before somebody has answered. */
export function labelOf(phase: CallPhase, [call, waiting, talking]: Words): string {
  if (phase === 'ended') return call;
  return phase === 'talking' || phase === 'held' ? talking : waiting;
}

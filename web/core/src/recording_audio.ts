// A recording's audio: whether it may be played now. The stereo rendering is made at its first playback, so the server
// may answer "not yet"; the page asks with one byte before it gives the address to an <audio> element, which could
// not tell a rendering from a broken file.

import { RestError } from './rest';

export type Side = 'stereo' | 'customer' | 'agent';
export type AudioReadiness = { state: 'ready' } | { state: 'rendering'; retryAfterS: number };

const PROBE_TIMEOUT_MS = 15_000; // as every request of the page
const DEFAULT_RETRY_S = 2;

export function audioUrl(recordingId: string, side: Side): string {
  return `/api/v1/recordings/${encodeURIComponent(recordingId)}/audio?side=${side}`;
}

/** Raises RestError: 409 `recording_not_ready`, 404, `network`. */
export async function probeAudio(url: string, send: typeof fetch = (input, init) => fetch(input, init)): Promise<AudioReadiness> {
  let answer: Response;
  try {
    answer = await send(url, {
      credentials: 'same-origin',
      headers: { range: 'bytes=0-0' },
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    });
  } catch (cause) {
    throw new RestError(0, 'network', String(cause));
  }
  if (answer.status === 202) return { state: 'rendering', retryAfterS: await retryAfterS(answer) };
  if (answer.ok) {
    await answer.body?.cancel();
    return { state: 'ready' };
  }
  throw new RestError(answer.status, await codeOf(answer), `no audio at ${url}`);
}

async function retryAfterS(answer: Response): Promise<number> {
  await answer.body?.cancel();
  const seconds = Number(answer.headers.get('retry-after') ?? Number.NaN);
  return Number.isFinite(seconds) && seconds > 0 ? seconds : DEFAULT_RETRY_S;
}

async function codeOf(answer: Response): Promise<string> {
  try {
    return ((await answer.json()) as { error: { code: string } }).error.code;
  } catch {
    return 'bad_answer';
  }
}

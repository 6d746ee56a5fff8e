import { describe, expect, it } from 'vitest';
import { audioUrl, probeAudio } from '../src/recording_audio';
import { RestError } from '../src/rest';

const answering = (response: Response): typeof fetch => () => Promise.resolve(response);

describe('probeAudio', () => {
  it('is ready when the server serves bytes', async () => {
    expect(await probeAudio(audioUrl('rec_1', 'stereo'), answering(new Response('x', { status: 206 })))).toEqual({ state: 'ready' });
  });

  it('waits as long as the server says while it renders', async () => {
    const response = new Response('{"state":"rendering"}', { status: 202, headers: { 'retry-after': '3' } });
    expect(await probeAudio('/a', answering(response))).toEqual({ state: 'rendering', retryAfterS: 3 });
  });

  it('names the refusal', async () => {
    const response = new Response('{"error":{"code":"recording_not_ready"}}', { status: 409 });
    await expect(probeAudio('/a', answering(response))).rejects.toMatchObject({ status: 409, code: 'recording_not_ready' });
    await expect(probeAudio('/a', answering(new Response('<html>', { status: 502 })))).rejects.toMatchObject({ code: 'bad_answer' });
  });

  it('says so when nobody answers', async () => {
    await expect(probeAudio('/a', () => Promise.reject(new TypeError('down')))).rejects.toBeInstanceOf(RestError);
  });
});

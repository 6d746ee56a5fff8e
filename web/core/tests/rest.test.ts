import { describe, expect, it, vi } from 'vitest';
import { createRest } from '../src/rest';

function answering(status: number, body: string, headers: Record<string, string> = {}) {
  const calls: { url: string; init: RequestInit }[] = [];
  const fake: typeof fetch = (url, init = {}) => {
    calls.push({ url: String(url), init });
    return Promise.resolve(new Response(status === 204 ? null : body, { status, headers }));
  };
  return { calls, rest: createRest({ csrf: () => 'tok', fetch: fake }) };
}

describe('rest', () => {
  it('sends the CSRF token with what changes something, and only there', async () => {
    const { rest, calls } = answering(200, '{"a":1}');
    expect(await rest.get('/users', { q: 'x y', cursor: null, limit: 5 })).toEqual({ a: 1 });
    await rest.patch('/users/u', { name: 'Bo' });
    expect(calls[0]?.url).toBe('/api/v1/users?q=x+y&limit=5');
    expect(calls[0]?.init.headers).not.toHaveProperty('x-csrf-token');
    expect(calls[1]?.init.headers).toMatchObject({ 'x-csrf-token': 'tok', 'content-type': 'application/json' });
  });

  it('fails with the code, the fields and the time to wait', async () => {
    const body = { error: { code: 'invalid', message: 'x', fields: [{ loc: 'name', code: 'too_short', message: 'y' }] } };
    const { rest } = answering(422, JSON.stringify(body), { 'retry-after': '7' });
    await expect(rest.post('/skills', {})).rejects.toMatchObject({
      status: 422,
      code: 'invalid',
      retryAfterS: 7,
      fields: [{ loc: 'name' }],
    });
  });

  it('tells a logged-out page, a proxy in the way, an empty answer, and no network', async () => {
    const { rest } = answering(401, '{"error":{"code":"not_logged_in","message":"x"}}');
    const out = vi.fn();
    rest.onLoggedOut(out);
    await expect(rest.get('/me')).rejects.toMatchObject({ code: 'not_logged_in' });
    expect(out).toHaveBeenCalledOnce();
    await expect(answering(502, '<html>').rest.get('/me')).rejects.toMatchObject({ code: 'bad_answer', retryAfterS: null });
    expect(await answering(204, '').rest.delete('/skills/s')).toBeUndefined();
    const offline = createRest({ fetch: () => Promise.reject(new TypeError('failed to fetch')) });
    await expect(offline.get('/me')).rejects.toMatchObject({ status: 0, code: 'network' });
  });
});

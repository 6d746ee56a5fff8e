import { describe, expect, it } from 'vitest';
import { RestError, type Query, type Rest } from '../../core/src/rest';
import type { QueueReport } from '../../core/src/rest_types';
import { FakeClock } from '../../core/tests/fakes';
import { REFRESH_MS, ReportPoll } from './report_poll.svelte';

/** Answers each question when the test says so. */
class Server {
  readonly asked: Query[] = [];
  #waiting: ((answer: unknown) => void)[] = [];
  readonly rest: Rest = {
    get: <T,>(_path: string, query: Query = {}) => {
      this.asked.push(query);
      return new Promise<T>((resolve, reject) =>
        this.#waiting.push((answer) => (answer instanceof Error ? reject(answer) : resolve(answer as T))),
      );
    },
    post: () => Promise.reject(new Error('unused')),
    patch: () => Promise.reject(new Error('unused')),
    delete: () => Promise.reject(new Error('unused')),
    onLoggedOut: () => () => undefined,
  };

  async answer(what: unknown): Promise<void> {
    this.#waiting.shift()?.(what);
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  }
}

const report = (at: number) => ({ at }) as QueueReport;

describe('the newest report', () => {
  it('is asked for again a while after each answer', async () => {
    const [server, clock] = [new Server(), new FakeClock()];
    const poll = new ReportPoll(server.rest, 'Europe/Berlin', clock);
    poll.show({ kind: 'today' });
    await clock.pass(REFRESH_MS * 3);
    expect(server.asked).toEqual([{ date: undefined, zone: 'Europe/Berlin' }]);
    await server.answer(report(1));
    expect(poll.report?.at).toBe(1);
    await clock.pass(REFRESH_MS - 1);
    expect(server.asked).toHaveLength(1);
    await clock.pass(1);
    expect(server.asked).toHaveLength(2);
    poll.end();
    await server.answer(report(2));
    await clock.pass(REFRESH_MS);
    expect([poll.report?.at, server.asked.length]).toEqual([1, 2]);
  });

  it('stays when a refresh fails, says so, and tries on', async () => {
    const [server, clock] = [new Server(), new FakeClock()];
    const poll = new ReportPoll(server.rest, undefined, clock);
    poll.show({ kind: 'today' });
    await server.answer(report(1));
    await clock.pass(REFRESH_MS);
    await server.answer(new RestError(0, 'network', 'gone'));
    expect([poll.report?.at, poll.fault]).toEqual([1, 'network']);
    await clock.pass(REFRESH_MS);
    await server.answer(report(2));
    expect([poll.report?.at, poll.fault]).toEqual([2, null]);
  });

  it('is never that of another day', async () => {
    const [server, clock] = [new Server(), new FakeClock()];
    const poll = new ReportPoll(server.rest, undefined, clock);
    poll.show({ kind: 'today' });
    await server.answer(report(1));
    poll.show({ kind: 'date', date: '2026-05-19' });
    poll.show({ kind: 'date', date: '2026-05-18' });
    expect(poll.report).toBeNull();
    await server.answer(report(19));
    expect(poll.report).toBeNull();
    await server.answer(new RestError(503, 'storage_unavailable', ''));
    expect([poll.report, poll.fault]).toEqual([null, 'storage_unavailable']);
    expect(server.asked.map((query) => query['date'])).toEqual([undefined, '2026-05-19', '2026-05-18']);
  });

  it('is of UTC when the server does not know the zone', async () => {
    const [server, clock] = [new Server(), new FakeClock()];
    const poll = new ReportPoll(server.rest, 'Mars/Olympus', clock);
    poll.show({ kind: 'today' });
    await server.answer(new RestError(422, 'invalid', '', [{ loc: 'zone', code: 'unknown_zone', message: '' }]));
    await server.answer(report(1));
    await clock.pass(REFRESH_MS);
    expect(server.asked.map((query) => query['zone'])).toEqual(['Mars/Olympus', undefined, undefined]);
    expect(poll.report?.at).toBe(1);
  });
});

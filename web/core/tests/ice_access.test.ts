import { describe, expect, it } from 'vitest';
import { ServerClock } from '../src/clock';
import { IceAccess } from '../src/ice_access';
import type { IceServers } from '../src/wire';
import { FakeClock, NO_ICE, turnServer } from './fakes';

const LIFE_MS = 600_000;

function setUp() {
  const clock = new FakeClock();
  const serverClock = new ServerClock(clock);
  serverClock.observe(5_000_000);
  let asked = 0;
  let answer: () => Promise<IceServers> = () => Promise.resolve(turnServer(`ask ${asked}`, serverClock.now() + LIFE_MS));
  const access = new IceAccess({
    clock,
    serverClock,
    ask: () => {
      asked += 1;
      return answer();
    },
  });
  return {
    clock, serverClock, access,
    asked: () => asked,
    user: () => access.configuration.iceServers?.[0]?.username,
    answerIs: (next: () => Promise<IceServers>) => (answer = next),
  };
}

describe('without a TURN server', () => {
  it('is never asked for', async () => {
    const { access, clock, asked } = setUp();
    expect(access.configuration).toEqual({ iceServers: [], iceTransportPolicy: 'all' });
    access.take(NO_ICE);
    await clock.pass(24 * 3_600_000);
    expect(asked()).toBe(0);
  });

  it('STUN goes without credentials', () => {
    const { access } = setUp();
    access.take({ ...NO_ICE, ice_servers: [{ urls: ['stun:relay:3478'], username: null, credential: null }] });
    expect(access.configuration.iceServers).toEqual([{ urls: ['stun:relay:3478'] }]);
  });
});

it('newer credentials are asked for when half of their time is over, again and again', async () => {
  const { access, clock, serverClock, asked, user } = setUp();
  access.take(turnServer('first', serverClock.now() + LIFE_MS));
  await clock.pass(LIFE_MS / 2 - 1);
  expect([asked(), user()]).toEqual([0, 'first']);
  await clock.pass(1);
  expect([asked(), user()]).toEqual([1, 'ask 1']);
  await clock.pass(LIFE_MS);
  expect([asked(), user()]).toEqual([3, 'ask 3']);
});

it('a refusal leaves what is there, and is followed by another ask', async () => {
  const { access, clock, serverClock, asked, user, answerIs } = setUp();
  access.take(turnServer('first', serverClock.now() + LIFE_MS));
  answerIs(() => Promise.reject(new Error('offline')));
  await clock.pass(LIFE_MS / 2 + 25_000);
  expect([asked(), user()]).toEqual([3, 'first']);
  answerIs(() => Promise.resolve(turnServer('second', serverClock.now() + LIFE_MS)));
  await clock.pass(5000);
  expect(user()).toBe('second');
});

it('credentials that seem over do not make it ask in a loop', async () => {
  const { access, clock, serverClock, asked, answerIs } = setUp();
  answerIs(() => Promise.resolve(turnServer('old', serverClock.now() - LIFE_MS)));
  access.take(turnServer('old', serverClock.now() - LIFE_MS));
  await clock.pass(10_000);
  expect(asked()).toBe(10);
});

it('the end is the end, for an answer on its way too', async () => {
  const { access, clock, serverClock, asked, user, answerIs } = setUp();
  let fail: (error: Error) => void = () => undefined;
  answerIs(() => new Promise((_, reject) => (fail = reject)));
  access.take(turnServer('first', serverClock.now() + LIFE_MS));
  await clock.pass(LIFE_MS / 2);
  access.end();
  fail(new Error('offline'));
  await clock.pass(LIFE_MS);
  expect([asked(), user()]).toEqual([1, 'first']);
});

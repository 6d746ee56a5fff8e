import { expect, it } from 'vitest';
import { RestError, type Query, type Rest } from '../../core/src/rest';
import type { Floor } from '../../core/src/rest_types';
import { FakeClock } from '../../core/tests/fakes';
import { FLOOR_MS, FloorPoll } from './floor_poll.svelte';

function open() {
  const clock = new FakeClock();
  const asked: Query[] = [];
  const waiting: ((answer: Floor | Error) => void)[] = [];
  const rest: Pick<Rest, 'get'> = {
    get: <T,>(_path: string, query: Query = {}) => {
      asked.push(query);
      return new Promise<T>((resolve, reject) =>
        waiting.push((answer) => (answer instanceof Error ? reject(answer) : resolve(answer as T))),
      );
    },
  };
  const answer = async (what: Floor | Error) => {
    waiting.shift()?.(what);
    await clock.pass(0);
  };
  return { poll: new FloorPoll(rest as Rest, clock), clock, asked, answer };
}

const floor = (at: number): Floor => ({ items: [], next: null, at });
const ALL = { text: '', onDuty: false };

it('asks again two seconds after each answer, and no more once it has ended', async () => {
  const { poll, clock, asked, answer } = open();
  poll.show(ALL);
  await clock.pass(FLOOR_MS * 3);
  expect(asked).toEqual([{ limit: 200, q: undefined, on_duty: undefined }]);
  await answer(floor(1));
  await clock.pass(FLOOR_MS);
  expect([poll.floor?.at, asked.length]).toEqual([1, 2]);
  poll.end();
  await answer(floor(2));
  await clock.pass(FLOOR_MS * 3);
  expect([poll.floor?.at, asked.length]).toEqual([1, 2]);
});

it('drops what answers an older filter', async () => {
  const { poll, asked, answer } = open();
  poll.show(ALL);
  poll.show({ text: ' an ', onDuty: true });
  expect(asked.at(-1)).toEqual({ limit: 200, q: 'an', on_duty: 'true' });
  await answer(floor(1));
  expect(poll.floor).toBeNull();
  await answer(floor(2));
  expect(poll.floor?.at).toBe(2);
});

it('keeps what was there when asking fails, says so, and tries on', async () => {
  const { poll, clock, answer } = open();
  poll.show(ALL);
  await answer(floor(1));
  await clock.pass(FLOOR_MS);
  await answer(new RestError(0, 'network', 'gone'));
  expect([poll.floor?.at, poll.fault]).toEqual([1, 'network']);
  await clock.pass(FLOOR_MS);
  await answer(floor(3));
  expect([poll.floor?.at, poll.fault]).toEqual([3, null]);
});

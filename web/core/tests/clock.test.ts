import { expect, it } from 'vitest';
import { elapsedMs, ServerClock, ticker } from '../src/clock';
import { derived, store } from '../src/store';
import { FakeClock } from './fakes';

it('the server clock keeps the message that was fastest', async () => {
  const clock = new FakeClock();
  const server = new ServerClock(clock);
  server.observe(10_000);
  await clock.pass(1000);
  server.observe(10_700); // 300 ms late
  expect(server.now()).toBeCloseTo(11_000, 0);
  server.observe(11_050);
  expect(server.now()).toBe(11_050);
});

it('the server clock follows a computer that runs fast, slowly', async () => {
  const clock = new FakeClock();
  const server = new ServerClock(clock);
  server.observe(10_000);
  await clock.pass(100_000);
  server.observe(109_000);
  expect(server.now()).toBeCloseTo(109_990, 0);
});

it('ticks once a second', async () => {
  const clock = new FakeClock();
  const seen: number[] = [];
  const server = new ServerClock(clock);
  server.observe(0);
  const now = ticker(server, clock);
  now.subscribe((at) => seen.push(at));
  await clock.pass(2500);
  expect(seen).toEqual([0, 1000, 2000]);
  now.end();
  await clock.pass(5000);
  expect(seen).toHaveLength(3);
});

it('no duration is negative', () => {
  expect(elapsedMs(10, 4)).toBe(0);
});

it('a derived store speaks only of changes', () => {
  const source = store(1);
  const seen: boolean[] = [];
  const stop = derived(source, (value) => value > 2).subscribe((value) => seen.push(value));
  source.set(2);
  source.set(3);
  stop();
  source.set(0);
  expect(seen).toEqual([false, true]);
});

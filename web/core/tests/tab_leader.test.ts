import { expect, it } from 'vitest';
import { TabLeader, type TabEnvironment } from '../src/tab_leader';
import { settle } from './fakes';

interface Waiting {
  run: () => unknown;
  resolve: () => void;
  reject: (error: Error) => void;
}

/** Web Locks of one name: a holder, a queue, stealing. */
class FakeLocks {
  holder: Waiting | null = null;
  queue: Waiting[] = [];

  request(_name: string, options: LockOptions, run: () => unknown): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting = { run, resolve, reject };
      options.signal?.addEventListener('abort', () => {
        this.queue = this.queue.filter((one) => one !== waiting);
        reject(new DOMException('aborted', 'AbortError'));
      });
      if (options.steal) {
        this.holder?.reject(new DOMException('stolen', 'AbortError'));
        this.holder = null;
        this.queue.unshift(waiting);
      } else {
        this.queue.push(waiting);
      }
      this.grant();
    });
  }

  query(): Promise<LockManagerSnapshot> {
    return Promise.resolve({ held: this.holder ? [{ name: 'desk' }] : [] });
  }

  grant(): void {
    const next = this.holder === null ? this.queue.shift() : undefined;
    if (next === undefined) return;
    this.holder = next;
    void Promise.resolve(next.run()).then(() => {
      next.resolve();
      if (this.holder === next) this.holder = null;
      this.grant();
    });
  }
}

function tabs() {
  const locks = new FakeLocks();
  const channel = () => ({ close: () => undefined, postMessage: () => undefined }) as unknown as BroadcastChannel;
  return () => new TabLeader('desk', { locks: locks as unknown as TabEnvironment['locks'], channel });
}

it('the first tab leads, the next one follows and inherits', async () => {
  const open = tabs();
  const first = open();
  await settle();
  const second = open();
  await settle();
  expect([first.role.get(), second.role.get()]).toEqual(['leader', 'follower']);
  first.end();
  await settle();
  expect(second.role.get()).toBe('leader');
});

it('a follower takes over, and back', async () => {
  const open = tabs();
  const first = open();
  await settle();
  const second = open();
  await settle();
  second.takeOver();
  await settle();
  expect([first.role.get(), second.role.get()]).toEqual(['follower', 'leader']);
  first.takeOver();
  await settle();
  expect([first.role.get(), second.role.get()]).toEqual(['leader', 'follower']);
});

import { describe, expect, it } from 'vitest';
import { ServerClock } from '../src/clock';
import { Signalling } from '../src/signalling';
import type { CustomerPush, CustomerSync } from '../src/wire';
import { callView, FakeClock, FakeServer, settle } from './fakes';

function line() {
  const clock = new FakeClock();
  const server = new FakeServer();
  const network = new EventTarget();
  const serverClock = new ServerClock(clock);
  const pushes: CustomerPush[][] = [];
  const syncs: CustomerSync[] = [];
  let ids = 0;
  const signalling = new Signalling<'customer'>({
    namespace: 'customer',
    openSocket: server.open,
    clock,
    serverClock,
    network,
    random: () => 1,
    newId: () => `id-${(ids += 1)}`,
    onSync: (sync) => syncs.push(sync),
    onPush: (batch) => pushes.push(batch),
  });
  const versions = () => pushes.flat().map((push) => (push.type === 'call.changed' ? push.call.version : push.type));
  return { clock, server, network, serverClock, signalling, pushes, syncs, versions };
}

const changed = (version: number) => ({ type: 'call.changed', call: callView({ version }) });

describe('the line', () => {
  it('begins with a snapshot, then is online', async () => {
    const { signalling, server, syncs, serverClock } = line();
    signalling.start();
    expect(signalling.state.get().name).toBe('connecting');
    await settle();
    expect(server.types()).toEqual(['sync']);
    expect(syncs).toHaveLength(1);
    expect(signalling.state.get().name).toBe('online');
    expect(serverClock.now()).toBe(server.now);
  });

  it('applies what came before the snapshot, also what the snapshot covers', async () => {
    const { signalling, server, versions } = line();
    server.answers['sync'] = () => {
      server.push(changed(1)); // overtakes the answer
      return { ok: true, body: { head: server.head, now: server.now, call: null } };
    };
    signalling.start();
    await settle();
    expect(versions()).toEqual([1]);
    expect(signalling.seq).toBe(1);
  });

  it('fetches a gap, and applies in order and once', async () => {
    const { signalling, server, versions } = line();
    signalling.start();
    await settle();
    server.push(changed(1));
    server.push(changed(2), 'lost');
    server.push(changed(3));
    expect(versions()).toEqual([1]);
    await settle();
    expect(versions()).toEqual([1, 2, 3]);
    server.deliver(2);
    server.deliver(3);
    await settle();
    expect(versions()).toEqual([1, 2, 3]);
  });

  it('puts reordered messages into order', async () => {
    const { signalling, server, versions } = line();
    signalling.start();
    await settle();
    server.push(changed(1), 'lost');
    server.push(changed(2), 'lost');
    server.deliver(2);
    server.deliver(1);
    await settle();
    expect(versions()).toEqual([1, 2]);
  });

  it('learns of the loss of the last message from the ping, and answers it with its newest seq', async () => {
    const { signalling, server, versions } = line();
    signalling.start();
    await settle();
    server.push(changed(1), 'lost');
    server.ping();
    expect(server.pongs).toEqual([{ seq: 0 }]);
    await settle();
    expect(versions()).toEqual([1]);
    server.ping();
    expect(server.pongs[1]).toEqual({ seq: 1 });
  });

  it('takes a snapshot when what is missing is not kept any more', async () => {
    const { signalling, server, syncs, versions } = line();
    signalling.start();
    await settle();
    server.push(changed(1), 'lost');
    server.push(changed(2), 'lost');
    server.reset = true;
    server.ping();
    await settle();
    expect(syncs).toHaveLength(2);
    expect(signalling.seq).toBe(2);
    server.push(changed(3));
    expect(versions()).toEqual([3]);
  });

  it('asks again for a snapshot that is older than what it has applied', async () => {
    const { signalling, server, clock, syncs } = line();
    signalling.start();
    await settle();
    server.push(changed(1));
    let asked = 0;
    server.answers['sync'] = () => {
      asked += 1;
      return { ok: true, body: { head: asked === 1 ? 0 : 1, now: server.now, call: null } };
    };
    server.drop();
    await clock.pass(1000);
    expect(asked).toBe(2);
    expect(syncs.map(({ head }) => head)).toEqual([0, 1]);
    expect(signalling.seq).toBe(1);
  });

  it('reconnects with pauses that grow, and fetches what it missed', async () => {
    const { signalling, server, clock, versions } = line();
    signalling.start();
    await settle();
    server.push(changed(1));
    server.drop();
    expect(signalling.state.get().name).toBe('reconnecting');
    server.unreachable = true;
    server.push(changed(2), 'lost');
    await clock.pass(20_000);
    const tries = server.opened;
    expect(tries).toBeGreaterThan(4);
    expect(tries).toBeLessThan(12);
    server.unreachable = false;
    await clock.pass(5000);
    expect(signalling.state.get().name).toBe('online');
    expect(versions()).toEqual([1, 2]);
  });

  it('sends an unanswered request again with the same id, after a while and after a reconnection', async () => {
    const { signalling, server, clock } = line();
    signalling.start();
    await settle();
    let deaf = true;
    server.answers['call.hang_up'] = () => (deaf ? undefined : { ok: true, body: {} });
    const answer = signalling.send('call.hang_up', {});
    await clock.pass(4100);
    server.ping();
    server.drop();
    deaf = false;
    await clock.pass(1000);
    await expect(answer).resolves.toEqual({});
    const hangUps = server.sent.filter(({ type }) => type === 'call.hang_up');
    expect(hangUps.length).toBe(3);
    expect(new Set(hangUps.map(({ id }) => id)).size).toBe(1);
  });

  it('rejects with the code of the server, and with timeout when there is none', async () => {
    const { signalling, server, clock } = line();
    signalling.start();
    await settle();
    server.answers['call.hang_up'] = () => ({ ok: false, error: { code: 'session_ended', message: 'x', params: {} } });
    await expect(signalling.send('call.hang_up', {})).rejects.toMatchObject({ code: 'session_ended' });
    server.answers['call.hang_up'] = () => undefined;
    const late = expect(signalling.send('call.hang_up', {}, 3000)).rejects.toMatchObject({ code: 'timeout' });
    await clock.pass(3100);
    await late;
  });

  it('gives a silent line up, and keeps one that pings', async () => {
    const { signalling, server, clock } = line();
    signalling.start();
    await settle();
    for (let at = 0; at < 5; at += 1) {
      await clock.pass(2000);
      server.ping();
    }
    expect(server.opened).toBe(1);
    await clock.pass(6900);
    expect(server.opened).toBe(2);
    expect(signalling.state.get().name).toBe('online');
  });

  it('is in doubt when the browser says offline, until a ping says otherwise', async () => {
    const { signalling, server, network } = line();
    signalling.start();
    await settle();
    network.dispatchEvent(new Event('offline'));
    expect(signalling.state.get().name).toBe('reconnecting');
    server.ping();
    expect(signalling.state.get().name).toBe('online');
    expect(server.opened).toBe(1);
  });

  it('hurries when the network is back', async () => {
    const { signalling, server, network } = line();
    signalling.start();
    await settle();
    server.drop();
    network.dispatchEvent(new Event('online'));
    await settle();
    expect(signalling.state.get().name).toBe('online');
    expect(server.opened).toBe(2);
  });

  it('stays away when superseded, until it is started again', async () => {
    const { signalling, server, clock } = line();
    signalling.start();
    await settle();
    server.pass({ type: 'superseded' });
    expect(signalling.state.get().name).toBe('superseded');
    await clock.pass(60_000);
    expect(server.opened).toBe(1);
    signalling.start();
    await settle();
    expect(signalling.state.get().name).toBe('online');
  });

  it('moves to another node without a word, and keeps what was asked meanwhile', async () => {
    const { signalling, server, clock, versions } = line();
    const states: string[] = [];
    signalling.start();
    await settle();
    signalling.state.subscribe((state) => states.push(state.name));
    server.push(changed(1));
    server.pass({ type: 'moving' });
    const answered = signalling.send('call.hang_up', {});
    server.push(changed(2), 'lost');
    await clock.pass(500);
    await answered;
    expect(server.opened).toBe(2);
    expect(versions()).toEqual([1, 2]);
    expect(new Set(states)).toEqual(new Set(['online']));
  });

  it('says so when a move takes too long', async () => {
    const { signalling, server, clock } = line();
    signalling.start();
    await settle();
    server.refuse = 'draining';
    server.pass({ type: 'moving' });
    await clock.pass(1900);
    expect(signalling.state.get().name).toBe('online');
    await clock.pass(200);
    expect(signalling.state.get().name).toBe('reconnecting');
    server.refuse = null;
    await clock.pass(3000);
    expect(signalling.state.get().name).toBe('online');
  });

  it('stops at a refusal that no retry changes, and retries the others', async () => {
    const { signalling, server, clock } = line();
    server.refuse = 'rate_limited';
    signalling.start();
    for (const code of ['rate_limited', 'storage_unavailable', 'internal']) {
      const before = server.opened;
      server.refuse = code;
      await clock.pass(6000);
      expect(server.opened, code).toBeGreaterThan(before + 1);
    }
    server.refuse = 'token_expired';
    await clock.pass(6000);
    expect(signalling.state.get()).toEqual({ name: 'refused', code: 'token_expired' });
    const opened = server.opened;
    await clock.pass(60_000);
    expect(server.opened).toBe(opened);
  });

  it('ignores and counts what it does not understand, without losing its place', async () => {
    const { signalling, server, versions } = line();
    signalling.start();
    await settle();
    server.push({ type: 'call.teleported' });
    server.push(changed(2));
    server.raw('nonsense');
    server.raw({ v: 2, seq: null, at: 0, body: { type: 'call.changed' } });
    expect(versions()).toEqual([2]);
    expect(signalling.ignored).toBe(3);
    expect(signalling.seq).toBe(2);
  });

  it('goes on from an older copy of the database', async () => {
    const { signalling, server, clock, versions } = line();
    signalling.start();
    await settle();
    for (let version = 1; version <= 5; version += 1) server.push(changed(version));
    server.head = 2;
    server.stream = server.stream.slice(0, 2);
    server.drop();
    await clock.pass(1000);
    expect(signalling.seq).toBe(2);
    server.push(changed(9));
    expect(versions().at(-1)).toBe(9);
  });
});

import { describe, expect, it } from 'vitest';
import { Leg } from '../src/leg';
import { WireFailure } from '../src/requests';
import { store } from '../src/store';
import type { LegView } from '../src/wire';
import { asPeer, asStream, FakeClock, FakePeer, FakeStream } from './fakes';

function setUp() {
  const clock = new FakeClock();
  const peers: FakePeer[] = [];
  const offers: { generation: number; sdp: string }[] = [];
  const played: unknown[] = [];
  const online = store(true);
  const network = new EventTarget();
  let refuse: string | null = null;
  const leg = new Leg({
    clock,
    createPeer: () => {
      const peer = new FakePeer(peers.length + 1);
      peers.push(peer);
      return asPeer(peer);
    },
    local: asStream(new FakeStream()),
    sendOffer: ({ generation, sdp }) => {
      offers.push({ generation, sdp });
      return refuse === null ? Promise.resolve({}) : Promise.reject(new WireFailure(refuse));
    },
    online,
    network,
    play: (stream) => played.push(stream),
    random: () => 1,
  });
  const view = (generation: number, state: LegView['state']) =>
    leg.view('ses_1', { leg_id: 'leg_1', generation, state });
  const answer = (generation: number) =>
    leg.answer({ type: 'leg.answer', session_id: 'ses_1', leg_id: 'leg_1', generation, sdp: `answer ${generation}` });
  /** Brings the newest generation up, with sound. */
  const up = async (generation: number) => {
    await clock.pass(0);
    answer(generation);
    await clock.pass(0);
    peers.at(-1)?.become('connected');
    peers.at(-1)?.sound();
    await clock.pass(0);
  };
  return { clock, peers, offers, played, online, network, leg, view, answer, up, refuseWith: (code: string | null) => (refuse = code) };
}

describe('a leg', () => {
  it('offers generation 1 before its ids are known', async () => {
    const { leg, peers, offers, played, view, up } = setUp();
    expect(await leg.firstOffer()).toBe('offer 1');
    view(0, 'wanted'); // from before the offer
    view(1, 'opening');
    expect(leg.status.get()).toBe('opening');
    await up(1);
    expect(leg.status.get()).toBe('up');
    expect(offers).toEqual([]);
    expect(played).toEqual(['remote 1']);
    expect(peers).toHaveLength(1);
  });

  it('after a page load takes the next generation, whatever the view says', async () => {
    const { leg, offers, view, clock } = setUp();
    view(3, 'up');
    await clock.pass(0);
    expect(offers).toEqual([{ generation: 4, sdp: 'offer 1' }]);
    expect(leg.generation).toBe(4);
  });

  it('keeps the old connection playing until sound comes from the new one', async () => {
    const { leg, peers, played, view, answer, up, clock } = setUp();
    view(0, 'wanted');
    await up(1);
    view(1, 'up');
    view(1, 'lost');
    view(1, 'lost'); // a repeated view starts no second attempt
    await clock.pass(0);
    expect(peers).toHaveLength(2);
    view(2, 'opening');
    expect(leg.status.get()).toBe('recovering');
    answer(2);
    await clock.pass(0);
    peers[1]?.become('connected');
    expect(peers[0]?.closed).toBe(false);
    expect(played).toEqual(['remote 1']);
    peers[1]?.sound();
    expect(peers[0]?.closed).toBe(true);
    expect(played).toEqual(['remote 1', 'remote 2']);
    expect(leg.status.get()).toBe('up');
  });

  it('switches without sound after a while: a held leg gets none', async () => {
    const { peers, played, network, view, answer, up, clock } = setUp();
    view(0, 'wanted');
    await up(1);
    network.dispatchEvent(new Event('online'));
    await clock.pass(300);
    answer(2);
    await clock.pass(0);
    peers[1]?.become('connected');
    await clock.pass(1600);
    expect(played.at(-1)).toBe('remote 2');
  });

  it('replaces a connection that failed at once, and a cut one after a second', async () => {
    const { peers, view, up, clock, leg } = setUp();
    view(0, 'wanted');
    await up(1);
    peers[0]?.become('disconnected');
    await clock.pass(900);
    expect(peers).toHaveLength(1);
    await clock.pass(200);
    expect(peers).toHaveLength(2);
    await up(2);
    peers[1]?.become('failed');
    await clock.pass(0);
    expect(peers).toHaveLength(3);
    expect(leg.generation).toBe(3);
  });

  it('forgives a short cut', async () => {
    const { peers, view, up, clock } = setUp();
    view(0, 'wanted');
    await up(1);
    peers[0]?.become('disconnected');
    await clock.pass(500);
    peers[0]?.become('connected');
    await clock.pass(5000);
    expect(peers).toHaveLength(1);
  });

  it('ignores the answer to an older generation', async () => {
    const { peers, view, answer, up, clock } = setUp();
    view(0, 'wanted');
    await up(1);
    view(1, 'lost');
    await clock.pass(0);
    answer(1);
    await clock.pass(0);
    expect(peers[1]?.answered).toBeNull();
    answer(2);
    await clock.pass(0);
    expect(peers[1]?.answered).toBe('answer 2');
  });

  it('tries again, with pauses that grow, when no answer comes or it is refused', async () => {
    const { leg, peers, offers, view, clock } = setUp();
    view(0, 'wanted');
    await clock.pass(8100);
    expect(peers[0]?.closed).toBe(true);
    await clock.pass(500);
    expect(offers.at(-1)?.generation).toBe(2);
    leg.refused({ type: 'leg.refused', session_id: 'ses_1', leg_id: 'leg_1', generation: 2, code: 'no_media' });
    await clock.pass(900);
    expect(offers.at(-1)?.generation).toBe(2);
    await clock.pass(200);
    expect(offers.at(-1)?.generation).toBe(3);
  });

  it('tries again when the offer itself is refused', async () => {
    const { offers, view, clock, refuseWith } = setUp();
    refuseWith('busy');
    view(0, 'wanted');
    await clock.pass(0);
    refuseWith(null);
    await clock.pass(600);
    expect(offers.map(({ generation }) => generation)).toEqual([1, 2]);
  });

  it.each(['rate_limited', 'storage_unavailable'])('gives a server that says %s the time it needs', async (code) => {
    const { offers, view, clock, leg, refuseWith } = setUp();
    refuseWith(code);
    view(0, 'wanted');
    await clock.pass(0);
    for (let repeated = 0; repeated < 20; repeated += 1) view(0, 'wanted'); // other news of the call hastens nothing
    leg.networkChanged(); // there is no connection that a change of network could have cut
    await clock.pass(400);
    expect(offers).toHaveLength(1);
    await clock.pass(60_000);
    expect(offers.length).toBeGreaterThan(5);
    expect(offers.length).toBeLessThan(18); // 0.5, 1, 2, 4, then every 5 s
    refuseWith(null);
    await clock.pass(5000);
    const asked = offers.length;
    await clock.pass(5000);
    expect(offers).toHaveLength(asked); // taken: the answer is awaited
  });

  it('waits for the line before it makes an offer', async () => {
    const { offers, online, peers, view, up, clock } = setUp();
    view(0, 'wanted');
    await up(1);
    online.set(false);
    peers[0]?.become('failed');
    await clock.pass(30_000);
    expect(offers).toHaveLength(1);
    online.set(true);
    await clock.pass(0);
    expect(offers.at(-1)?.generation).toBe(2);
  });

  it('warns of a bad network after three bad seconds', async () => {
    const { leg, peers, view, up, clock } = setUp();
    view(0, 'wanted');
    await up(1);
    let received = 0;
    for (let second = 0; second < 5; second += 1) {
      received += 40;
      const inbound = { type: 'inbound-rtp', kind: 'audio', packetsReceived: received, packetsLost: second * 10, jitter: 0.01 };
      if (peers[0]) peers[0].stats = [inbound];
      await clock.pass(1000);
    }
    expect(leg.quality.get()).toMatchObject({ warning: 'loss_in' });
  });

  it('ends for good', async () => {
    const { leg, peers, played, offers, view, up, clock } = setUp();
    view(0, 'wanted');
    await up(1);
    leg.end();
    view(1, 'lost');
    await clock.pass(60_000);
    expect(peers[0]?.closed).toBe(true);
    expect(played.at(-1)).toBeNull();
    expect(offers).toHaveLength(1);
    expect(leg.status.get()).toBe('ended');
  });
});

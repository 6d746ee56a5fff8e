import { describe, expect, it } from 'vitest';
import { CustomerCall } from '../src/customer_call';
import { MicrophoneError, type Microphone } from '../src/devices';
import { RestError, type Rest } from '../src/rest';
import { screenOf } from '../src/state/customer';
import { memoryStorage, type KeyValues } from '../src/tab_storage';
import type { CallView } from '../src/wire';
import { asPeer, callView, FakeClock, fakeMicrophone, FakePeer, FakeServer, NO_ICE, turnServer, type FakeTrack } from './fakes';

const info = { key: 'wk_1', name: 'Shop', locale_default: 'en', queue_name: 'Sales', agents_ready: true, recording_notice: true, open: true, opens_at: null };

function setUp(storage: KeyValues = memoryStorage(), clock = new FakeClock(), server = new FakeServer(), lasting = memoryStorage()) {
  const peers: FakePeer[] = [];
  const configurations: RTCConfiguration[] = [];
  const tracks: FakeTrack[] = [];
  const played: unknown[] = [];
  let microphone: () => Promise<Microphone> = () => {
    const held = fakeMicrophone(clock);
    tracks.push(held.track);
    return Promise.resolve(held.microphone);
  };
  let session: () => Promise<unknown> = () =>
    Promise.resolve({ session_id: 'ses_1', token: 'tok', expires_at: 1e15, ...NO_ICE, recording_notice: true, queue_name: 'Sales', return_token: null });
  let told: unknown = info;
  const rest = { get: () => Promise.resolve(told), post: () => session() } as unknown as Rest;
  const call = new CustomerCall({
    key: 'wk_1',
    rest,
    play: (stream) => played.push(stream),
    environment: {
      storage,
      lasting,
      openSocket: server.open,
      openMicrophone: () => microphone(),
      createPeer: (configuration) => {
        configurations.push(configuration);
        const peer = new FakePeer(peers.length + 1);
        peers.push(peer);
        return asPeer(peer);
      },
      clock,
      network: new EventTarget(),
    },
  });
  const changed = (view: CallView) => server.push({ type: 'call.changed', call: view } as { type: string });
  const answer = (generation: number) =>
    server.push({ type: 'leg.answer', session_id: 'ses_1', leg_id: 'leg_1', generation, sdp: 'answer' } as { type: string });
  return {
    call, clock, server, storage, lasting, peers, configurations, tracks, played, changed, answer,
    screen: () => screenOf(call.state.get()),
    microphoneIs: (next: () => Promise<Microphone>) => (microphone = next),
    sessionIs: (next: () => Promise<unknown>) => (session = next),
    infoIs: (next: unknown) => (told = next),
  };
}

type Asking = { return_token?: string };

const request = { name: 'Ana', locale: 'en', page_url: '', context: {}, consent_version: 'v1' };

/** A call in talk, with its leg up. */
async function inTalk(world = setUp()) {
  const { call, clock, server, peers, changed, answer } = world;
  await call.load();
  void call.start(request);
  await clock.pass(10);
  changed(callView());
  answer(1);
  await clock.pass(10);
  peers[0]?.become('connected');
  peers[0]?.sound();
  changed(callView({ version: 2, state: 'talking', talk_started_at: server.now, leg: { leg_id: 'leg_1', generation: 1, state: 'up' } }));
  await clock.pass(10);
  return world;
}

describe('a click', () => {
  it('opens microphone and line side by side, and sends the offer with the request', async () => {
    const { call, clock, server, screen } = setUp();
    await call.load();
    expect(screen()).toBe('form');
    void call.start(request);
    await clock.pass(10);
    const asked = server.sent.filter(({ type }) => type === 'call.request');
    expect(asked.map(({ body }) => body)).toEqual([{ ...request, sdp: 'offer 1' }]);
  });

  it('leads to a call with sound', async () => {
    const { screen, played, call } = await inTalk();
    expect(screen()).toBe('call');
    expect(played).toEqual(['remote 1']);
    expect(call.state.get().leg).toBe('up');
  });

  it('that cannot make a session says why, and may be repeated', async () => {
    const world = setUp();
    const { call, clock, screen, sessionIs, tracks } = world;
    await call.load();
    sessionIs(() => Promise.reject(new RestError(429, 'rate_limited', 'x')));
    await call.start(request);
    expect(screen()).toBe('form');
    expect(call.state.get().error).toBe('rate_limited');
    await clock.pass(10);
    expect(tracks.every((track) => track.stopped)).toBe(true);
  });

  it('whose request has no certain answer leaves no caller behind', async () => {
    const { call, clock, server, screen, tracks } = setUp();
    await call.load();
    server.answers['call.request'] = () => ({ ok: false, error: { code: 'timeout', message: 'x', params: {} } });
    await call.start(request);
    expect(screen()).toBe('form');
    expect(call.state.get().error).toBe('timeout');
    await clock.pass(10);
    expect(server.types().at(-1)).toBe('call.hang_up');
    expect(tracks.every((track) => track.stopped)).toBe(true);
  });

  it('without a microphone names the fault, and goes on once it is mended', async () => {
    const { call, clock, server, screen, microphoneIs } = setUp();
    await call.load();
    microphoneIs(() => Promise.reject(new MicrophoneError('busy')));
    await call.start(request);
    expect(screen()).toBe('microphone');
    expect(call.state.get().fault).toBe('busy');
    microphoneIs(() => Promise.resolve(fakeMicrophone(clock).microphone));
    void call.retryMicrophone(request);
    await clock.pass(10);
    expect(server.types()).toContain('call.request');
  });
});

describe('a browser that comes back', () => {
  it('shows the token of its last session, where the queue gave one, and keeps the newest', async () => {
    const { call, clock, server, lasting, sessionIs, changed } = setUp();
    const tokens = ['r1.first', 'r1.second', null];
    const sent: unknown[] = [];
    for (const [number, return_token] of tokens.entries()) {
      sessionIs(() => Promise.resolve({ session_id: 'ses_1', token: 'tok', expires_at: 1e15, ...NO_ICE, return_token }));
      void call.start(request);
      await clock.pass(10);
      sent.push((server.sent.findLast(({ type }) => type === 'call.request')?.body as Asking | undefined)?.return_token);
      changed(callView({ version: number + 1 }));
      call.hangUp();
      call.again();
      await clock.pass(10);
    }
    expect(sent).toEqual([undefined, 'r1.first', 'r1.second']);
    expect(lasting.getItem('patchbay.last.wk_1')).toBeNull();
  });
});

describe('a closed queue', () => {
  it('shows the form by itself soon after it opens', async () => {
    const { call, clock, screen, infoIs } = setUp();
    infoIs({ ...info, open: false, opens_at: clock.wall() + 60_000 });
    await call.load();
    expect(screen()).toBe('closed');
    await clock.pass(59_000);
    infoIs(info);
    await clock.pass(900);
    expect(screen()).toBe('closed');
    await clock.pass(11_000);
    expect(screen()).toBe('form');
    call.end();
  });
});

describe('hanging up', () => {
  it('frees everything at once and tells the server', async () => {
    const { call, clock, server, screen, peers, tracks, storage, played } = await inTalk();
    call.hangUp();
    expect(screen()).toBe('ended');
    expect(peers[0]?.closed).toBe(true);
    expect(tracks[0]?.stopped).toBe(true);
    expect(played.at(-1)).toBeNull();
    expect(storage.getItem('patchbay.call.wk_1')).toBeNull();
    await clock.pass(10);
    expect(server.types().at(-1)).toBe('call.hang_up');
    call.again();
    expect(screen()).toBe('form');
  });

  it('while the browser asks for the microphone makes no call', async () => {
    const { call, clock, server, screen, microphoneIs } = setUp();
    await call.load();
    microphoneIs(() => new Promise(() => undefined));
    void call.start(request);
    await clock.pass(10);
    expect(screen()).toBe('microphone');
    call.hangUp();
    expect(screen()).toBe('form');
    await clock.pass(10_000);
    expect(server.types()).not.toContain('call.request');
    expect(server.types()).not.toContain('call.hang_up');
  });
});

it('the end by the server frees everything and keeps the reason', async () => {
  const { call, clock, screen, tracks, changed, storage } = await inTalk();
  changed(callView({ version: 3, state: 'ended', end_reason: 'agent_hung_up' }));
  await clock.pass(10);
  expect(screen()).toBe('ended');
  expect(call.state.get().call?.end_reason).toBe('agent_hung_up');
  expect(tracks[0]?.stopped).toBe(true);
  expect(storage.getItem('patchbay.call.wk_1')).toBeNull();
});

describe('after a reload', () => {
  it('is back in the call with a leg of the next generation', async () => {
    const before = await inTalk();
    const { storage, server } = before;
    before.call.end(); // the page goes, the call stays
    const { call, clock, screen } = setUp(storage, new FakeClock(), server);
    const view = callView({ version: 5, state: 'talking', talk_started_at: 1, leg: { leg_id: 'leg_1', generation: 1, state: 'up' } });
    server.sync = () => ({ call: view });
    server.sent = [];
    await call.load();
    await clock.pass(10);
    expect(screen()).toBe('call');
    expect(server.sent.find(({ type }) => type === 'leg.offer')?.body).toMatchObject({ generation: 2 });
    expect(server.types()).not.toContain('call.request');
  });

  it('of a call that the server does not know shows the form', async () => {
    const before = await inTalk();
    before.call.end();
    const { call, clock, screen, tracks } = setUp(before.storage, new FakeClock(), new FakeServer());
    await call.load();
    await clock.pass(10);
    expect(screen()).toBe('form');
    expect(tracks.every((track) => track.stopped)).toBe(true);
    expect(before.storage.getItem('patchbay.call.wk_1')).toBeNull();
  });
});

describe('a place that is kept', () => {
  const away = (version: number) =>
    callView({ version, state: 'place_kept', place_until: 9_000_000, leg: { leg_id: 'leg_1', generation: 1, state: 'closed' } });
  const wanted = (version: number) => callView({ version, leg: { leg_id: 'leg_1', generation: 1, state: 'wanted' } });

  async function keeping(world = setUp()) {
    const { call, clock, changed } = world;
    await call.load();
    void call.start(request);
    await clock.pass(10);
    changed(callView({ may_keep_place: true }));
    call.keepPlace();
    await clock.pass(10);
    changed(away(2));
    await clock.pass(10);
    return world;
  }

  it('needs no microphone and no connection, and is noted in the browser', async () => {
    const { screen, server, tracks, peers, storage, lasting } = await keeping();
    expect(screen()).toBe('place');
    expect(server.types()).toContain('place.keep');
    expect(tracks[0]?.stopped).toBe(true);
    expect(peers[0]?.closed).toBe(true);
    expect(storage.getItem('patchbay.call.wk_1')).toBeNull();
    expect(JSON.parse(lasting.getItem('patchbay.place.wk_1') ?? '')).toEqual({ token: 'tok', expires_at: 1e15 });
  });

  it('is taken once the microphone is there, with a leg of the next generation', async () => {
    const { call, clock, screen, server, tracks, changed, storage, lasting } = await keeping();
    call.comeBack();
    await clock.pass(10);
    expect(server.types()).toContain('place.take');
    changed(wanted(3));
    await clock.pass(10);
    expect(screen()).toBe('queue');
    expect(tracks[1]?.stopped).toBe(false);
    expect(server.sent.findLast(({ type }) => type === 'leg.offer')?.body).toMatchObject({ generation: 2 });
    expect(storage.getItem('patchbay.call.wk_1')).not.toBeNull();
    expect(lasting.getItem('patchbay.place.wk_1')).toBeNull();
  });

  it('is found by a later page, which asks for no microphone before the customer is back', async () => {
    const before = await keeping();
    before.call.end();
    const { call, clock, screen, server, tracks, changed } = setUp(memoryStorage(), new FakeClock(), before.server, before.lasting);
    server.sync = () => ({ call: away(2) });
    server.sent = [];
    await call.load();
    await clock.pass(10);
    expect(screen()).toBe('place');
    expect(tracks).toEqual([]);
    call.comeBack();
    await clock.pass(10);
    changed(wanted(3));
    await clock.pass(10);
    expect(server.types().filter((type) => type !== 'sync')).toEqual(['place.take', 'leg.offer']);
  });

  it('stays kept while the microphone is blocked', async () => {
    const { call, clock, screen, server, microphoneIs } = await keeping();
    microphoneIs(() => Promise.reject(new MicrophoneError('denied')));
    call.comeBack();
    await clock.pass(10);
    expect(screen()).toBe('microphone');
    expect(server.types()).not.toContain('place.take');
    call.stayAway();
    expect(screen()).toBe('place');
    call.comeBack();
    await clock.pass(10);
    microphoneIs(() => Promise.resolve(fakeMicrophone(clock).microphone));
    await call.retryMicrophone(request);
    await clock.pass(10);
    expect(server.types()).toContain('place.take');
  });

  it('can be asked for again after another tab had it while the microphone was being opened', async () => {
    const { call, clock, screen, server, microphoneIs } = await keeping();
    microphoneIs(() => new Promise(() => undefined));
    call.comeBack();
    await clock.pass(10);
    server.pass({ type: 'superseded' });
    await clock.pass(10);
    expect(screen()).toBe('elsewhere');
    server.sync = () => ({ call: away(2) });
    call.takeOver();
    await clock.pass(10);
    microphoneIs(() => Promise.resolve(fakeMicrophone(clock).microphone));
    call.comeBack();
    await clock.pass(10);
    expect(server.types()).toContain('place.take');
  });

  it('that can not be had says why and stays as it is', async () => {
    const { call, clock, screen, server, tracks } = await keeping();
    server.answers['place.take'] = () => ({ ok: false, error: { code: 'busy', message: 'x', params: {} } });
    call.comeBack();
    await clock.pass(10);
    expect([screen(), call.state.get().error]).toEqual(['place', 'busy']);
    expect(tracks[1]?.stopped).toBe(true);
  });

  it('that is given up is forgotten', async () => {
    const { call, clock, screen, server, lasting } = await keeping();
    call.hangUp();
    await clock.pass(10);
    expect(screen()).toBe('ended');
    expect(server.types().at(-1)).toBe('call.hang_up');
    expect(lasting.getItem('patchbay.place.wk_1')).toBeNull();
  });
});

it('mutes the track, and a new microphone stays muted', async () => {
  const { call, clock, tracks } = await inTalk();
  call.setMuted(true);
  expect(tracks[0]?.enabled).toBe(false);
  tracks[0]?.dispatchEvent(new Event('ended')); // unplugged
  await clock.pass(10);
  expect(tracks).toHaveLength(2);
  expect(tracks[1]?.enabled).toBe(false);
});

it('gives microphone and sound back when another tab takes the call', async () => {
  const { call, clock, server, screen, tracks, peers } = await inTalk();
  server.pass({ type: 'superseded' });
  expect(screen()).toBe('elsewhere');
  expect(tracks[0]?.stopped).toBe(true);
  expect(peers[0]?.closed).toBe(true);
  server.sync = () => ({ call: callView({ version: 9, state: 'talking', leg: { leg_id: 'leg_1', generation: 2, state: 'up' } }) });
  call.takeOver();
  await clock.pass(10);
  expect(screen()).toBe('call');
  expect(server.sent.findLast(({ type }) => type === 'leg.offer')?.body).toMatchObject({ generation: 3 });
});

describe('ICE servers', () => {
  const userOf = (configuration: RTCConfiguration | undefined) => configuration?.iceServers?.[0]?.username;

  it('of a new session serve the first peer connection, without another round trip', async () => {
    const { call, clock, server, configurations, sessionIs } = setUp();
    const ice = turnServer('of the session', 5_600_000);
    sessionIs(() => Promise.resolve({ session_id: 'ses_1', token: 'tok', expires_at: 1e15, ...ice, recording_notice: true, queue_name: 'Sales' }));
    server.unreachable = true;
    await call.load();
    void call.start(request);
    await clock.pass(10);
    expect(configurations).toEqual([
      { iceServers: [{ urls: ['turn:relay:3478'], username: 'of the session', credential: 'pw' }], iceTransportPolicy: 'relay' },
    ]);
  });

  it('of the snapshot serve those that follow, and the tab keeps no credentials', async () => {
    const { clock, server, configurations, storage } = await inTalk();
    expect(configurations).toEqual([{ iceServers: [], iceTransportPolicy: 'all' }]);
    server.ice = turnServer('of the snapshot', server.now + 600_000);
    server.sync = () => ({ call: callView({ version: 3, state: 'talking', leg: { leg_id: 'leg_1', generation: 1, state: 'lost' } }) });
    server.drop();
    await clock.pass(2000);
    expect(userOf(configurations[1])).toBe('of the snapshot');
    expect(JSON.parse(storage.getItem('patchbay.call.wk_1') ?? '')).toEqual({ token: 'tok', expires_at: 1e15 });
  });
});

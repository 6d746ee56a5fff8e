import { describe, expect, it } from 'vitest';
import { AgentDesk } from '../src/agent_desk';
import { MicrophoneError, type DeviceList, type Microphone } from '../src/devices';
import { ringing, talking } from '../src/state/agent';
import { store } from '../src/store';
import { memoryStorage } from '../src/tab_storage';
import type { TabRole } from '../src/tab_leader';
import type { AgentView, ContactView } from '../src/wire';
import { asPeer, contactView, FakeClock, fakeMicrophone, FakePeer, FakeServer, turnServer, type FakeTrack } from './fakes';

const agent: AgentView = {
  user_id: 'usr_1',
  version: 1,
  state: 'offline',
  chosen: 'offline',
  reason_id: null,
  since: 1,
  next_state: null,
  forced_by: null,
  fault: null,
};
const devices: DeviceList = { inputs: [], outputs: [] };

function setUp(storage = memoryStorage(), server = new FakeServer()) {
  const clock = new FakeClock();
  const peers: FakePeer[] = [];
  const configurations: RTCConfiguration[] = [];
  const tracks: FakeTrack[] = [];
  const role = store<TabRole>('leader');
  const rings: string[] = [];
  let mediaWorks = true;
  let microphone = (): Promise<Microphone> => {
    const held = fakeMicrophone(clock);
    tracks.push(held.track);
    return Promise.resolve(held.microphone);
  };
  const contacts = new Map<string, ContactView>();
  let self = agent;
  server.sync = () => ({ agent: self, contacts: [...contacts.values()] });
  const nothing = () => undefined;
  const desk = new AgentDesk({
    ring: (contact) => ({ title: contact.customer.name, body: '' }),
    environment: {
      clock,
      openSocket: server.open,
      openMicrophone: () => microphone(),
      createPeer: (configuration) => {
        configurations.push(configuration);
        const peer = new FakePeer(peers.length + 1);
        peers.push(peer);
        return asPeer(peer);
      },
      mediaWorks: () => Promise.resolve(mediaWorks),
      speaker: { play: nothing, resume: nothing, output: () => Promise.resolve(true), blocked: store(false), stream: null },
      ringer: {
        arm: () => Promise.resolve(true),
        start: ({ title }) => rings.push(`ring ${title}`),
        stop: () => rings.at(-1) !== 'quiet' && rings.push('quiet'),
        test: nothing,
        setSecondOutput: () => Promise.resolve(true),
        askNotifications: () => Promise.resolve(true),
        armed: store(true),
        end: nothing,
      },
      tab: { role, takeOver: () => role.set('leader'), end: nothing },
      storage,
      network: new EventTarget(),
      devices: { ...store(devices), refresh: nothing, end: nothing },
    },
  });
  return {
    desk, clock, server, peers, configurations, tracks, role, rings, storage,
    is: (change: Partial<AgentView>) => {
      self = { ...self, version: self.version + 1, ...change };
      server.push({ type: 'agent.changed', agent: self } as { type: string });
    },
    contact: (change: Partial<ContactView>, type: 'offer.made' | 'contact.changed' = 'contact.changed') => {
      const view = contactView(change);
      contacts.set(view.segment_id, view);
      server.push({ type, contact: view } as { type: string });
    },
    answer: (generation: number) =>
      server.push({ type: 'leg.answer', session_id: 'ses_1', leg_id: 'leg_a', generation, sdp: 'answer' } as { type: string }),
    mediaIs: (works: boolean) => (mediaWorks = works),
    microphoneIs: (next: () => Promise<Microphone>) => (microphone = next),
    sent: (type: string) => server.sent.filter((message) => message.type === type).map(({ body }) => body),
  };
}

async function inTalk(world = setUp()) {
  const { desk, clock, peers, contact, answer } = world;
  desk.start();
  await clock.pass(10);
  contact({}, 'offer.made');
  await clock.pass(10);
  const accepted = desk.accept('seg_1');
  await clock.pass(10);
  await accepted;
  contact({ version: 2, state: 'connecting', leg: { leg_id: 'leg_a', generation: 1, state: 'opening' } });
  answer(1);
  await clock.pass(10);
  peers[0]?.become('connected');
  peers[0]?.sound();
  contact({ version: 3, state: 'talking', talk_started_at: 5, leg: { leg_id: 'leg_a', generation: 1, state: 'up' } });
  await clock.pass(10);
  return world;
}

it('goes ready with microphone and ringer first', async () => {
  const { desk, clock, sent, tracks } = setUp();
  desk.start();
  await clock.pass(10);
  const ready = desk.goReady();
  await clock.pass(10);
  await ready;
  expect(tracks).toHaveLength(1);
  expect(sent('agent.set_state')).toEqual([{ state: 'ready', reason_id: null }]);
});

it('does not go ready without a microphone', async () => {
  const { desk, clock, sent, microphoneIs } = setUp();
  desk.start();
  await clock.pass(10);
  microphoneIs(() => Promise.reject(new MicrophoneError('denied')));
  await expect(desk.goReady()).rejects.toMatchObject({ fault: 'denied' });
  expect(desk.state.get().microphone).toEqual({ state: 'failed', fault: 'denied' });
  expect(sent('agent.set_state')).toEqual([]);
});

describe('an offer', () => {
  it('rings, is acknowledged once, and stops ringing when it is gone', async () => {
    const { desk, clock, contact, rings, sent, server } = setUp();
    desk.start();
    await clock.pass(10);
    contact({}, 'offer.made');
    server.deliver(server.head); // sent again, since the acknowledgement was late
    await clock.pass(10);
    expect(rings).toContain('ring Ana');
    expect(rings.filter((ring) => ring === 'ring Ana')).toHaveLength(1);
    expect(sent('offer.ack')).toEqual([{ session_id: 'ses_1', segment_id: 'seg_1' }]);
    contact({ version: 2, state: 'done', end_reason: 'customer_left' });
    await clock.pass(10);
    expect(rings.at(-1)).toBe('quiet');
    expect(ringing(desk.state.get())).toBeNull();
  });

  it('that came and went during an outage never rings', async () => {
    const { desk, clock, server, rings } = setUp();
    desk.start();
    await clock.pass(10);
    server.drop();
    const body = (change: Partial<ContactView>) => ({ type: 'contact.changed', contact: contactView(change) }) as { type: string };
    server.push(body({}), 'lost');
    server.push(body({ version: 2, state: 'done', end_reason: 'missed' }), 'lost');
    await clock.pass(2000);
    expect(rings).not.toContain('ring Ana');
    expect(desk.state.get().ended[0]?.end_reason).toBe('missed');
  });

  it('accepted carries the offer of the leg, and leads to sound', async () => {
    const { desk, sent, rings } = await inTalk();
    expect(sent('offer.accept')).toEqual([{ session_id: 'ses_1', segment_id: 'seg_1', sdp: 'offer 1' }]);
    expect(sent('leg.offer')).toEqual([]);
    expect(rings.at(-1)).toBe('quiet');
    expect(talking(desk.state.get())?.segment_id).toBe('seg_1');
    expect(desk.state.get().leg).toBe('up');
  });

  it('that somebody else took frees the leg and names them', async () => {
    const { desk, clock, server, contact, peers } = setUp();
    desk.start();
    await clock.pass(10);
    contact({}, 'offer.made');
    await clock.pass(10);
    const error = { code: 'offer_taken', message: 'x', params: { agent: 'Bo' } };
    server.answers['offer.accept'] = () => ({ ok: false, error });
    const accepted = expect(desk.accept('seg_1')).rejects.toMatchObject({ code: 'offer_taken' });
    await clock.pass(10);
    await accepted;
    expect(desk.state.get().lastError).toMatchObject({ code: 'offer_taken', params: { agent: 'Bo' } });
    expect(peers[0]?.closed).toBe(true);
  });
});

it('after a reload is back in the call, muted as it was', async () => {
  const before = await inTalk();
  before.desk.setMuted(true);
  const { desk, clock, tracks, sent, contact } = setUp(before.storage, new FakeServer());
  contact({ version: 4, state: 'talking', talk_started_at: 5, leg: { leg_id: 'leg_a', generation: 1, state: 'up' } });
  desk.start();
  await clock.pass(10);
  expect(sent('leg.offer')).toMatchObject([{ generation: 2, leg_id: 'leg_a' }]);
  expect(tracks[0]?.enabled).toBe(false);
  expect(desk.muted.get()).toBe(true);
});

it('tells the server of the mute, once each time', async () => {
  const { desk, clock, sent, contact } = await inTalk();
  desk.setMuted(true);
  await clock.pass(10);
  expect(sent('contact.mute')).toMatchObject([{ segment_id: 'seg_1', on: true }]);
  contact({ version: 5, state: 'talking', muted: true });
  await clock.pass(10);
  desk.setMuted(false);
  await clock.pass(10);
  expect(sent('contact.mute')).toMatchObject([{ on: true }, { on: false }]);
});

it('is muted as another computer left it', async () => {
  const { desk, clock, contact, sent } = setUp();
  contact({ version: 4, state: 'talking', talk_started_at: 5, muted: true, leg: { leg_id: 'leg_a', generation: 1, state: 'up' } });
  desk.start();
  await clock.pass(10);
  expect(desk.muted.get()).toBe(true);
  expect(sent('contact.mute')).toEqual([]);
});

it('has a supervisor\'s microphone off while they listen, and on when they are to be heard, or have taken over', async () => {
  const { desk, clock, contact, sent } = setUp();
  const there = { state: 'talking', talk_started_at: 5, leg: { leg_id: 'leg_a', generation: 1, state: 'up' } } as const;
  desk.start();
  await clock.pass(10);
  contact({ ...there, version: 4, role: 'supervisor', monitor: 'listen', muted: true });
  await clock.pass(10);
  expect(desk.muted.get()).toBe(true);
  contact({ ...there, version: 5, role: 'supervisor', monitor: 'coach', muted: false });
  await clock.pass(10);
  expect(desk.muted.get()).toBe(false);
  contact({ ...there, version: 6, role: 'supervisor', monitor: 'listen', muted: true });
  await clock.pass(10);
  contact({ ...there, version: 7, role: 'owner', monitor: null, muted: false });
  await clock.pass(10);
  expect(desk.muted.get()).toBe(false);
  expect(sent('contact.mute')).toEqual([]);
});

describe('the equipment', () => {
  async function readyDesk(world = setUp()) {
    world.is({ chosen: 'ready', state: 'ready' });
    world.desk.start();
    await world.clock.pass(10);
    return world;
  }

  it('that works is not worth a word', async () => {
    const { sent, clock } = await readyDesk();
    await clock.pass(60_000);
    expect(sent('agent.equipment')).toEqual([]);
  });

  it('fails after a reload: the server is told once, and again when the microphone is back', async () => {
    const world = setUp();
    const held = fakeMicrophone(world.clock);
    world.microphoneIs(() => Promise.reject(new MicrophoneError('none')));
    const { clock, sent, is } = await readyDesk(world);
    expect(sent('agent.equipment')).toEqual([{ fault: 'no_microphone' }]);
    is({ fault: 'no_microphone' });
    await clock.pass(12_000);
    expect(sent('agent.equipment')).toHaveLength(1);
    expect(sent('agent.set_state')).toEqual([]);
    world.microphoneIs(() => Promise.resolve(held.microphone));
    await clock.pass(5000);
    expect(sent('agent.equipment').at(-1)).toEqual({ fault: null });
  });

  it('does not ask again and again for what the person has refused', async () => {
    const world = setUp();
    let asked = 0;
    world.microphoneIs(() => {
      asked += 1;
      return Promise.reject(new MicrophoneError('denied'));
    });
    const { clock } = await readyDesk(world);
    await clock.pass(60_000);
    expect(asked).toBe(1);
  });

  it('is muted by the system, and not', async () => {
    const { clock, sent, is, tracks } = await readyDesk();
    const track = tracks[0];
    track?.dispatchEvent(new Event('mute'));
    await clock.pass(10);
    expect(sent('agent.equipment')).toEqual([{ fault: 'microphone_muted' }]);
    is({ fault: 'microphone_muted' });
    track?.dispatchEvent(new Event('unmute'));
    await clock.pass(10);
    expect(sent('agent.equipment').at(-1)).toEqual({ fault: null });
  });

  it('can make no call until it can', async () => {
    const world = setUp();
    world.mediaIs(false);
    const { clock, sent, is, mediaIs, desk } = await readyDesk(world);
    expect(sent('agent.equipment')).toEqual([{ fault: 'no_media' }]);
    is({ fault: 'no_media' });
    mediaIs(true);
    await clock.pass(10_000);
    expect(sent('agent.equipment').at(-1)).toEqual({ fault: null });
    expect(desk.state.get().mediaWorks).toBe(true);
  });

  it('of who is offline is nobody’s business', async () => {
    const { desk, clock, sent, microphoneIs } = setUp();
    desk.start();
    await clock.pass(10);
    microphoneIs(() => Promise.reject(new MicrophoneError('none')));
    await expect(desk.goReady()).rejects.toMatchObject({ fault: 'none' });
    await clock.pass(20_000);
    expect(sent('agent.equipment')).toEqual([]);
  });

  it('is told anew after an outage', async () => {
    const { clock, sent, server, tracks } = await readyDesk();
    server.deaf = true;
    tracks[0]?.dispatchEvent(new Event('mute'));
    await clock.pass(10);
    server.drop();
    server.deaf = false;
    await clock.pass(10_000);
    expect(sent('agent.equipment').length).toBeGreaterThan(1);
    expect(new Set(sent('agent.equipment').map((body) => JSON.stringify(body)))).toEqual(new Set(['{"fault":"microphone_muted"}']));
  });
});

it('extends the wrap-up by the deadline that it sees', async () => {
  const { desk, clock, contact, sent } = setUp();
  desk.start();
  await clock.pass(10);
  contact({ state: 'wrap_up', version: 2, wrap_up_deadline_at: 5_060_000, wrap_up_extend_s: 60 });
  await clock.pass(10);
  await desk.extendWrapUp('seg_1');
  expect(sent('contact.extend_wrap_up')).toEqual([{ session_id: 'ses_1', segment_id: 'seg_1', deadline_at: 5_060_000 }]);
});

it('the end of the talk frees the leg; offline frees the microphone', async () => {
  const { desk, clock, contact, peers, tracks, is } = await inTalk();
  contact({ version: 4, state: 'wrap_up', ended_at: 9 });
  await clock.pass(10);
  expect(peers[0]?.closed).toBe(true);
  expect(desk.state.get().leg).toBe('idle');
  contact({ version: 5, state: 'done' });
  is({ chosen: 'offline' });
  await clock.pass(10);
  expect(tracks[0]?.stopped).toBe(true);
});

it('lets go of everything when another tab or computer takes the desk, and comes back on demand', async () => {
  const { desk, clock, server, peers, tracks, role, sent } = await inTalk();
  server.pass({ type: 'superseded' });
  await clock.pass(10);
  expect(tracks[0]?.stopped).toBe(true);
  expect(peers[0]?.closed).toBe(true);
  desk.takeOver();
  await clock.pass(10);
  expect(desk.state.get().connection.name).toBe('online');
  expect(sent('leg.offer')).toMatchObject([{ generation: 2 }]);
  role.set('follower');
  expect(tracks[1]?.stopped).toBe(true);
  const opened = server.opened;
  await clock.pass(30_000);
  expect(server.opened).toBe(opened);
});

it('takes the ICE servers of the snapshot', async () => {
  const world = setUp();
  world.server.ice = turnServer('usr_1', world.server.now + 600_000);
  const { configurations } = await inTalk(world);
  expect(configurations).toEqual([
    { iceServers: [{ urls: ['turn:relay:3478'], username: 'usr_1', credential: 'pw' }], iceTransportPolicy: 'relay' },
  ]);
});

describe('notes', () => {
  it('go out when the keys rest, and again after an outage', async () => {
    const { desk, clock, server, sent } = await inTalk();
    desk.saveNotes('seg_1', 'a', null);
    desk.saveNotes('seg_1', 'ab', null);
    expect(desk.state.get().unsavedNotes).toEqual(['seg_1']);
    await clock.pass(700);
    expect(sent('contact.notes')).toMatchObject([{ notes: 'ab' }]);
    expect(desk.state.get().unsavedNotes).toEqual([]);
    server.unreachable = true;
    server.drop();
    desk.saveNotes('seg_1', 'abc', 'dis_1');
    await clock.pass(60_000);
    expect(desk.state.get().unsavedNotes).toEqual(['seg_1']);
    server.unreachable = false;
    await clock.pass(6000);
    expect(sent('contact.notes').at(-1)).toMatchObject({ notes: 'abc', disposition_id: 'dis_1' });
    expect(desk.state.get().unsavedNotes).toEqual([]);
  });

  it('that the wrap-up carries are not sent twice', async () => {
    const { desk, clock, sent } = await inTalk();
    desk.saveNotes('seg_1', 'a', null);
    const done = desk.wrapUp('seg_1', 'a', 'dis_1');
    await clock.pass(2000);
    await done;
    expect(sent('contact.notes')).toEqual([]);
    expect(sent('contact.wrap_up')).toMatchObject([{ notes: 'a', disposition_id: 'dis_1' }]);
  });
});

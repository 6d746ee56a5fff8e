import { expect, it } from 'vitest';
import { MEDIA_CHECK_MS, mediaWorks, type CheckPeer } from '../src/media_check';
import { asStream, FakeClock, FakeStream, settle } from './fakes';

/** One of two ends that the test lets meet, or not. */
class Peer extends EventTarget {
  connectionState: RTCPeerConnectionState = 'new';
  localDescription: { sdp: string } | null = null;
  remote: unknown = null;
  heard: unknown[] = [];
  closed = false;

  addTrack(): void {}

  setLocalDescription(): Promise<void> {
    this.localDescription = { sdp: 'v=0' };
    return Promise.resolve();
  }

  setRemoteDescription(description: unknown): Promise<void> {
    this.remote = description;
    return Promise.resolve();
  }

  addIceCandidate(candidate: unknown): Promise<void> {
    if (this.remote === null) throw new Error('a candidate before the description');
    this.heard.push(candidate);
    return Promise.resolve();
  }

  close(): void {
    this.closed = true;
  }

  finds(type: string): void {
    this.dispatchEvent(Object.assign(new Event('icecandidate'), { candidate: { type } }));
  }
}

function check() {
  const clock = new FakeClock();
  const peers: Peer[] = [];
  const create = (): CheckPeer => {
    const peer = new Peer();
    peers.push(peer);
    return peer as unknown as CheckPeer;
  };
  let answer: boolean | null = null;
  void mediaWorks(create, asStream(new FakeStream()), clock).then((works) => (answer = works));
  return { clock, peers, answer: () => answer };
}

it('is well when two connections of the page meet; each hears the other’s paths', async () => {
  const { peers, answer } = check();
  peers[0]?.finds('host');
  peers[1]?.finds('host');
  await settle();
  expect([peers[0]?.heard, peers[1]?.heard]).toEqual([[{ type: 'host' }], [{ type: 'host' }]]);
  expect(answer()).toBeNull();
  Object.assign(peers[0] as Peer, { connectionState: 'connected' });
  peers[0]?.dispatchEvent(new Event('connectionstatechange'));
  await settle();
  expect(answer()).toBe(true);
  expect(peers.map(({ closed }) => closed)).toEqual([true, true]);
});

it('is well when a relay is found: calls may have no other way', async () => {
  const { peers, answer } = check();
  peers[1]?.finds('relay');
  await settle();
  expect(answer()).toBe(true);
});

it('is not when they don’t meet in time', async () => {
  const { clock, peers, answer } = check();
  await clock.pass(MEDIA_CHECK_MS - 1);
  expect(answer()).toBeNull();
  await clock.pass(1);
  expect(answer()).toBe(false);
  expect(peers.map(({ closed }) => closed)).toEqual([true, true]);
});

it('is not where no connection can be made', async () => {
  const refuse = (): CheckPeer => {
    throw new Error('RTCPeerConnection is not defined');
  };
  await expect(mediaWorks(refuse, asStream(new FakeStream()), new FakeClock())).resolves.toBe(false);
});

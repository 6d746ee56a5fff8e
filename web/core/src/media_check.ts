/**
 * Can this browser make a call at all? A privacy extension, a company's policy or a broken VPN may take that away while
 * the microphone works. Two peer connections of this page try to reach each other. One that finds a relay will do as
 * well: where only relays are allowed, or local paths are shut, calls go that way.
 */
import type { Clock } from './clock';

export const MEDIA_CHECK_MS = 5000; // two connections of one page meet within 0.2 s

export type CheckPeer = Pick<
  RTCPeerConnection,
  | 'addTrack'
  | 'setLocalDescription'
  | 'localDescription'
  | 'setRemoteDescription'
  | 'addIceCandidate'
  | 'connectionState'
  | 'close'
  | 'addEventListener'
>;

/** Resolves in any case, within MEDIA_CHECK_MS. */
export async function mediaWorks(createPeer: () => CheckPeer, stream: MediaStream, clock: Clock): Promise<boolean> {
  const peers: CheckPeer[] = [];
  let timer: ReturnType<Clock['after']> | undefined;
  try {
    const [here, there] = [createPeer(), createPeer()];
    peers.push(here, there);
    return await new Promise<boolean>((resolve, reject) => {
      timer = clock.after(MEDIA_CHECK_MS, () => resolve(false));
      here.addEventListener('connectionstatechange', () => {
        if (here.connectionState === 'connected') resolve(true);
      });
      const met = meet(here, there, stream);
      met.catch(reject);
      for (const [from, to] of [[here, there], [there, here]] as const) {
        from.addEventListener('icecandidate', ({ candidate }) => {
          if (candidate === null) return;
          if (candidate.type === 'relay') resolve(true);
          met.then(() => to.addIceCandidate(candidate)).catch(() => undefined); // one path less: others may do
        });
      }
    });
  } catch {
    return false; // no peer connection can be made here
  } finally {
    clock.cancel(timer);
    for (const peer of peers) peer.close();
  }
}

async function meet(here: CheckPeer, there: CheckPeer, stream: MediaStream): Promise<void> {
  for (const track of stream.getAudioTracks()) here.addTrack(track, stream);
  await here.setLocalDescription();
  if (here.localDescription !== null) await there.setRemoteDescription(here.localDescription);
  await there.setLocalDescription();
  if (there.localDescription !== null) await here.setRemoteDescription(there.localDescription);
}

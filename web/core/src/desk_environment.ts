/** What the agent's desk needs of a browser; the tests bring their own. */
import { browserClock, type Clock } from './clock';
import { browserEnvironment, openMicrophone, watchDevices, type DeviceList, type Microphone } from './devices';
import { mediaWorks } from './media_check';
import type { RtcPeer } from './peer';
import { Ringer } from './ringer';
import { openSocket, type OpenSocket } from './socket';
import { Speaker } from './speaker';
import type { Readable } from './store';
import { TabLeader } from './tab_leader';
import { tabStorage, type KeyValues } from './tab_storage';

export interface DeskEnvironment {
  clock: Clock;
  openSocket: OpenSocket;
  openMicrophone: (deviceId: string | null) => Promise<Microphone>;
  createPeer: (configuration: RTCConfiguration) => RtcPeer;
  /** Can calls be made with what the browser allows? */
  mediaWorks: (configuration: RTCConfiguration, stream: MediaStream) => Promise<boolean>;
  speaker: Pick<Speaker, 'play' | 'resume' | 'output' | 'blocked' | 'stream'>;
  ringer: Pick<Ringer, 'arm' | 'start' | 'stop' | 'test' | 'setSecondOutput' | 'askNotifications' | 'armed' | 'end'>;
  tab: Pick<TabLeader, 'role' | 'takeOver' | 'end'>;
  storage: KeyValues;
  network: EventTarget;
  devices: Readable<DeviceList> & { refresh(): void; end(): void };
}

export function browserDesk(ringIcon: string | undefined): DeskEnvironment {
  return {
    clock: browserClock,
    openSocket,
    openMicrophone: (deviceId) => openMicrophone(browserEnvironment(), deviceId),
    createPeer: (configuration) => new RTCPeerConnection(configuration),
    mediaWorks: (configuration, stream) => mediaWorks(() => new RTCPeerConnection(configuration), stream, browserClock),
    speaker: new Speaker(),
    ringer: new Ringer({ clock: browserClock, ringIcon: ringIcon ?? '' }),
    tab: new TabLeader('patchbay-desk'),
    storage: tabStorage(),
    network: window,
    devices: watchDevices(navigator.mediaDevices),
  };
}

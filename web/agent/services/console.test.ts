// The console over a desk that only remembers what it was asked.

import { beforeEach, describe, expect, it } from 'vitest';
import type { AgentDesk } from '../../core/src/agent_desk';
import type { Rest } from '../../core/src/rest';
import { initialDesk, type DeskState } from '../../core/src/state/agent';
import { store } from '../../core/src/store';
import { memoryStorage, type KeyValues } from '../../core/src/tab_storage';
import type { ContactView } from '../../core/src/wire';
import { agent, contact } from '../state/fixtures';
import { Console } from './console.svelte';

const online: DeskState = { ...initialDesk, connection: { name: 'online' }, tab: 'leader', agent: agent() };
const talking: DeskState = { ...online, contacts: [contact({ state: 'talking' })] };
const wrapping: DeskState = { ...online, contacts: [contact({ state: 'wrap_up' })] };

const LISTS: Record<string, object[]> = {
  '/dispositions': [{ disposition_id: 'dsp_1', name: 'Sold', position: 1, active: true, version: 1 }],
  '/break-reasons': [{ break_reason_id: 'brk_1', name: 'Lunch', position: 1, active: true, version: 1 }],
  '/queues': [{ queue_id: 'que_1', name: 'Sales', disposition_required: true }],
};

let asked: unknown[][];
let state: ReturnType<typeof store<DeskState>>;
let storage: KeyValues;

function open(): Console {
  const remember = (name: string) => (...given: unknown[]) => {
    asked.push([name, ...given]);
    return Promise.resolve();
  };
  const commands = ['start', 'setState', 'accept', 'reject', 'hold', 'pauseRecording', 'markRecording', 'hangUp', 'saveNotes', 'wrapUp', 'setMuted', 'testRing', 'goReady', 'askNotifications', 'errorSeen'];
  const desk = {
    ...Object.fromEntries(commands.map((name) => [name, remember(name)])),
    state,
    now: store(0),
    level: store(0),
    quality: store(null),
    quiet: store(null),
    muted: store(false),
    soundBlocked: store(false),
  };
  const rest: Pick<Rest, 'get'> = { get: <T>(path: string) => Promise.resolve({ items: LISTS[path], next: null } as T) };
  return new Console(desk as unknown as AgentDesk, rest as Rest, storage);
}

beforeEach(() => {
  asked = [];
  state = store(initialDesk);
  storage = memoryStorage();
});

describe('wrap-up', () => {
  it('wants the disposition that the queue wants, and then finishes with what was typed', async () => {
    const console = open();
    console.start();
    await console.loadLists();
    state.set(wrapping);
    console.type('seg_1', 'call back');
    console.finish();
    expect(console.dispositionMissing).toBe(true);
    console.pick('seg_1', 'dsp_1');
    expect(console.dispositionMissing).toBe(false);
    console.finish();
    expect(asked.filter(([name]) => name === 'wrapUp')).toEqual([['wrapUp', 'seg_1', 'call back', 'dsp_1']]);
  });
});

describe('drafts', () => {
  it('are saved as they are typed, and again after a reload', () => {
    const before = open();
    before.start();
    state.set(talking);
    before.type('seg_1', 'call back');
    expect(asked).toContainEqual(['saveNotes', 'seg_1', 'call back', null]);

    asked = [];
    state = store(initialDesk);
    const after = open();
    after.start();
    state.set(talking);
    expect(after.draft('seg_1').notes).toBe('call back');
    expect(asked).toContainEqual(['saveNotes', 'seg_1', 'call back', null]);
  });

  it('stay while the server has not spoken, and go with their contact', () => {
    storage.setItem('patchbay.drafts', JSON.stringify({ seg_1: { notes: 'n', dispositionId: null, dirty: true } }));
    const console = open();
    console.start();
    expect(console.draft('seg_1').notes).toBe('n');
    state.set(online);
    expect(console.drafts).toEqual({});
  });
});

describe('intents', () => {
  it('do nothing where they make no sense', () => {
    const console = open();
    console.start();
    state.set(online);
    console.accept();
    console.toggleHold();
    console.hangUp();
    console.toggleMute();
    expect(asked).toEqual([['start']]);
  });

  it('hold and resume by what the contact is', () => {
    const console = open();
    console.start();
    state.set(talking);
    console.toggleHold();
    state.set({ ...online, contacts: [contact({ state: 'held', version: 2 })] });
    console.toggleHold();
    expect(asked.slice(1)).toEqual([['hold', 'seg_1', true], ['hold', 'seg_1', false]]);
  });

  it('pause and resume the recording by what was asked for last, and mark where one runs', () => {
    const console = open();
    console.start();
    const seen = (recording: ContactView['recording'], recording_change: ContactView['recording_change']): void => {
      state.set({ ...online, contacts: [contact({ state: 'talking', version: 2, recording, recording_change })] });
      console.toggleRecording();
    };
    seen('on', null);
    seen('on', 'pause');
    seen('paused', null);
    seen('paused', 'resume');
    console.mark();
    seen('failed', null);
    seen('off', null);
    console.mark();
    const pauses = [true, false, false, true].map((paused) => ['pauseRecording', 'seg_1', paused]);
    expect(asked.slice(1)).toEqual([...pauses, ['markRecording', 'seg_1']]);
  });

  it('test the ring with the first "go ready" only', async () => {
    const console = open();
    console.start();
    state.set(online);
    await console.goReady();
    await console.goReady();
    expect(asked.filter(([name]) => name === 'goReady')).toHaveLength(2);
    expect(asked.filter(([name]) => name === 'testRing')).toHaveLength(1);
  });
});

it('tells of a forced state until it was read, and of the next one again', () => {
  const console = open();
  console.start();
  const set = (since: number) => ({ ...online, agent: agent({ state: 'break', chosen: 'break', reason_id: 'brk_1', forced_by: 'Sam', since }) });
  state.set(set(1));
  expect(console.forced?.by).toBe('Sam');
  console.forcedRead();
  expect(console.forced).toBeNull();
  state.set(set(2));
  expect(console.forced?.by).toBe('Sam');
});

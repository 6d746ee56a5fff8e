import { describe, expect, it } from 'vitest';
import { levelOf, Microphone, openMicrophone } from '../src/devices';
import { asStream, FakeClock, FakeStream, microphoneEnvironment, type FakeTrack } from './fakes';

describe('a microphone that does not open says why', () => {
  it.each([
    [{ secure: false }, 'insecure_context'],
    [{ allowed: () => false }, 'host_blocked'],
    [{ getUserMedia: null }, 'insecure_context'],
  ])('%o', async (change, fault) => {
    await expect(openMicrophone(microphoneEnvironment(new FakeClock(), change))).rejects.toMatchObject({ fault });
  });

  it.each([
    ['NotAllowedError', 'denied'],
    ['NotFoundError', 'none'],
    ['NotReadableError', 'busy'],
    ['TypeError', 'unknown'],
  ])('%s', async (name, fault) => {
    const getUserMedia = () => Promise.reject(new DOMException('no', name));
    await expect(openMicrophone(microphoneEnvironment(new FakeClock(), { getUserMedia }))).rejects.toMatchObject({ fault });
  });
});

describe('a microphone that delivers nothing is named', () => {
  function open(samples: () => Float32Array) {
    const clock = new FakeClock();
    const stream = new FakeStream();
    const microphone = new Microphone(asStream(stream), microphoneEnvironment(clock, { samples }));
    return { clock, microphone, track: stream.tracks[0] as FakeTrack };
  }

  it('after 3 s of digital silence, until a sample comes', async () => {
    let sample = 0;
    const { clock, microphone } = open(() => new Float32Array([sample]));
    await clock.pass(2900);
    expect(microphone.quiet.get()).toBeNull();
    await clock.pass(300);
    expect(microphone.quiet.get()).toBe('silent');
    sample = 0.0001;
    await clock.pass(100);
    expect(microphone.quiet.get()).toBeNull();
  });

  it('when the system mutes it, and when it is unplugged', () => {
    const { microphone, track } = open(() => new Float32Array([0.1]));
    track.dispatchEvent(new Event('mute'));
    expect(microphone.quiet.get()).toBe('muted');
    track.dispatchEvent(new Event('unmute'));
    expect(microphone.quiet.get()).toBeNull();
    track.dispatchEvent(new Event('ended'));
    expect(microphone.quiet.get()).toBe('ended');
  });

  it('stops its track at the end, and measures no more', async () => {
    let reads = 0;
    const { clock, microphone, track } = open(() => {
      reads += 1;
      return new Float32Array([0.1]);
    });
    await clock.pass(200);
    microphone.end();
    const before = reads;
    await clock.pass(1000);
    expect(reads).toBe(before);
    expect(track.stopped).toBe(true);
  });
});

it('the level is a scale of decibels', () => {
  expect(levelOf(0)).toBe(0);
  expect(levelOf(0.001)).toBe(0);
  expect(levelOf(1)).toBe(1);
  expect(levelOf(0.05)).toBeGreaterThan(0.5);
});

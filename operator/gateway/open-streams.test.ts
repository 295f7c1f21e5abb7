import { beforeEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { PeerError } from './peers/contract.ts';
import { idleMaxMs, OpenStreams, streamLimits } from './open-streams.ts';

let clock: VirtualClock;
let change: () => void;
let streams: OpenStreams;
const scopes = { peer: 'lyon', organization: 'physics', member: 'alice' };
const fine = (): undefined => undefined;

beforeEach(() => {
  clock = new VirtualClock();
  streams = new OpenStreams(clock, (listener) => (change = listener));
});

describe('streams that are open', () => {
  test('are so many of a member, of an organization and of a peer at once, and room comes back', () => {
    const { member, organization, peer } = streamLimits;
    const open = Array.from({ length: member }, () => streams.enter(scopes, fine));
    expect(() => streams.enter(scopes, fine)).toThrow(/At most 32 streams of one member with site lyon/);
    const times = (count: number): number[] => Array.from({ length: count }, (_, each) => each);
    for (const each of times(organization - member)) streams.enter({ ...scopes, member: `m${each}` }, fine);
    expect(() => streams.enter({ ...scopes, member: 'bob' }, fine)).toThrow(/At most 64 streams of physics/);
    for (const each of times(peer - organization))
      streams.enter({ ...scopes, organization: `o${each}`, member: 'bob' }, fine);
    expect(() => streams.enter({ ...scopes, organization: 'biology' }, fine)).toThrow(/At most 128 streams with site/);
    streams.enter({ ...scopes, peer: 'nice' }, fine);
    open[0]?.close();
    open[0]?.close();
    streams.enter(scopes, fine);
    expect(() => streams.enter(scopes, fine)).toThrow(/At most/);
  });

  test('end at once when what they were allowed for is over', async () => {
    const now: { problem?: PeerError } = {};
    const [stopped, going] = [streams.enter(scopes, () => now.problem), streams.enter(scopes, fine)];
    now.problem = new PeerError('Refused', 'The membership is Suspended.');
    change();
    await clock.advanceAsync(60);
    expect(stopped.signal.reason).toMatchObject({ reason: 'Refused', message: 'The membership is Suspended.' });
    expect(going.signal.aborted).toBe(false);
  });

  test('end when it is over by the clock, without anybody telling', async () => {
    const stream = streams.enter(scopes, () =>
      clock.now() > endsMs ? new PeerError('Refused', 'The membership is over.') : undefined,
    );
    const endsMs = clock.now() + 20_000;
    await clock.advanceAsync(20_000);
    expect(stream.signal.aborted).toBe(false);
    await clock.advanceAsync(6_000);
    expect(stream.signal.aborted).toBe(true);
  });

  test('end when nothing went through for long', async () => {
    const [quiet, used] = [streams.enter(scopes, fine), streams.enter(scopes, fine)];
    await clock.advanceAsync(idleMaxMs - 10_000);
    used.touch();
    await clock.advanceAsync(20_000);
    expect([quiet.signal.aborted, used.signal.aborted]).toEqual([true, false]);
  });
});

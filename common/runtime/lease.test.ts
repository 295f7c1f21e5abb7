import { afterEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { SeededRandom } from '#common/random.ts';
import { LeaseFence } from './fence.ts';
import { LeadershipLostError, LeaseElector } from './lease.ts';
import { FakeLeases } from './testing/fake-leases.ts';
import { settle, testParts } from './testing/parts.ts';

const aborts: AbortController[] = [];
afterEach(() => aborts.splice(0).forEach((abort) => abort.abort(new Error('the test ends'))));

function aWorld() {
  const clock = new VirtualClock();
  const leases = new FakeLeases(clock, new SeededRandom(1));
  const candidate = (identity: string) => {
    const fence = new LeaseFence(clock);
    const network = { lossChance: 0, delayMaxMs: 5, isCut: false };
    const abort = new AbortController();
    aborts.push(abort);
    const elector = new LeaseElector(
      { namespace: 'default', name: 'op', identity },
      { ...testParts(clock), fence, client: leases.client(network) },
    );
    return { elector, fence, network, abort, signal: abort.signal };
  };
  return { clock, leases, candidate };
}

/** Lets time pass in small steps until the promise has settled. */
async function within<T>(clock: VirtualClock, ms: number, promise: Promise<T>): Promise<T> {
  const state = { isSettled: false };
  const mark = (): void => void (state.isSettled = true);
  promise.then(mark, mark);
  for (let passed = 0; passed < ms && !state.isSettled; passed += 100) await clock.advanceAsync(100);
  await settle();
  if (!state.isSettled) throw new Error(`not settled within ${ms} ms`);
  return promise;
}

describe('LeaseElector', () => {
  test('takes a lease that is not there, with the times of the API (six digits)', async () => {
    const { clock, leases, candidate } = aWorld();
    const a = candidate('a');
    await within(clock, 1_000, a.elector.acquire(a.signal));
    expect(a.fence.isOpen).toBe(true);
    expect(leases.lease?.spec).toMatchObject({ holderIdentity: 'a', leaseDurationSeconds: 15, leaseTransitions: 0 });
    expect(leases.lease?.spec?.renewTime).toMatch(/^2026-01-01T00:00:00\.\d{6}Z$/);
  });

  test('waits as long as the holder renews, and takes over after its duration when it stops', async () => {
    const { clock, leases, candidate } = aWorld();
    const [a, b] = [candidate('a'), candidate('b')];
    await within(clock, 1_000, a.elector.acquire(a.signal));
    const holding = a.elector.hold(a.signal);
    const taken = b.elector.acquire(b.signal);
    for (let i = 0; i < 600; i++) await clock.advanceAsync(100);
    expect(b.fence.isOpen).toBe(false);
    a.abort.abort(new Error('dies'));
    await holding;
    const diedAt = clock.monotonic();
    await within(clock, 30_000, taken);
    expect(clock.monotonic() - diedAt).toBeGreaterThan(12_000);
    expect(leases.lease?.spec).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
  });

  test('judges the holder by its own clock: a lease with times far off is waited for all the same', async () => {
    const { clock, leases, candidate } = aWorld();
    const [a, b] = [candidate('a'), candidate('b')];
    await within(clock, 1_000, a.elector.acquire(a.signal));
    leases.lease!.spec!.renewTime = '1999-01-01T00:00:00.000000Z';
    const taken = b.elector.acquire(b.signal);
    for (let i = 0; i < 140; i++) await clock.advanceAsync(100);
    expect(b.fence.isOpen).toBe(false);
    await within(clock, 10_000, taken);
  });

  test('a holder that cannot renew stops before anyone else may start', async () => {
    const { clock, candidate } = aWorld();
    const [a, b] = [candidate('a'), candidate('b')];
    await within(clock, 1_000, a.elector.acquire(a.signal));
    const holding = a.elector.hold(a.signal);
    const taken = b.elector.acquire(b.signal);
    a.network.isCut = true;
    await expect(within(clock, 20_000, holding)).rejects.toThrow(LeadershipLostError);
    expect([a.fence.isOpen, b.fence.isOpen]).toEqual([false, false]);
    await within(clock, 20_000, taken);
  });

  test('a holder whose lease another took knows at its next renewal', async () => {
    const { clock, leases, candidate } = aWorld();
    const a = candidate('a');
    await within(clock, 1_000, a.elector.acquire(a.signal));
    const holding = a.elector.hold(a.signal);
    const lease = leases.lease!;
    const spec = { ...lease.spec, holderIdentity: 'thief' };
    leases.lease = { ...lease, spec, metadata: { ...lease.metadata, resourceVersion: '77' } };
    await expect(within(clock, 3_000, holding)).rejects.toThrow(/was lost by a/);
  });

  test('a lease that somebody annotated is held on', async () => {
    const { clock, leases, candidate } = aWorld();
    const a = candidate('a');
    await within(clock, 1_000, a.elector.acquire(a.signal));
    void a.elector.hold(a.signal);
    leases.lease = { ...leases.lease!, metadata: { ...leases.lease!.metadata, resourceVersion: '77' } };
    for (let i = 0; i < 300; i++) await clock.advanceAsync(100);
    expect(a.fence.isOpen).toBe(true);
  });

  test('a lease that was deleted is made again', async () => {
    const { clock, leases, candidate } = aWorld();
    const a = candidate('a');
    await within(clock, 1_000, a.elector.acquire(a.signal));
    void a.elector.hold(a.signal);
    leases.lease = undefined;
    for (let i = 0; i < 300; i++) await clock.advanceAsync(100);
    expect(a.fence.isOpen).toBe(true);
    expect(leases.lease).toMatchObject({ spec: { holderIdentity: 'a' } });
  });

  test('gives the lease up so that another has it at once, and writes nothing more', async () => {
    const { clock, candidate } = aWorld();
    const [a, b] = [candidate('a'), candidate('b')];
    await within(clock, 1_000, a.elector.acquire(a.signal));
    const taken = b.elector.acquire(b.signal);
    await within(clock, 1_000, a.elector.release(a.signal));
    expect(() => a.fence.check()).toThrow(/given up/);
    await within(clock, 3_000, taken);
  });

  test.each([
    [{ durationMs: 15_500 }],
    [{ durationMs: 10_000, renewDeadlineMs: 10_000 }],
    [{ renewDeadlineMs: 2_000, retryMs: 2_000 }],
  ])('refuses the times %j', (times) => {
    const clock = new VirtualClock();
    const client = new FakeLeases(clock, new SeededRandom(1)).client({ lossChance: 0, delayMaxMs: 0, isCut: false });
    const parts = { ...testParts(clock), fence: new LeaseFence(clock), client };
    expect(() => new LeaseElector({ namespace: 'x', name: 'y', identity: 'z', ...times }, parts)).toThrow(RangeError);
  });
});

import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { siteDefinition, type Site } from '#crds/site.ts';
import { aLocalSite } from '#operator/testing/builders.ts';
import type { Lister } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import { NetworkFindings, NetworkWatch } from './network-watch.ts';
import type { NetworkVerdict } from './progress.ts';

const enforced: NetworkVerdict = { kind: 'Enforced' };
const ignored: NetworkVerdict = { kind: 'NotEnforced', denied: 'caller' };
const unclear: NetworkVerdict = { kind: 'Inconclusive', message: 'No room for a pod.' };
const minute = 60_000;

/** A watch over tests that come to these verdicts, one after another; the last goes on for ever. */
class Watched {
  readonly clock = new VirtualClock();
  readonly findings = new NetworkFindings();
  /** When tests began, minutes. */
  readonly began: number[] = [];
  offer: 'Offered' | 'NotOffered';
  private readonly stopping = new AbortController();
  private readonly end: Promise<void>;

  constructor(verdicts: readonly NetworkVerdict[], offer: Watched['offer'] = 'Offered') {
    this.offer = offer;
    const { clock, findings } = this;
    const run = async (): Promise<NetworkVerdict> => {
      this.began.push(clock.monotonic() / minute);
      return Promise.resolve(verdicts[Math.min(this.began.length, verdicts.length) - 1]!);
    };
    const sites = { get: () => this.site() } as Partial<Lister<Site>> as Lister<Site>;
    const watch = new NetworkWatch({ test: { run }, findings, sites, localSite: 'home', clock, log: silentLogger });
    this.end = watch.run(this.stopping.signal);
  }

  async stop(): Promise<void> {
    this.stopping.abort(new Error('the test is over'));
    await this.end;
  }

  private site(): Stored<Site> {
    const spec = siteDefinition.spec.parse({ type: 'Local', local: { networkIsolation: this.offer } });
    return { ...aLocalSite('home'), spec };
  }
}

describe('the watch over the network (threat 13)', () => {
  test('tests at once and then seldom, as long as policies are enforced', async () => {
    const watched = new Watched([enforced]);
    await watched.clock.advanceAsync(13 * 60 * minute);
    expect(watched.findings.get()).toEqual(enforced);
    expect(watched.began).toEqual([0, 360, 720]);
    await watched.stop();
  });

  test('tests again soon, and then less and less often, while it knows nothing', async () => {
    const watched = new Watched([unclear]);
    await watched.clock.advanceAsync(200 * minute);
    expect(watched.findings.get()).toEqual(unclear);
    expect(watched.began).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183]);
    await watched.stop();
  });

  test('believes that policies are not enforced when it has seen it twice', async () => {
    const watched = new Watched([ignored, enforced, ignored, ignored, enforced]);
    const told: (NetworkVerdict | undefined)[] = [];
    watched.findings.onChange(() => told.push(watched.findings.get()));
    await watched.clock.advanceAsync(minute);
    expect(told).toEqual([enforced]);
    await watched.clock.advanceAsync(360 * minute);
    expect(told).toEqual([enforced, ignored, enforced]);
    await watched.stop();
  });

  test('tests nothing while the owner of the site does not offer it', async () => {
    const watched = new Watched([enforced], 'NotOffered');
    await watched.clock.advanceAsync(720 * minute);
    expect(watched.began).toEqual([]);
    watched.offer = 'Offered';
    await watched.clock.advanceAsync(minute);
    expect(watched.began).toHaveLength(1);
    await watched.stop();
  });
});

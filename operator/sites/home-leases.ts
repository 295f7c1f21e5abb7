import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { type Execution, executions } from '#crds/execution.ts';
import { leases } from '#runtime/builtin.ts';
import { formatMicroTime } from '#runtime/conditions.ts';
import type { Client, Lister, Runnable } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { isHosted, leaseMs } from './part.ts';

/** Between writes of one lease. What is not written does not count, so it shortens the lease and never makes it longer. */
const writeEveryMs = 5_000;
const lookEveryMs = 2_000;
/** How long work that was ended stays to be asked about. */
const fencedForMs = 3_600_000;

/** The leases of peers whose work runs here, one per peer, in the API server: they outlive every process of this site. */
export class HomeLeases {
  private readonly client: Client;
  private readonly clock: Clock;
  private readonly namespace: string;
  private readonly writtenAt = new Map<string, number>();

  /** @param namespace - of the operator. */
  constructor(client: Client, clock: Clock, namespace: string) {
    this.client = client;
    this.clock = clock;
    this.namespace = namespace;
  }

  /** Prolongs the lease of a home; it is written when this resolves. */
  async renew(home: string, signal: AbortSignal): Promise<void> {
    const at = this.clock.monotonic();
    if (at - (this.writtenAt.get(home) ?? -Infinity) < writeEveryMs) return;
    const metadata = this.keyOf(home);
    const renewTime = formatMicroTime(this.clock.now());
    const spec = { holderIdentity: home, leaseDurationSeconds: leaseMs / 1000, renewTime };
    await this.client.of(leases).apply({ metadata, spec }, { signal });
    this.writtenAt.set(home, at);
  }

  /** Whether a home may have work done. */
  async isHeld(home: string, signal: AbortSignal): Promise<boolean> {
    const lease = await this.client.of(leases).find(this.keyOf(home), { signal });
    const renewedAt = Date.parse(lease?.spec?.renewTime ?? '');
    return !Number.isNaN(renewedAt) && this.clock.now() - renewedAt <= leaseMs;
  }

  private keyOf(home: string): { namespace: string; name: string } {
    return { namespace: this.namespace, name: `xtreemos-home-${home}` };
  }
}

/** What a {@link LeaseFencer} works with. */
export interface LeaseFencerParts {
  readonly executions: Lister<Execution>;
  readonly client: Client;
  readonly leases: HomeLeases;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Ends the work of homes that have not renewed their lease: by then they may have it done elsewhere. That it was ended is written down
 * first, and for good; the home hears of it when it is back.
 */
export class LeaseFencer implements Runnable {
  readonly name = 'lease-fencer';
  private readonly parts: LeaseFencerParts;

  constructor(parts: LeaseFencerParts) {
    this.parts = parts;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.parts;
    while (!signal.aborted) {
      await clock.sleep(lookEveryMs, signal).catch(() => undefined);
      await this.look(signal).catch((error: unknown) =>
        log.warn('Leases of other sites could not be looked at', { problem: describeError(error) }),
      );
    }
  }

  /** One look at everything. */
  async look(signal: AbortSignal): Promise<void> {
    const { executions: cache, leases: held, clock, log, client } = this.parts;
    const hosted = cache.list().filter(isHosted);
    const homes = new Set(hosted.filter(isGoing).map(({ spec }) => spec.gridJob.site));
    const late = new Set<string>();
    for (const home of homes) if (!(await held.isHeld(home, signal))) late.add(home);
    for (const execution of hosted) {
      const { metadata, spec } = execution;
      if (isGoing(execution) && late.has(spec.gridJob.site)) {
        log.warn('Ending work: its home has not renewed the lease', {
          Execution: metadata.name,
          home: spec.gridJob.site,
        });
        const fencedTime = new Date(clock.now()).toISOString();
        await ignoreNotFound(
          client.of(executions).update({ ...execution, spec: { ...spec, isClosed: true, fencedTime } }, { signal }),
        );
      } else if (spec.fencedTime !== undefined && clock.now() - Date.parse(spec.fencedTime) > fencedForMs) {
        const { namespace, name, uid } = metadata;
        const options = { preconditions: { uid }, propagationPolicy: 'Background' as const, signal };
        await ignoreNotFound(client.of(executions).delete({ namespace, name }, options));
      }
    }
  }
}

const isGoing = ({ spec }: Stored<Execution>): boolean => !spec.isClosed && spec.placements.length > 0;

import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { LeaseEnds } from '#common/lease-ends.ts';
import { type Execution, executions } from '#crds/execution.ts';
import { homeLeaseName, homeLeaseTerms } from '#crds/home-lease.ts';
import { leases } from '#runtime/builtin.ts';
import { formatMicroTime } from '#runtime/conditions.ts';
import type { Client, Lister, Runnable } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { isHosted } from './part.ts';

/** Between writes of one lease. What is not written does not count, so it shortens the lease and never makes it longer. */
const writeEveryMs = 3_000;
const lookEveryMs = 2_000;
/** How long work that was ended stays to be asked about. */
const fencedForMs = 3_600_000;

/** The leases of peers whose work runs here, one per peer, in the API server: they outlive every process of this site. */
export class HomeLeases {
  private readonly client: Client;
  private readonly clock: Clock;
  private readonly namespace: string;
  /** Moments up to which leases were written from here, milliseconds since the Unix epoch. */
  private readonly written = new Map<string, number>();
  private readonly ends: LeaseEnds;

  /** @param namespace - of the operator. */
  constructor(client: Client, clock: Clock, namespace: string) {
    this.client = client;
    this.clock = clock;
    this.namespace = namespace;
    this.ends = new LeaseEnds(clock, homeLeaseTerms);
  }

  /**
   * Prolongs the lease of a home, from a moment on at which it was there by the clock of this site; it is written when this resolves.
   * @param heardMs - milliseconds since the Unix epoch.
   * @param end - ends what runs under a lease that was over already, and writes that down, before there is a new one: it may run elsewhere by now,
   * and nobody may have been here to end it.
   */
  async renew(home: string, heardMs: number, end: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const now = this.clock.now();
    // The clock was set back since: it tells nothing of when this was.
    if (heardMs > now + homeLeaseTerms.skewMaxMs) return;
    const from = Math.min(heardMs, now);
    const writtenTo = this.written.get(home) ?? -Infinity;
    // A clock that was set back must not keep the lease from being written.
    if (writtenTo <= now && from - writtenTo < writeEveryMs) return;
    const metadata = this.keyOf(home);
    const found = await this.client.of(leases).find(metadata, { signal });
    const known = Date.parse(found?.spec?.renewTime ?? '');
    if (!(known >= from && known <= now)) {
      const before = found?.spec?.renewTime;
      if (before !== undefined && this.clock.monotonic() > this.ends.endOf(home, before)) await end();
      const leaseDurationSeconds = homeLeaseTerms.durationMs / 1000;
      const spec = { holderIdentity: home, leaseDurationSeconds, renewTime: formatMicroTime(from) };
      const written = await this.client.of(leases).apply({ metadata, spec }, { signal });
      // From now on: the clock may be set before it is looked at.
      this.ends.endOf(home, written.spec?.renewTime);
    }
    this.written.set(home, from);
  }

  /** Whether a home may have work done. */
  async isHeld(home: string, signal: AbortSignal): Promise<boolean> {
    const lease = await this.client.of(leases).find(this.keyOf(home), { signal });
    return this.clock.monotonic() <= this.ends.endOf(home, lease?.spec?.renewTime);
  }

  private keyOf(home: string): { namespace: string; name: string } {
    return { namespace: this.namespace, name: homeLeaseName(home) };
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
  /** Homes that were late at the last look: at the next, the clock has not just been set. */
  private late: ReadonlySet<string> = new Set();

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
    const { executions: cache, leases: held } = this.parts;
    const hosted = cache.list().filter(isHosted);
    const homes = new Set(hosted.filter(isGoing).map(({ spec }) => spec.gridJob.site));
    const late = new Set<string>();
    for (const home of homes) if (!(await held.isHeld(home, signal))) late.add(home);
    const isOver = new Set([...late].filter((home) => this.late.has(home)));
    this.late = late;
    for (const execution of hosted) {
      try {
        if (isGoing(execution) && isOver.has(execution.spec.gridJob.site)) await fence(execution, this.parts, signal);
        else await this.forget(execution, signal);
      } catch (error) {
        const { name } = execution.metadata;
        this.parts.log.warn('Work of a peer was not ended yet', { Execution: name, problem: describeError(error) });
      }
    }
  }

  private async forget({ metadata, spec }: Stored<Execution>, signal: AbortSignal): Promise<void> {
    const { clock, client } = this.parts;
    if (spec.fencedTime === undefined || clock.now() - Date.parse(spec.fencedTime) <= fencedForMs) return;
    const { namespace, name, uid } = metadata;
    const options = { preconditions: { uid }, propagationPolicy: 'Background' as const, signal };
    await ignoreNotFound(client.of(executions).delete({ namespace, name }, options));
  }
}

/** Ends work of a peer whose lease is over, and writes that down for good. */
export async function fence(
  execution: Stored<Execution>,
  { client, clock, log }: Pick<LeaseFencerParts, 'client' | 'clock' | 'log'>,
  signal: AbortSignal,
): Promise<void> {
  const { metadata, spec } = execution;
  log.warn('Ending work: its home has not renewed the lease', { Execution: metadata.name, home: spec.gridJob.site });
  const fencedTime = new Date(clock.now()).toISOString();
  const fenced = { ...execution, spec: { ...spec, isClosed: true, fencedTime } };
  await ignoreNotFound(client.of(executions).update(fenced, { signal }));
}

/** Whether something of an Execution may run. */
export const isGoing = ({ spec }: Stored<Execution>): boolean => !spec.isClosed && spec.placements.length > 0;

import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { LeaseEnds } from '#common/lease-ends.ts';
import type { Logger } from '#common/logger.ts';
import { podFacts } from '#crds/claim.ts';
import { homeLeaseName, homeLeaseTerms } from '#crds/home-lease.ts';
import { hasEnded, leases, pods, type Pod } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { ConflictError, ignoreNotFound } from '#runtime/errors.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';

/** What a {@link HomeFencer} works with. */
export interface HomeFencerParts {
  /** Pods of the nodes whose account is kept here. */
  readonly pods: () => readonly Stored<Pod>[];
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of the operator: the leases lie there. */
  readonly namespace: string;
}

const lookEveryMs = 2_000;
/** The operator has this time for doing it: it also writes down what it did. The home waits for 25 s and more. */
const patienceMs = 6_000;

/**
 * Ends tasks on this node that run for another site which has not renewed its lease, when the operator has not done so: it may be away as well. A
 * lease that is held is looked at again when it would end, so this costs a request every half a minute, and none where no such task runs.
 */
export class HomeFencer {
  private readonly parts: HomeFencerParts;
  private readonly ends: LeaseEnds;
  /** Homes by when they are looked at next (monotonic), and whether they were late at the last look: at the next, no clock has just been set. */
  private readonly homes = new Map<string, { dueAt: number; isLate: boolean }>();

  constructor(parts: HomeFencerParts) {
    this.parts = parts;
    this.ends = new LeaseEnds(parts.clock, homeLeaseTerms);
  }

  /** Looks again and again until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.parts;
    while (!signal.aborted) {
      await clock.sleep(lookEveryMs, signal).catch(() => undefined);
      await this.look(signal).catch((error: unknown) => {
        if (!signal.aborted)
          logger.warn('Leases of other sites could not be looked at', { reason: describeError(error) });
      });
    }
  }

  /** One look at all homes. */
  async look(signal: AbortSignal): Promise<void> {
    const byHome = Map.groupBy(
      this.parts.pods().filter((pod) => homeOf(pod) !== undefined && !isDeleting(pod)),
      (pod) => homeOf(pod) ?? '',
    );
    for (const home of this.homes.keys()) {
      if (byHome.has(home)) continue;
      this.homes.delete(home);
      this.ends.forget(home);
    }
    for (const [home, tasks] of byHome) await this.lookAt(home, tasks, signal);
  }

  private async lookAt(home: string, tasks: readonly Stored<Pod>[], signal: AbortSignal): Promise<void> {
    const { clock, client, namespace, logger } = this.parts;
    const known = this.homes.get(home);
    if (known !== undefined && clock.monotonic() < known.dueAt) return;
    const lease = await client.of(leases).find({ namespace, name: homeLeaseName(home) }, { signal });
    const over = this.ends.endOf(home, lease?.spec?.renewTime) + patienceMs;
    const now = clock.monotonic();
    if (now <= over) {
      this.homes.set(home, { dueAt: over + 1, isLate: false });
      return;
    }
    this.homes.set(home, { dueAt: now, isLate: true });
    if (known?.isLate !== true) return;
    for (const pod of tasks) {
      const { namespace: at, name, uid } = pod.metadata;
      logger.warn('Ending a task: its home has not renewed the lease, and no operator has ended it', {
        Pod: name,
        home,
      });
      const options = { preconditions: { uid }, signal };
      await ignoreNotFound(client.of(pods).delete({ namespace: at, name }, options)).catch((error: unknown) => {
        // Another pod of that name: ours is gone.
        if (!(error instanceof ConflictError)) throw error;
      });
    }
  }
}

const homeOf = (pod: Pod): string | undefined =>
  hasEnded(pod) ? undefined : pod.metadata.annotations?.[podFacts.home];

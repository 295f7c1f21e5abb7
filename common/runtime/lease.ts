import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import type { Lease } from './builtin.ts';
import { formatMicroTime } from './conditions.ts';
import type { ObjectClient } from './contracts.ts';
import { AlreadyExistsError, ConflictError, NotFoundError } from './errors.ts';
import type { LeaseFence } from './fence.ts';
import type { RuntimeMetrics } from './metrics.ts';
import type { ObjectKey, Stored } from './types.ts';

/** The lease was lost: another process may lead. End this one. */
export class LeadershipLostError extends Error {
  override readonly name = 'LeadershipLostError';
}

/** How a lease is held. The defaults are client-go's. */
export interface LeaseOptions extends ObjectKey {
  readonly namespace: string;
  /** Unique for each process, for example `host_uuid`. */
  readonly identity: string;
  /** After this without a renewal others take the lease. Default 15 s, whole seconds. */
  readonly durationMs?: number | undefined;
  /** After this without a renewal this process stops. Shorter, so that clocks and writes under way have room. Default 10 s. */
  readonly renewDeadlineMs?: number | undefined;
  /** Between attempts. Default 2 s. */
  readonly retryMs?: number | undefined;
}

/** What an elector is made of. */
export interface ElectorParts {
  /** Of leases, without a fence. */
  readonly client: ObjectClient<Lease>;
  readonly fence: LeaseFence;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: RuntimeMetrics;
}

interface Moment {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

/**
 * Leader election by a Lease, as client-go does it: every write compares the resource version; whether another
 * holder has gone is judged by how long *this* process has seen no renewal, never by the times in the lease.
 * The {@link LeaseFence} is open from a renewal's sending until `renewDeadlineMs` later and closes for good.
 */
export class LeaseElector {
  private readonly parts: ElectorParts;
  private readonly key: ObjectKey;
  private readonly identity: string;
  private readonly durationMs: number;
  private readonly renewDeadlineMs: number;
  private readonly retryMs: number;
  private observed: Stored<Lease> | undefined;
  private observedAtMs = 0;

  constructor(options: LeaseOptions, parts: ElectorParts) {
    this.parts = parts;
    this.key = { namespace: options.namespace, name: options.name };
    this.identity = options.identity;
    this.durationMs = options.durationMs ?? 15_000;
    this.renewDeadlineMs = options.renewDeadlineMs ?? 10_000;
    this.retryMs = options.retryMs ?? 2_000;
    if (
      this.durationMs % 1000 !== 0 ||
      this.renewDeadlineMs >= this.durationMs ||
      this.retryMs >= this.renewDeadlineMs
    ) {
      const times = `${this.durationMs}, ${this.renewDeadlineMs}, ${this.retryMs} ms`;
      throw new RangeError(`A lease needs duration (whole seconds) > renew deadline > retry, not ${times}`);
    }
  }

  /** Waits until this process holds the lease. @throws the signal's reason. */
  async acquire(signal: AbortSignal): Promise<void> {
    const { logger, metrics } = this.parts;
    logger.info('Waiting for the lease', { Lease: this.key.name, identity: this.identity });
    for (;;) {
      signal.throwIfAborted();
      if (await this.attempt(signal)) break;
      await this.pause(signal);
    }
    metrics.isLeader.set(1);
    logger.info('Holding the lease', { Lease: this.key.name, identity: this.identity });
  }

  /**
   * Renews until the signal aborts.
   * @throws {LeadershipLostError} when the lease could not be renewed in time, or another process has it. The fence is
   *   closed by then.
   */
  async hold(signal: AbortSignal): Promise<void> {
    const { fence, metrics } = this.parts;
    const lost = new AbortController();
    const untrack = fence.track((reason) => lost.abort(reason));
    const either = AbortSignal.any([signal, lost.signal]);
    try {
      while (fence.isOpen) {
        await this.pause(either);
        await this.attempt(either);
      }
    } catch {
      // Either signal ended the pause.
    } finally {
      untrack();
    }
    if (fence.isOpen) return;
    metrics.isLeader.set(0);
    throw new LeadershipLostError(`Lease ${this.key.name} was lost by ${this.identity}: end this process`);
  }

  /** Gives the lease up so that another takes it at once. Closes the fence first. Errors are only logged. */
  async release(signal: AbortSignal): Promise<void> {
    const { client, clock, fence, logger, metrics } = this.parts;
    const wasOpen = fence.isOpen;
    fence.close('the lease was given up');
    metrics.isLeader.set(0);
    if (!wasOpen) return;
    try {
      // A renewal that was cut off by the stop may have arrived: what counts is what is there.
      const lease = await client.get(this.key, { priority: 'lease', signal });
      if (lease.spec?.holderIdentity !== this.identity) return;
      const now = formatMicroTime(clock.now());
      const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: now, acquireTime: now };
      await client.update({ ...lease, spec }, { priority: 'lease', signal });
      logger.info('Gave up the lease', { Lease: this.key.name });
    } catch (error) {
      logger.warn('Could not give up the lease, it runs out by itself', { Lease: this.key.name, err: error });
    }
  }

  /** Tries to take or renew once. @returns whether this process holds the lease now. */
  private async attempt(signal: AbortSignal): Promise<boolean> {
    const { clock, logger } = this.parts;
    const limit = new AbortController();
    const timer = clock.after(this.renewDeadlineMs / 2, () => limit.abort(new Error('the attempt took too long')));
    try {
      return await this.takeOrRenew(AbortSignal.any([signal, limit.signal]));
    } catch (error) {
      if (!signal.aborted)
        logger.warn('Could not reach the lease', { Lease: this.key.name, reason: describeError(error) });
      return false;
    } finally {
      timer.cancel();
    }
  }

  private async takeOrRenew(signal: AbortSignal): Promise<boolean> {
    const { clock } = this.parts;
    if (this.observed?.spec?.holderIdentity !== this.identity) await this.observe(signal);
    const lease = this.observed;
    if (lease !== undefined && !this.isFree(lease)) return this.giveWay(lease);
    const sentAt: Moment = { monotonicMs: clock.monotonic(), wallMs: clock.now() };
    try {
      this.note(await this.write(lease, sentAt, signal));
    } catch (error) {
      const isRaced =
        error instanceof ConflictError || error instanceof AlreadyExistsError || error instanceof NotFoundError;
      if (!isRaced) throw error;
      // Someone wrote in between (or our own write arrived and its answer was lost): the next attempt looks again.
      await this.observe(signal);
      if (this.observed !== undefined && !this.isFree(this.observed)) return this.giveWay(this.observed);
      return false;
    }
    this.parts.fence.extend(sentAt, this.renewDeadlineMs);
    return this.parts.fence.isOpen;
  }

  /** Another process holds the lease: if this one did, it doesn't any more. */
  private giveWay(lease: Stored<Lease>): boolean {
    if (this.parts.fence.isOpen)
      this.parts.fence.close(`the lease is held by ${lease.spec?.holderIdentity ?? 'nobody'}`);
    return false;
  }

  private async observe(signal: AbortSignal): Promise<void> {
    const lease = await this.parts.client.find(this.key, { priority: 'lease', signal });
    if (lease === undefined) this.observed = undefined;
    else if (lease.metadata.resourceVersion !== this.observed?.metadata.resourceVersion) this.note(lease);
  }

  private note(lease: Stored<Lease>): void {
    this.observed = lease;
    this.observedAtMs = this.parts.clock.monotonic();
  }

  /** Whether this process may write itself into the lease. */
  private isFree(lease: Stored<Lease>): boolean {
    const holder = lease.spec?.holderIdentity ?? '';
    if (holder === '' || holder === this.identity) return true;
    const durationMs = (lease.spec?.leaseDurationSeconds ?? this.durationMs / 1000) * 1000;
    return this.parts.clock.monotonic() - this.observedAtMs > durationMs;
  }

  private async write(old: Stored<Lease> | undefined, at: Moment, signal: AbortSignal): Promise<Stored<Lease>> {
    const now = formatMicroTime(at.wallMs);
    const isRenewal = old?.spec?.holderIdentity === this.identity;
    const transitions = old?.spec?.leaseTransitions ?? 0;
    const spec = {
      ...old?.spec,
      holderIdentity: this.identity,
      leaseDurationSeconds: this.durationMs / 1000,
      acquireTime: isRenewal ? (old.spec?.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: isRenewal || old === undefined ? transitions : transitions + 1,
    };
    const { client } = this.parts;
    const options = { priority: 'lease', signal } as const;
    if (old === undefined) return client.create({ metadata: { ...this.key }, spec }, options);
    return client.update({ ...old, spec }, options);
  }

  private async pause(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.parts;
    await clock.sleep(this.retryMs * (1 + random.next() / 5), signal);
  }
}

import type { Clock } from '#common/clock.ts';
import type { Random } from '#common/random.ts';
import { type Lease, leases } from '../builtin.ts';
import type { ObjectClient } from '../contracts.ts';
import { AlreadyExistsError, ConflictError, ConnectionError, NotFoundError } from '../errors.ts';
import type { Stored } from '../types.ts';

const request = { method: 'PUT', path: '/lease' };

/** One Lease with compare-and-swap, behind a network that delays, loses requests and loses answers. */
export class FakeLeases {
  lease: Stored<Lease> | undefined;
  private version = 0;
  private readonly clock: Clock;
  private readonly random: Random;

  constructor(clock: Clock, random: Random) {
    this.clock = clock;
    this.random = random;
  }

  /** @param network - chance of losing a request or an answer, and the longest delay each way; cut: nothing passes. */
  client(network: { lossChance: number; delayMaxMs: number; isCut: boolean }): ObjectClient<Lease> {
    const travel = async (signal: AbortSignal | undefined): Promise<void> => {
      await this.clock.sleep(this.random.next() * network.delayMaxMs, signal);
      if (!network.isCut && this.random.next() >= network.lossChance) return;
      throw new ConnectionError(request, 'lost on the way', { maySent: true });
    };
    const call = async <R>(signal: AbortSignal | undefined, work: () => R): Promise<R> => {
      await travel(signal);
      const result = work();
      await travel(signal);
      return result;
    };
    const unused = (): never => {
      throw new TypeError('The elector does not need this');
    };
    return {
      kind: leases,
      find: async (_key, options) => call(options?.signal, () => this.lease),
      get: async (_key, options) =>
        call(options?.signal, () => {
          if (this.lease === undefined) throw new NotFoundError(request, 404, {});
          return this.lease;
        }),
      create: async (object, options) => call(options?.signal, () => this.create(object)),
      update: async (object, options) => call(options?.signal, () => this.update(object)),
      listPage: unused,
      list: unused,
      patch: unused,
      apply: unused,
      delete: unused,
      status: { get: unused, update: unused, patch: unused, apply: unused },
      subresource: unused,
    };
  }

  private create(object: Lease): Stored<Lease> {
    if (this.lease !== undefined) throw new AlreadyExistsError(request, 409, {});
    return this.store(object);
  }

  private update(object: Lease): Stored<Lease> {
    if (this.lease === undefined) throw new NotFoundError(request, 404, {});
    if (object.metadata.resourceVersion !== this.lease.metadata.resourceVersion) {
      throw new ConflictError(request, 409, {});
    }
    return this.store(object);
  }

  private store(object: Lease): Stored<Lease> {
    const metadata = {
      ...object.metadata,
      uid: 'lease',
      resourceVersion: String(++this.version),
      creationTimestamp: '2026-01-01T00:00:00Z',
    };
    this.lease = { ...object, metadata };
    return this.lease;
  }
}

import { asError } from '#common/errors.ts';
import type { Principal, SliceId } from '#common/identity/ids.ts';
import type { Random } from '#common/random.ts';
import type { IdentitySlice } from '#crds/identity-slice.ts';
import { AlreadyExistsError, ConflictError } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import type { SliceBookParts } from '../slice-book.ts';

/** A membership, as far as ids are concerned. */
export interface SimulatedMembership {
  readonly name: string;
  readonly uid: string;
  readonly owner: { readonly name: string; readonly uid: string };
  readonly principal: Principal;
  identity?: SliceId;
}

interface Pending {
  readonly client: number;
  readonly act: () => void;
}

const request = { method: 'PUT', path: '/identityslices' };

/**
 * An API server for ids in one process: requests wait until the world picks one, in any order, so that everything that can overlap does. What a
 * client that crashed had sent may still arrive.
 */
export class IdWorld {
  readonly slices = new Map<string, Stored<IdentitySlice>>();
  readonly memberships = new Map<string, SimulatedMembership>();
  private readonly random: Random;
  private readonly pending: Pending[] = [];
  private version = 0;
  private uids = 0;

  constructor(random: Random) {
    this.random = random;
  }

  newUid(): string {
    return `uid-${++this.uids}`;
  }

  /** Requests on their way. */
  get waiting(): number {
    return this.pending.length;
  }

  /** Carries out one waiting request, any. */
  async step(): Promise<void> {
    const [picked] = this.pending.splice(this.random.int(Math.max(1, this.pending.length)), 1);
    picked?.act();
    // Whoever waited for the answer goes on before the next request is carried out.
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** A client that is gone: of what it sent, some arrives and some doesn't. It gets no answer. */
  crash(client: number): void {
    for (let at = this.pending.length - 1; at >= 0; at--) {
      const pending = this.pending[at];
      if (pending?.client === client && this.random.int(2) === 0) this.pending.splice(at, 1);
    }
  }

  /** The API server goes down: nothing that was sent arrives. */
  dropAll(): void {
    this.pending.length = 0;
  }

  /** What a leader works with: a cache that is as old as its last `refresh`, and requests that take their time. */
  leader(client: number): { readonly parts: SliceBookParts; readonly cache: WorldCache } {
    const cache = new WorldCache(this);
    const call = async <R>(act: () => R): Promise<R> =>
      new Promise<R>((resolve, reject) => {
        const run = (): void => {
          try {
            resolve(act());
          } catch (error) {
            reject(asError(error));
          }
        };
        this.pending.push({ client, act: run });
      });
    const parts: SliceBookParts = {
      slices: cache,
      // Ten slices for all, so that they get scarce.
      reserved: () => [{ first: 2_013_265_920 + 10 * 65_536, last: 2_147_483_647 }],
      client: {
        find: async ({ name }) => call(() => this.slices.get(name)),
        create: async (slice) => call(() => this.create(slice)),
        update: async (slice) => call(() => this.update(slice)),
      },
    };
    return { parts, cache };
  }

  /** Writes the id into a membership, by the rules of the kind: once, and only while it is the same object. */
  async identify(client: number, { name, uid }: SimulatedMembership, identity: SliceId): Promise<void> {
    return new Promise((resolve, reject) => {
      const act = (): void => {
        const stored = this.memberships.get(name);
        if (stored?.uid !== uid) reject(new ConflictError(request, 409, {}));
        else if (stored.identity !== undefined) reject(new ConflictError(request, 409, { message: 'can not change' }));
        else {
          stored.identity = identity;
          resolve();
        }
      };
      this.pending.push({ client, act });
    });
  }

  private create(slice: IdentitySlice): Stored<IdentitySlice> {
    if (this.slices.has(slice.metadata.name)) throw new AlreadyExistsError(request, 409, {});
    return this.store({ ...slice, metadata: { ...slice.metadata, uid: this.newUid(), generation: 0 } });
  }

  private update(slice: IdentitySlice): Stored<IdentitySlice> {
    const stored = this.slices.get(slice.metadata.name);
    if (stored?.metadata.resourceVersion !== slice.metadata.resourceVersion) throw new ConflictError(request, 409, {});
    return this.store(slice);
  }

  private store(slice: IdentitySlice): Stored<IdentitySlice> {
    const { uid = '', generation = 0 } = slice.metadata;
    const metadata = {
      ...slice.metadata,
      uid,
      generation: generation + 1,
      resourceVersion: String(++this.version),
      creationTimestamp: '2026-01-01T00:00:00Z',
    };
    const stored: Stored<IdentitySlice> = { ...structuredClone(slice), metadata };
    this.slices.set(metadata.name, stored);
    return stored;
  }

  /** Puts back slices as they were, under new versions, as a restore does. */
  restore(old: ReadonlyMap<string, Stored<IdentitySlice>>): void {
    this.slices.clear();
    for (const slice of old.values()) this.store(slice);
  }
}

/** Slices and memberships as a leader last saw them. */
export class WorldCache {
  private readonly world: IdWorld;
  private slices = new Map<string, Stored<IdentitySlice>>();
  memberships: SimulatedMembership[] = [];

  constructor(world: IdWorld) {
    this.world = world;
    this.refresh();
  }

  /** Sees everything as it is now. */
  refresh(): void {
    this.slices = new Map(this.world.slices);
    this.memberships = [...this.world.memberships.values()].map((membership) => ({ ...membership }));
  }

  addIndex(): void {
    // There is one, by owner.
  }

  byIndex(_index: string, owner: string): Stored<IdentitySlice>[] {
    return [...this.slices.values()].filter(({ spec }) => spec.virtualOrganization.uid === owner);
  }

  get({ name }: { readonly name: string }): Stored<IdentitySlice> | undefined {
    return this.slices.get(name);
  }
}

import { isUserLocalId, type Principal, proposeGroupIds, proposeUserIds, type SliceId } from '#common/identity/ids.ts';
import type { IdentitySlice } from '#crds/identity-slice.ts';
import type { RequestOptions } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import { IdBitmap } from './id-bitmap.ts';
import { IdsExhaustedError, type SliceBook, type SliceOwner } from './slice-book.ts';

/** Whether a membership of the virtual organization carries an id. The record may have lost it, the membership not. */
export type IsCarried = (owner: SliceOwner, id: SliceId) => boolean;

/** The orders in which ids are tried; replaced in tests, where all want the same ids. */
export interface Proposals {
  users(organizationUid: string, principal: Principal): Iterable<number>;
  groups(organizationUid: string, path: string): Iterable<number>;
}

const defaultProposals: Proposals = { users: proposeUserIds, groups: proposeGroupIds };

interface Request {
  readonly principal: Principal;
  readonly resolve: (id: SliceId) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Gives out ids of slices. The bit in the record is set first, by compare-and-swap, and only then is the id used; who crashes in between loses
 * an id for good, but no id is ever given to two. Requests that come while a record is being written share the next write.
 */
export class IdIssuer {
  private readonly book: SliceBook;
  private readonly isCarried: IsCarried;
  private readonly proposals: Proposals;
  /** By uid of the virtual organization: who waits, while a write is on its way. */
  private readonly waiting = new Map<string, Request[]>();

  constructor(book: SliceBook, isCarried: IsCarried, proposals: Proposals = defaultProposals) {
    this.book = book;
    this.isCarried = isCarried;
    this.proposals = proposals;
  }

  /**
   * A user id that nobody ever had.
   * @throws {IdsExhaustedError} when no slice is left.
   */
  async issueUserId(owner: SliceOwner, principal: Principal, options: RequestOptions): Promise<SliceId> {
    const { promise, resolve, reject } = Promise.withResolvers<SliceId>();
    const queue = this.waiting.get(owner.uid);
    if (queue !== undefined) queue.push({ principal, resolve, reject });
    else {
      this.waiting.set(owner.uid, [{ principal, resolve, reject }]);
      void this.serve(owner, options);
    }
    return promise;
  }

  /** One write after the other, each for all that wait, until nobody does. */
  private async serve(owner: SliceOwner, options: RequestOptions): Promise<void> {
    for (;;) {
      const batch = this.waiting.get(owner.uid)?.splice(0) ?? [];
      if (batch.length === 0) break;
      try {
        await this.issueBatch(owner, batch, options);
      } catch (error) {
        for (const request of batch) request.reject(error);
      }
    }
    this.waiting.delete(owner.uid);
  }

  private async issueBatch(owner: SliceOwner, batch: readonly Request[], options: RequestOptions): Promise<void> {
    let rest = batch;
    await this.book.first(owner, options);
    for (let ordinal = 0; rest.length > 0; ordinal++) {
      const slice = this.book.slicesOf(owner).at(ordinal) ?? (await this.book.take(owner, ordinal, options));
      rest = await this.issueFrom(owner, slice, rest, options);
    }
  }

  /** @returns the requests for which the slice has no id. */
  private async issueFrom(
    owner: SliceOwner,
    slice: Stored<IdentitySlice>,
    batch: readonly Request[],
    options: RequestOptions,
  ): Promise<readonly Request[]> {
    const { number } = slice.spec;
    let given = new Map<Request, number>();
    await this.book.change(
      slice,
      (spec, issued) => {
        given = new Map();
        if (spec.state !== 'InUse') return false;
        for (const request of batch) {
          const localId = this.firstFree(owner, number, request.principal, issued);
          if (localId === undefined) continue;
          issued.add(localId);
          given.set(request, localId);
        }
        return given.size > 0;
      },
      options,
    );
    for (const [request, localId] of given) request.resolve({ slice: number, localId });
    return batch.filter((request) => !given.has(request));
  }

  private firstFree(owner: SliceOwner, slice: number, principal: Principal, issued: IdBitmap): number | undefined {
    for (const localId of this.proposals.users(owner.uid, principal)) {
      if (!issued.has(localId) && !this.isCarried(owner, { slice, localId })) return localId;
    }
    return undefined;
  }

  /**
   * Makes sure that the record has an id which a membership carries, as it may not after a restore.
   * @returns false when the slice isn't one of the virtual organization, so that the id isn't its own.
   */
  async confirmUserId(owner: SliceOwner, id: SliceId, options: RequestOptions): Promise<boolean> {
    const slice = this.book.slicesOf(owner).find(({ spec }) => spec.number === id.slice);
    if (slice === undefined || !isUserLocalId(id.localId)) return false;
    await this.confirm(slice, [id.localId], options);
    return true;
  }

  /** As {@link confirmUserId} for many, with one write for each slice. What isn't an id of the virtual organization is left out. */
  async confirmUserIds(owner: SliceOwner, ids: readonly SliceId[], options: RequestOptions): Promise<void> {
    const bySlice = Map.groupBy(ids, ({ slice }) => slice);
    for (const slice of this.book.slicesOf(owner)) {
      const localIds = (bySlice.get(slice.spec.number) ?? []).map(({ localId }) => localId).filter(isUserLocalId);
      await this.confirm(slice, localIds, options);
    }
  }

  private async confirm(
    slice: Stored<IdentitySlice>,
    localIds: readonly number[],
    options: RequestOptions,
  ): Promise<void> {
    await this.book.change(
      slice,
      (spec, issued) => {
        // What this process knows already may still have to be written.
        const recorded = new IdBitmap(spec.issued);
        for (const localId of localIds) issued.add(localId);
        return localIds.some((localId) => !recorded.has(localId));
      },
      options,
    );
  }

  /**
   * Ids for groups that have none yet, in any slice of the virtual organization.
   * @returns every group that ever had an id, with it.
   * @throws {IdsExhaustedError} when no id of a group is left; groups before it have theirs then.
   */
  async issueGroupIds(
    owner: SliceOwner,
    paths: readonly string[],
    options: RequestOptions,
  ): Promise<ReadonlyMap<string, SliceId>> {
    await this.book.first(owner, options);
    const known = this.groupIds(owner);
    const missing = paths.filter((path) => !known.has(path));
    if (missing.length === 0) return known;
    let rest: readonly string[] = missing;
    for (const slice of this.book.slicesOf(owner)) {
      if (rest.length > 0) rest = await this.addGroups(owner, slice, rest, options);
    }
    if (rest.length === 0) return this.groupIds(owner);
    throw new IdsExhaustedError(`no group id is left for ${rest.slice(0, 3).join(', ')}`);
  }

  /** The groups that have an id. */
  groupIds(owner: SliceOwner): ReadonlyMap<string, SliceId> {
    const slices = this.book.slicesOf(owner);
    return new Map(
      slices.flatMap(({ spec }) =>
        Object.entries(spec.groups).map(([path, localId]) => [path, { slice: spec.number, localId }] as const),
      ),
    );
  }

  /** @returns the groups for which the slice has no id. */
  private async addGroups(
    owner: SliceOwner,
    slice: Stored<IdentitySlice>,
    paths: readonly string[],
    options: RequestOptions,
  ): Promise<readonly string[]> {
    let rest: string[] = [];
    await this.book.change(
      slice,
      (spec, issued) => {
        rest = [];
        if (spec.state !== 'InUse') rest.push(...paths);
        else {
          for (const path of paths) {
            // `constructor` is a good name of a group.
            if (Object.hasOwn(spec.groups, path)) continue;
            const localId = [...this.proposals.groups(owner.uid, path)].find((candidate) => !issued.has(candidate));
            if (localId === undefined) {
              rest.push(path);
              continue;
            }
            issued.add(localId);
            spec.groups[path] = localId;
          }
        }
        return rest.length < paths.length;
      },
      options,
    );
    return rest;
  }
}

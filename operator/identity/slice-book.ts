import { apiVersionOf } from '#crds/kind.ts';
import { type IdentitySlice, identitySliceDefinition } from '#crds/identity-slice.ts';
import { idBase, type LocalRange, proposeSlices, sliceSize, userRange } from '#common/identity/ids.ts';
import type { Lister, ObjectClient, RequestOptions } from '#runtime/contracts.ts';
import { AlreadyExistsError, ConflictError } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { IdBitmap } from './id-bitmap.ts';

/** Whose slices and ids these are. Only the uid counts: another one of the same name is somebody else. */
export interface SliceOwner {
  readonly name: string;
  readonly uid: string;
}

/** Index of slices by the uid of the virtual organization that owns them. */
const ownerIndex = 'slice-book/owner';

/** Slices that one virtual organization may take: 3.7 million members. */
export const slicesMax = 64;

/** No slice, or no id in any slice, is left. */
export class IdsExhaustedError extends Error {
  override readonly name = 'IdsExhaustedError';
}

/** What the book reads and writes. */
export interface SliceBookParts {
  readonly slices: Pick<Lister<IdentitySlice>, 'byIndex' | 'get'> & {
    addIndex(name: string, values: (slice: Stored<IdentitySlice>) => readonly string[]): void;
  };
  readonly client: Pick<ObjectClient<IdentitySlice>, 'find' | 'create' | 'update'>;
  /** Ranges that nodes of this site use for something else (`reservedIds` of the local Site). */
  readonly reserved: () => readonly LocalRange[];
}

/**
 * The records of slices, as far as this process knows them: the cache, and what it wrote itself and the cache hasn't seen yet. Every change
 * is a compare-and-swap, so that two leaders, or a leader with an old cache, can't both give out the same id.
 */
export class SliceBook {
  private readonly parts: SliceBookParts;
  /** By object name: what this process wrote or read and the cache hasn't seen yet. */
  private readonly written = new Map<string, Stored<IdentitySlice>>();
  /** By owner and number: every id that this process saw given out, so that a record which loses some gets them back. */
  private readonly seen = new Map<string, IdBitmap>();

  constructor(parts: SliceBookParts) {
    this.parts = parts;
    parts.slices.addIndex(ownerIndex, byOwner);
  }

  /** The slices of a virtual organization, the first one first. */
  slicesOf(owner: SliceOwner): Stored<IdentitySlice>[] {
    const found = new Set(this.parts.slices.byIndex(ownerIndex, owner.uid).map(({ metadata }) => metadata.name));
    for (const [name, slice] of this.written) if (slice.spec.virtualOrganization.uid === owner.uid) found.add(name);
    return [...found]
      .flatMap((name) => this.known(name) ?? [])
      .sort((a, b) => a.spec.ordinal - b.spec.ordinal || a.spec.number - b.spec.number);
  }

  /** Its first slice, taken when it has none yet. @throws {IdsExhaustedError} */
  async first(owner: SliceOwner, options: RequestOptions): Promise<Stored<IdentitySlice>> {
    return this.slicesOf(owner)[0] ?? this.take(owner, 0, options);
  }

  /**
   * Takes one more slice. The name makes it unique: who comes second tries the next one; who took it in an earlier life, and crashed before
   * it knew, finds it is the own one.
   * @throws {IdsExhaustedError} when none is left.
   */
  async take(owner: SliceOwner, ordinal: number, options: RequestOptions): Promise<Stored<IdentitySlice>> {
    if (ordinal >= slicesMax)
      throw new IdsExhaustedError(`${owner.name} has ${slicesMax} slices, which is all it may have`);
    const reserved = this.parts.reserved();
    for (const number of new Set(proposeSlices(owner.uid))) {
      if (touches(number, reserved)) continue;
      const name = sliceName(number);
      const slice = this.known(name) ?? (await this.create(owner, number, ordinal, options));
      if (slice.spec.virtualOrganization.uid === owner.uid && slice.spec.ordinal === ordinal) return slice;
    }
    throw new IdsExhaustedError('every slice is taken or touches reservedIds of the local Site');
  }

  /** The newest state that this process knows of a slice. */
  private known(name: string): Stored<IdentitySlice> | undefined {
    const written = this.written.get(name);
    const cached = this.parts.slices.get({ name });
    if (written === undefined || cached === undefined) return written ?? cached;
    const isBehind =
      cached.metadata.uid === written.metadata.uid &&
      (cached.metadata.generation ?? 0) < (written.metadata.generation ?? 0);
    if (isBehind) return written;
    this.written.delete(name);
    return cached;
  }

  /** @returns the new slice, or the one that has the name already. */
  private async create(
    owner: SliceOwner,
    number: number,
    ordinal: number,
    options: RequestOptions,
  ): Promise<Stored<IdentitySlice>> {
    const name = sliceName(number);
    const spec = { number, virtualOrganization: { name: owner.name, uid: owner.uid }, ordinal };
    try {
      const made = await this.parts.client.create(
        {
          apiVersion: apiVersionOf(identitySliceDefinition),
          kind: identitySliceDefinition.kind,
          metadata: { name },
          spec: { ...spec, state: 'InUse', users: 0, issued: '', groups: {} },
        },
        options,
      );
      this.written.set(name, made);
      return made;
    } catch (error) {
      if (!(error instanceof AlreadyExistsError)) throw error;
    }
    const found = await this.parts.client.find({ name }, options);
    if (found === undefined)
      throw new ConflictError({ method: 'GET', path: name }, 409, { message: 'it is gone again' });
    this.written.set(name, found);
    return found;
  }

  /**
   * Changes a slice by compare-and-swap: reads it again and asks `change` again as long as somebody else wrote in between.
   * @param change - gets the record and the ids given out, all that were ever seen here; sets what it wants; false writes nothing.
   * @returns the record that is stored.
   */
  async change(
    slice: Stored<IdentitySlice>,
    change: (spec: IdentitySlice['spec'], issued: IdBitmap) => boolean,
    options: RequestOptions,
  ): Promise<Stored<IdentitySlice>> {
    const { name } = slice.metadata;
    const seen = this.seenOf(slice);
    let current = this.known(name) ?? slice;
    for (;;) {
      seen.addAll(new IdBitmap(current.spec.issued));
      const spec = structuredClone(current.spec);
      if (!change(spec, seen)) return current;
      spec.issued = seen.toString();
      spec.users = seen.count(userRange.first, userRange.last);
      const { apiVersion, kind, metadata } = current;
      try {
        current = await this.parts.client.update({ apiVersion, kind, metadata, spec }, options);
        this.written.set(name, current);
        return current;
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
      }
      options.signal?.throwIfAborted();
      const found = await this.parts.client.find({ name }, options);
      if (found === undefined) {
        this.written.delete(name);
        throw new ConflictError({ method: 'GET', path: name }, 409, { message: `${name} was deleted; restore it` });
      }
      this.written.set(name, found);
      current = found;
    }
  }

  private seenOf({ spec }: IdentitySlice): IdBitmap {
    const id = `${spec.virtualOrganization.uid}/${spec.number}`;
    const known = this.seen.get(id) ?? new IdBitmap();
    this.seen.set(id, known);
    return known;
  }
}

/** Name of the object that records a slice. */
export function sliceName(number: number): string {
  return `slice-${String(number).padStart(4, '0')}`;
}

const byOwner = (slice: Stored<IdentitySlice>): readonly string[] => [slice.spec.virtualOrganization.uid];

function touches(number: number, reserved: readonly LocalRange[]): boolean {
  const start = idBase + number * sliceSize;
  return reserved.some(({ first, last }) => first < start + sliceSize && last >= start);
}

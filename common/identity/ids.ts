/**
 * The arithmetic of issued ids. A virtual organization owns slices of 65,536 ids each; a member's id is an id within a slice. What a
 * number means is decided by the record (IdentitySlice, VOMembership) alone: nothing here may be used to find out who somebody is.
 */
import { createHash } from 'node:crypto';
import { AssertionError } from '../errors.ts';

/** First id of slice 0: above what SSSD and systemd use, see docs/adr/0080. */
export const idBase = 2_013_265_920;
/** Slices up to 2^31 - 1, the highest id that Kubernetes takes. */
export const sliceCount = 2048;
/** Ids per slice. */
export const sliceSize = 65_536;
/** Local id of the virtual organization itself: the primary group of every member. */
export const organizationLocalId = 0;

/** A range of local ids, both ends included. */
export interface LocalRange {
  readonly first: number;
  readonly last: number;
}

/** Local ids of groups. */
export const groupRange: LocalRange = { first: 1, last: 1023 };
/** Local ids of users. Those above are never given out: 65534 and 65535 mean nobody to most systems. */
export const userRange: LocalRange = { first: 1024, last: 60_000 };
/** Longest handle in a user name. */
export const handleMax = 16;

/** Who somebody is: what an issuer calls them. The same at every site. */
export interface Principal {
  readonly issuer: string;
  readonly subject: string;
}

/** Whether both are the same person, as far as an issuer can tell. */
export function isSamePrincipal(a: Principal, b: Principal): boolean {
  return a.issuer === b.issuer && a.subject === b.subject;
}

/** An id as the record has it. */
export interface SliceId {
  /** Number of the slice. */
  readonly slice: number;
  /** Id within the slice. */
  readonly localId: number;
}

/**
 * The user or group id, the same on every site.
 * @throws {AssertionError} when the slice or the local id doesn't exist.
 */
export function globalId({ slice, localId }: SliceId): number {
  assertWithin(slice, { first: 0, last: sliceCount - 1 }, 'slice');
  assertWithin(localId, { first: 0, last: sliceSize - 1 }, 'local id');
  return idBase + slice * sliceSize + localId;
}

/** Where a user or group id lies; undefined when it is in no slice. */
export function sliceIdOf(id: number): SliceId | undefined {
  if (!Number.isInteger(id) || id < idBase || id >= idBase + sliceCount * sliceSize) return undefined;
  return { slice: Math.floor((id - idBase) / sliceSize), localId: (id - idBase) % sliceSize };
}

/** Whether a local id may be a user's. */
export function isUserLocalId(localId: number): boolean {
  return Number.isInteger(localId) && localId >= userRange.first && localId <= userRange.last;
}

const userNamePattern = /^u-([a-z0-9]{1,16})-([1-9][0-9]{9})$/;

/**
 * The name of a member on every site: `u-`, the handle, `-` and the uid; at most 29 characters. The uid can be read from it, so that a
 * policy needs no look-up.
 * @param handle - 1 to 16 lower-case letters and digits.
 * @throws {AssertionError} when the handle has another form or the uid is no user's.
 */
export function buildUserName(handle: string, uid: number): string {
  const name = `u-${handle}-${uid}`;
  if (parseUserName(name) === undefined) throw new AssertionError(`No user name: handle ${handle}, uid ${uid}`);
  return name;
}

/** What a user name says; undefined when it is not one that `buildUserName` makes. */
export function parseUserName(name: string): { readonly handle: string; readonly uid: number } | undefined {
  const [, handle, digits] = userNamePattern.exec(name) ?? [];
  if (handle === undefined || digits === undefined) return undefined;
  const uid = Number(digits);
  const place = sliceIdOf(uid);
  return place !== undefined && isUserLocalId(place.localId) ? { handle, uid } : undefined;
}

/** The user name of a member as whom the API server knows somebody: members act as service accounts that are called like them. */
export function memberNameOf(kubernetesUser: string, namespace: string): string | undefined {
  const prefix = `system:serviceaccount:${namespace}:`;
  if (!kubernetesUser.startsWith(prefix)) return undefined;
  const name = kubernetesUser.slice(prefix.length);
  return parseUserName(name) === undefined ? undefined : name;
}

/** The handle that is made from the name of a membership, which starts with a letter or digit: its letters and digits, at most 16. */
export function handleFrom(membershipName: string): string {
  return membershipName.replaceAll(/[^a-z0-9]/g, '').slice(0, handleMax);
}

/** Proposals that look random before the sequence goes on one by one. */
const scatteredProposals = 64;

/**
 * The order in which local ids are tried for a principal: the first that the record has free is issued. Known in advance, so that a
 * lost record can be understood, but nothing depends on it. Every id of the range comes up at least once.
 * @param organizationUid - `metadata.uid` of the virtual organization.
 */
export function proposeUserIds(organizationUid: string, { issuer, subject }: Principal): Generator<number, void> {
  return propose(['user', organizationUid, issuer, subject], userRange);
}

/** The order in which local ids are tried for a group. */
export function proposeGroupIds(organizationUid: string, path: string): Generator<number, void> {
  return propose(['group', organizationUid, path], groupRange);
}

/** The order in which slices are tried for a virtual organization. */
export function proposeSlices(organizationUid: string): Generator<number, void> {
  return propose(['slice', organizationUid], { first: 0, last: sliceCount - 1 });
}

/** SHA-256 over the parts, each with its length before it, and a counter; then one by one from the last proposal on. */
function* propose(parts: readonly string[], { first, last }: LocalRange): Generator<number, void> {
  const size = last - first + 1;
  let offset = 0;
  for (let k = 0; k < scatteredProposals; k++) {
    const hash = createHash('sha256');
    for (const part of [...parts, String(k)]) {
      const bytes = Buffer.from(part, 'utf8');
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      hash.update(length).update(bytes);
    }
    offset = hash.digest().readUIntBE(0, 6) % size;
    yield first + offset;
  }
  for (let step = 1; step <= size; step++) yield first + ((offset + step) % size);
}

function assertWithin(value: number, { first, last }: LocalRange, what: string): void {
  if (Number.isInteger(value) && value >= first && value <= last) return;
  throw new AssertionError(`The ${what} ${value} is not a whole number from ${first} to ${last}`);
}

import { createHash } from 'node:crypto';
import type { Attributes } from '#proto/selector/attributes.ts';
import type { Borders } from './borders.ts';

/** Where a profile lies under one set of borders; computed once and kept with the profile. */
export interface Placement {
  readonly borders: Borders;
  /** The cell code per dimension, in [0, 2^levels). */
  readonly codes: Uint8Array;
  /** The key, most significant bit first: attribute bits interleaved by level, then 64 bits of the id's hash. */
  readonly key: Uint32Array;
}

/** What a node says of itself once per start. Shared by every descriptor of that start. */
export class Profile {
  /** `site/node`, unique over all sites since the site is part of it. */
  readonly id: string;
  readonly site: string;
  /** `host:port` of its overlay door. */
  readonly address: string;
  /** Wall-clock milliseconds of its start: a restart outranks everything said before. */
  readonly incarnation: number;
  readonly attributes: Attributes;
  /** False for a member that only asks, such as the operator's selector. */
  readonly isOffering: boolean;
  /** 64 bits of SHA-256 of the id: spreads the nodes of one crowded cell over a tree. */
  readonly idHash: readonly [number, number];
  /** Bytes on the wire of a descriptor with this profile, signature included. */
  readonly wireBytes: number;
  /** 31 bits of the id's hash: tells most nodes apart without a look at their ids. */
  readonly tag: number;
  private head = 0;
  private headBefore = 0;
  private placed: Placement | undefined;
  private placedBefore: Placement | undefined;
  private borders: Borders | undefined;
  private bordersBefore: Borders | undefined;

  constructor(fields: {
    site: string;
    node: string;
    address: string;
    incarnation: number;
    attributes: Attributes;
    isOffering: boolean;
  }) {
    this.site = fields.site;
    this.id = `${fields.site}/${fields.node}`;
    this.address = fields.address;
    this.incarnation = fields.incarnation;
    this.attributes = fields.attributes;
    this.isOffering = fields.isOffering;
    const digest = createHash('sha256').update(this.id).digest();
    this.idHash = [digest.readUInt32BE(0), digest.readUInt32BE(4)];
    this.tag = this.idHash[0] >>> 2;
    this.wireBytes = profileBytes(this);
  }

  /** The node's name inside its site. */
  get node(): string {
    return this.id.slice(this.site.length + 1);
  }

  /** Where this profile lies under `borders`. The two last asked for are kept: a change of borders needs two. */
  placement(borders: Borders): Placement {
    if (this.borders === borders && this.placed !== undefined) return this.placed;
    if (this.bordersBefore === borders && this.placedBefore !== undefined) return this.placedBefore;
    const placed = borders.place(this);
    [this.placedBefore, this.bordersBefore, this.headBefore] = [this.placed, this.borders, this.head];
    [this.placed, this.borders, this.head] = [placed, borders, placed.key[0] ?? 0];
    return placed;
  }

  /** First 32 bits of the key under `borders`: settles most comparisons of keys without a look at the key. */
  headUnder(borders: Borders): number {
    if (this.borders === borders) return this.head;
    if (this.bordersBefore === borders) return this.headBefore;
    return this.placement(borders).key[0] ?? 0;
  }
}

/** A signed statement «this is me, alive at `stamp`». Immutable. */
export interface Descriptor {
  readonly profile: Profile;
  /** Wall-clock milliseconds at its owner when it was signed. */
  readonly stamp: number;
  /** Said when the node ends on purpose. */
  readonly isLeaving: boolean;
  /** Ed25519 by the node's site over {@link signedBytes}. */
  readonly signature: Uint8Array;
}

/** Whether `a` says something newer of the same node than `b`: a later start, or a later stamp of the same start. */
export function isNewer(a: Descriptor, b: Descriptor): boolean {
  return a.profile.incarnation !== b.profile.incarnation
    ? a.profile.incarnation > b.profile.incarnation
    : a.stamp > b.stamp;
}

/**
 * What is signed: every field, each with its length before it, so that no two descriptors share their bytes.
 * Attributes are sorted by name.
 */
export function signedBytes(descriptor: Pick<Descriptor, 'profile' | 'stamp' | 'isLeaving'>): Uint8Array {
  const { profile } = descriptor;
  const fields = ['xtreemos-descriptor-1', profile.site, profile.node, profile.address];
  fields.push(String(profile.incarnation), String(descriptor.stamp), descriptor.isLeaving ? 'leaving' : 'alive');
  fields.push(profile.isOffering ? 'offering' : 'asking');
  for (const name of Object.keys(profile.attributes).sort()) {
    const value = profile.attributes[name];
    fields.push(name, typeof value === 'number' ? `n${String(value)}` : `s${value ?? ''}`);
  }
  return lengthPrefixed(fields);
}

/** Texts, each with its length in UTF-8 bytes before it. */
export function lengthPrefixed(fields: readonly string[]): Uint8Array {
  return Buffer.concat(
    fields.flatMap((field) => {
      const text = Buffer.from(field, 'utf8');
      const length = Buffer.alloc(4);
      length.writeUInt32BE(text.length);
      return [length, text];
    }),
  );
}

/** Protobuf bytes of a descriptor: tags and lengths of selector.proto's Descriptor. Tried against the codec in a test. */
function profileBytes(profile: Profile): number {
  const text = (value: string): number => 2 + Buffer.byteLength(value);
  // incarnation and stamp: 1 tag + 6 bytes of varint; signature 2 + 64; isOffering 2.
  let bytes = text(profile.site) + text(profile.node) + text(profile.address) + 7 + 7 + 66;
  if (profile.isOffering) bytes += 2;
  for (const [name, value] of Object.entries(profile.attributes)) {
    bytes += 2 + text(name) + (typeof value === 'number' ? 9 : text(value));
  }
  return bytes + 3;
}

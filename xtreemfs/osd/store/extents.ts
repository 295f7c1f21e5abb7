import { chunkBytes } from './record.ts';

/** One file of a log. `live` counts payload bytes that present objects or file versions still point to. */
export interface SegmentUse {
  readonly number: number;
  live: number;
}

/**
 * Bytes of an object and where they lie. A record's payload may be shared by several extents after it was partly
 * overwritten: `skip` is where in the payload this one starts.
 */
export interface Extent {
  /** Offset in the object. */
  readonly offset: number;
  readonly length: number;
  /** Undefined: the bytes were damaged and their place is lost; reading them fails. */
  readonly segment: SegmentUse | undefined;
  /** Where the payload starts in the segment. */
  readonly position: number;
  readonly skip: number;
  readonly payloadLength: number;
  /** One CRC-32 per chunk of the payload. */
  readonly crcs: Uint32Array;
}

/** One object: extents in order of offset, without overlap; gaps and the rest up to `length` are zeros. */
export interface ObjectEntry {
  version: number;
  length: number;
  extents: Extent[];
  /** Shared with a file version: copy before changing. */
  isFrozen: boolean;
}

function part(extent: Extent, from: number, to: number): Extent {
  return { ...extent, offset: from, length: to - from, skip: extent.skip + (from - extent.offset) };
}

function release(extent: Extent, bytes: number): void {
  if (extent.segment !== undefined) extent.segment.live -= bytes;
}

/** Puts `fresh` over whatever was there. Live counts of the covered extents' segments go down. */
export function overlay(extents: Extent[], fresh: Extent): Extent[] {
  const end = fresh.offset + fresh.length;
  const last = extents.at(-1);
  if (last === undefined || last.offset + last.length <= fresh.offset) {
    extents.push(fresh);
    return extents;
  }
  let first = 0;
  let high = extents.length;
  while (first < high) {
    const middle = (first + high) >> 1;
    const extent = extents[middle];
    if (extent !== undefined && extent.offset + extent.length <= fresh.offset) first = middle + 1;
    else high = middle;
  }
  const replacement: Extent[] = [fresh];
  let next = first;
  for (; next < extents.length; next++) {
    const extent = extents[next];
    if (extent === undefined || extent.offset >= end) break;
    const extentEnd = extent.offset + extent.length;
    if (extent.offset < fresh.offset) replacement.unshift(part(extent, extent.offset, fresh.offset));
    if (extentEnd > end) replacement.push(part(extent, end, extentEnd));
    release(extent, Math.min(extentEnd, end) - Math.max(extent.offset, fresh.offset));
  }
  extents.splice(first, next - first, ...replacement);
  return extents;
}

/** Drops everything at and above `length`. */
export function cut(extents: Extent[], length: number): Extent[] {
  const kept: Extent[] = [];
  for (const extent of extents) {
    const end = extent.offset + extent.length;
    if (end <= length) kept.push(extent);
    else if (extent.offset >= length) release(extent, extent.length);
    else {
      kept.push(part(extent, extent.offset, length));
      release(extent, end - length);
    }
  }
  return kept;
}

/** Gives back all bytes of an object. */
export function releaseAll(extents: readonly Extent[]): void {
  for (const extent of extents) release(extent, extent.length);
}

/** A contiguous read from a segment that covers whole chunks. */
export interface Piece {
  readonly extent: Extent;
  /** Offset in the object, and bytes, that the reader wants from this extent. */
  readonly offset: number;
  readonly length: number;
  /** First chunk, and bytes to read from its start. */
  readonly chunk: number;
  readonly readLength: number;
  /** Where in the bytes read the wanted ones start. */
  readonly lead: number;
}

/** What has to be read for `[offset, offset + length)`; gaps between pieces are zeros. */
export function plan(extents: readonly Extent[], offset: number, length: number): Piece[] {
  const end = offset + length;
  const pieces: Piece[] = [];
  for (const extent of extents) {
    if (extent.offset >= end) break;
    const extentEnd = extent.offset + extent.length;
    if (extentEnd <= offset) continue;
    const from = Math.max(offset, extent.offset);
    const to = Math.min(end, extentEnd);
    const inPayload = extent.skip + (from - extent.offset);
    const chunk = Math.floor(inPayload / chunkBytes);
    const readEnd = Math.min(extent.payloadLength, Math.ceil((inPayload + to - from) / chunkBytes) * chunkBytes);
    pieces.push({
      extent,
      offset: from,
      length: to - from,
      chunk,
      readLength: readEnd - chunk * chunkBytes,
      lead: inPayload - chunk * chunkBytes,
    });
  }
  return pieces;
}

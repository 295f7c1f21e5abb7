import { crc32 } from 'node:zlib';
import { blocks } from '#xtreemfs/rpc/blocks.ts';
import { CorruptionError, diskFailure } from './disk.ts';
import { plan, type ObjectEntry, type Piece } from './extents.ts';
import { chunkBytes } from './record.ts';
import type { SegmentFile, SegmentFiles } from './segment-files.ts';

/** Bytes of an object: `data`, then `zeros` bytes of value 0 that are not worth sending. */
export interface ObjectBytes {
  readonly data: Buffer;
  readonly zeros: number;
  /** What `data` lies in: whoever has done with it may give it back to {@link blocks}. */
  readonly block?: Buffer | undefined;
}

const nothing = Buffer.alloc(0);

/**
 * Reads and verifies part of an object. The result ends at the object's length.
 * @throws {CorruptionError} when any chunk touched doesn't match its checksum.
 * @throws {DiskFailure} when the disk does not answer.
 */
export async function readObject(
  files: SegmentFiles,
  entry: ObjectEntry,
  offset: number,
  length: number,
): Promise<ObjectBytes> {
  const wanted = Math.min(length, entry.length - offset);
  if (wanted <= 0) return { data: nothing, zeros: 0 };
  const pieces = plan(entry.extents, offset, wanted);
  const last = pieces.at(-1);
  if (last === undefined) return { data: nothing, zeros: wanted };
  const first = pieces[0];
  const dataLength = last.offset + last.length - offset;
  const zeros = wanted - dataLength;
  if (pieces.length === 1 && first?.offset === offset) {
    const block = await readPiece(files, last);
    return { data: block.subarray(last.lead, last.lead + last.length), zeros, block };
  }
  const data = blocks.take(dataLength).fill(0);
  await Promise.all(
    pieces.map(async (piece) => {
      const block = await readPiece(files, piece);
      data.set(block.subarray(piece.lead, piece.lead + piece.length), piece.offset - offset);
      blocks.give(block);
    }),
  );
  return { data, zeros, block: data };
}

/** The chunks in which a piece lies, verified. */
async function readPiece(files: SegmentFiles, piece: Piece): Promise<Buffer> {
  const { extent } = piece;
  const segment = extent.segment as SegmentFile | undefined;
  if (segment === undefined) throw new CorruptionError('the record of these bytes was damaged: restore the object');
  const bytes = blocks.take(piece.readLength);
  const acquired = files.acquire(segment);
  let got: number;
  try {
    got = await (await acquired).read(bytes, extent.position + piece.chunk * chunkBytes);
  } catch (error) {
    throw diskFailure(error, `reading ${segment.path}`);
  } finally {
    files.release(segment);
  }
  if (got < bytes.length || !matches(bytes, extent.crcs, piece.chunk)) {
    throw new CorruptionError(`${segment.path} at ${extent.position}: checksum mismatch; restore the object`);
  }
  return bytes;
}

function matches(bytes: Buffer, crcs: Uint32Array, firstChunk: number): boolean {
  for (let at = 0, chunk = firstChunk; at < bytes.length; at += chunkBytes, chunk++) {
    if (crc32(bytes.subarray(at, at + chunkBytes)) !== crcs[chunk]) return false;
  }
  return true;
}

import { deflateSync, inflateSync } from 'node:zlib';
import type { ObjectList } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError } from '#xtreemfs/rpc/errors.ts';

/**
 * What a Java object stream holds before the words of a `java.util.BitSet`: stream magic, class descriptors of BitSet
 * (serialVersionUID 7997698588986878753, one field `bits` of type long[]) and of long[]. Source: protocol reference, 13.9.
 */
const javaPrefix = Buffer.from(
  'aced0005737200106a6176612e7574696c2e4269745365746efd887e3934ab210300015b0004626974737400025b4a7870' +
    '757200025b4a782004b512b175930200007870',
  'hex',
);
const endOfBlock = 0x78;
/** Bytes that a received set may inflate to: 2^26 objects. */
const setBytesMax = 8 * 1024 * 1024 + 4096;

/** Object numbers as the wire has them: bit i stands for object `first + i * width`. */
export function encodeObjectList(objects: Iterable<number>, first: number, width: number): ObjectList {
  const bits: number[] = [];
  for (const object of objects) {
    const bit = (object - first) / width;
    if (Number.isInteger(bit) && bit >= 0) bits.push(bit);
  }
  const words = bits.length === 0 ? 0 : Math.floor(bits.reduce((a, b) => Math.max(a, b)) / 64) + 1;
  const bytes = Buffer.alloc(javaPrefix.length + 4 + 8 * words + 1);
  javaPrefix.copy(bytes);
  const start = bytes.writeInt32BE(words, javaPrefix.length);
  for (const bit of bits) {
    const at = start + 8 * Math.floor(bit / 64) + 7 - Math.floor((bit % 64) / 8);
    bytes[at] = (bytes[at] ?? 0) | (1 << (bit % 8));
  }
  bytes[bytes.length - 1] = endOfBlock;
  return { set: deflateSync(bytes), stripeWidth: width, first };
}

/** The object numbers in a list. @throws {RpcError} EINVAL when it is not what Java writes for a BitSet. */
export function decodeObjectList(list: ObjectList): Set<number> {
  let bytes: Buffer;
  try {
    bytes = inflateSync(list.set, { maxOutputLength: setBytesMax });
  } catch (error) {
    throw errnoError(PosixErrno.EINVAL, 'The object set is no deflated data, or too long', error);
  }
  const start = javaPrefix.length + 4;
  const words = bytes.length < start ? -1 : bytes.readInt32BE(javaPrefix.length);
  const isBitSet = bytes.subarray(0, javaPrefix.length).equals(javaPrefix);
  if (!isBitSet || words < 0 || bytes.length !== start + 8 * words + 1) {
    throw errnoError(PosixErrno.EINVAL, 'The object set is no serialized java.util.BitSet');
  }
  const objects = new Set<number>();
  for (let byte = 0; byte < 8 * words; byte++) {
    const value = bytes[start + 8 * Math.floor(byte / 8) + 7 - (byte % 8)] ?? 0;
    for (let bit = 0; value >> bit !== 0; bit++) {
      if (((value >> bit) & 1) === 1) objects.add(list.first + (8 * byte + bit) * list.stripeWidth);
    }
  }
  return objects;
}

/** One piece of a byte range: what lies in one object. */
export interface ObjectPiece {
  readonly objectNumber: number;
  /** Within the object. */
  readonly offset: number;
  readonly length: number;
  /** Where the piece starts within the range. */
  readonly position: number;
}

/**
 * Cuts a byte range of a file into pieces that each lie within one object (RAID 0; protocol reference, 13.3).
 * @param objectBytes - the stripe size in bytes.
 */
export function splitRange(offset: number, length: number, objectBytes: number): ObjectPiece[] {
  const pieces: ObjectPiece[] = [];
  for (let position = 0; position < length;) {
    const at = offset + position;
    const objectNumber = Math.floor(at / objectBytes);
    const within = at - objectNumber * objectBytes;
    const count = Math.min(length - position, objectBytes - within);
    pieces.push({ objectNumber, offset: within, length: count, position });
    position += count;
  }
  return pieces;
}

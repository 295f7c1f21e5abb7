import { sliceSize } from '#common/identity/ids.ts';

/** Which local ids of a slice were ever given out, as `IdentitySlice.spec.issued` holds it. Bits are only ever set. */
export class IdBitmap {
  private readonly bytes = new Uint8Array(sliceSize / 8);

  /** @param text - base64; bits beyond its end are not set. */
  constructor(text = '') {
    this.bytes.set(Buffer.from(text, 'base64').subarray(0, this.bytes.length));
  }

  has(localId: number): boolean {
    return ((this.bytes[localId >> 3] ?? 0) & (1 << (localId & 7))) !== 0;
  }

  /** @returns whether the bit was not set before. */
  add(localId: number): boolean {
    if (this.has(localId)) return false;
    this.bytes[localId >> 3] = (this.bytes[localId >> 3] ?? 0) | (1 << (localId & 7));
    return true;
  }

  /** Takes over every bit of another one. */
  addAll(other: IdBitmap): void {
    for (let at = 0; at < this.bytes.length; at++) this.bytes[at] = (this.bytes[at] ?? 0) | (other.bytes[at] ?? 0);
  }

  /** How many ids from `first` to `last` were given out. */
  count(first: number, last: number): number {
    let count = 0;
    for (let byte = first >> 3; byte <= last >> 3; byte++) {
      // Most of most slices was never given out.
      if (this.bytes[byte] === 0) continue;
      for (let localId = byte << 3; localId < (byte + 1) << 3; localId++) {
        if (localId >= first && localId <= last && this.has(localId)) count++;
      }
    }
    return count;
  }

  /** Base64 without the empty end, so that a slice in which little was given out is small. */
  toString(): string {
    const length = this.bytes.findLastIndex((byte) => byte !== 0) + 1;
    return Buffer.from(this.bytes.buffer, 0, length).toString('base64');
  }
}

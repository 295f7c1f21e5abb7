import { cut, overlay, releaseAll, type Extent, type ObjectEntry, type SegmentUse } from './extents.ts';
import { decodeAttributes, flagOwned, flagRewrite, flagWhole, recordType, type RecordBody } from './record.ts';

/** A frozen set of objects: what a snapshot reads. */
export interface FileVersion {
  /** Rises by one per version of the file. */
  readonly number: number;
  /** When its data was first and last changed, milliseconds since the Unix epoch. */
  readonly beganMs: number;
  readonly modifiedMs: number;
  readonly objects: ReadonlyMap<number, ObjectEntry>;
}

/** Where a record's payload was put. */
export interface Placement {
  readonly segment: SegmentUse | undefined;
  readonly position: number;
  readonly length: number;
  readonly crcs: Uint32Array;
}

/**
 * What one OSD holds of one file: the effect of a prefix of its log. `apply` is the only way to change it, at run time
 * and at recovery alike, so that both always agree.
 */
export class FileState {
  /** Present objects by number. */
  readonly objects = new Map<number, ObjectEntry>();
  /** Small values that change atomically with data: truncate epoch, view state, … */
  readonly attributes = new Map<string, Buffer>();
  /** Oldest first. */
  readonly versions: FileVersion[] = [];
  /** Highest object number, −1 when there is none. */
  lastObject = -1;
  /** Set when versions share extents with present objects: live counts must be computed afresh then. */
  isLiveStale = false;
  /** When data was last changed, milliseconds since the Unix epoch; 0 when never. */
  modifiedMs = 0;
  /** When data was first changed since the last file version was frozen; 0 when it was not. */
  beganMs = 0;

  /**
   * Applies a record.
   * @param payload - the bytes of records that carry attributes; ignored for data.
   */
  apply(body: RecordBody, placement: Placement, payload: Buffer | undefined, timeMs: number): void {
    const isChange = body.type === recordType.write && (body.flags & flagRewrite) === 0;
    if (isChange || body.type === recordType.truncate) this.noteChange(timeMs);
    switch (body.type) {
      case recordType.write:
        this.write(body, placement);
        return;
      case recordType.truncate:
        this.truncate(body);
        this.setAttributes(payload);
        return;
      case recordType.attributes:
        this.setAttributes(payload);
        return;
      case recordType.remove:
        this.remove(body.object);
        return;
      case recordType.freeze:
        this.freeze(body.object);
        return;
      case recordType.drop: {
        const index = this.versions.findIndex((version) => version.number === body.object);
        if (index !== -1) this.versions.splice(index, 1);
        this.isLiveStale = true;
        return;
      }
      case recordType.mark:
        return;
    }
  }

  /** Whether there is anything worth keeping on disk. */
  get isEmpty(): boolean {
    return this.objects.size === 0 && this.attributes.size === 0 && this.versions.length === 0;
  }

  /** Bytes of all extents of present objects and versions, per segment, counted afresh. */
  recountLive(segments: Iterable<SegmentUse>): void {
    for (const segment of segments) segment.live = 0;
    const seen = new Set<Extent>();
    const count = (entry: ObjectEntry): void => {
      for (const extent of entry.extents) {
        if (extent.segment === undefined || seen.has(extent)) continue;
        seen.add(extent);
        extent.segment.live += extent.length;
      }
    };
    for (const entry of this.objects.values()) count(entry);
    for (const version of this.versions) for (const entry of version.objects.values()) count(entry);
    this.isLiveStale = this.versions.length > 0;
  }

  private write(body: RecordBody, placement: Placement): void {
    const entry = this.entryForChange(body.object);
    entry.version = body.version;
    const extent: Extent = {
      offset: body.offset,
      length: placement.length,
      segment: placement.segment,
      position: placement.position,
      skip: 0,
      payloadLength: placement.length,
      crcs: placement.crcs,
    };
    if (placement.segment !== undefined) placement.segment.live += placement.length;
    if ((body.flags & flagWhole) !== 0) {
      this.give(entry.extents);
      entry.extents = placement.length === 0 ? [] : [extent];
      entry.length = body.objectLength;
    } else {
      entry.extents = overlay(entry.extents, extent);
      entry.length = Math.max(entry.length, body.offset + placement.length);
    }
  }

  private truncate(body: RecordBody): void {
    for (const [number, entry] of this.objects) {
      if (number <= body.object) continue;
      this.give(entry.extents);
      this.objects.delete(number);
    }
    if ((body.flags & flagOwned) !== 0) {
      const entry = this.entryForChange(body.object);
      if (body.objectLength < entry.length) entry.extents = cut(entry.extents, body.objectLength);
      entry.length = body.objectLength;
      if (body.version > entry.version) entry.version = body.version;
    }
    this.findLast();
  }

  private remove(object: number): void {
    const entry = this.objects.get(object);
    if (entry === undefined) return;
    this.give(entry.extents);
    this.objects.delete(object);
    if (object === this.lastObject) this.findLast();
  }

  private freeze(number: number): void {
    for (const entry of this.objects.values()) entry.isFrozen = true;
    const { beganMs, modifiedMs } = this;
    this.versions.push({ number, beganMs, modifiedMs, objects: new Map(this.objects) });
    this.beganMs = 0;
    this.isLiveStale = true;
  }

  private noteChange(timeMs: number): void {
    if (this.beganMs === 0) this.beganMs = timeMs;
    this.modifiedMs = timeMs;
  }

  private setAttributes(payload: Buffer | undefined): void {
    if (payload === undefined) return;
    for (const [key, value] of decodeAttributes(payload)) {
      if (value.length === 0) this.attributes.delete(key);
      else this.attributes.set(key, value);
    }
  }

  private entryForChange(number: number): ObjectEntry {
    let entry = this.objects.get(number);
    if (entry === undefined) {
      entry = { version: 0, length: 0, extents: [], isFrozen: false };
      this.objects.set(number, entry);
      if (number > this.lastObject) this.lastObject = number;
    } else if (entry.isFrozen) {
      entry = { version: entry.version, length: entry.length, extents: [...entry.extents], isFrozen: false };
      this.objects.set(number, entry);
    }
    return entry;
  }

  private give(extents: readonly Extent[]): void {
    if (this.versions.length > 0) this.isLiveStale = true;
    else releaseAll(extents);
  }

  private findLast(): void {
    this.lastObject = -1;
    for (const number of this.objects.keys()) if (number > this.lastObject) this.lastObject = number;
  }
}

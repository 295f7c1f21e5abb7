import type { OsdWriteResponse, XCap, XLocSet } from '#proto/generated/xtreemfs/global-types.ts';

/** A file as a request names it: its capability and the set of its replicas. */
export interface ReplicatedFile {
  readonly fileId: string;
  readonly xcap: XCap;
  readonly xlocs: XLocSet;
}

/** A truncate that replicas have to know: objects above `lastObject` that are older than `version` are gone. */
export interface TruncateRecord {
  readonly version: number;
  readonly lastObject: number;
}

/** What one replica holds of a file. */
export interface ReplicaState {
  readonly truncateEpoch: number;
  readonly fileBytes: number;
  /** Versions of present objects by number. */
  readonly objects: ReadonlyMap<number, number>;
  readonly truncates: readonly TruncateRecord[];
}

/** A whole object. */
export interface WholeObject {
  readonly version: number;
  readonly data: Buffer;
}

/** Bytes read: `data`, followed by `zeros` zero bytes. */
export interface ReadBytes {
  readonly data: Buffer;
  readonly zeros: number;
}

/**
 * The objects of one OSD as replication sees them. Every change survives a kill of the process once it resolves.
 * Calls for one object are never made at the same time, except reads.
 */
export interface ReplicaStore<F extends ReplicatedFile> {
  state(file: F): Promise<ReplicaState>;
  /** Version of one object; undefined when there is no such object. */
  version(file: F, object: number): Promise<number | undefined>;
  truncates(file: F): Promise<readonly TruncateRecord[]>;
  read(file: F, object: number, offset: number, length: number): Promise<ReadBytes>;
  /** Undefined when there is no such object. */
  readWhole(file: F, object: number): Promise<WholeObject | undefined>;
  /** Changes part of an object; checks quota vouchers. */
  write(file: F, object: number, offset: number, data: Buffer, version: number): Promise<OsdWriteResponse>;
  /** Puts a whole object in place of what is there. */
  replace(file: F, object: number, whole: WholeObject): Promise<void>;
  removeObject(file: F, object: number): Promise<void>;
  /** Sets the size and notes the truncate and the epoch of the capability. */
  truncate(file: F, newFileBytes: number, version: number): Promise<OsdWriteResponse>;
  /** Notes truncates and the truncate epoch (the higher one stays) without touching objects. */
  adopt(file: F, truncateEpoch: number, truncates: readonly TruncateRecord[]): Promise<void>;
}

import { crc32 } from 'node:zlib';
import type { RecordHeader } from './record.ts';
import type { SegmentFile } from './segment-files.ts';

/** Names of a file's log on disk. */
export interface LogPaths {
  readonly fileId: string;
  readonly directory: string;
  /** Path without the last dot and what follows. */
  readonly base: string;
}

/** Path of a segment. */
export function segmentPath(paths: LogPaths, number: number): string {
  return `${paths.base}.s${number}`;
}

/** Path of the checkpoint. */
export function checkpointPath(paths: LogPaths): string {
  return `${paths.base}.ck`;
}

/** Seed of the checksums of a segment's headers; number 0 is the checkpoint. */
export function seedOf(fileId: string, number: number): number {
  return crc32(`${fileId}#${number}`);
}

/** One record found behind the checkpoint. `lost` counts records missing before it. */
export interface FoundRecord {
  readonly header: RecordHeader;
  readonly segment: SegmentFile;
  /** Where the header starts. */
  readonly position: number;
  readonly lost: number;
}

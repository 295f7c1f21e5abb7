import type { FileLog } from './store/file-log.ts';
import { encodeAttributes, recordType, type RecordBody } from './store/record.ts';

/** The replica set version ("view") that an OSD last accepted for a file (protocol reference, 13.2). */
export interface FileView {
  readonly version: number;
  readonly isInvalidated: boolean;
}

/** A truncate as replicas have to know it: objects above `lastObject` older than `version` are gone. */
export interface TruncateEntry {
  readonly version: number;
  readonly lastObject: number;
}

/** What a file's log keeps beside objects. Every value is changed by one record, so a crash leaves the old or the new. */
const keys = {
  epoch: 'epoch',
  view: 'view',
  vouchers: 'vouchers',
  truncates: 'truncates',
  masterEpoch: 'master-epoch',
};

/** The view of a file that was never seen: any request's version is newer. */
export const unknownView: FileView = { version: -1, isInvalidated: true };

/** Truncate epoch; 0 when none was stored. */
export function truncateEpochOf(log: FileLog): number {
  return log.state.attributes.get(keys.epoch)?.readDoubleLE(0) ?? 0;
}

export function hasTruncateEpoch(log: FileLog): boolean {
  return log.state.attributes.has(keys.epoch);
}

export function viewOf(log: FileLog): FileView {
  const bytes = log.state.attributes.get(keys.view);
  return bytes === undefined ? unknownView : { version: bytes.readInt32LE(0), isInvalidated: bytes[4] === 1 };
}

/** Keys of vouchers that were finalized: expire times in milliseconds. */
export function finalizedVouchersOf(log: FileLog): Set<number> {
  return new Set(readNumbers(log, keys.vouchers));
}

export function masterEpochOf(log: FileLog): number {
  return readNumbers(log, keys.masterEpoch)[0] ?? 0;
}

export function truncateLogOf(log: FileLog): TruncateEntry[] {
  const numbers = readNumbers(log, keys.truncates);
  const entries: TruncateEntry[] = [];
  for (let i = 0; i + 1 < numbers.length; i += 2) {
    entries.push({ version: numbers[i] ?? 0, lastObject: numbers[i + 1] ?? 0 });
  }
  return entries;
}

/** Values to set together; those left out stay. */
export interface AttributeChanges {
  readonly truncateEpoch?: number;
  readonly view?: FileView;
  readonly finalizedVouchers?: readonly number[];
  readonly masterEpoch?: number;
  readonly truncateLog?: readonly TruncateEntry[];
}

/** Changes as a record's payload. */
export function encodeChanges(changes: AttributeChanges): Buffer {
  const { truncateEpoch, view, finalizedVouchers, masterEpoch, truncateLog } = changes;
  const values = new Map<string, Buffer>();
  if (truncateEpoch !== undefined) values.set(keys.epoch, numbersToBytes([truncateEpoch]));
  if (view !== undefined) {
    const bytes = Buffer.alloc(5);
    bytes.writeInt32LE(view.version, 0);
    bytes[4] = view.isInvalidated ? 1 : 0;
    values.set(keys.view, bytes);
  }
  if (finalizedVouchers !== undefined) values.set(keys.vouchers, numbersToBytes(finalizedVouchers));
  if (masterEpoch !== undefined) values.set(keys.masterEpoch, numbersToBytes([masterEpoch]));
  if (truncateLog !== undefined) {
    values.set(keys.truncates, numbersToBytes(truncateLog.flatMap((entry) => [entry.version, entry.lastObject])));
  }
  return encodeAttributes(values);
}

const plainBody: RecordBody = {
  type: recordType.attributes,
  flags: 0,
  object: -1,
  version: 0,
  offset: 0,
  objectLength: 0,
};

/** Sets attributes; durable only after `log.sync()`. */
export function setAttributes(log: FileLog, changes: AttributeChanges): Promise<void> {
  return log.append(plainBody, encodeChanges(changes));
}

/** As {@link setAttributes}, from inside an exclusive task. */
export function setAttributesNow(log: FileLog, changes: AttributeChanges): Promise<void> {
  return log.appendNow(plainBody, encodeChanges(changes));
}

function readNumbers(log: FileLog, key: string): number[] {
  const bytes = log.state.attributes.get(key);
  const numbers: number[] = [];
  for (let at = 0; bytes !== undefined && at + 8 <= bytes.length; at += 8) numbers.push(bytes.readDoubleLE(at));
  return numbers;
}

function numbersToBytes(numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 * numbers.length);
  numbers.forEach((number, i) => bytes.writeDoubleLE(number, 8 * i));
  return bytes;
}

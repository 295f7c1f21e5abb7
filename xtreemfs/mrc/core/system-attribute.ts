import type { z } from 'zod';
import { policyById } from '../placement/policies.ts';
import { refuse } from './errno.ts';
import type { Found, Operation } from './operation.ts';
import type { Volume } from './volume.ts';

/** What names of the file system's own attributes begin with (protocol reference, section 9.2). */
export const systemPrefix = 'xtreemfs.';

/** A write that needs more than one transaction; the service carries it out after this one. */
export type SystemWrite =
  | {
      readonly kind: 'createSnapshot';
      readonly volume: Volume;
      readonly ino: number;
      readonly name: string;
      readonly isRecursive: boolean;
      /** Whether every OSD must keep what files hold. */
      readonly isStrict: boolean;
    }
  | { readonly kind: 'deleteSnapshot'; readonly volume: Volume; readonly name: string }
  | { readonly kind: 'setReplicaPolicy'; readonly volume: Volume; readonly ino: number; readonly policy: string };

/** One system attribute: where it is, and how it is read and written. */
export interface Attribute {
  /** Which objects have it. */
  readonly on: 'any' | 'file' | 'directory' | 'root';
  /** Value, or undefined when the object has none. */
  readonly read?: (op: Operation, found: Found, path: string) => string | undefined;
  readonly write?: (op: Operation, found: Found, value: string) => void;
  /** A write that is only checked here and carried out after the transaction. */
  readonly defer?: (op: Operation, found: Found, value: string) => SystemWrite;
  /** Left out of listings: an action, or a copy of what another name lists. */
  readonly isHidden?: true;
}

/** @throws {PosixError} EINVAL when the text is not JSON of this shape. */
export function parseJson<T>(name: string, text: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    refuse('EINVAL', `${systemPrefix}${name}: ${JSON.stringify(text)} is not JSON`);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success)
    refuse('EINVAL', `${systemPrefix}${name}: ${parsed.error.issues.map((issue) => issue.message).join('; ')}`);
  return parsed.data;
}

/** Changes settings of the volume. */
export function setVolume(op: Operation, found: Found, change: Partial<Volume>): void {
  op.tx.putVolume({ ...found.volume, ...change });
}

/** @throws {PosixError} EINVAL unless the text is a number of bytes; empty means 0. */
export function bytesOf(name: string, text: string): number {
  const value = text.trim() === '' ? 0 : Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    refuse('EINVAL', `${systemPrefix}${name}: "${text}" is not a number of bytes`);
  return value;
}

/** @throws {PosixError} EINVAL unless the text is true, false or empty (false). */
export function booleanOf(name: string, text: string): boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  return text === '' ? false : refuse('EINVAL', `${systemPrefix}${name}: write true or false, not "${text}"`);
}

/** @throws {PosixError} EINVAL unless the text is a list of known selection policies. */
export function policyIds(name: string, text: string): number[] {
  const ids = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(Number);
  const unknown = ids.find((id) => !policyById.has(id));
  if (unknown !== undefined) refuse('EINVAL', `${systemPrefix}${name}: there is no policy ${unknown}`);
  return ids;
}

/** The record with an entry set, or removed by an empty value. */
export function withEntry(
  record: Readonly<Record<string, string>>,
  key: string,
  value: string,
): Record<string, string> {
  const rest = Object.fromEntries(Object.entries(record).filter(([name]) => name !== key));
  return value === '' ? rest : { ...rest, [key]: value };
}

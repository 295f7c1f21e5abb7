import { status } from '@grpc/grpc-js';
import { describeError, InvalidInputError, TerminalError } from '#common/errors.ts';
import { HolderError, type HolderErrorCode } from '../holder/protocol.ts';

/** A refusal with its code, as the CSI specification has them. */
export class CsiError extends TerminalError {
  override readonly name = 'CsiError';
  readonly code: status;

  constructor(code: status, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const holderCodes: Readonly<Record<HolderErrorCode, status>> = {
  Invalid: status.INVALID_ARGUMENT,
  Conflict: status.ALREADY_EXISTS,
  Busy: status.FAILED_PRECONDITION,
  NotStaged: status.FAILED_PRECONDITION,
  Unreachable: status.UNAVAILABLE,
  NoHolder: status.UNAVAILABLE,
  Failed: status.INTERNAL,
};

/** What a caller of the CSI service is told of an error. */
export function statusOf(error: unknown): { code: status; details: string } {
  return { code: codeOf(error), details: describeError(error).slice(0, 2_048) };
}

function codeOf(error: unknown): status {
  if (error instanceof CsiError) return error.code;
  if (error instanceof HolderError) return holderCodes[error.code];
  if (error instanceof InvalidInputError) return status.INVALID_ARGUMENT;
  return status.INTERNAL;
}

/** @throws {CsiError} INVALID_ARGUMENT when a required text is missing or longer than the specification allows. */
export function required(name: string, value: string | undefined, bytesMax = 4096): string {
  if (value === undefined || value === '') throw new CsiError(status.INVALID_ARGUMENT, `${name} is missing`);
  if (Buffer.byteLength(value) > bytesMax) {
    throw new CsiError(status.INVALID_ARGUMENT, `${name} is longer than ${bytesMax} bytes`);
  }
  return value;
}

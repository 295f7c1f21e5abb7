/**
 * What both ends of a command in a container send over WebSocket: protocol v5.channel.k8s.io. Each message starts with the number of its
 * channel. Source: KEP-4006, k8s.io/apimachinery/pkg/util/remotecommand.
 */
import { apiError, type RequestInfo } from './errors.ts';
import type { Status } from './types.ts';

/** First byte of a message. `close` is followed by the channel that has ended. */
export const channels = { stdin: 0, stdout: 1, stderr: 2, status: 3, resize: 4, close: 255 } as const;

/** Subprotocols, the best first; only the first tells the end of the input. */
export const remoteProtocols: readonly string[] = ['v5.channel.k8s.io', 'v4.channel.k8s.io'];

/** Columns and rows of a terminal. */
export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** A message of a channel. */
export function frameOf(channel: number, data: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([channel]), data]);
}

/** What tells the size of a terminal. */
export function sizeMessage({ columns, rows }: TerminalSize): Buffer {
  return Buffer.from(JSON.stringify({ Width: columns, Height: rows }));
}

/** Reads {@link sizeMessage}; undefined when it is none. */
export function sizeIn(message: Buffer): TerminalSize | undefined {
  try {
    const { Width: columns, Height: rows } = JSON.parse(message.toString('utf8')) as Record<string, unknown>;
    return isCount(columns) && isCount(rows) ? { columns, rows } : undefined;
  } catch {
    return undefined;
  }
}

/** As a terminal has it: two bytes. */
function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65_535;
}

/** What is said at the end of a command: its exit status; undefined where there is none to tell. */
export function exitMessage(status: number | undefined): Status {
  if (status === undefined || status === 0) return { status: 'Success' };
  return {
    ...{ status: 'Failure', reason: 'NonZeroExitCode', message: `command terminated with exit status ${status}` },
    details: { causes: [{ reason: 'ExitCode', message: String(status) }] },
  };
}

/** Exit status in what the server says at the end. @throws {ApiError} when the command could not be run. */
export function exitStatusIn(status: Status, request: RequestInfo): number {
  if (status.status === 'Success') return 0;
  const cause = status.details?.causes?.find(({ reason }) => reason === 'ExitCode');
  const code = Number(cause?.message);
  if (status.reason === 'NonZeroExitCode' && Number.isInteger(code)) return code;
  throw apiError(request, status.code ?? 500, status);
}

/** Paths of what is streamed of a pod: its log, a command in a container, or the container's own input and output. */
import { pods } from './builtin.ts';
import { objectPath } from './kind.ts';
import type { ObjectKey } from './types.ts';

/** Which part of a log. */
export interface LogRequest {
  readonly follow: boolean;
  /** Last lines only. */
  readonly tailLines?: number | undefined;
  readonly timestamps: boolean;
}

/** How a command is run in a container; without a command, the streams of the container itself are meant. */
export interface ConnectRequest {
  readonly command: readonly string[] | undefined;
  readonly stdin: boolean;
  readonly tty: boolean;
}

/** Path and query of the log of a container. */
export function logPath(pod: ObjectKey, container: string, { follow, tailLines, timestamps }: LogRequest): string {
  const query = new URLSearchParams({
    container,
    follow: String(follow),
    timestamps: String(timestamps),
    ...(tailLines === undefined ? {} : { tailLines: String(tailLines) }),
  });
  return `${objectPath(pods, pod, 'log')}?${query.toString()}`;
}

/** Path and query by which a container is entered. */
export function connectPath(pod: ObjectKey, container: string, { command, stdin, tty }: ConnectRequest): string {
  // With a terminal, both outputs come as one.
  const query = new URLSearchParams({
    container,
    stdin: String(stdin),
    stdout: 'true',
    stderr: String(!tty),
    tty: String(tty),
  });
  for (const word of command ?? []) query.append('command', word);
  return `${objectPath(pods, pod, command === undefined ? 'attach' : 'exec')}?${query.toString()}`;
}

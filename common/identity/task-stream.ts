/**
 * How a client names what it wants to be connected to when a task runs at another site: the path of a WebSocket at the gateway of the home of
 * the job. On it both ends speak as with an API server (common/runtime/remote-channels.ts); what the log says is standard output.
 */
import { InvalidInputError } from '#common/errors.ts';

/** What of a task is meant: its log, a command in its container, or its own input and output. */
export const taskStreamKinds = ['log', 'exec', 'attach'] as const;

/** A stream of one run of one task. */
export interface TaskStream {
  readonly virtualOrganization: string;
  readonly job: string;
  readonly index: number;
  /** Which run of the task, as rows of `status.tasks` call it. */
  readonly run: string;
  readonly kind: (typeof taskStreamKinds)[number];
  /** For `exec` only. */
  readonly command: readonly string[];
  readonly stdin: boolean;
  readonly tty: boolean;
  /** For `log` only, as are the others below. */
  readonly follow: boolean;
  /** Last lines only; undefined for all. */
  readonly tailLines: number | undefined;
  readonly timestamps: boolean;
}

/** Bytes of a command: it is part of a path. */
const commandBytesMax = 16 * 1024;
const linesMax = 2 ** 31 - 1;
const pattern =
  /^\/v1\/virtual-organizations\/([a-z0-9-]{1,60})\/jobs\/([a-z0-9-]{1,63})\/tasks\/([0-9]{1,5})\/(log|exec|attach)$/;

/** Path and query of a stream. @throws {InvalidInputError} when the command is too long. */
export function taskStreamPath(stream: TaskStream): string {
  const { virtualOrganization, job, index, kind, run, command, stdin, tty, follow, tailLines, timestamps } = stream;
  checkCommand(command);
  const query = new URLSearchParams({ run });
  for (const [name, isSet] of Object.entries({ stdin, tty, follow, timestamps })) if (isSet) query.set(name, 'true');
  if (tailLines !== undefined) query.set('tailLines', String(tailLines));
  for (const word of command) query.append('command', word);
  return `/v1/virtual-organizations/${virtualOrganization}/jobs/${job}/tasks/${index}/${kind}?${query.toString()}`;
}

/** Reads {@link taskStreamPath}. @returns undefined for any other path. @throws {InvalidInputError} naming what is wrong with the query. */
export function readTaskStream(path: string): TaskStream | undefined {
  const cut = path.indexOf('?');
  const [, virtualOrganization, job, index, kind] = pattern.exec(cut < 0 ? path : path.slice(0, cut)) ?? [];
  if (virtualOrganization === undefined || job === undefined) return undefined;
  const query = new URLSearchParams(cut < 0 ? '' : path.slice(cut + 1));
  const flag = (name: string): boolean => query.get(name) === 'true';
  const run = query.get('run') ?? '';
  if (!/^[a-z0-9]{1,8}$/.test(run))
    throw new InvalidInputError('run', 'is not the run of a task: see status.tasks.rows');
  const command = query.getAll('command');
  checkCommand(command);
  if ((kind === 'exec') !== command.length > 0)
    throw new InvalidInputError('command', 'is for exec, and exec needs one: give its words one by one');
  const tail = query.get('tailLines');
  const tailLines = tail === null ? undefined : Number(tail);
  if (tailLines !== undefined && !(/^[0-9]+$/.test(tail ?? '') && tailLines <= linesMax))
    throw new InvalidInputError('tailLines', `must be a whole number of at most ${linesMax}`);
  return {
    ...{ virtualOrganization, job, index: Number(index), run, kind: kind as TaskStream['kind'], command, tailLines },
    ...{ stdin: flag('stdin'), tty: flag('tty'), follow: flag('follow'), timestamps: flag('timestamps') },
  };
}

function checkCommand(command: readonly string[]): void {
  const sizeBytes = command.reduce((sum, word) => sum + Buffer.byteLength(word) + 1, 0);
  if (sizeBytes > commandBytesMax)
    throw new InvalidInputError(
      'command',
      `has ${sizeBytes} bytes, at most ${commandBytesMax} are passed on: use stdin`,
    );
}

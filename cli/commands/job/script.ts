/** Shell scripts in the container of a task, run as the caller. */
import type { ConnectRequest } from '#runtime/pod-streams.ts';
import type { JobApi, PodPlace } from '../../api/job-api.ts';

/** What a script is connected to. */
export interface ScriptStreams {
  readonly stdin?: AsyncIterable<Buffer> | undefined;
  readonly onStdout?: (chunk: Buffer) => void;
}

/** How a script ended, and the beginning of what it said on its standard error. */
export interface Outcome {
  readonly status: number;
  readonly words: string;
}

/** Of what a script says on its standard error. */
const wordsMax = 2_000;

/**
 * Runs a script by `/bin/sh` in the pod of a task; `args` are `$1` and so on.
 * @throws when it can not be run, or is cut off, as {@link JobApi.connect} does.
 */
export async function runScript(
  api: Pick<JobApi, 'connect'>,
  pod: PodPlace,
  [script, ...args]: readonly [script: string, ...args: string[]],
  { stdin, onStdout }: ScriptStreams,
  signal: AbortSignal,
): Promise<Outcome> {
  let words = '';
  const name = args.length === 0 ? [] : ['xos'];
  const request: ConnectRequest = {
    command: ['/bin/sh', '-c', script, ...name, ...args],
    stdin: stdin !== undefined,
    tty: false,
  };
  const status = await api.connect(
    pod,
    request,
    {
      stdin,
      endsStdin: true,
      onStdout: (chunk) => onStdout?.(chunk),
      onStderr: (chunk) => {
        if (words.length < wordsMax) words += chunk.toString('utf8');
      },
    },
    signal,
  );
  return { status: status ?? 1, words: words.trim().slice(0, wordsMax) };
}

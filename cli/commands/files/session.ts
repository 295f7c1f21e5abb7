import { randomBytes } from 'node:crypto';
import type { GridJob } from '#crds/grid-job.ts';
import type { JobApi, TaskPod } from '../../api/job-api.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { type Outcome, runScript, type ScriptStreams } from '../job/script.ts';
import { endLine, hasEnded, stateLine } from '../job/state.ts';
import { mountPath } from './place.ts';

/** Which volume, and the image whose shell and tools are used. */
export interface SessionInput {
  readonly volume: string;
  readonly readOnly: boolean;
  readonly image: string;
}

const pollMs = 300;
/** A session is over after a day, whoever forgets it. */
const deadlineSeconds = 86_400;
/** What a command may answer where its answer is kept in memory. */
const answerBytesMax = 32 * 1024 * 1024;

/** Commands of the caller beside a volume, in a job of their own: they are who they are in every job, and can do as much. */
export class Session {
  private readonly context: Context;
  private readonly api: JobApi;
  private readonly pod: TaskPod;

  constructor(context: Context, api: JobApi, pod: TaskPod) {
    this.context = context;
    this.api = api;
    this.pod = pod;
  }

  /** Runs a shell script; `args` are `$1` and so on. */
  async run(script: string, args: readonly string[], streams: ScriptStreams = {}): Promise<Outcome> {
    return runScript(this.api, this.pod, [script, ...args], streams, this.context.signal);
  }

  /** Runs a script for its answer. @throws {CommandError} when the answer is longer than can be kept. */
  async ask(script: string, args: readonly string[]): Promise<Outcome & { readonly answer: Buffer }> {
    const chunks: Buffer[] = [];
    let length = 0;
    const onStdout = (chunk: Buffer): void => {
      length += chunk.length;
      if (length <= answerBytesMax) chunks.push(chunk);
    };
    const outcome = await this.run(script, args, { onStdout });
    if (length > answerBytesMax) {
      throw new CommandError('failure', 'There are too many files in that folder: take one of the folders below it');
    }
    return { ...outcome, answer: Buffer.concat(chunks) };
  }

  /** Keeps the session while this process lives: when the connection ends, so does the job. */
  async hold(until: Promise<void>): Promise<void> {
    async function* nothing(): AsyncGenerator<Buffer> {
      await until;
      yield Buffer.alloc(0);
    }
    await this.run('cat > /dev/null; kill -TERM 1', [], { stdin: nothing() }).catch(() => undefined);
  }
}

/** Runs `use` beside a volume. The job of the session is deleted afterwards, also when `use` fails. */
export async function withSession<T>(
  context: Context,
  api: JobApi,
  input: SessionInput,
  use: (session: Session) => Promise<T>,
): Promise<T> {
  const name = `files-${randomBytes(4).toString('hex')}`;
  const { namespace, jobs } = api;
  const spec = sessionSpec(input);
  const made = await jobs.create({ metadata: { name, namespace }, spec } as GridJob, { signal: context.signal });
  const end = Promise.withResolvers<undefined>();
  let held: Promise<void> | undefined;
  try {
    const session = new Session(context, api, await running(context, api, made.metadata.name));
    held = session.hold(end.promise);
    return await use(session);
  } finally {
    end.resolve(undefined);
    // The command may have been interrupted: what it made is taken away all the same.
    await jobs.delete({ name, namespace }, { signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
    await held;
    context.terminal.clear();
  }
}

/** The job: it sleeps until it is told to end. */
function sessionSpec({ volume, readOnly, image }: SessionInput): object {
  const command = ['/bin/sh', '-c', `trap 'exit 0' TERM; sleep ${deadlineSeconds} & wait`];
  return {
    template: { image, command, terminationGraceSeconds: 5, resources: { cpu: '100m', memory: '64Mi' } },
    volumes: [{ volume, mountPath, readOnly }],
    deadlineSeconds,
    ttlSecondsAfterFinished: 60,
    keepLogs: false,
  };
}

/** Waits for the pod of the session. @throws {CommandError} when the job ends before. */
async function running({ clock, signal, terminal, program }: Context, api: JobApi, name: string): Promise<TaskPod> {
  for (;;) {
    const job = await api.jobs.find({ name, namespace: api.namespace }, { signal });
    if (job === undefined) throw new CommandError('notFound', `${name} was deleted while it was waited for`);
    const pod = (await api.podsOf(name)).find(({ isRunning }) => isRunning);
    if (pod !== undefined) return pod;
    if (hasEnded(job)) {
      throw new CommandError(
        'failure',
        `The volume can not be had: ${endLine(job)}`,
        `See: ${program} explain ${name}`,
      );
    }
    terminal.progress(`Waiting for a place beside the volume: ${stateLine(job)}`);
    await clock.sleep(pollMs, signal);
  }
}

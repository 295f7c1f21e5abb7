/** Tasks that run at other sites, reached through the gateway of this one (common/identity/task-stream.ts). */
import { type TaskStream, taskStreamPath } from '#common/identity/task-stream.ts';
import { configMaps } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import type { Credentials, CredentialSource } from '#runtime/credentials.ts';
import type { ConnectRequest, LogRequest } from '#runtime/pod-streams.ts';
import { type RemoteStreams, runRemoteCommand } from '#runtime/remote-command.ts';
import { CommandError } from '../frame/exit.ts';
import { published } from './cluster.ts';
import type { PodPlace } from './job-api.ts';

/** What {@link TaskStreams} works with. */
export interface TaskStreamsParts {
  /** Of the home of the jobs, as the caller. */
  readonly client: Client;
  readonly credentials: CredentialSource;
  readonly vo: string;
  readonly userAgent: string;
}

/** Streams of tasks at other sites, as the caller. */
export class TaskStreams {
  private readonly parts: TaskStreamsParts;

  constructor(parts: TaskStreamsParts) {
    this.parts = parts;
  }

  /** Hands out the log of a task until its end. */
  async readLog(
    task: PodPlace,
    request: LogRequest,
    onChunk: (chunk: Buffer) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { follow, tailLines, timestamps } = request;
    const path = this.pathOf(task, { kind: 'log', follow, tailLines, timestamps });
    const streams = { endsStdin: false, onStdout: onChunk, onStderr: () => undefined };
    await runRemoteCommand(this.gateway(), { path, signal }, streams);
  }

  /** Runs a command in the container of a task, or connects to the task itself. @returns the exit status of the command. */
  async connect(
    task: PodPlace,
    { command, stdin, tty }: ConnectRequest,
    streams: RemoteStreams,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const kind = command === undefined ? 'attach' : 'exec';
    const path = this.pathOf(task, { kind, command: command ?? [], stdin, tty });
    return runRemoteCommand(this.gateway(), { path, signal }, streams);
  }

  private pathOf({ job, index, run }: PodPlace, more: Partial<TaskStream> & Pick<TaskStream, 'kind'>): string {
    const none = { command: [], stdin: false, tty: false, follow: false, tailLines: undefined, timestamps: false };
    return taskStreamPath({ virtualOrganization: this.parts.vo, job, index, run, ...none, ...more });
  }

  /** The gateway of this site, as the cluster tells it, and the token that the caller has for its API server. */
  private gateway(): CredentialSource {
    const { client, credentials, userAgent } = this.parts;
    return {
      load: async (renew): Promise<Credentials> => {
        const [{ headers }, found] = await Promise.all([
          credentials.load(renew),
          client.of(configMaps).find(published),
        ]);
        const { address, caBundle } = found?.data ?? {};
        if (address === undefined || caBundle === undefined)
          throw new CommandError(
            'notFound',
            'The cluster has no gateway, through which tasks at other sites are reached',
          );
        const { authorization = '' } = headers;
        const isBorrowed = Object.keys(headers).some((name) => name.startsWith('impersonate-'));
        if (!authorization.startsWith('Bearer ') || isBorrowed)
          throw new CommandError(
            'credentials',
            'Tasks at other sites are reached by a token of a member, and this context has none of its own',
            'Log in as a member: xos login',
          );
        return {
          ...{ origin: `https://${address}`, basePath: '', headers: { authorization, 'user-agent': userAgent } },
          tls: { ca: caBundle, rejectUnauthorized: true },
        };
      },
    };
  }
}

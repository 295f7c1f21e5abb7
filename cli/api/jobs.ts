/** Jobs as commands need them: a narrow port, so that tests bring their own. */
import { parseUserName } from '#common/identity/ids.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { KeptLog } from '#crds/kept-logs.ts';
import type { Reservation } from '#crds/reservation.ts';
import type { Client } from '#runtime/contracts.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { RemoteStreams } from '#runtime/remote-command.ts';
import type { Context } from '../frame/context.ts';
import { askWhoIAm, withCluster } from './cluster.ts';
import { chooseOrganization, namespaceOf, type Objects, type OrganizationInput } from './organizations.ts';

/** The pod of one run of a task. */
export interface TaskPod {
  readonly name: string;
  readonly job: string;
  /** Index of the task. */
  readonly index: number;
  /** Which run of the task, as `placements` of the Execution call it. */
  readonly run: string;
  readonly node: string | undefined;
  /** Whether its container runs or has run, so that there is a log. */
  readonly hasStarted: boolean;
  readonly isRunning: boolean;
  /** Since when it runs. */
  readonly startTime?: string | undefined;
}

/** Which part of a log. */
export interface LogRequest {
  readonly follow: boolean;
  /** Last lines only. */
  readonly tailLines?: number | undefined;
  readonly timestamps: boolean;
}

/** How a command is run in the container of a task; without a command, the streams of the task itself are meant. */
export interface ConnectRequest {
  readonly command: readonly string[] | undefined;
  readonly stdin: boolean;
  readonly tty: boolean;
}

/** The jobs of one virtual organization, as the caller sees them. */
export interface JobApi {
  /** The virtual organization. */
  readonly vo: string;
  readonly namespace: string;
  readonly jobs: Objects<GridJob>;
  readonly reservations: Objects<Reservation>;
  /** Pods of the tasks of a job, or of every job, the oldest first. */
  podsOf(job: string | undefined): Promise<TaskPod[]>;
  /** Logs that were kept of runs that have ended, also when their pods are gone. */
  keptLogsOf(job: GridJob): Promise<KeptLog[]>;
  /** User name of the caller as a member here; undefined for anybody else. */
  userName(): Promise<string | undefined>;
  /** Hands out the log of a pod until its end; with `follow`, until its container has ended. */
  readLog(pod: string, request: LogRequest, onChunk: (chunk: Buffer) => void, signal: AbortSignal): Promise<void>;
  /** @returns the exit status; undefined where the server tells none. @throws the reason of `signal`, which ends it. */
  connect(
    pod: string,
    request: ConnectRequest,
    streams: RemoteStreams,
    signal: AbortSignal,
  ): Promise<number | undefined>;
}

/** Runs `use` with the jobs of the chosen virtual organization. */
export async function withJobs<T>(
  context: Context,
  input: OrganizationInput,
  use: (api: JobApi) => Promise<T>,
): Promise<T> {
  const [{ gridJobs }, { reservations }, { pods }, { podLabels, taskContainerName: container }] = await Promise.all([
    import('#crds/grid-job.ts'),
    import('#crds/reservation.ts'),
    import('#runtime/builtin.ts'),
    import('#crds/execution.ts'),
  ]);
  const { signal } = context;
  return withCluster(context, input, async ({ client, credentials, namespace: contextNamespace }) => {
    const vo = chooseOrganization(input, contextNamespace);
    const namespace = namespaceOf(vo);
    const pathOf = (pod: string, part: string, query: URLSearchParams): string =>
      `/api/v1/namespaces/${namespace}/pods/${encodeURIComponent(pod)}/${part}?${query.toString()}`;
    return use({
      vo,
      namespace,
      jobs: client.of(gridJobs),
      reservations: client.of(reservations),
      podsOf: async (job) => {
        const labelSelector = job === undefined ? podLabels.job : `${podLabels.job}=${job}`;
        const { items } = await client.of(pods).list({ namespace, labelSelector, signal });
        const sorted = items.sort((a, b) => createdAt(a) - createdAt(b));
        return sorted.map((pod) => {
          const {
            [podLabels.job]: of = '',
            [podLabels.index]: index,
            [podLabels.run]: run = '',
          } = pod.metadata.labels ?? {};
          return taskPod(pod, container, { job: of, index: Number(index ?? 0), run });
        });
      },
      keptLogsOf: async (job) => keptLogs(client, job, namespace, signal),
      userName: async () => memberName(await askWhoIAm(client, signal), namespace),
      readLog: async (pod, request, onChunk, logSignal) => {
        await client.download(pathOf(pod, 'log', logQuery(container, request)), onChunk, { signal: logSignal });
      },
      connect: async (pod, request, streams, ending) => {
        const { runRemoteCommand } = await import('#runtime/remote-command.ts');
        const part = request.command === undefined ? 'attach' : 'exec';
        return runRemoteCommand(
          credentials,
          { path: pathOf(pod, part, connectQuery(container, request)), signal: ending },
          streams,
        );
      },
    });
  });
}

async function keptLogs(
  client: Client,
  { status }: GridJob,
  namespace: string,
  signal: AbortSignal,
): Promise<KeptLog[]> {
  const [{ executions }, { keptLogsName, readKeptLogs }, { configMaps }] = await Promise.all([
    import('#crds/execution.ts'),
    import('#crds/kept-logs.ts'),
    import('#runtime/builtin.ts'),
  ]);
  const logs: KeptLog[] = [];
  for (const { name } of status?.executions ?? []) {
    const execution = await client.of(executions).find({ name, namespace }, { signal });
    const kept = await client.of(configMaps).find({ name: keptLogsName(name), namespace }, { signal });
    if (execution !== undefined && kept !== undefined) logs.push(...readKeptLogs(kept, execution.metadata.uid));
  }
  return logs;
}

/** Members act as service accounts that are called like them. */
export function memberName(kubernetesUser: string, namespace: string): string | undefined {
  const prefix = `system:serviceaccount:${namespace}:`;
  if (!kubernetesUser.startsWith(prefix)) return undefined;
  const name = kubernetesUser.slice(prefix.length);
  return parseUserName(name) === undefined ? undefined : name;
}

function taskPod(
  { metadata, spec, status }: Pod,
  container: string,
  task: Pick<TaskPod, 'job' | 'index' | 'run'>,
): TaskPod {
  const state = status?.containerStatuses?.find(({ name }) => name === container)?.state;
  return {
    ...task,
    name: metadata.name,
    node: spec?.nodeName,
    hasStarted: state?.running !== undefined || state?.terminated !== undefined,
    isRunning: state?.running !== undefined && metadata.deletionTimestamp === undefined,
    startTime: state?.running?.startedAt,
  };
}

function createdAt({ metadata }: Pod): number {
  return Date.parse(metadata.creationTimestamp ?? '');
}

function logQuery(container: string, { follow, tailLines, timestamps }: LogRequest): URLSearchParams {
  return new URLSearchParams({
    container,
    follow: String(follow),
    timestamps: String(timestamps),
    ...(tailLines === undefined ? {} : { tailLines: String(tailLines) }),
  });
}

function connectQuery(container: string, { command, stdin, tty }: ConnectRequest): URLSearchParams {
  // With a terminal, both outputs come as one.
  const query = new URLSearchParams({
    container,
    stdin: String(stdin),
    stdout: 'true',
    stderr: String(!tty),
    tty: String(tty),
  });
  for (const word of command ?? []) query.append('command', word);
  return query;
}

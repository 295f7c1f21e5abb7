/** The jobs of a virtual organization, at its API server. */
import { parseUserName } from '#common/identity/ids.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { KeptLog } from '#crds/kept-logs.ts';
import type { Client } from '#runtime/contracts.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Context } from '../frame/context.ts';
import { askWhoIAm, withCluster } from './cluster.ts';
import { type ConnectRequest, isWithinTask, type JobApi, type LogRequest, type TaskPod } from './job-api.ts';
import { chooseOrganization, namespaceOf, type OrganizationInput } from './organizations.ts';

/** Runs `use` with the jobs of the chosen virtual organization. */
export async function withJobs<T>(
  context: Context,
  input: OrganizationInput,
  use: (api: JobApi) => Promise<T>,
): Promise<T> {
  if (isWithinTask(context, input)) {
    const { taskJobs } = await import('./task-jobs.ts');
    return use(await taskJobs(context, input));
  }
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
      isWithinTask: false,
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

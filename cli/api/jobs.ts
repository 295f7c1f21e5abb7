/** The jobs of a virtual organization, at its API server. */
import { memberNameOf } from '#common/identity/ids.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { KeptLog } from '#crds/kept-logs.ts';
import type { Client } from '#runtime/contracts.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Context } from '../frame/context.ts';
import { withCluster } from './cluster.ts';
import { isWithinTask, type JobApi, type TaskPod } from './job-api.ts';
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
    const elsewhere = async () => {
      const { TaskStreams } = await import('./task-streams.ts');
      return new TaskStreams({ client, credentials, vo, userAgent: `xos/${context.version}` });
    };
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
      userName: async () => {
        const { whoAmI } = await import('#runtime/self-review.ts');
        return memberNameOf(await whoAmI(client, signal), namespace);
      },
      readLog: async (pod, request, onChunk, logSignal) => {
        if (pod.site !== undefined) await (await elsewhere()).readLog(pod, request, onChunk, logSignal);
        else {
          const { logPath } = await import('#runtime/pod-streams.ts');
          await client.download(logPath({ namespace, name: pod.name }, container, request), onChunk, {
            signal: logSignal,
          });
        }
      },
      connect: async (pod, request, streams, ending) => {
        if (pod.site !== undefined) return (await elsewhere()).connect(pod, request, streams, ending);
        const [{ runRemoteCommand }, { connectPath }] = await Promise.all([
          import('#runtime/remote-command.ts'),
          import('#runtime/pod-streams.ts'),
        ]);
        const path = connectPath({ namespace, name: pod.name }, container, request);
        return runRemoteCommand(credentials, { path, signal: ending }, streams);
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

/** Jobs in memory, for tests of the commands about them. */
import type { GridJob, GridJobStatus } from '#crds/grid-job.ts';
import type { KeptLog } from '#crds/kept-logs.ts';
import type { Reservation } from '#crds/reservation.ts';
import { ConnectionError, NotFoundError, ServerError } from '#runtime/errors.ts';
import type { ConnectRequest, LogRequest } from '#runtime/pod-streams.ts';
import type { JobApi, TaskPod } from '../api/job-api.ts';
import type { DraftInput } from '../commands/job/draft.ts';
import { FakeObjects } from './fakes.ts';

/** Options that describe nodes, none of them given. */
export const noNeeds = {
  ...{
    cpu: undefined,
    memory: undefined,
    device: [],
    require: [],
    where: [],
    rank: undefined,
    site: [],
    spread: false,
  },
};

/** Options of a job, none of them given but what it runs and its name. */
export const plainDraft: DraftInput = {
  ...noNeeds,
  ...{ image: 'busybox:1', command: ['sh', '-c', 'true'], name: 'mine', env: [], workingDir: undefined },
  ...{ tasks: 1, parallelism: undefined, gang: undefined, volume: [], stdin: undefined, stdout: undefined },
  ...{ stderr: undefined, after: [], reservation: undefined, preemptible: false, priority: undefined },
  ...{ retries: undefined, deadline: undefined, ttl: undefined, grace: undefined, interactive: false },
  gridAccess: false,
};

/** User name of who asks. */
export const me = 'u-alice-2013300123';

/** What a pod has said, and how often its log breaks off in the middle before it is read to its end. */
export interface FakePod extends TaskPod {
  readonly log: string;
  readonly breaks?: number;
}

/** A virtual organization with jobs. */
export interface FakeJobs extends JobApi {
  readonly jobs: FakeObjects<GridJob>;
  readonly reservations: FakeObjects<Reservation>;
  readonly pods: FakePod[];
  readonly kept: KeptLog[];
  /** Pods at other sites. */
  readonly elsewhere: FakePod[];
  readonly connected: { readonly pod: string; readonly request: ConnectRequest; readonly site?: string }[];
  /** What commands say in a pod, and the status they end with: undefined for those that go on until they are stopped. */
  readonly commands: Map<string, { readonly says: string; readonly status: number | undefined }>;
  /** By pod: what stops the last command in it. */
  readonly endings: Map<string, AbortSignal>;
  readonly read: LogRequest[];
}

/** Jobs of `vo-physics`, seen as {@link me}. */
export function aJobApi(jobs: readonly GridJob[] = [], pods: FakePod[] = []): FakeJobs {
  const broken = new Map<string, number>();
  const api: FakeJobs = {
    vo: 'physics',
    namespace: 'vo-physics',
    isWithinTask: false,
    jobs: new FakeObjects<GridJob>('GridJob', jobs),
    reservations: new FakeObjects<Reservation>('Reservation'),
    pods,
    kept: [],
    elsewhere: [],
    connected: [],
    commands: new Map(),
    endings: new Map(),
    read: [],
    podsOf: async (job) => pods.filter((pod) => job === undefined || pod.job === job),
    keptLogsOf: async () => api.kept,
    userName: async () => me,
    readLog: async ({ name, site }, request, onChunk) => {
      api.read.push(request);
      const pod = (site === undefined ? pods : api.elsewhere).find((one) => one.name === name);
      if (pod === undefined) throw new NotFoundError({ method: 'GET', path: '/log' }, 404, { message: 'it has ended' });
      const log = Buffer.from(pod.log);
      const times = broken.get(name) ?? 0;
      if (times >= (pod.breaks ?? 0)) {
        onChunk(log);
        return;
      }
      broken.set(name, times + 1);
      onChunk(log.subarray(0, Math.floor(log.length / 2)));
      const asked = { method: 'GET', path: '/log' };
      if (site !== undefined) throw new ServerError(asked, 503, { message: 'the gateway is restarted' });
      throw new ConnectionError(asked, 'reset', { maySent: true });
    },
    connect: async ({ name: pod, site }, request, streams, signal) => {
      api.connected.push({ pod, request, ...(site === undefined ? {} : { site }) });
      api.endings.set(pod, signal);
      const { says, status } = api.commands.get(pod) ?? { says: '', status: 0 };
      if (status === 0 || status === undefined) void streams.onStdout(Buffer.from(says));
      else void streams.onStderr(Buffer.from(says));
      if (status !== undefined) return status;
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      });
    },
  };
  return api;
}

/** A job as the server keeps it. */
export function aJob(name: string, more: { spec?: object; status?: Partial<GridJobStatus> } = {}): GridJob {
  return {
    metadata: { name, namespace: 'vo-physics' },
    spec: {
      owner: me,
      tasks: { count: 1, gangMinimum: 0 },
      template: { image: 'busybox:1', command: ['true'], args: [], env: [] },
      suspend: false,
      interactive: false,
      ...more.spec,
    },
    status: more.status,
  } as unknown as GridJob;
}

/** A pod whose container has run and ended. */
export function aTaskPod(name: string, more: Partial<FakePod> = {}): FakePod {
  return { name, job: 'a', index: 0, run: 'r1', node: 'node-1', hasStarted: true, isRunning: false, log: '', ...more };
}

/** Jobs as commands need them: a narrow port, so that tests bring their own. */
import { gatewayVariables } from '#crds/grid-access.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { KeptLog } from '#crds/kept-logs.ts';
import type { Reservation } from '#crds/reservation.ts';
import type { ConnectRequest, LogRequest } from '#runtime/pod-streams.ts';
import type { RemoteStreams } from '#runtime/remote-command.ts';
import type { Context } from '../frame/context.ts';
import { CommandError } from '../frame/exit.ts';
import type { ClusterInput } from './cluster.ts';
import type { Objects } from './organizations.ts';

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
  /** The site that it runs at, where that is another one: it is reached through the gateway of this one. */
  readonly site?: string | undefined;
}

/** What tells the pod of a task: by its name where it is here, by the task where it is at another site. */
export type PodPlace = Pick<TaskPod, 'name' | 'job' | 'index' | 'run' | 'site'>;

/** The jobs of one virtual organization, as the caller sees them. */
export interface JobApi {
  /** The virtual organization. */
  readonly vo: string;
  readonly namespace: string;
  /** Whether this runs in a task, which reaches the jobs below its own alone. */
  readonly isWithinTask: boolean;
  readonly jobs: Objects<GridJob>;
  readonly reservations: Objects<Reservation>;
  /** Pods of the tasks of a job, or of every job, the oldest first. */
  podsOf(job: string | undefined): Promise<TaskPod[]>;
  /** Logs that were kept of runs that have ended, also when their pods are gone. */
  keptLogsOf(job: GridJob): Promise<KeptLog[]>;
  /** User name of the caller as a member here; undefined for anybody else. */
  userName(): Promise<string | undefined>;
  /** Hands out the log of a pod until its end; with `follow`, until its container has ended. */
  readLog(pod: PodPlace, request: LogRequest, onChunk: (chunk: Buffer) => void, signal: AbortSignal): Promise<void>;
  /** @returns the exit status; undefined where the server tells none. @throws the reason of `signal`, which ends it. */
  connect(
    pod: PodPlace,
    request: ConnectRequest,
    streams: RemoteStreams,
    signal: AbortSignal,
  ): Promise<number | undefined>;
}

/** Whether this runs in a task with a token for the gateway, and no cluster was named. */
export function isWithinTask({ surroundings }: Context, { context, kubeconfig }: ClusterInput): boolean {
  return (
    context === undefined && kubeconfig === undefined && surroundings.env[gatewayVariables.tokenFile] !== undefined
  );
}

/** What a task can not do, and who can. */
export function notFromTask(): CommandError {
  return new CommandError(
    'forbidden',
    'A task reaches the jobs below its own, and of these no logs, pods and reservations',
    'From within a task there are sub, ps, explain, wait, suspend, resume, and kill with TERM and KILL.',
  );
}

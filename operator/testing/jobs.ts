/** Builders of jobs, their Executions and pods, and reservations, as the API server would return them: defaults filled in. */
import { type Execution, executionDefinition, type ExecutionStatus } from '#crds/execution.ts';
import { type GridJob, gridJobDefinition, type GridJobStatus } from '#crds/grid-job.ts';
import { type Reservation, reservationDefinition, type ReservationStatus } from '#crds/reservation.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored, StoredMeta } from '#runtime/types.ts';

/** The member whose jobs these are. */
export const owner = 'u-alice-2013300123';
const namespace = 'vo-physics';

function metadata(name: string, more: Partial<StoredMeta> = {}): StoredMeta {
  return {
    ...{ name, namespace, uid: `uid-${name}`, resourceVersion: '1', generation: 1 },
    creationTimestamp: '2026-01-01T00:00:00Z',
    ...more,
  };
}

/** A job of one task. @param spec - the fields that a test is about; the rest are defaults. */
export function aGridJob(name: string, spec: object = {}, status?: GridJobStatus): Stored<GridJob> {
  const full = gridJobDefinition.spec.parse({ owner, template: { image: 'busybox', command: ['true'] }, ...spec });
  return {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'GridJob',
    metadata: metadata(name),
    spec: full,
    ...(status === undefined ? {} : { status }),
  };
}

/** The part of {@link aGridJob} on one site. */
export function anExecution(name: string, spec: object = {}, status?: ExecutionStatus): Stored<Execution> {
  const full = executionDefinition.spec.parse({
    gridJob: { name, uid: `uid-${name}`, site: 'home' },
    ...{ owner, taskCount: 1, template: { image: 'busybox', command: ['true'] } },
    ...spec,
  });
  return {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'Execution',
    metadata: metadata(name),
    spec: full,
    ...(status === undefined ? {} : { status }),
  };
}

/** A reservation of two slots for an hour from now on. @param spec - the fields that a test is about; the rest are defaults. */
export function aReservation(name: string, spec: object = {}, status?: ReservationStatus): Stored<Reservation> {
  const full = reservationDefinition.spec.parse({
    ...{ owner, slots: 2, resources: { cpu: '500m' }, window: { durationSeconds: 3_600 } },
    ...spec,
  });
  return {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'Reservation',
    metadata: metadata(name),
    spec: full,
    ...(status === undefined ? {} : { status }),
  };
}

/** The status of a pod's only container, and more of the pod when a test is about it. */
export function withStatus(pod: Pod, status: NonNullable<Pod['status']>, more: Partial<StoredMeta> = {}): Stored<Pod> {
  return { ...pod, status, metadata: { ...pod.metadata, ...metadata(pod.metadata.name), ...more } };
}

/** What the kubelet says of a container that runs. */
export const running: NonNullable<Pod['status']> = {
  phase: 'Running',
  containerStatuses: [
    {
      ...{ name: 'task', image: '', imageID: '', ready: true, restartCount: 0 },
      state: { running: { startedAt: '2026-01-01T00:00:05Z' } },
    },
  ],
};

/** What the kubelet says of a container that ended. */
export function ended(exitCode: number, more: Partial<NonNullable<Pod['status']>> = {}): NonNullable<Pod['status']> {
  return {
    phase: exitCode === 0 ? 'Succeeded' : 'Failed',
    containerStatuses: [
      {
        ...{ name: 'task', image: '', imageID: '', ready: false, restartCount: 0 },
        state: {
          terminated: {
            ...{ exitCode, reason: exitCode === 0 ? 'Completed' : 'Error' },
            ...{ startedAt: '2026-01-01T00:00:05Z', finishedAt: '2026-01-01T00:01:00Z' },
          },
        },
      },
    ],
    ...more,
  };
}

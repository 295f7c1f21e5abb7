/** The pod of a task: everything in it is said here, nothing is left to the user but what the template names. */
import { createHash } from 'node:crypto';
import { parseUserName, organizationLocalId, globalId, sliceIdOf, sliceSize } from '#common/identity/ids.ts';
import { AssertionError } from '#common/errors.ts';
import {
  executionDefinition,
  podLabels,
  taskContainerName,
  type Execution,
  type ExecutionSpec,
} from '#crds/execution.ts';
import { podFacts } from '#crds/claim.ts';
import {
  gatewayAuthorityAnnotation,
  gatewayFiles,
  gatewayFolder,
  gatewayVariables,
  gatewayVolume,
  gridAccessLabel,
  taskTokenAudience,
  taskTokenSeconds,
} from '#crds/grid-access.ts';
import { apiVersionOf } from '#crds/kind.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import { accountFiles, accountVolume } from '#crds/policies/pods.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/types.ts';

/** One task and the run that it is in. */
export interface TaskRun {
  readonly run: string;
  readonly index: number;
  readonly node: string;
  readonly hold: string | undefined;
  /** The Claim of a reservation that it draws from. */
  readonly reservation?: string | undefined;
  /** When it is over at the latest, RFC 3339. */
  readonly until?: string | undefined;
  /** The site that it runs at, when that is another one. */
  readonly site?: string | undefined;
  /** Whether it is to end there. */
  readonly isEnding?: boolean | undefined;
}

/** What a pod takes from the site it runs at, besides its Execution. */
export interface PodSurroundings {
  readonly site: string;
  /** `Local` when pods see ids within the slice, in a user namespace of their own. */
  readonly uidMode: 'Global' | 'Local';
  /** RuntimeClass that the site wants for this virtual organization. */
  readonly runtimeClassName: string | undefined;
  /** Whether pods run on nodes that only this virtual organization uses. */
  readonly dedicatedTo: string | undefined;
  /** Global ids of the groups of the member. */
  readonly gids: readonly number[];
  /** The home of the member, if the virtual organization gives them one. */
  readonly home: Home | undefined;
  /** Where tasks of jobs with `gridAccess` reach the gateway; needed for these alone. */
  readonly gateway?: TaskGateway | undefined;
}

/** The gateway, as pods reach it. */
export interface TaskGateway {
  /** `host:port`. */
  readonly address: string;
  /** PEM of the authority that vouches for it. */
  readonly authority: string;
}

/** The home volume of a member. */
export interface Home {
  /** Name of the Volume and of its claim. */
  readonly volume: string;
  readonly mountPath: string;
}

/** Host names have at most 63 characters. */
const nameMax = 63;
const hashLength = 6;
/** Between the end of a pod and the end of its promise: what the kubelet needs to notice and tell. */
export const endMarginSeconds = 2;
/** How long a pod may sit on a node that is not ready before it is asked to go. */
const nodeLostSeconds = 30;

/**
 * The name of a task's pod: the member's user name first, so that what the member may do with it can be told from the name alone, then
 * as much of the job's name as fits, what tells Executions apart, the run and the index.
 */
export function podName({ metadata, spec }: Stored<Execution>, { run, index }: Pick<TaskRun, 'run' | 'index'>): string {
  const hash = createHash('sha256').update(metadata.uid).digest('hex').slice(0, hashLength);
  const tail = `${hash}-${run}-${index}`;
  const room = nameMax - spec.owner.length - tail.length - 2;
  const job = spec.gridJob.name.slice(0, Math.max(1, room)).replace(/-+$/, '');
  return `${spec.owner}-${job}-${tail}`;
}

/**
 * The pod of one run of a task. It names its node: the node has promised the place, and nobody else is asked.
 * @param now - wall clock, milliseconds.
 * @throws {AssertionError} when the owner is no user name, or the tasks need the gateway and nobody said where it is.
 */
export function taskPod(execution: Stored<Execution>, task: TaskRun, surroundings: PodSurroundings, now: number): Pod {
  const { metadata, spec } = execution;
  const { owner, gridJob, template } = spec;
  const ids = idsOf(owner, surroundings);
  const { dedicatedTo } = surroundings;
  const access = accessOf(spec, surroundings);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: podName(execution, task),
      namespace: metadata.namespace,
      labels: {
        [podLabels.execution]: metadata.name,
        [podLabels.job]: gridJob.name,
        [podLabels.owner]: owner,
        [podLabels.index]: String(task.index),
        [podLabels.run]: task.run,
        ...(task.hold === undefined ? {} : { [podLabels.claim]: task.hold }),
        ...(access === undefined ? {} : { [gridAccessLabel]: 'true' }),
      },
      annotations: {
        ...(task.reservation === undefined ? {} : { [podFacts.reservation]: task.reservation }),
        ...(task.until === undefined ? {} : { [podFacts.until]: task.until }),
        ...(spec.preemptible ? { [podFacts.givesWay]: 'true' } : {}),
        ...(spec.part === undefined ? {} : { [podFacts.home]: gridJob.site }),
        ...(access === undefined ? {} : { [gatewayAuthorityAnnotation]: access.authority }),
      },
      ownerReferences: [
        {
          apiVersion: apiVersionOf(executionDefinition),
          kind: executionDefinition.kind,
          name: metadata.name,
          uid: metadata.uid,
          controller: true,
          blockOwnerDeletion: false,
        },
      ],
    },
    spec: {
      nodeName: task.node,
      restartPolicy: 'Never',
      serviceAccountName: owner,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      hostUsers: surroundings.uidMode === 'Global',
      ...(surroundings.runtimeClassName === undefined ? {} : { runtimeClassName: surroundings.runtimeClassName }),
      terminationGracePeriodSeconds: template.terminationGraceSeconds,
      ...activeDeadline(task, template.terminationGraceSeconds, now),
      securityContext: {
        runAsNonRoot: true,
        runAsUser: ids.uid,
        runAsGroup: ids.gid,
        fsGroup: ids.gid,
        fsGroupChangePolicy: 'OnRootMismatch',
        supplementalGroups: ids.gids,
        supplementalGroupsPolicy: 'Strict',
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [taskContainer(execution, task, surroundings, ids)],
      volumes: podVolumes(spec, surroundings),
      tolerations: [
        ...['not-ready', 'unreachable'].map((state) => ({
          key: `node.kubernetes.io/${state}`,
          operator: 'Exists',
          effect: 'NoExecute',
          tolerationSeconds: nodeLostSeconds,
        })),
        ...(dedicatedTo === undefined ? [] : [dedicatedToleration(dedicatedTo)]),
      ],
      ...(dedicatedTo === undefined ? {} : { nodeSelector: { [dedicatedKey]: dedicatedTo } }),
    },
  };
}

/** The node has promised the place until then only: the kubelet ends the pod so early that it is gone, whoever is away. */
function activeDeadline({ until }: TaskRun, graceSeconds: number, now: number): { activeDeadlineSeconds?: number } {
  if (until === undefined) return {};
  const leftSeconds = Math.floor((Date.parse(until) - now) / 1000) - graceSeconds - endMarginSeconds;
  return { activeDeadlineSeconds: Math.max(1, leftSeconds) };
}

interface Ids {
  readonly uid: number;
  readonly gid: number;
  readonly gids: number[];
}

/** Ids as the pod sees them: the primary group is that of the virtual organization, local id 0 of the member's slice. */
function idsOf(owner: string, { uidMode, gids }: PodSurroundings): Ids {
  const uid = parseUserName(owner)?.uid;
  const place = uid === undefined ? undefined : sliceIdOf(uid);
  if (uid === undefined || place === undefined) throw new AssertionError(`${owner} is no user name`);
  const gid = globalId({ slice: place.slice, localId: organizationLocalId });
  const seen = (id: number): number => (uidMode === 'Local' ? (id - gid) % sliceSize : id);
  return { uid: seen(uid), gid: seen(gid), gids: gids.map(seen).sort((a, b) => a - b) };
}

/** The gateway, for tasks that may submit jobs there. */
function accessOf({ gridAccess }: ExecutionSpec, { gateway }: PodSurroundings): TaskGateway | undefined {
  if (!gridAccess) return undefined;
  if (gateway === undefined) throw new AssertionError('the address of the gateway is not known');
  return gateway;
}

/** The token is the only one that a pod may have, and the policies know exactly this form of it. */
function accessVolume(): NonNullable<NonNullable<Pod['spec']>['volumes']>[number] {
  const { token, ca } = gatewayFiles;
  const fieldRef = { fieldPath: `metadata.annotations['${gatewayAuthorityAnnotation}']` };
  return {
    name: gatewayVolume,
    projected: {
      sources: [
        { serviceAccountToken: { audience: taskTokenAudience, expirationSeconds: taskTokenSeconds, path: token } },
        { downwardAPI: { items: [{ path: ca, fieldRef }] } },
      ],
    },
  };
}

/** What tells a task where the gateway is. */
function accessVariables({ address }: TaskGateway, namespace: string | undefined): Record<string, string> {
  return {
    [gatewayVariables.address]: address,
    [gatewayVariables.caFile]: `${gatewayFolder}/${gatewayFiles.ca}`,
    [gatewayVariables.tokenFile]: `${gatewayFolder}/${gatewayFiles.token}`,
    [gatewayVariables.virtualOrganization]: organizationOfNamespace(namespace) ?? '',
  };
}

function taskContainer(
  { metadata, spec }: Stored<Execution>,
  { index, run, node }: TaskRun,
  surroundings: PodSurroundings,
  { uid }: Ids,
): NonNullable<Pod['spec']>['containers'][number] {
  const { gridJob, template, taskCount, interactive, volumes, stdin, stdout, stderr, owner } = spec;
  const { site, home } = surroundings;
  const access = accessOf(spec, surroundings);
  const given: Record<string, string> = {
    XTREEMOS_JOB: gridJob.name,
    XTREEMOS_TASK_INDEX: String(index),
    XTREEMOS_TASK_COUNT: String(taskCount),
    XTREEMOS_RUN: run,
    XTREEMOS_SITE: site,
    XTREEMOS_NODE: node,
    USER: owner,
    XTREEMOS_UID: String(uid),
    ...(access === undefined ? {} : accessVariables(access, metadata.namespace)),
  };
  const files = redirection({ stdin, stdout, stderr, volumes, index, job: gridJob.name });
  const command = files === '' ? template.command : ['/bin/sh', '-c', `exec "$0" "$@" ${files}`, ...template.command];
  const { cpu, memory, ephemeralStorage, devices } = template.resources;
  const counted = Object.fromEntries(devices.map(({ resource, count }) => [resource, String(count)]));
  const storage = ephemeralStorage === undefined ? {} : { 'ephemeral-storage': String(ephemeralStorage) };
  return {
    name: taskContainerName,
    image: template.image,
    imagePullPolicy: template.imagePullPolicy,
    ...(command.length === 0 ? {} : { command }),
    ...(template.args.length === 0 ? {} : { args: template.args }),
    env: [
      ...(home === undefined || template.env.some(({ name }) => name === 'HOME')
        ? []
        : [{ name: 'HOME', value: home.mountPath }]),
      // What the user says comes first, so that it can't change what is given.
      ...template.env.filter(({ name }) => !(name in given)),
      ...Object.entries(given).map(([name, value]) => ({ name, value })),
    ],
    ...(template.workingDir === undefined ? {} : { workingDir: template.workingDir }),
    resources: {
      requests: { cpu: String(cpu), memory: String(memory), ...storage, ...counted },
      limits: { memory: String(memory), ...storage, ...counted },
    },
    stdin: interactive,
    tty: interactive,
    // What a task says last is kept in its pod, also when the log is gone.
    terminationMessagePolicy: 'FallbackToLogsOnError',
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [
      ...Object.entries(accountFiles).map(([mountPath, subPath]) => ({
        ...{ name: accountVolume, mountPath, subPath, readOnly: true },
      })),
      ...(access === undefined ? [] : [{ name: gatewayVolume, mountPath: gatewayFolder, readOnly: true }]),
      ...homeMounts(volumes, home),
      ...volumes.map(({ volume, mountPath, readOnly, subPath }) => ({
        name: `volume-${volume}`,
        mountPath,
        readOnly,
        ...(subPath === undefined ? {} : { subPath }),
      })),
    ],
  };
}

/** Where the home is, unless the job has something else there. */
function homeMounts(
  volumes: ExecutionSpec['volumes'],
  home: Home | undefined,
): { readonly name: string; readonly mountPath: string }[] {
  if (home === undefined || volumes.some(({ mountPath }) => mountPath === home.mountPath)) return [];
  return [{ name: `volume-${home.volume}`, mountPath: home.mountPath }];
}

function podVolumes(
  { owner, volumes, gridAccess }: ExecutionSpec,
  { home }: PodSurroundings,
): NonNullable<NonNullable<Pod['spec']>['volumes']> {
  const homes = homeMounts(volumes, home).length > 0 && home !== undefined ? [home.volume] : [];
  const names = [...new Set([...homes, ...volumes.map(({ volume }) => volume)])];
  return [
    { name: accountVolume, configMap: { name: `${owner}-account` } },
    ...(gridAccess ? [accessVolume()] : []),
    ...names.map((name) => {
      const isOnlyRead = !homes.includes(name) && volumes.every((each) => each.volume !== name || each.readOnly);
      const persistentVolumeClaim = { claimName: name, ...(isOnlyRead ? { readOnly: true } : {}) };
      return { name: `volume-${name}`, persistentVolumeClaim };
    }),
  ];
}

interface Redirected extends Pick<ExecutionSpec, 'stdin' | 'stdout' | 'stderr' | 'volumes'> {
  readonly index: number;
  readonly job: string;
}

/** The redirections of a shell for files in volumes; empty when there are none. Every path is quoted. */
function redirection({ stdin, stdout, stderr, volumes, index, job }: Redirected): string {
  const pathOf = (file: { volume: string; path: string }): string => {
    const mount = volumes.find(({ volume }) => volume === file.volume);
    const full = `${mount?.mountPath ?? ''}/${file.path}`.replaceAll('%t', String(index)).replaceAll('%j', job);
    return `'${full.replaceAll("'", String.raw`'\''`)}'`;
  };
  const parts = [
    ...(stdin === undefined ? [] : [`<${pathOf(stdin)}`]),
    ...(stdout === undefined ? [] : [`>${pathOf(stdout)}`]),
    ...(stderr === undefined ? [] : [`2>${pathOf(stderr)}`]),
  ];
  return parts.join(' ');
}

/** Label and taint of nodes that one virtual organization has for itself; the owner of the site sets them. */
const dedicatedKey = 'xtreemos.io/dedicated-to';

function dedicatedToleration(organization: string): { key: string; operator: string; value: string; effect: string } {
  return { key: dedicatedKey, operator: 'Equal', value: organization, effect: 'NoSchedule' };
}

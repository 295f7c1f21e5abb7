import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import {
  type FileSystem,
  fileSystemDegraded,
  fileSystems,
  fileSystemScaled,
  type FileSystemStatus,
} from '#crds/file-system.ts';
import type { Volume } from '#crds/volume.ts';
import { conditionChanged } from '#operator/controllers/events.ts';
import { changedConditions, isSame } from '#operator/controllers/status-change.ts';
import type { ChildWriter } from '#operator/storage/child-writer.ts';
import type { OsdReport } from '#operator/storage/installation.ts';
import type { Installations } from '#operator/storage/installations.ts';
import { fileSystemLabel, type ServerKind, serverKinds, serverName } from '#operator/storage/names.ts';
import {
  networkPolicies,
  persistentVolumeClaims,
  type Pod,
  podDisruptionBudgets,
  type Secret,
  services,
  type StatefulSet,
  statefulSets,
} from '#runtime/builtin.ts';
import {
  type Client,
  done,
  type EventRecorder,
  type Lister,
  type Reconciler,
  requeueAfter,
  type Result,
} from '#runtime/contracts.ts';
import { ignoreNotFound, NotFoundError } from '#runtime/errors.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { Finalizers } from '#runtime/finalizers.ts';
import { isDeleting, type ObjectKey, type Stored } from '#runtime/types.ts';
import { ensureKeys } from './keys.ts';
import {
  certificateOf,
  disruptionBudgetOf,
  networkPolicyOf,
  serverCertificates,
  serviceOf,
  statefulSetOf,
} from './objects.ts';
import type { FileSystemMetrics } from './metrics.ts';
import { keysName } from './pod.ts';
import { leavingOsds, osdCount, osdName, type Shrink, OsdShrinker, type ShrinkSight } from './shrink.ts';
import { computeStatus, type FileSystemScope, type ServerSight } from './status.ts';

/** Index of Volumes by the FileSystem that they name, `namespace/name`. */
export const byFileSystem = 'fileSystem';
/** How often the servers are asked for free space, milliseconds. */
const observeMs = 30_000;
/** How often while something is missing, milliseconds. */
const settleMs = 3_000;

/** What the reconciler works with. */
export interface FileSystemParts {
  readonly fileSystems: Lister<FileSystem>;
  readonly volumes: Lister<Volume>;
  readonly statefulSets: Lister<StatefulSet>;
  readonly pods: Lister<Pod>;
  /** Certificates and keys of file systems. */
  readonly secrets: Lister<Secret>;
  readonly client: Client;
  readonly writer: ChildWriter;
  readonly finalizers: Finalizers<FileSystem>;
  readonly installations: Installations;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: FileSystemMetrics;
  /** Namespace of the operator. */
  readonly namespace: string;
  readonly image: string;
  readonly issuer: string;
}

/**
 * Runs the servers of a FileSystem. DIR, MRC and OSDs are written in this order, and one kind waits until the one before it runs as it is to
 * be: so they start, and so they are replaced.
 */
export class FileSystemReconciler implements Reconciler {
  private readonly parts: FileSystemParts;
  private readonly shrinker: OsdShrinker;

  constructor(parts: FileSystemParts) {
    this.parts = parts;
    this.shrinker = new OsdShrinker(parts.client, parts.installations);
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const { finalizers, installations, metrics, namespace } = this.parts;
    const fileSystem = this.parts.fileSystems.get(key);
    if (fileSystem === undefined) return done;
    if (isDeleting(fileSystem) && this.volumesOn(fileSystem) === 0) {
      metrics.forget(key.name);
      installations.forget(fileSystem.metadata.uid);
      await finalizers.remove(fileSystem, signal);
      return done;
    }
    if (fileSystem.metadata.namespace !== namespace) {
      await this.report(this.emptyScope(fileSystem), signal);
      return done;
    }
    if (await finalizers.ensure(fileSystem, signal)) return done;
    const sight = await this.lookAtOsds(fileSystem, signal);
    const certificates = await this.makeObjects(sight, signal);
    const gathered = await this.gather(sight, certificates, signal);
    const scope = { ...gathered, shrink: await this.shrink(sight, gathered, signal) };
    metrics.observe(scope);
    await this.report(scope, signal);
    return requeueAfter(isSettledScope(scope) ? observeMs : settleMs);
  }

  /** Claims are read only while OSDs go, or may have begun to. */
  private async lookAtOsds(fileSystem: Stored<FileSystem>, signal: AbortSignal): Promise<ShrinkSight> {
    const { count } = fileSystem.spec.osds;
    const running = this.statefulSet(fileSystem, 'osd')?.spec?.replicas ?? 0;
    const scaled = findCondition(fileSystem.status?.conditions, fileSystemScaled.type);
    const isSteady = running <= count && (scaled === undefined || scaled.status === 'True');
    const claims = isSteady ? new Map<number, never>() : await this.shrinker.claims(fileSystem, signal);
    const pods = this.podsOf(fileSystem, 'osd').map((pod): [number, Stored<Pod>] => [ordinalOf(pod), pod]);
    return { fileSystem, running, claims, pods: new Map(pods) };
  }

  private async shrink(sight: ShrinkSight, { osds }: FileSystemScope, signal: AbortSignal): Promise<Shrink> {
    if (osds !== undefined && sight.claims.size > 0) {
      try {
        return await this.shrinker.step(sight, osds, signal);
      } catch (error) {
        const { name } = sight.fileSystem.metadata;
        this.parts.log.warn('OSDs can not be taken away now', { FileSystem: name, problem: describeError(error) });
      }
    }
    const leaving = leavingOsds(sight).map((ordinal) => osdName(sight.fileSystem, ordinal));
    return { drains: new Map(leaving.map((name) => [name, unknownDrain])), isRemoving: false };
  }

  private async makeObjects(sight: ShrinkSight, signal: AbortSignal): Promise<FileSystemScope['certificates']> {
    const { fileSystem } = sight;
    const { client, writer, secrets, namespace } = this.parts;
    const options = { signal };
    if (secrets.get({ namespace, name: keysName(fileSystem.metadata.name) }) === undefined) {
      await ensureKeys(client, fileSystem, signal);
    }
    await writer.apply(networkPolicies, networkPolicyOf(fileSystem), options);
    for (const kind of serverKinds) {
      await writer.apply(services, serviceOf(fileSystem, kind), options);
      await writer.apply(podDisruptionBudgets, disruptionBudgetOf(fileSystem, kind), options);
    }
    const certificates = await this.makeCertificates(fileSystem, signal);
    if (certificates.missing.length === 0) await this.makeServers(sight, signal);
    return certificates;
  }

  private async makeCertificates(
    fileSystem: Stored<FileSystem>,
    signal: AbortSignal,
  ): Promise<FileSystemScope['certificates']> {
    const { writer, secrets, namespace } = this.parts;
    if (fileSystem.spec.tls === 'Disabled') return { isNeeded: false, missing: [], hasManager: true };
    const names = serverKinds.map((kind) => serverName(fileSystem.metadata.name, kind));
    const missing = names.filter((name) => secrets.get({ namespace, name }) === undefined);
    try {
      for (const kind of serverKinds) {
        await writer.apply(serverCertificates, certificateOf(fileSystem, kind, this.parts.issuer), { signal });
      }
    } catch (error) {
      if (!(error instanceof NotFoundError) || !error.message.includes('cert-manager.io')) throw error;
      return { isNeeded: true, missing, hasManager: false };
    }
    return { isNeeded: true, missing, hasManager: true };
  }

  private async makeServers(sight: ShrinkSight, signal: AbortSignal): Promise<void> {
    const { fileSystem } = sight;
    const terms = { image: this.parts.image, osdCount: osdCount(sight) };
    for (const kind of serverKinds) {
      const before = this.statefulSet(fileSystem, kind);
      const wanted = statefulSetOf(fileSystem, kind, terms);
      await this.parts.writer.apply(statefulSets, wanted, { signal, isMissing: before === undefined });
      const now = this.statefulSet(fileSystem, kind);
      // OSDs that start, or are away, hold up nobody: there is nothing after them.
      if (kind !== 'osd' && !isSettled(now ?? before)) return;
    }
  }

  private statefulSet({ metadata }: Stored<FileSystem>, kind: ServerKind): Stored<StatefulSet> | undefined {
    const { name, namespace } = metadata;
    const found = this.parts.statefulSets.get({ name: serverName(name, kind), ...(namespace && { namespace }) });
    return found?.metadata.ownerReferences?.some(({ uid }) => uid === metadata.uid) === true ? found : undefined;
  }

  private async gather(
    { fileSystem }: ShrinkSight,
    certificates: FileSystemScope['certificates'],
    signal: AbortSignal,
  ): Promise<FileSystemScope> {
    const sight = (kind: ServerKind): ServerSight => this.sightOf(fileSystem, kind);
    const servers = { dir: sight('dir'), mrc: sight('mrc'), osd: sight('osd') };
    const isDown = serverKinds.some((kind) => servers[kind].ready.length < servers[kind].wanted);
    return {
      ...this.emptyScope(fileSystem),
      servers,
      certificates,
      unboundClaims: isDown ? await this.unboundClaims(fileSystem, signal) : [],
      osds: servers.dir.ready.length === 0 ? undefined : await this.askDirectory(fileSystem, signal),
    };
  }

  private emptyScope(fileSystem: Stored<FileSystem>): FileSystemScope {
    const nothing = { ready: [], wanted: 0, isUpdating: false };
    return {
      fileSystem,
      servers: { dir: nothing, mrc: nothing, osd: nothing },
      certificates: { isNeeded: fileSystem.spec.tls !== 'Disabled', missing: [], hasManager: true },
      unboundClaims: [],
      osds: undefined,
      shrink: { drains: new Map(), isRemoving: false },
      volumes: this.volumesOn(fileSystem),
      namespace: this.parts.namespace,
      now: this.parts.clock.now(),
    };
  }

  private sightOf(fileSystem: Stored<FileSystem>, kind: ServerKind): ServerSight {
    const set = this.statefulSet(fileSystem, kind);
    if (set === undefined)
      return { ready: [], wanted: kind === 'osd' ? fileSystem.spec.osds.count : 1, isUpdating: false };
    const ready = this.podsOf(fileSystem, kind)
      .filter(({ status }) => status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True'))
      .map(ordinalOf);
    const { currentRevision, updateRevision } = set.status ?? {};
    const isUpdating =
      currentRevision !== undefined && updateRevision !== undefined && currentRevision !== updateRevision;
    return { ready, wanted: set.spec?.replicas ?? 1, isUpdating };
  }

  private podsOf(fileSystem: Stored<FileSystem>, kind: ServerKind): Stored<Pod>[] {
    const set = this.statefulSet(fileSystem, kind);
    const isOwn = ({ metadata }: Stored<Pod>): boolean =>
      metadata.ownerReferences?.some(({ uid }) => uid === set?.metadata.uid) === true;
    return this.parts.pods.list(fileSystem.metadata.namespace).filter(isOwn);
  }

  private async unboundClaims({ metadata }: Stored<FileSystem>, signal: AbortSignal): Promise<string[]> {
    const labelSelector = `${fileSystemLabel}=${metadata.name}`;
    const options = { signal, labelSelector, namespace: metadata.namespace };
    const { items } = await this.parts.client.of(persistentVolumeClaims).list(options);
    return items.filter(({ status }) => status?.phase !== 'Bound').map((claim) => claim.metadata.name);
  }

  private async askDirectory(
    fileSystem: Stored<FileSystem>,
    signal: AbortSignal,
  ): Promise<readonly OsdReport[] | undefined> {
    try {
      return await this.parts.installations.of(fileSystem).osds(signal);
    } catch (error) {
      const { name } = fileSystem.metadata;
      this.parts.log.warn('The directory does not answer', { FileSystem: name, problem: describeError(error) });
      return undefined;
    }
  }

  private volumesOn({ metadata }: Stored<FileSystem>): number {
    return this.parts.volumes.byIndex(byFileSystem, `${metadata.namespace ?? ''}/${metadata.name}`).length;
  }

  private async report(scope: FileSystemScope, signal: AbortSignal): Promise<void> {
    const { fileSystem } = scope;
    const status = computeStatus(scope);
    if (isSame(fileSystem.status, status)) return;
    const { name, namespace, uid } = fileSystem.metadata;
    const written = this.parts.client
      .of(fileSystems)
      .status.apply({ metadata: { name, namespace, uid }, status }, { signal });
    if ((await ignoreNotFound(written)) !== undefined) this.tell(fileSystem, status);
  }

  private tell(fileSystem: Stored<FileSystem>, status: FileSystemStatus): void {
    for (const condition of changedConditions(fileSystem.status, status)) {
      const good = condition.type === fileSystemDegraded.type ? 'False' : 'True';
      const isGood = condition.status === good || underWay.includes(condition.reason);
      this.parts.events.publish(conditionChanged(fileSystems, fileSystem, condition, isGood));
    }
  }
}

/** Reasons of conditions that are not as they are to be, and will be by themselves. */
const underWay = ['Starting', 'Growing', 'Awaiting', 'Updating', 'Draining', 'Shrinking'];
const unknownDrain = { isEmpty: false, filesLeft: undefined, problem: '' };

/** Whether nothing is expected to change soon. */
function isSettledScope({ servers, osds, shrink }: FileSystemScope): boolean {
  const isWhole = serverKinds.every(
    (kind) => !servers[kind].isUpdating && servers[kind].ready.length === servers[kind].wanted,
  );
  const isMoving = shrink.isRemoving || [...shrink.drains.values()].some(({ problem }) => problem === '');
  return isWhole && osds !== undefined && !isMoving;
}

/** The number at the end of a pod's name. */
function ordinalOf({ metadata }: Stored<Pod>): number {
  return Number(metadata.name.slice(metadata.name.lastIndexOf('-') + 1));
}

/** Whether every pod runs, and is as the StatefulSet says. */
function isSettled(set: Stored<StatefulSet> | undefined): boolean {
  const { observedGeneration = 0, readyReplicas = 0, updatedReplicas = 0 } = set?.status ?? {};
  const wanted = set?.spec?.replicas ?? 1;
  return observedGeneration >= (set?.metadata.generation ?? 0) && readyReplicas >= wanted && updatedReplicas >= wanted;
}

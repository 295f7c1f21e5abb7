/** Fewer OSDs: their files go first, then the pods, and at last the claims. */
import type { FileSystem } from '#crds/file-system.ts';
import type { DrainReport, OsdReport } from '#operator/storage/installation.ts';
import type { Installations } from '#operator/storage/installations.ts';
import { fileSystemLabel, serverName } from '#operator/storage/names.ts';
import { type PersistentVolumeClaim, persistentVolumeClaims, type Pod } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';

/** On the claim of an OSD that was found empty: the UUIDs that it has at the directory, separated by commas. It may be deleted. */
export const drainedAnnotation = 'xtreemos.io/drained-osd';

/** What is seen before OSDs are taken away. */
export interface ShrinkSight {
  readonly fileSystem: Stored<FileSystem>;
  /** OSDs that the StatefulSet has now. */
  readonly running: number;
  /** Claims of OSDs, by ordinal; read now, for a cache may be behind what was just written. */
  readonly claims: ReadonlyMap<number, Stored<PersistentVolumeClaim>>;
  /** Pods of OSDs, by ordinal. */
  readonly pods: ReadonlyMap<number, Stored<Pod>>;
}

/** Name of the pod and of the OSD of an ordinal. */
export function osdName(fileSystem: Stored<FileSystem>, ordinal: number): string {
  return `${serverName(fileSystem.metadata.name, 'osd')}-${ordinal}`;
}

/** Whether an OSD is the one of a pod, or was before its folder was replaced. */
export function isOsdOf(uuid: string, name: string): boolean {
  return uuid === name || uuid.startsWith(`${name}.`);
}

/**
 * How many OSDs there are to be now. None goes before it was found empty, the last one first; and none comes while the claim of one that was
 * emptied is still there, for it would start with what that one left.
 */
export function osdCount({ fileSystem, running, claims }: ShrinkSight): number {
  const { count } = fileSystem.spec.osds;
  const drained = [...claims].flatMap(([ordinal, claim]) => (isDrained(claim) ? [ordinal] : []));
  let wanted = Math.min(Math.max(count, running), ...drained);
  while (wanted > count && !claims.has(wanted - 1)) wanted--;
  return wanted;
}

/** Ordinals of OSDs that are to go and still run, the last first. */
export function leavingOsds(sight: ShrinkSight): number[] {
  const { count } = sight.fileSystem.spec.osds;
  const length = Math.max(0, osdCount(sight) - count);
  return Array.from({ length }, (_, index) => count + length - 1 - index);
}

function isDrained({ metadata }: Stored<PersistentVolumeClaim>): boolean {
  return metadata.annotations?.[drainedAnnotation] !== undefined;
}

/** What is done with OSDs that are to go. */
export interface Shrink {
  /** How far each is emptied, by name of its pod. */
  readonly drains: ReadonlyMap<string, DrainReport>;
  /** Whether pods or claims of empty ones are still there. */
  readonly isRemoving: boolean;
}

/** Takes OSDs away. Nothing of how far it is lies in memory: status at the directory, and marks on claims. */
export class OsdShrinker {
  private readonly client: Client;
  private readonly installations: Installations;

  constructor(client: Client, installations: Installations) {
    this.client = client;
    this.installations = installations;
  }

  /** Claims of OSDs by ordinal. */
  async claims({ metadata }: Stored<FileSystem>, signal: AbortSignal): Promise<ShrinkSight['claims']> {
    const labelSelector = `${fileSystemLabel}=${metadata.name}`;
    const options = { signal, labelSelector, namespace: metadata.namespace };
    const { items } = await this.client.of(persistentVolumeClaims).list(options);
    const prefix = `data-${serverName(metadata.name, 'osd')}-`;
    const ordinals = items.flatMap((claim): [number, typeof claim][] => {
      const ordinal = claim.metadata.name.startsWith(prefix) ? claim.metadata.name.slice(prefix.length) : '';
      return /^\d+$/.test(ordinal) ? [[Number(ordinal), claim]] : [];
    });
    return new Map(ordinals);
  }

  /**
   * One step: no new files for OSDs that are to go, their files to others; a mark on the claims of those that are empty. Those that need not
   * go any more take files again.
   * @param osds - as the directory has them.
   */
  async step(sight: ShrinkSight, osds: readonly OsdReport[], signal: AbortSignal): Promise<Shrink> {
    const { fileSystem } = sight;
    const installation = this.installations.of(fileSystem);
    const leaving = leavingOsds(sight);
    const drains = new Map<string, DrainReport>();
    for (const ordinal of leaving) {
      const found = osds.filter(({ uuid }) => isOsdOf(uuid, osdName(fileSystem, ordinal)));
      for (const { uuid, takesFiles } of found) if (takesFiles) await installation.setTakesFiles(uuid, false, signal);
    }
    await this.takeBack(sight, osds, signal);
    const wish = `${fileSystem.metadata.uid}/${fileSystem.metadata.generation ?? 0}`;
    let isLast = true;
    for (const ordinal of leaving) {
      const name = osdName(fileSystem, ordinal);
      const uuids = osds.flatMap(({ uuid }) => (isOsdOf(uuid, name) ? [uuid] : []));
      const report = await this.drain(sight, ordinal, uuids, wish, signal);
      drains.set(name, report);
      // A StatefulSet takes the last pod away first.
      isLast &&= report.isEmpty;
      if (isLast) await this.mark(sight, ordinal, uuids, signal);
    }
    return { drains, isRemoving: await this.remove(sight, signal) };
  }

  private async drain(
    { fileSystem, pods }: ShrinkSight,
    ordinal: number,
    uuids: readonly string[],
    wish: string,
    signal: AbortSignal,
  ): Promise<DrainReport> {
    const pod = pods.get(ordinal);
    if (uuids.length === 0) {
      // One that never started has no files; one that runs tells of itself soon.
      const isEmpty = pod === undefined || pod.status?.phase === 'Pending';
      return { isEmpty, filesLeft: isEmpty ? 0 : undefined, problem: '' };
    }
    const installation = this.installations.of(fileSystem);
    const reports: DrainReport[] = [];
    for (const uuid of uuids) reports.push(await installation.drain(uuid, wish, signal));
    const isCounted = reports.every(({ filesLeft }) => filesLeft !== undefined);
    return {
      isEmpty: reports.every(({ isEmpty }) => isEmpty),
      filesLeft: isCounted ? reports.reduce((sum, { filesLeft = 0 }) => sum + filesLeft, 0) : undefined,
      problem: reports.find(({ problem }) => problem !== '')?.problem ?? '',
    };
  }

  /** OSDs that were to go, and are not any more. Those that an administrator locked stay locked. */
  private async takeBack({ fileSystem }: ShrinkSight, osds: readonly OsdReport[], signal: AbortSignal): Promise<void> {
    const kept = Array.from({ length: fileSystem.spec.osds.count }, (_, ordinal) => osdName(fileSystem, ordinal));
    const draining = (fileSystem.status?.osds ?? []).flatMap(({ name, state }) => (state === 'Draining' ? [name] : []));
    for (const name of kept.filter((each) => draining.includes(each))) {
      const locked = osds.filter(({ uuid, takesFiles }) => !takesFiles && isOsdOf(uuid, name));
      for (const { uuid } of locked) await this.installations.of(fileSystem).setTakesFiles(uuid, true, signal);
    }
  }

  private async mark(
    { claims }: ShrinkSight,
    ordinal: number,
    uuids: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    const claim = claims.get(ordinal);
    if (claim === undefined) return;
    const { name, namespace, uid } = claim.metadata;
    const annotations = { [drainedAnnotation]: uuids.join(',') };
    await this.client.of(persistentVolumeClaims).apply({ metadata: { name, namespace, uid, annotations } }, { signal });
  }

  /** Deletes claims of empty OSDs whose pods are gone. @returns whether some are still there. */
  private async remove({ fileSystem, running, claims, pods }: ShrinkSight, signal: AbortSignal): Promise<boolean> {
    let isRemoving = false;
    for (const [ordinal, claim] of claims) {
      const uuids = claim.metadata.annotations?.[drainedAnnotation];
      if (uuids === undefined) continue;
      isRemoving = true;
      if (ordinal < running || pods.has(ordinal)) continue;
      // First the directory: of a claim that is gone nobody knows the UUID.
      const gone = uuids.split(',').filter((uuid) => uuid !== '');
      for (const uuid of gone) await this.installations.of(fileSystem).forgetOsd(uuid, signal);
      const { name, namespace, uid } = claim.metadata;
      const key = { name, ...(namespace === undefined ? {} : { namespace }) };
      await ignoreNotFound(this.client.of(persistentVolumeClaims).delete(key, { preconditions: { uid }, signal }));
    }
    return isRemoving;
  }
}

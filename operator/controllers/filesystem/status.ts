/** The status of a FileSystem, computed in one pure place. */
import {
  certificatesIssued,
  type FileSystem,
  fileSystemDegraded,
  fileSystemReady,
  fileSystemScaled,
  type FileSystemStatus,
} from '#crds/file-system.ts';
import type { OsdReport } from '#operator/storage/installation.ts';
import { isOsdOf, osdName, type Shrink } from './shrink.ts';
import { serverAddress, type ServerKind, serverKinds, serverName } from '#operator/storage/names.ts';
import { type ConditionUpdate, updateConditions } from '#runtime/conditions.ts';
import type { Stored } from '#runtime/types.ts';

type Finding = Pick<ConditionUpdate, 'type' | 'status' | 'reason' | 'message'>;
type Osd = NonNullable<FileSystemStatus['osds']>[number];

/** Below this part of its space an OSD is nearly full. */
const freePartMin = 0.1;

/** Names of servers in a sentence, and characters of a message. */
const namesMax = 8;
const messageMax = 1_024;

/** What is seen of the servers of one kind. */
export interface ServerSight {
  /** Ordinals of pods that are ready. */
  readonly ready: readonly number[];
  /** Pods that there are to be. */
  readonly wanted: number;
  readonly isUpdating: boolean;
}

/** What a status is computed from. */
export interface FileSystemScope {
  readonly fileSystem: Stored<FileSystem>;
  readonly servers: Readonly<Record<ServerKind, ServerSight>>;
  readonly certificates: {
    readonly isNeeded: boolean;
    readonly missing: readonly string[];
    readonly hasManager: boolean;
  };
  /** Claims of servers that have no volume. */
  readonly unboundClaims: readonly string[];
  /** Undefined when the directory could not be asked. */
  readonly osds: readonly OsdReport[] | undefined;
  readonly shrink: Shrink;
  readonly volumes: number;
  /** Namespace of the operator, where FileSystems have to be. */
  readonly namespace: string;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
}

/** What the status should be. */
export function computeStatus(scope: FileSystemScope): FileSystemStatus {
  const { fileSystem, servers, volumes } = scope;
  const { name, namespace = '', generation } = fileSystem.metadata;
  const osds = osdRows(scope);
  const findings = [
    readyFinding(scope),
    certificatesFinding(scope),
    scaledFinding(scope),
    degradedFinding(scope, osds),
  ];
  const reported = osds.filter(({ totalBytes }) => totalBytes !== undefined);
  const sum = (field: 'freeBytes' | 'totalBytes'): number => reported.reduce((all, osd) => all + (osd[field] ?? 0), 0);
  const single = (kind: 'dir' | 'mrc'): { address: string; ready: boolean } => ({
    address: serverAddress(name, namespace, kind),
    ready: servers[kind].ready.length > 0,
  });
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: updateConditions(
      fileSystem.status?.conditions,
      findings.map((finding) => ({ ...finding, observedGeneration: generation })),
      scope.now,
    ),
    dir: single('dir'),
    mrc: single('mrc'),
    osds,
    osdsReady: servers.osd.ready.length,
    ...(reported.length === 0 ? {} : { capacityBytes: sum('totalBytes'), freeBytes: sum('freeBytes') }),
    volumes,
  };
}

function osdRows({ fileSystem, servers, osds, shrink }: FileSystemScope): Osd[] {
  const { wanted, ready } = servers.osd;
  return Array.from({ length: wanted }, (_, ordinal): Osd => {
    const name = osdName(fileSystem, ordinal);
    const report = newest(osds?.filter(({ uuid }) => isOsdOf(uuid, name)) ?? []);
    const drain = shrink.drains.get(name);
    const before = fileSystem.status?.osds?.find((osd) => osd.name === name);
    const space =
      report === undefined || report.totalBytes === 0
        ? before
        : { freeBytes: coarse(report.freeBytes), totalBytes: report.totalBytes };
    return {
      name,
      uuid: report?.uuid ?? before?.uuid ?? name,
      ready: ready.includes(ordinal),
      state: drain === undefined ? 'Available' : 'Draining',
      ...(drain?.filesLeft === undefined ? {} : { filesLeft: drain.filesLeft }),
      ...(space?.totalBytes === undefined ? {} : { freeBytes: space.freeBytes, totalBytes: space.totalBytes }),
    };
  });
}

/** The one that lives, where a folder was replaced. */
function newest(osds: readonly OsdReport[]): OsdReport | undefined {
  return [...osds].sort((a, b) => b.lastSeenS - a.lastSeenS)[0];
}

/** Whole MiB: a status is not written for every byte. */
function coarse(bytes: number): number {
  return Math.floor(bytes / 1_048_576) * 1_048_576;
}

function readyFinding(scope: FileSystemScope): Finding {
  const { type, reasons } = fileSystemReady;
  const { fileSystem, servers, certificates, unboundClaims, namespace } = scope;
  const not = (reason: string, message: string): Finding => ({ type, status: 'False', reason, message });
  if (fileSystem.metadata.deletionTimestamp !== undefined) {
    return scope.volumes > 0
      ? not(reasons.InUse, 'It is to be deleted, and Volumes are still on it: delete them first.')
      : not(reasons.Deleting, 'It is being deleted.');
  }
  if (fileSystem.metadata.namespace !== namespace) {
    return not(reasons.OtherNamespace, `Servers run in namespace ${namespace} only: make the FileSystem there.`);
  }
  const down = serverKinds.filter((kind) => servers[kind].ready.length === 0);
  if (down.length === 0) return { type, status: 'True', reason: reasons.Serving, message: 'DIR, MRC and OSDs serve.' };
  if (certificates.missing.length > 0 && certificates.isNeeded) {
    return not(reasons.CertificatesMissing, 'Servers wait for certificates; see CertificatesIssued.');
  }
  const [claim] = unboundClaims;
  if (claim !== undefined) {
    return not(
      reasons.StorageMissing,
      `PersistentVolumeClaim ${claim} has no volume: name a storageClassName that can make one, or make a StorageClass the default one.`,
    );
  }
  const names = down.map((kind) => serverName(fileSystem.metadata.name, kind)).join(', ');
  const wasReady = fileSystem.status?.conditions?.some(
    ({ type: each, status, reason }) => each === type && (status === 'True' || reason === reasons.ServersDown),
  );
  return wasReady === true
    ? not(reasons.ServersDown, `No pod of StatefulSet ${names} is ready: see its events and logs.`)
    : not(reasons.Starting, `StatefulSet ${names} starts.`);
}

function certificatesFinding({ certificates }: FileSystemScope): Finding {
  const { type, reasons } = certificatesIssued;
  const { isNeeded, missing, hasManager } = certificates;
  if (!isNeeded) return { type, status: 'True', reason: reasons.NotNeeded, message: 'Connections are not protected.' };
  if (!hasManager) {
    const message = 'cert-manager is not installed, and it makes the certificates: install it.';
    return { type, status: 'False', reason: reasons.CertManagerMissing, message };
  }
  const [first] = missing;
  if (first !== undefined) {
    const message = `Secret ${first} is not there yet: see the Certificate of the same name.`;
    return { type, status: 'False', reason: reasons.Awaiting, message };
  }
  return { type, status: 'True', reason: reasons.Issued, message: 'Every certificate is there.' };
}

function scaledFinding({ fileSystem, servers, shrink }: FileSystemScope): Finding {
  const { type, reasons } = fileSystemScaled;
  const { count } = fileSystem.spec.osds;
  const { wanted, ready } = servers.osd;
  const not = (reason: string, message: string): Finding => ({ type, status: 'False', reason, message });
  const [blocked] = [...shrink.drains].filter(([, { problem }]) => problem !== '');
  if (blocked !== undefined) {
    return not(reasons.DrainBlocked, `Files stay on ${blocked[0]}: ${blocked[1].problem}`.slice(0, messageMax));
  }
  const leaving = [...shrink.drains].flatMap(([name, { isEmpty }]) => (isEmpty ? [] : [name])).reverse();
  if (leaving.length > 0) {
    const names = leaving.slice(0, namesMax).join(', ');
    return not(reasons.Draining, `Files move from ${names} to the other OSDs; status.osds tells how many are left.`);
  }
  if (shrink.isRemoving || wanted > count) {
    return not(reasons.Shrinking, 'OSDs that are empty are taken away, with their claims.');
  }
  if (ready.length < count) {
    return not(reasons.Growing, 'OSDs that were asked for are not ready yet; status.osds tells which.');
  }
  return { type, status: 'True', reason: reasons.AsDeclared, message: 'There are as many OSDs as declared.' };
}

function degradedFinding({ servers, osds }: FileSystemScope, rows: readonly Osd[]): Finding {
  const { type, reasons } = fileSystemDegraded;
  const is = (reason: string, message: string): Finding => ({ type, status: 'True', reason, message });
  const away = rows.filter(({ ready }) => !ready).map(({ name }) => name);
  if (serverKinds.some((kind) => servers[kind].isUpdating)) {
    return is(reasons.Updating, 'Servers are being replaced one by one; clients wait for each.');
  }
  if (osds === undefined) {
    return { type, status: 'Unknown', reason: reasons.Unknown, message: 'The directory can not be asked now.' };
  }
  if (away.length > 0) {
    return is(reasons.OsdsDown, `${away.slice(0, namesMax).join(', ')} do not serve: see their pods.`);
  }
  const full = rows.filter(({ freeBytes, totalBytes = 0 }) => (freeBytes ?? totalBytes) < totalBytes * freePartMin);
  if (full.length > 0) {
    const names = full.slice(0, namesMax).map(({ name }) => name);
    return is(reasons.SpaceLow, `${names.join(', ')} have little space left: raise osds.count, or delete files.`);
  }
  return { type, status: 'False', reason: reasons.Whole, message: 'Every server serves and there is space.' };
}

import { status } from '@grpc/grpc-js';
import type { VolumeCapability } from '#proto/csi/wire.ts';
import { CsiError } from './errors.ts';

const modes: ReadonlySet<string> = new Set([
  'SINGLE_NODE_WRITER',
  'SINGLE_NODE_READER_ONLY',
  'MULTI_NODE_READER_ONLY',
  'MULTI_NODE_SINGLE_WRITER',
  'MULTI_NODE_MULTI_WRITER',
  'SINGLE_NODE_SINGLE_WRITER',
  'SINGLE_NODE_MULTI_WRITER',
]);

/** Mount flags that a PersistentVolume may name: they change nothing, since mounts are made so in any case. */
const harmlessFlags: ReadonlySet<string> = new Set(['nosuid', 'nodev', 'rw', 'ro']);

/** Why a volume can't be had in a way; undefined when it can. */
export function reasonAgainst(capability: VolumeCapability): string | undefined {
  if (capability.block !== undefined && capability.block !== null) return 'volumes are file systems, not block devices';
  const { mount, accessMode } = capability;
  if (mount === undefined || mount === null) return 'the access type is missing: use mount';
  if (!modes.has(accessMode?.mode ?? '')) return `access mode ${accessMode?.mode ?? ''} is not known`;
  const flag = mount.mountFlags.find((each) => !harmlessFlags.has(each));
  if (flag !== undefined) return `mount flag ${JSON.stringify(flag)} can not be set: leave mountOptions out`;
  if (!['', 'xtreemfs'].includes(mount.fsType))
    return `file system type ${mount.fsType} is not served: leave fsType out`;
  return undefined;
}

/** @throws {CsiError} INVALID_ARGUMENT when the capability is missing or can't be had. */
export function checkCapability(capability: VolumeCapability | null | undefined): VolumeCapability {
  if (capability === null || capability === undefined) {
    throw new CsiError(status.INVALID_ARGUMENT, 'volume_capability is missing');
  }
  const reason = reasonAgainst(capability);
  if (reason !== undefined) throw new CsiError(status.INVALID_ARGUMENT, reason);
  return capability;
}

/** Whether only reading was asked for. */
export function isReadOnlyMode(capability: VolumeCapability): boolean {
  const mode = capability.accessMode?.mode ?? '';
  return mode.endsWith('READER_ONLY') || (capability.mount?.mountFlags.includes('ro') ?? false);
}

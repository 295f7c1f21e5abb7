import { status } from '@grpc/grpc-js';
import { volumes, type Volume } from '#crds/volume.ts';
import type { NodeMethods } from '#proto/csi/schema.ts';
import type { Empty, NodePublishVolumeRequest, NodeStageVolumeRequest } from '#proto/csi/wire.ts';
import { pods } from '#runtime/builtin.ts';
import type { EventRecorder } from '#runtime/contracts.ts';
import { referenceTo } from '#runtime/events.ts';
import type { Stored } from '#runtime/types.ts';
import type { MountClient } from '../holder/socket.ts';
import { type AccessView, checkContext, decideAccess, demandReadOnly, findVolume } from '../kubernetes/access.ts';
import { checkCapability, isReadOnlyMode } from './capabilities.ts';
import { CsiError, required, statusOf } from './errors.ts';
import { mountFailed, mountRefused } from './events.ts';
import type { Handlers } from './server.ts';
import type { VolumeStats } from './stats.ts';

/** What the Node service stands on. */
export interface NodeParts {
  /** Name of the node. */
  readonly node: string;
  readonly view: AccessView;
  readonly holder: MountClient;
  readonly events: EventRecorder;
  readonly stats: VolumeStats;
}

/** Bytes that the specification allows for an id. */
const idBytesMax = 128;
/** The scheduler keeps to it; each mount has a process of its own. */
const volumesMax = 256;

/**
 * The Node service: what the kubelet asks for. It holds nothing: mounts are the mount holder's, and what there is of them is read
 * from the kernel's table. So it may end and start again at any time.
 */
export function nodeService(parts: NodeParts): Handlers<NodeMethods> {
  const { holder, view, stats } = parts;
  return {
    NodeStageVolume: async (request) => stage(request, parts),
    NodePublishVolume: async (request) => publish(request, parts),
    NodeUnstageVolume: async ({ volumeId, stagingTargetPath }) => {
      required('volume_id', volumeId, idBytesMax);
      await holder.ask({ op: 'unstage', path: required('staging_target_path', stagingTargetPath) });
      return {};
    },
    NodeUnpublishVolume: async ({ volumeId, targetPath }) => {
      required('volume_id', volumeId, idBytesMax);
      await holder.ask({ op: 'unpublish', path: required('target_path', targetPath) });
      return {};
    },
    NodeGetVolumeStats: async ({ volumeId, volumePath }) => {
      required('volume_id', volumeId, idBytesMax);
      return stats.of(required('volume_path', volumePath));
    },
    // The quota is the MRC's, so nothing on the node grows; the answer is the size in force.
    NodeExpandVolume: async ({ volumeId, volumePath }) => {
      const handle = required('volume_id', volumeId, idBytesMax);
      stats.check(required('volume_path', volumePath));
      const { volume } = findVolume(handle, view);
      return Promise.resolve({ capacityBytes: volume.status?.sizeBytes ?? 0 });
    },
    NodeGetCapabilities: async () => {
      const types = ['STAGE_UNSTAGE_VOLUME', 'GET_VOLUME_STATS', 'EXPAND_VOLUME', 'VOLUME_CONDITION'];
      return Promise.resolve({
        capabilities: [...types, 'SINGLE_NODE_MULTI_WRITER'].map((type) => ({ rpc: { type } })),
      });
    },
    NodeGetInfo: async () => Promise.resolve({ nodeId: parts.node, maxVolumesPerNode: volumesMax }),
  };
}

/** Mounts the volume on the node. Which pod it is for is not said here, so nobody but root gets to it yet. */
async function stage(request: NodeStageVolumeRequest, { view, holder, events }: NodeParts): Promise<Empty> {
  const handle = required('volume_id', request.volumeId, idBytesMax);
  const path = required('staging_target_path', request.stagingTargetPath);
  checkCapability(request.volumeCapability);
  checkContext(request.volumeContext);
  const { volume, source } = findVolume(handle, view);
  try {
    await holder.ask({ op: 'stage', source, path });
  } catch (error) {
    events.publish(mountFailed(referenceTo(volumes, volume), statusOf(error).details));
    throw error;
  }
  return {};
}

async function publish(request: NodePublishVolumeRequest, parts: NodeParts): Promise<Empty> {
  const { view, holder, events } = parts;
  const handle = required('volume_id', request.volumeId, idBytesMax);
  const path = required('target_path', request.targetPath);
  const capability = checkCapability(request.volumeCapability);
  const stagingPath = request.stagingTargetPath;
  if (stagingPath === '')
    throw new CsiError(status.FAILED_PRECONDITION, 'staging_target_path is missing: stage the volume first');
  checkContext(request.volumeContext);
  const { volume, source } = findVolume(handle, view);
  const access = await allowed(volume, request.volumeContext, parts);
  demandReadOnly(volume, request.readonly, access.isReadOnly || isReadOnlyMode(capability));
  const isExclusive = capability.accessMode?.mode === 'SINGLE_NODE_SINGLE_WRITER';
  try {
    // The kubelet does not stage again what it staged before the holder started anew; repeating it is no work.
    await holder.ask({ op: 'stage', source, path: stagingPath });
    await holder.ask({ op: 'publish', stagingPath, path, isReadOnly: request.readonly, isExclusive });
  } catch (error) {
    events.publish(mountFailed(referenceTo(pods, access.pod), statusOf(error).details));
    throw error;
  }
  return {};
}

async function allowed(
  volume: Stored<Volume>,
  context: Readonly<Record<string, string>>,
  { view, events }: NodeParts,
): ReturnType<typeof decideAccess> {
  try {
    return await decideAccess(volume, context, view);
  } catch (error) {
    // On the Volume, whose owner should know; the pod gets the kubelet's own event with the same words.
    if (error instanceof CsiError) events.publish(mountRefused(referenceTo(volumes, volume), error.message));
    throw error;
  }
}

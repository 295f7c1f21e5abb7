import { randomUUID } from 'node:crypto';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import type { Volume as WireVolume } from '#proto/generated/xtreemfs/mrc.ts';
import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import type { Service } from '#proto/generated/xtreemfs/dir.ts';
import type { RpcServer } from '../../rpc/server.ts';
import { isOwner } from '../core/access.ts';
import { PosixError, refuse } from '../core/errno.ts';
import type { Operation } from '../core/operation.ts';
import { volumeNamed } from '../core/operation.ts';
import { rootIno } from '../core/volume.ts';
import type { Volume } from '../core/volume.ts';
import { checkVolumeName, makeVolume, spaceOf } from '../core/volumes.ts';
import type { Call, Mrc } from './context.ts';
import { demandAdmin, demandPassword, handle, hasAdminPassword } from './context.ts';

/** Procedures on volumes and on the server as a whole (protocol reference, section 8.7). */
export function registerVolumes(server: RpcServer, mrc: Mrc): void {
  handle(server, mrc, mrcProcedures.mkvol, async (call, request) => {
    demandPassword(call);
    await makeAndRegister(call, request);
    return {};
  });
  handle(server, mrc, mrcProcedures.rmvol, async (call, { volumeName }) => {
    demandPassword(call);
    const volume = await call.run((op) => demandRemovable(op, volumeName, hasAdminPassword(call)));
    await mrc.maintenance.removeVolume(volume);
    await mrc.directory.deregister(volume.id);
    return {};
  });
  handle(server, mrc, mrcProcedures.lsvol, (call) => {
    demandPassword(call);
    return call.runByCapability((op) => ({
      volumes: mrc.engine.listVolumes().map((volume) => wireVolume(op, volume)),
    }));
  });
  registerServer(server, mrc);
}

function registerServer(server: RpcServer, mrc: Mrc): void {
  handle(server, mrc, mrcProcedures.checkpoint, async (call) => {
    demandAdmin(call);
    await mrc.maintenance.checkpoint();
    return {};
  });
  handle(server, mrc, mrcProcedures.shutdown, (call) => {
    demandAdmin(call);
    mrc.requestShutdown();
    return {};
  });
  handle(server, mrc, mrcProcedures.dumpDatabase, async (call, { dumpFile }) => {
    demandAdmin(call);
    await mrc.maintenance.dump(dumpFile);
    return {};
  });
  handle(server, mrc, mrcProcedures.restoreDatabase, async (call, { dumpFile }) => {
    demandAdmin(call);
    await mrc.maintenance.restore(dumpFile);
    return {};
  });
  handle(server, mrc, mrcProcedures.internalDebug, async (call, { aString }) => {
    demandAdmin(call);
    return { aString: await debug(mrc, aString) };
  });
}

/** Upstream's texts; its database can be stopped and started, ours answers the same way without doing so. */
async function debug(mrc: Mrc, command: string): Promise<string> {
  if (command === 'async_checkpoint') {
    await mrc.maintenance.checkpoint();
    return '';
  }
  return command === 'checkpoint_done' ? 'yes' : 'unknown command';
}

async function makeAndRegister(call: Call, request: WireVolume): Promise<void> {
  const { mrc, context } = call;
  checkVolumeName(request.name);
  const striping = request.defaultStripingPolicy;
  if (striping.type !== 0) refuse('EINVAL', 'default_striping_policy.type: only RAID0 (0) is supported');
  if (
    mrc.engine.env.findVolume(request.name) !== undefined ||
    (await mrc.directory.hasVolume(request.name, context.signal))
  ) {
    refuse('EEXIST', `A volume ${request.name} exists already`);
  }
  const volume = await call.run((op) => {
    // Asked again: another request may have made it while this one asked the DIR.
    if (op.env.findVolume(request.name) !== undefined) refuse('EEXIST', `A volume ${request.name} exists already`);
    return makeVolume(op.tx, op.caller, {
      id: randomUUID(),
      name: request.name,
      number: mrc.engine.nextVolumeNumber(op.tx),
      accessPolicy: request.accessControlPolicy,
      striping: { stripeSizeKb: striping.stripeSize, width: striping.width },
      mode: request.mode,
      ownerUser: request.ownerUserId,
      ownerGroup: request.ownerGroupId,
      attributes: Object.fromEntries(request.attrs.map(({ key, value }) => [key, value])),
      quotaBytes: request.quota ?? 0,
    });
  });
  try {
    await mrc.directory.registerVolume(volumeService(mrc, volume));
  } catch (error) {
    await mrc.maintenance.removeVolume(volume);
    mrc.logger.error('Volume not made: the DIR did not take it', { Volume: volume.name, err: error });
    throw new PosixError('EIO', `The DIR did not take volume ${volume.name}; try again when it is up`);
  }
  mrc.logger.info('Volume made', { Volume: volume.name, id: volume.id });
}

function demandRemovable(op: Operation, name: string, isAdmin: boolean): Volume {
  const volume = volumeNamed(op, name);
  if (volume.snapshotOf !== undefined) refuse('EINVAL', 'Delete a snapshot through xtreemfs.snapshots of its volume');
  if (!isAdmin && !isOwner(op.tx.inode(volume.number, rootIno), op.caller)) {
    refuse('EPERM', `${op.caller.user} does not own volume ${name}`);
  }
  return volume;
}

function wireVolume(op: Operation, volume: Volume): WireVolume {
  const root = op.tx.inode(volume.number, rootIno);
  return {
    accessControlPolicy: volume.accessPolicy,
    defaultStripingPolicy: { type: 0, stripeSize: volume.striping.stripeSizeKb, width: volume.striping.width },
    id: volume.id,
    mode: root.mode & 0o7777,
    name: volume.name,
    ownerGroupId: root.group,
    ownerUserId: root.user,
    attrs: Object.entries(volume.attributes).map(([key, value]) => ({ key, value })),
    quota: volume.quotaBytes,
  };
}

/** The DIR's record of a volume (section 6). */
export function volumeService(mrc: Pick<Mrc, 'uuid' | 'others' | 'engine'>, volume: Volume): Service {
  const caller = { user: '', groups: [], isSuper: true, client: '' };
  const space = mrc.engine.runNow(caller, (op) => ({
    free: spaceOf(op, volume).available,
    used: op.tx.readCounters(volume.number).usedBytes,
  }));
  const attributes = Object.entries(volume.attributes).map(([key, value]) => ({ key: `attr.${key}`, value }));
  return {
    type: ServiceType.VOLUME,
    uuid: volume.id,
    version: 0,
    name: volume.name,
    lastUpdatedS: 0,
    data: {
      data: [
        { key: 'mrc', value: mrc.uuid },
        ...mrc.others().map((uuid, index) => ({ key: `mrc${index + 2}`, value: uuid })),
        { key: 'free', value: String(space.free) },
        { key: 'used', value: String(space.used) },
        ...attributes,
      ],
    },
  };
}

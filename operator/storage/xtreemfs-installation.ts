import { dirProcedures, ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { AccessControlPolicyType, StripingPolicyType } from '#proto/generated/xtreemfs/global-types.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { copyVolume } from '#xtreemfs/client/copy.ts';
import { eraseContents } from '#xtreemfs/client/erase.ts';
import { type Caller, MetadataClient } from '#xtreemfs/client/metadata.ts';
import type { Services } from '#xtreemfs/client/services.ts';
import { isErrno } from '#xtreemfs/rpc/errors.ts';
import { ServerList } from '#xtreemfs/rpc/retry.ts';
import type {
  CopyReport,
  DrainReport,
  Installation,
  OsdReport,
  SnapshotReport,
  VolumeLayout,
  VolumeReport,
  VolumeTerms,
} from './installation.ts';

/** Believed only without TLS; else the certificate says who asks. */
const administrator = { username: 'root', groups: ['root'] };
const policyNames = { None: '', ReadOnly: 'ronly', Quorum: 'WqRq', All: 'WaR1' } as const;
const unset = '';
/** Key of the directory that administrators set, and its values (ServiceStatus). */
const statusKey = 'static.status';
const osdStatus = { available: 0, toBeRemoved: 1 } as const;
/** The directory takes our word for when the OSD was last seen. */
const keepsTimeKey = 'static.do_not_set_last_updated';
const writeTriesMax = 5;

/** An installation behind its own protocol. */
export class XtreemfsInstallation implements Installation {
  private readonly services: Services;
  private readonly mrc: ServerList;

  /** @param mrc - address of the MRC, `host:port`. */
  constructor(services: Services, mrc: string) {
    this.services = services;
    this.mrc = new ServerList([mrc]);
  }

  async osds(signal: AbortSignal): Promise<readonly OsdReport[]> {
    const request = { type: ServiceType.OSD };
    const { response } = await this.services.call(this.services.dirs, dirProcedures.serviceGetByType, request, {
      signal,
    });
    return response.services.map(({ uuid, lastUpdatedS, data }) => {
      const numberOf = (key: string): number => Number(data.data.find((pair) => pair.key === key)?.value ?? 0) || 0;
      const takesFiles = numberOf(statusKey) === osdStatus.available;
      return { uuid, lastSeenS: lastUpdatedS, freeBytes: numberOf('free'), totalBytes: numberOf('total'), takesFiles };
    });
  }

  async setTakesFiles(uuid: string, takesFiles: boolean, signal: AbortSignal): Promise<void> {
    const { dirs } = this.services;
    for (let tries = 1; ; tries++) {
      const { response } = await this.services.call(dirs, dirProcedures.serviceGetByUuid, { name: uuid }, { signal });
      const [service] = response.services;
      if (service === undefined) return;
      const value = String(takesFiles ? osdStatus.available : osdStatus.toBeRemoved);
      const others = service.data.data.filter(({ key }) => key !== statusKey);
      const data = { data: [...others, { key: statusKey, value }, { key: keepsTimeKey, value: 'true' }] };
      const request = { service: { ...service, data } };
      try {
        await this.services.call(dirs, dirProcedures.serviceRegister, request, { signal });
        return;
      } catch (error) {
        // The OSD has just told of itself.
        if (!isErrno(error, PosixErrno.EAGAIN) || tries >= writeTriesMax) throw error;
      }
    }
  }

  async drain(osdUuid: string, wish: string, signal: AbortSignal): Promise<DrainReport> {
    const options = { user: administrator, signal };
    const { response } = await this.services.call(this.mrc, mrcProcedures.drainOsd, { osdUuid, wish }, options);
    const { isEmpty, filesLeft, problem } = response;
    return { isEmpty, filesLeft, problem };
  }

  async forgetOsd(uuid: string, signal: AbortSignal): Promise<void> {
    const { dirs } = this.services;
    await this.services.call(dirs, dirProcedures.serviceDeregister, { uuid }, { signal });
    await this.services.call(dirs, dirProcedures.addressMappingsRemove, { uuid }, { signal });
  }

  async volume(name: string, signal: AbortSignal): Promise<VolumeReport | undefined> {
    const numberOf = async (attribute: string): Promise<number> =>
      Number(await this.read(name, attribute, signal)) || 0;
    try {
      const [quotaBytes, usedBytes, files] = await Promise.all(['quota', 'used_space', 'num_files'].map(numberOf));
      return { quotaBytes: quotaBytes ?? 0, usedBytes: usedBytes ?? 0, files: files ?? 0 };
    } catch (error) {
      if (isErrno(error, PosixErrno.ENOENT)) return undefined;
      throw error;
    }
  }

  async make({ name, owner, group, mode, quotaBytes, layout }: VolumeTerms, signal: AbortSignal): Promise<void> {
    const volume = {
      accessControlPolicy: AccessControlPolicyType.POSIX,
      defaultStripingPolicy: { type: StripingPolicyType.RAID0, stripeSize: layout.stripeKib, width: layout.width },
      id: '',
      mode,
      name,
      ownerGroupId: group,
      ownerUserId: owner,
      attrs: [],
      quota: quotaBytes,
    };
    try {
      await this.services.call(this.mrc, mrcProcedures.mkvol, volume, { user: administrator, signal });
    } catch (error) {
      if (!isErrno(error, PosixErrno.EEXIST)) throw error;
    }
    await this.setLayout(name, layout, signal);
  }

  async setQuota(name: string, quotaBytes: number, signal: AbortSignal): Promise<void> {
    await this.write(name, 'quota', String(quotaBytes), signal);
  }

  async setLayout(
    name: string,
    { width, stripeKib, policy, replicas }: VolumeLayout,
    signal: AbortSignal,
  ): Promise<void> {
    const striping = { pattern: 'STRIPING_POLICY_RAID0', size: stripeKib, width };
    const replication = {
      'update-policy': policyNames[policy],
      'replication-factor': replicas,
      'replication-flags': policy === 'ReadOnly' ? 1 : 0,
    };
    const wanted = policy === 'None' ? unset : JSON.stringify(replication);
    const current = await this.read(name, 'default_rp', signal);
    // A policy that writes all copies needs stripes of width 1: it goes before wider stripes come, and comes after they went.
    if (current !== wanted && policy === 'None') await this.write(name, 'default_rp', unset, signal);
    if ((await this.read(name, 'default_sp', signal)) !== JSON.stringify(striping)) {
      await this.write(name, 'default_sp', JSON.stringify(striping), signal);
    }
    if (current !== wanted && policy !== 'None') await this.write(name, 'default_rp', wanted, signal);
  }

  async snapshots(name: string, signal: AbortSignal): Promise<readonly SnapshotReport[]> {
    const names = (await this.read(name, 'snapshots', signal)).split(',').filter(Boolean);
    return Promise.all(
      names.map(async (snapshot) => {
        const time = await this.read(`${name}@${snapshot}`, 'snapshot_time', signal);
        return { name: snapshot, timeMs: Number(time) };
      }),
    );
  }

  async takeSnapshot(name: string, snapshot: string, signal: AbortSignal): Promise<void> {
    try {
      await this.write(name, 'snapshots', `crs ${snapshot}`, signal);
    } catch (error) {
      if (!isErrno(error, PosixErrno.EEXIST)) throw error;
    }
  }

  async removeSnapshot(name: string, snapshot: string, signal: AbortSignal): Promise<void> {
    try {
      await this.write(name, 'snapshots', `d ${snapshot}`, signal);
    } catch (error) {
      if (!isErrno(error, PosixErrno.ENOENT)) throw error;
    }
  }

  async copy(
    from: { readonly name: string; readonly snapshot: string },
    to: string,
    report: (progress: CopyReport) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const [source, target] = [this.metadata(`${from.name}@${from.snapshot}`), this.metadata(to)];
    await copyVolume({ from: source, to: target, caller: this.caller(signal), report });
  }

  async erase(name: string, limit: number, signal: AbortSignal): Promise<boolean> {
    try {
      // A quota of 0 is none; what is being erased takes no new files for long.
      if (!(await eraseContents(this.metadata(name), this.caller(signal), limit))) return false;
      const request = { volumeName: name };
      await this.services.call(this.mrc, mrcProcedures.rmvol, request, { user: administrator, signal });
    } catch (error) {
      if (!isErrno(error, PosixErrno.ENOENT)) throw error;
    }
    return true;
  }

  private async read(name: string, attribute: string, signal: AbortSignal): Promise<string> {
    try {
      return (await this.metadata(name).getxattr(this.caller(signal), '', `xtreemfs.${attribute}`)).toString('utf8');
    } catch (error) {
      if (isErrno(error, PosixErrno.ENODATA)) return unset;
      throw error;
    }
  }

  private async write(name: string, attribute: string, value: string, signal: AbortSignal): Promise<void> {
    await this.metadata(name).setxattr(this.caller(signal), '', `xtreemfs.${attribute}`, Buffer.from(value), 0);
  }

  private metadata(name: string): MetadataClient {
    return new MetadataClient(this.services, name, this.mrc);
  }

  private caller(signal: AbortSignal): Caller {
    return { user: administrator, signal };
  }
}

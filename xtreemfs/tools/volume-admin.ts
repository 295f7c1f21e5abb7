import { TerminalError } from '#common/errors.ts';
import { dirProcedures, ServiceType, type Service } from '#proto/generated/xtreemfs/dir.ts';
import { AccessControlPolicyType, StripingPolicyType } from '#proto/generated/xtreemfs/global-types.ts';
import { mrcProcedures, type Volume } from '#proto/generated/xtreemfs/mrc.ts';
import { AuthType, type Auth, type UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Services } from '../client/services.ts';
import { ServerList } from '../rpc/retry.ts';

/** What a new volume is to be. */
export interface VolumeTerms {
  readonly name: string;
  readonly mode: number;
  readonly user: string;
  readonly group: string;
  /** Bytes of one object, KiB. */
  readonly stripeKib: number;
  /** OSDs per file. */
  readonly width: number;
  readonly accessControl?: AccessControlPolicyType;
  readonly quotaBytes?: number;
  readonly attributes?: readonly { readonly key: string; readonly value: string }[];
  readonly adminPassword?: string | undefined;
}

export const rootUser: UserCredentials = { username: 'root', groups: ['root'] };

/** Credentials of an administrative call. */
export function passwordAuth(password: string | undefined): Auth | undefined {
  return password === undefined || password === ''
    ? undefined
    : { authType: AuthType.PASSWORD, authPasswd: { password } };
}

/** Makes a volume at an MRC (`host:port`). */
export async function makeVolume(services: Services, mrc: string, terms: VolumeTerms): Promise<void> {
  const volume: Volume = {
    accessControlPolicy: terms.accessControl ?? AccessControlPolicyType.POSIX,
    defaultStripingPolicy: {
      type: StripingPolicyType.RAID0,
      stripeSize: terms.stripeKib,
      width: terms.width,
    },
    id: '',
    mode: terms.mode,
    name: terms.name,
    ownerGroupId: terms.group,
    ownerUserId: terms.user,
    attrs: [...(terms.attributes ?? [])],
    ...(terms.quotaBytes === undefined ? {} : { quota: terms.quotaBytes }),
  };
  const options = { user: rootUser, auth: passwordAuth(terms.adminPassword) };
  await services.call(new ServerList([mrc]), mrcProcedures.mkvol, volume, options);
}

/** The volumes of an MRC. */
export async function listVolumes(services: Services, mrc: string, password: string | undefined): Promise<Volume[]> {
  const options = { user: rootUser, auth: passwordAuth(password) };
  return (await services.call(new ServerList([mrc]), mrcProcedures.lsvol, {}, options)).response.volumes;
}

export async function removeVolume(
  services: Services,
  mrc: string,
  name: string,
  password: string | undefined,
): Promise<void> {
  const options = { user: rootUser, auth: passwordAuth(password) };
  await services.call(new ServerList([mrc]), mrcProcedures.rmvol, { volumeName: name }, options);
}

/** Services of one type that the DIR knows. */
export async function listServices(services: Services, type: ServiceType): Promise<Service[]> {
  return (await services.call(services.dirs, dirProcedures.serviceGetByType, { type })).response.services;
}

/**
 * Waits until as many OSDs have registered at the DIR.
 * @throws {TerminalError} when they haven't in time.
 */
export async function waitForOsds(services: Services, count: number, timeoutMs: number): Promise<void> {
  const until = services.clock.monotonic() + timeoutMs;
  for (;;) {
    const known = await listServices(services, ServiceType.OSD);
    if (known.length >= count) return;
    if (services.clock.monotonic() > until) {
      throw new TerminalError(`${known.length} of ${count} OSDs have registered at the DIR: see their logs`);
    }
    await services.clock.sleep(100);
  }
}

import path from 'node:path';
import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { fileSystems } from '#crds/file-system.ts';
import { volumes as volumeKind } from '#crds/volume.ts';
import type { Gateway } from '#operator/gateway/setup.ts';
import type { Identities } from '#operator/identity/setup.ts';
import { SitesShared } from '#operator/sites/shared.ts';
import type { Manager } from '#runtime/contracts.ts';
import { TlsMaterial } from '#xtreemfs/rpc/tls.ts';
import { MemberUsers } from './file-users.ts';
import { byVolumeUid, HostedVolumes } from './hosted-volumes.ts';
import { byRemoteName, NodeDoor, remoteNameOf } from './node-door.ts';
import { VolumeRelay } from './volume-relay.ts';

/** What volumes over sites take from the process. */
export interface VolumeRelaySetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit: AuditLog;
  readonly identities: Identities;
  readonly gateway: Pick<Gateway, 'channels' | 'services' | 'access'>;
  /** Folder with the certificate that node agents of this site, and servers of its FileSystems, are shown. */
  readonly tlsFolder: string;
  /** Where node agents come to; 0 takes any free port. */
  readonly port: number;
}

/** Adds both ends: nodes of other sites get to volumes here, and nodes here to volumes of other sites. Every replica serves. */
export function addVolumeRelay(manager: Manager, setup: VolumeRelaySetup): NodeDoor {
  const { clock, log, audit, identities, gateway, tlsFolder, port } = setup;
  const { organizations, memberships, sites, index, localSite } = identities;
  const volumes = manager.informer(volumeKind);
  volumes.addIndex(byVolumeUid, ({ metadata }) => [metadata.uid]);
  volumes.addIndex(byRemoteName, remoteNameOf);
  const shared = new SitesShared(sites);
  const caches = [volumes, organizations, memberships, sites];
  const onChange = (listener: () => void): unknown => caches.map((cache) => cache.onEvent(listener));
  const hosted = new HostedVolumes({
    ...{ volumes, organizations, shared, audit, clock, localSite, onChange },
    fileSystems: manager.informer(fileSystems),
    users: new MemberUsers(index, gateway.access, clock),
    connector: new VolumeRelay(tlsFolder, { clock, logger: log }),
  });
  gateway.services.add(hosted.methods());
  const file = (name: string): string => path.join(tlsFolder, name);
  const files = { certificatePath: file('tls.crt'), privateKeyPath: file('tls.key'), trustedPath: file('ca.crt') };
  const door = new NodeDoor({
    ...{ volumes, shared, clock, log, port, onChange },
    channels: gateway.channels,
    tls: () => new TlsMaterial(files, { clock, logger: log }),
  });
  manager.addRunnable(door);
  return door;
}

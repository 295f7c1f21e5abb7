import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import type { DirClient } from '../../service/dir-client.ts';
import type { AddressResolver } from '../../rpc/retry.ts';
import { osdOfService } from '../placement/osd-catalogue.ts';
import type { Directory } from './directory.ts';

/** The `Directory` of a real installation. */
export function dirDirectory(dir: DirClient, resolver: AddressResolver): Directory {
  return {
    hasVolume: async (name, signal) => {
      const services = await dir.servicesByName(name, signal);
      return services.some((service) => service.type === ServiceType.VOLUME);
    },
    registerVolume: async (service) => {
      const stored = await dir.service(service.uuid);
      await dir.registerService({ ...service, version: stored?.version ?? 0 });
    },
    deregister: (uuid) => dir.deregisterService(uuid),
    listOsds: async (signal) => {
      const services = await dir.servicesByType(ServiceType.OSD, signal);
      return Promise.all(
        services.map(async (service) => {
          const address = await resolver.resolve(service.uuid, signal).catch(() => undefined);
          return osdOfService(service, address?.host ?? '');
        }),
      );
    },
  };
}

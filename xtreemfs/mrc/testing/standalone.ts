import { systemClock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { silentLogger } from '#common/logger.ts';
import { systemRandom } from '#common/random.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcClient } from '../../rpc/client.ts';
import { fixedResolver } from '../../rpc/resolver.ts';
import { RpcServer } from '../../rpc/server.ts';
import { createDialer, listen } from '../../rpc/transport.ts';
import type { Listening } from '../../rpc/transport.ts';
import { CapabilityKeys } from '../../service/capability.ts';
import type { Osd } from '../placement/osd-catalogue.ts';
import type { Directory } from '../service/directory.ts';
import { MrcServer } from '../service/mrc-server.ts';
import type { MrcServerOptions } from '../service/mrc-server.ts';
import { anOsd } from './fixtures.ts';

/** A DIR in memory: volumes that were registered, and OSDs that are always fresh. */
export function memoryDirectory(osds: readonly string[] = ['osd1', 'osd2', 'osd3']): Directory {
  const volumes = new Map<string, string>();
  const fresh = (uuid: string): Osd => anOsd(uuid, { lastUpdatedS: Math.floor(Date.now() / 1000) });
  return {
    hasVolume: async (name) => [...volumes.values()].includes(name),
    registerVolume: async (service) => void volumes.set(service.uuid, service.name),
    deregister: async (uuid) => void volumes.delete(uuid),
    listOsds: async () => osds.map(fresh),
  };
}

/** An MRC that needs no DIR and no OSDs, on a port of this machine. */
export interface Standalone {
  readonly mrc: MrcServer;
  readonly port: number;
  stop(): Promise<void>;
}

/** Starts an MRC on a free port of the loopback interface, with its data in `path`. */
export async function startStandalone(
  path: string,
  overrides: Partial<MrcServerOptions> & { logger?: Logger } = {},
): Promise<Standalone> {
  const logger = overrides.logger ?? silentLogger;
  const client = new RpcClient({ clock: systemClock, logger, dialer: createDialer('pbrpc') });
  const rpc = new RpcServer({ clock: systemClock, logger, unknownProcedureErrno: PosixErrno.NONE });
  const mrc = await MrcServer.start({
    rpc,
    uuid: 'mrc-test',
    path,
    url: 'pbrpc://127.0.0.1:32636',
    clock: systemClock,
    random: systemRandom(),
    logger,
    directory: memoryDirectory(),
    client,
    resolver: fixedResolver({}),
    capabilities: new CapabilityKeys({ secrets: ['a secret for tests only'] }),
    identity: { provider: 'request', superUsers: ['root'], adminGroups: [], serviceNames: [] },
    globalNowMs: () => Date.now(),
    onEnd: (error) => {
      if (error !== undefined) throw error;
    },
    ...overrides,
  });
  const listening: Listening = await listen(rpc, { scheme: 'pbrpc', host: '127.0.0.1', port: 0, logger });
  return {
    mrc,
    port: listening.port,
    stop: async () => {
      listening.close();
      client.close();
      await rpc.stop();
      await mrc.stop();
    },
  };
}

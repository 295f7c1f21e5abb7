/**
 * An OSD alone in a process, without DIR and MRC, for the crash test and the benchmark.
 * Usage: node bare-osd.ts FOLDER UUID. Prints its port and serves until it is ended.
 */
import { systemClock } from '#common/clock.ts';
import { createLogger } from '#common/logger.ts';
import { systemRandom } from '#common/random.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { ioError } from '#xtreemfs/rpc/errors.ts';
import { RpcServer } from '#xtreemfs/rpc/server.ts';
import { listen } from '#xtreemfs/rpc/transport.ts';
import { CapabilityKeys } from '#xtreemfs/service/capability.ts';
import { OsdCore } from '../osd-core.ts';
import { NodeDisk } from '../store/node-disk.ts';
import { FakeVolumes } from './osd-cluster.ts';

const [folder = '', osdUuid = 'osd'] = process.argv.slice(2);
const clock = systemClock;
const logger = createLogger({ level: 'warn', destination: process.stderr });
const core = await OsdCore.open({
  osdUuid,
  clock,
  logger,
  random: systemRandom(),
  disk: new NodeDisk(folder),
  keys: new CapabilityKeys({ secrets: ['a secret for these tests'] }),
  globalTimeMs: () => clock.now(),
  peers: { call: async (uuid) => Promise.reject(ioError(`${uuid} is not known here`)) },
  volumes: new FakeVolumes(),
  self: () => ({ host: osdUuid, port: 0 }),
  shutdown: () => undefined,
});
const server = new RpcServer({ clock, logger, unknownProcedureErrno: PosixErrno.EINVAL });
core.register(server);
core.start();
const listening = await listen(server, { scheme: 'pbrpc', port: 0, host: '127.0.0.1', logger });
process.stdout.write(`${listening.port}\n`);
process.once('SIGTERM', () => {
  listening.close();
  void server
    .stop(0)
    .then(() => core.stop())
    .then(() => process.exit(0));
});

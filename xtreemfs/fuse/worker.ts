import { systemClock } from '#common/clock.ts';
import { createLogger, type Logger } from '#common/logger.ts';
import { MetadataClient } from '../client/metadata.ts';
import { Services } from '../client/services.ts';
import { systemUsers, UserMapping } from '../client/users.ts';
import { TlsMaterial } from '../rpc/tls.ts';
import { DescriptorDevice } from './device.ts';
import { DescriptorFile, Journal, type JournalRecord } from './journal.ts';
import { setReadAhead } from './mount.ts';
import type { KeeperMessage, MountConfig, WorkerMessage } from './mount-config.ts';
import { workerDescriptors } from './mount-config.ts';
import type { Agreement } from './negotiation.ts';
import { FuseSession } from './session.ts';
import { VolumeFileSystem } from './volume-file-system.ts';

const compactionMs = 10_000;

/** Serves a mount whose descriptor was inherited from a keeper; ends when the file system is unmounted. */
export async function runWorker(): Promise<void> {
  const config = await receiveConfig();
  const logger = createLogger({ level: config.logLevel, name: 'mount' });
  const journal = new Journal(
    new DescriptorFile(workerDescriptors.journalA),
    new DescriptorFile(workerDescriptors.journalB),
  );
  const records = journal.load();
  const fileSystem = await openVolume(config, logger, journal);
  const agreement = records.find((record) => record[0] === 'agreed')?.[1] as Agreement | undefined;
  if (agreement !== undefined) await resume(fileSystem, records, journal, agreement, logger);
  const session = new FuseSession({
    device: new DescriptorDevice(workerDescriptors.fuse),
    fileSystem,
    logger,
    negotiation: { consistency: config.consistency, transferBytes: config.transferBytes },
    readers: config.readers,
    ...(agreement === undefined ? {} : { agreement }),
    onAgreement: (agreed) => {
      journal.append(['agreed', agreed]);
      // The kernel sets its own value once it has the reply; so ours has to come after that.
      systemClock.after(100, () => void setReadAhead(config.mountPoint, config.readAheadBytes));
      say({ kind: 'serving', isResumed: false });
    },
  });
  keepCompact(journal, fileSystem, session);
  fileSystem.start();
  // Before the first request is taken: one taken earlier would be queued again too, run twice, and its first answer
  // (an error that is reported once, for example) be thrown away by the kernel.
  if (agreement?.canResend === true) session.resend();
  const running = session.run();
  if (agreement !== undefined) say({ kind: 'serving', isResumed: true });
  const end = await running;
  logger.info('Session ended', { end });
  await fileSystem.stop();
}

async function receiveConfig(): Promise<MountConfig> {
  return await new Promise((resolve) => {
    process.once('message', (message: KeeperMessage) => resolve(message.config));
  });
}

function say(message: WorkerMessage): void {
  if (process.connected) process.send?.(message, () => undefined);
}

async function openVolume(config: MountConfig, logger: Logger, journal: Journal): Promise<VolumeFileSystem> {
  const services = servicesFor(config, logger);
  const mrcs = await services.findVolume(config.volumeName);
  return new VolumeFileSystem({
    metadata: new MetadataClient(services, config.volumeName, mrcs),
    users: new UserMapping(systemUsers, systemClock),
    clock: systemClock,
    logger,
    consistency: config.consistency,
    metadataTtlMs: config.metadataTtlMs,
    readdirChunk: config.readdirChunk,
    asyncWrites: config.asyncWrites,
    dirtyBytesMax: config.dirtyBytesMax,
    lockClient: config.lockClient,
    note: (record) => journal.append(record),
  });
}

/** The installation that a mount talks to. */
export function servicesFor(config: MountConfig, logger: Logger): Services {
  const { tls, ...rest } = config;
  const material = tls === undefined ? undefined : new TlsMaterial(tls, { clock: systemClock, logger });
  return new Services({ ...rest, clock: systemClock, logger, ...(material === undefined ? {} : { tls: material }) });
}

async function resume(
  fileSystem: VolumeFileSystem,
  records: readonly JournalRecord[],
  journal: Journal,
  agreement: Agreement,
  logger: Logger,
): Promise<void> {
  logger.warn('Taking over from a process that died', { records: records.length });
  await fileSystem.resume(records.filter((record) => record[0] !== 'agreed'));
  journal.rewrite([['agreed', agreement], ...fileSystem.journalRecords()]);
}

function keepCompact(journal: Journal, fileSystem: VolumeFileSystem, session: FuseSession): void {
  const tick = (): void => {
    const { agreement } = session;
    if (journal.isDue && agreement !== undefined) {
      journal.rewrite([['agreed', agreement], ...fileSystem.journalRecords()]);
    }
    systemClock.after(compactionMs, tick, { unref: true });
  };
  systemClock.after(compactionMs, tick, { unref: true });
}

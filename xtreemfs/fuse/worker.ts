import { systemClock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { createLogger, type Logger } from '#common/logger.ts';
import { MetadataClient } from '../client/metadata.ts';
import { Services } from '../client/services.ts';
import { issuedUsers, systemUsers, UserMapping } from '../client/users.ts';
import { createRelayDialer } from '../rpc/relay.ts';
import { TlsMaterial } from '../rpc/tls.ts';
import { DescriptorDevice } from './device.ts';
import { DescriptorFile, Journal, type JournalRecord } from './journal.ts';
import { abortConnection, connectionOf, setReadAhead, unmount } from './mount.ts';
import type { KeeperMessage, MountConfig, WorkerMessage } from './mount-config.ts';
import { workerDescriptors } from './mount-config.ts';
import type { Agreement } from './negotiation.ts';
import { FuseSession } from './session.ts';
import { VolumeFileSystem } from './volume-file-system.ts';

const compactionMs = 10_000;
/** How long open files are served when the keeper is gone. */
const openFilesMs = 30_000;
/** How long servers have to take what is left when the mount has ended. */
const lastWritesMs = 30_000;

/**
 * Serves a mount whose descriptor was inherited from a keeper; ends when the file system is unmounted, or soon after its
 * keeper has died.
 */
export async function runWorker(): Promise<void> {
  const config = await receiveConfig();
  const logger = createLogger({ level: config.logLevel, name: 'mount' });
  const life: Life = { hasEnded: false };
  endWithKeeper(config, logger, life);
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
    beforeReply: () => flushJournal(journal, logger),
    negotiation: {
      consistency: config.consistency,
      transferBytes: config.transferBytes,
      posixAcl: config.posixAcl ?? false,
    },
    ...(agreement === undefined ? {} : { agreement }),
    onAgreement: (agreed) => {
      journal.append(['agreed', agreed]);
      journal.flush();
      // The kernel sets its own value once it has the reply; so ours has to come after that.
      systemClock.after(100, () => void setReadAhead(config.mountPoint, config.readAheadBytes));
      say({ kind: 'serving', isResumed: false });
    },
  });
  keepCompact(journal, fileSystem, session, logger);
  fileSystem.start();
  // Before the first request is taken: one taken earlier would be queued again too, run twice, and its first answer
  // (an error that is reported once, for example) be thrown away by the kernel.
  if (agreement?.canResend === true) session.resend();
  const running = session.run();
  if (agreement !== undefined) say({ kind: 'serving', isResumed: true });
  const end = await running;
  life.hasEnded = true;
  logger.info('Session ended', { end });
  await Promise.race([fileSystem.stop(), giveUp(logger)]);
}

/** Servers that are away must not hold a process whose mount is gone for ever. */
async function giveUp(logger: Logger): Promise<void> {
  await systemClock.sleep(lastWritesMs);
  logger.error('Servers did not take what was left of the mount in time', { waitedMs: lastWritesMs });
}

/** Whether the session has ended: the number of its connection may be that of another mount from then on. */
interface Life {
  hasEnded: boolean;
}

/**
 * Without its keeper nobody starts this process again when it dies, or ends it: the mount goes away at once, so that it
 * can be mounted anew. What is open is served for a while, then cut off.
 */
function endWithKeeper(config: MountConfig, logger: Logger, life: Life): void {
  const { mountPoint } = config;
  const connection = connectionOf(mountPoint);
  const abort = async (): Promise<void> => {
    if (!life.hasEnded && connection !== undefined) await abortConnection(connection).catch(() => undefined);
  };
  const leave = async (): Promise<void> => {
    if (config.staysWithoutKeeper === true) {
      logger.error('The keeper of the mount died: ending the connection', { mountPoint });
      await abort();
      process.exit(1);
    }
    logger.error('The keeper of the mount died: unmounting', { mountPoint });
    if (connection !== undefined && connectionOf(mountPoint) === connection) {
      await unmount(mountPoint, { lazy: true }).catch(() => undefined);
    }
    await systemClock.sleep(openFilesMs);
    await abort();
    await systemClock.sleep(lastWritesMs);
    process.exit(1);
  };
  if (process.connected) process.once('disconnect', () => void leave());
  else void leave();
}

async function receiveConfig(): Promise<MountConfig> {
  return await new Promise((resolve) => {
    process.once('message', (message: KeeperMessage) => {
      process.off('disconnect', orphaned);
      resolve(message.config);
    });
    process.once('disconnect', orphaned);
  });
}

/** The keeper died before it had said what to serve. */
function orphaned(): void {
  process.exit(1);
}

function say(message: WorkerMessage): void {
  if (process.connected) process.send?.(message, () => undefined);
}

async function openVolume(config: MountConfig, logger: Logger, journal: Journal): Promise<VolumeFileSystem> {
  const services = servicesFor(config, logger, tlsOf(config, logger));
  const mrcs = await services.findVolume(config.volumeName);
  return new VolumeFileSystem({
    metadata: new MetadataClient(services, config.volumeName, mrcs, config.lockClient),
    users:
      config.issuedIds === undefined
        ? new UserMapping(systemUsers, systemClock)
        : new UserMapping(issuedUsers(systemUsers, config.issuedIds), systemClock, { isClosed: true }),
    clock: systemClock,
    logger,
    consistency: config.consistency,
    metadataTtlMs: config.metadataTtlMs,
    readdirChunk: config.readdirChunk,
    asyncWrites: config.asyncWrites,
    dirtyBytesMax: config.dirtyBytesMax,
    lockClient: config.lockClient,
    posixAcl: config.posixAcl ?? false,
    note: (record) => journal.append(record),
  });
}

/** Certificates of a mount; undefined without TLS. */
export function tlsOf(config: MountConfig, logger: Logger): TlsMaterial | undefined {
  return config.tls === undefined ? undefined : new TlsMaterial(config.tls, { clock: systemClock, logger });
}

/** The installation that a mount talks to. @param tls - of {@link tlsOf}; whoever made it closes it. */
export function servicesFor(config: MountConfig, logger: Logger, tls: TlsMaterial | undefined): Services {
  const { relay, volumeName } = config;
  const { dirs, scheme, triesMax, retryDelayMs, connectTimeoutMs, requestTimeoutMs, lingerMs } = config;
  return new Services({
    ...{
      dirs,
      scheme,
      triesMax,
      retryDelayMs,
      connectTimeoutMs,
      requestTimeoutMs,
      lingerMs,
      clock: systemClock,
      logger,
    },
    ...(tls === undefined ? {} : { tls }),
    ...(tls === undefined || relay === undefined ? {} : { dialer: createRelayDialer(relay, volumeName, tls) }),
  });
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

/** A mount whose journal can't be written (its memory is full) goes on; a successor would lack what is missing. */
function flushJournal(journal: Journal, logger: Logger): void {
  try {
    journal.flush();
  } catch (error) {
    logger.error('Could not write the journal of the mount', { reason: describeError(error) });
  }
}

function keepCompact(journal: Journal, fileSystem: VolumeFileSystem, session: FuseSession, logger: Logger): void {
  const tick = (): void => {
    const { agreement } = session;
    flushJournal(journal, logger);
    if (journal.isDue && agreement !== undefined) {
      journal.rewrite([['agreed', agreement], ...fileSystem.journalRecords()]);
    }
    systemClock.after(compactionMs, tick, { unref: true });
  };
  systemClock.after(compactionMs, tick, { unref: true });
}

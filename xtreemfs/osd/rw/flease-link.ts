import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import type { RpcServer } from '#xtreemfs/rpc/server.ts';
import type { CellStore } from '#xtreemfs/replication/flease-acceptor.ts';
import {
  decodeFlease,
  encodeFlease,
  invalidatedView,
  type FleaseMessage,
} from '#xtreemfs/replication/flease-message.ts';
import type { FleaseTimers } from '#xtreemfs/replication/flease-proposer.ts';
import { Flease } from '#xtreemfs/replication/flease.ts';
import { masterEpochOf, setAttributes, viewOf } from '../file-attributes.ts';
import type { PeerOsds } from '../peer-osds.ts';
import { createFresh } from '../store/disk-files.ts';
import type { Disk } from '../store/disk.ts';
import type { ObjectStore } from '../store/object-store.ts';

const cellPrefix = '/file/';

/** What is kept of a cell lies beside the file's objects. */
export function cellStoreOf(store: ObjectStore): CellStore {
  const fileOf = (cellId: string): string => cellId.slice(cellPrefix.length);
  return {
    loadEpoch: (cellId) => store.use(fileOf(cellId), async (log) => masterEpochOf(log)),
    saveEpoch: (cellId, epoch) =>
      store.use(fileOf(cellId), async (log) => {
        if (epoch <= masterEpochOf(log)) return;
        await setAttributes(log, { masterEpoch: epoch });
        await log.sync();
      }),
    loadView: (cellId) =>
      store.use(fileOf(cellId), async (log) => {
        const view = viewOf(log);
        if (view.version === -1) return undefined;
        return view.isInvalidated ? invalidatedView : view.version;
      }),
  };
}

/** What {@link makeFlease} needs. */
export interface FleaseLinkOptions {
  readonly osdUuid: string;
  readonly clock: Clock;
  readonly globalTimeMs: () => number;
  readonly random: Random;
  readonly logger: Logger;
  readonly timers: FleaseTimers;
  readonly store: ObjectStore;
  readonly peers: PeerOsds;
  /** Where answers reach this OSD. */
  readonly self: () => { readonly host: string; readonly port: number };
  readonly mustWait: boolean;
}

/** A Flease node that talks through procedure 71 (protocol reference, 16.1): answers are requests of their own. */
export function makeFlease(options: FleaseLinkOptions): Flease {
  const { osdUuid, clock, globalTimeMs, random, logger, timers, store, peers, self, mustWait } = options;
  const send = (to: string, message: FleaseMessage): void => {
    const { host, port } = self();
    const request = { senderHostname: host, senderPort: port };
    const bytes = encodeFlease(message);
    peers.call(to, osdProcedures.rwrFleaseMsg, request, bytes, timers.messageTimeoutMs).catch(() => undefined);
  };
  const cellStore = cellStoreOf(store);
  return new Flease({
    identity: osdUuid,
    clock,
    globalNow: globalTimeMs,
    random,
    logger,
    timers,
    store: cellStore,
    send,
    mustWait,
  });
}

/** Hands what arrives by procedure 71 to the node. */
export function registerFlease(server: RpcServer, flease: Flease): void {
  server.handle(osdProcedures.rwrFleaseMsg, (_context, request, data) => {
    const message = decodeFlease(data);
    const { senderHostname, senderPort } = request;
    const from = senderPort === 0 ? senderHostname : `${senderHostname}:${senderPort}`;
    if (message?.cellId.startsWith(cellPrefix) === true) flease.receive(from, message);
    return { response: {} };
  });
}

const lockName = 'flease-lock';

/**
 * Marks that this OSD may have promised leases: acceptors keep them in memory only. After a stop without
 * {@link unmarkRunning} the next start has to keep silent until they are over (protocol reference, 16.2).
 * @returns whether the last stop was without.
 */
export async function markRunning(disk: Disk): Promise<boolean> {
  const wasRunning = (await disk.list('.')).includes(lockName);
  if (wasRunning) return true;
  await (await createFresh(disk, lockName)).close();
  await disk.syncDirectory('.');
  return false;
}

/** The OSD stops in order: it has given its leases back and promises nothing any more. */
export async function unmarkRunning(disk: Disk): Promise<void> {
  await disk.unlink(lockName);
  await disk.syncDirectory('.');
}

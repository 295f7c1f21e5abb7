import { randomBytes } from 'node:crypto';
import { describeError } from '#common/errors.ts';
import { bucketOf } from '../core/keys.ts';
import type { MrcServerOptions } from '../service/mrc-server.ts';
import { DurableStore } from '../store/durable-store.ts';
import { fetchDatabase, serveDatabase } from './database-transfer.ts';
import { EtcdQuorum, type EtcdQuorumOptions } from './etcd-quorum.ts';
import { prepareDatabase } from './prepare.ts';
import { Replica, type ReplicaOptions } from './replica.ts';
import { redirectToLeader } from './standby.ts';

/** What a member is made of, beside what every MRC is. */
export interface MemberOptions extends Pick<
  MrcServerOptions,
  'uuid' | 'path' | 'clock' | 'random' | 'logger' | 'rpc' | 'client' | 'onEnd'
> {
  readonly etcd: EtcdQuorumOptions;
  /** `host:port` of this process. */
  readonly address: string;
  readonly termMs: number;
  readonly reportMs?: number;
  readonly logBytesMax?: number;
  readonly onMembers: () => void;
  /** Called when this process leads: what it gives goes into the MRC's options. */
  readonly onLead: (replicated: NonNullable<MrcServerOptions['replicated']>) => Promise<void>;
}

/** Joins the MRCs that share a log in etcd, and registers what sends callers to the one that leads. */
export async function startReplica(options: MemberOptions): Promise<Replica> {
  const { uuid, path, clock, random, logger, rpc, client, address, termMs } = options;
  const quorum = new EtcdQuorum(options.etcd);
  await prepareDatabase({
    path,
    uuid,
    quorum,
    clock,
    logger,
    bucketOf,
    fetch: async (leader, take) => await fetchDatabase(client, leader, take),
  });
  const token = randomBytes(16).toString('hex');
  const bounds: Pick<ReplicaOptions, 'reportMs' | 'logBytesMax'> = {
    ...(options.reportMs === undefined ? {} : { reportMs: options.reportMs }),
    ...(options.logBytesMax === undefined ? {} : { logBytesMax: options.logBytesMax }),
  };
  const replica: Replica = await Replica.start({
    quorum,
    self: { uuid, address, token },
    clock,
    random,
    logger,
    termMs,
    ...bounds,
    onMembers: options.onMembers,
    openStore: async (log) =>
      await DurableStore.open({ path, clock, logger, bucketOf, log, onFailure: (error) => options.onEnd(error) }),
    onLead: async (store) =>
      await options.onLead({ store, isCurrent: () => replica.isCurrent, others: () => replica.others }),
    onEnd: (error) => {
      logger.warn('This MRC can not go on as it is, and starts again', { uuid, problem: describeError(error) });
      options.onEnd(undefined);
    },
  });
  redirectToLeader(rpc, () => replica);
  serveDatabase(rpc, replica, token, clock);
  return replica;
}

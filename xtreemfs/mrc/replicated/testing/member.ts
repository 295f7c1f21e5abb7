import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import { DurableStore } from '../../store/durable-store.ts';
import type { WriteSet } from '../../store/kv.ts';
import { prepareDatabase } from '../prepare.ts';
import type { Quorum } from '../quorum.ts';
import { Replica, type ReplicaOptions } from '../replica.ts';

/** One of several members in a test, in this process. */
export interface TestMember {
  readonly uuid: string;
  readonly replica: Replica;
  /** Why it ended; undefined while it runs. */
  ended(): Error | undefined;
}

/** What can be set of a test's member. */
export interface TestMemberOptions {
  readonly uuid: string;
  readonly path: string;
  readonly quorum: Quorum;
  readonly random: Random;
  readonly replica?: Partial<ReplicaOptions>;
  readonly memtableBytes?: number;
  /** All entries of the leader's database, and the number of its last record. */
  readonly fetch?: () => Promise<{ number: number; entries: WriteSet }>;
}

/** Tests know keys whose first letter is their range. */
export const bucketOf = (key: string): string => key.slice(0, 1);

/** Starts a member as the program does, with short times. */
export async function startMember(options: TestMemberOptions): Promise<TestMember> {
  const { uuid, path, quorum, random } = options;
  let ended: Error | undefined;
  const base = { clock: systemClock, logger: silentLogger };
  await prepareDatabase({
    ...base,
    path,
    uuid,
    quorum,
    bucketOf,
    fetch: async (_leader, take) => {
      if (options.fetch === undefined) throw new Error('nobody has the database');
      const { number, entries } = await options.fetch();
      await take(entries);
      return number;
    },
  });
  const onFailure = (error: Error): void => void (ended ??= error);
  const replica = await Replica.start({
    ...base,
    quorum,
    random,
    self: { uuid, address: `${uuid}:1`, token: 'token' },
    openStore: async (log) =>
      await DurableStore.open({
        ...base,
        path,
        bucketOf,
        log,
        onFailure,
        ...(options.memtableBytes === undefined ? {} : { memtableBytes: options.memtableBytes }),
      }),
    onLead: () => Promise.resolve(),
    onEnd: onFailure,
    termMs: 400,
    pollMs: 10,
    reportMs: 50,
    ...options.replica,
  });
  return { uuid, replica, ended: () => ended };
}

/** Waits until something holds. @throws when it does not within 10 s. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const end = systemClock.monotonic() + 10_000;
  while (!holds()) {
    if (systemClock.monotonic() > end) throw new Error(`Not within 10 s: ${what}`);
    await systemClock.sleep(5);
  }
}

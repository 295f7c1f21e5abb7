import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RootDatabase } from 'lmdb';
import type { Clock } from '#common/clock.ts';
import { makeFolder } from '#common/durable-files.ts';
import { describeError, TerminalError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Key, WriteSet } from '../store/kv.ts';
import {
  appliedKey,
  appliedMark,
  DurableStore,
  historyKey,
  openDatabase,
  readApplied,
} from '../store/durable-store.ts';
import { lockFolder } from '../store/lock.ts';
import type { Leader, Quorum, QuorumState } from './quorum.ts';

const pollMs = 500;

/** What the preparation needs. */
export interface PrepareOptions {
  readonly path: string;
  /** UUID of this MRC. */
  readonly uuid: string;
  readonly quorum: Quorum;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly bucketOf: (key: Key) => Key | undefined;
  /** Fetches the whole database from a leader. @returns the number of the last record in it. */
  readonly fetch: (leader: Leader, take: (entries: WriteSet) => Promise<void>) => Promise<number>;
}

/**
 * Brings the database in a member's folder to where the shared log can take it on: a new folder is filled by the leader
 * unless the log still has everything; the folder of an MRC that was alone becomes the beginning of the history.
 * @throws {TerminalError} when the folder belongs to another history.
 */
export async function prepareDatabase(options: PrepareOptions): Promise<void> {
  const { path, quorum } = options;
  await makeFolder(path, 0o750);
  const known = await withDatabase(path, (db) => Promise.resolve(db.get(historyKey)?.toString()));
  const state = await quorum.state();
  if (known === undefined && (await hasRecords(options))) {
    await adopt(options, state);
    return;
  }
  if (known !== undefined && known !== state.history) throw foreign(path, state);
  const history = state.history ?? (await quorum.found(randomUUID()));
  const applied = await withDatabase(path, (db) => Promise.resolve(readApplied(db)));
  if (lacksRecords(applied, await quorum.state())) await fill(options, history);
  else await withDatabase(path, async (db) => await db.put(historyKey, Buffer.from(history)));
  // The leader keeps for this member what comes from now on.
  const durable = await withDatabase(path, (db) => Promise.resolve(readApplied(db)));
  await quorum.report({ uuid: options.uuid, durable });
}

/** Whether the log begins too late for a database with the records up to `applied`. */
function lacksRecords(applied: number, { first, members }: QuorumState): boolean {
  return first === undefined ? members.some(({ durable }) => durable > applied) : first > applied + 1;
}

/** The folder of an MRC that was alone: what its own log has goes to the database first. */
async function hasRecords({ path, clock, logger, bucketOf }: PrepareOptions): Promise<boolean> {
  if (existsSync(join(path, 'log'))) {
    const alone = await DurableStore.open({ path, clock, logger, bucketOf, onFailure: () => undefined });
    await alone.close();
  }
  return await withDatabase(path, (db) => Promise.resolve(readApplied(db) > 0));
}

async function adopt({ path, uuid, quorum, logger }: PrepareOptions, state: QuorumState): Promise<void> {
  if (state.history !== undefined) throw foreign(path, state);
  const history = randomUUID();
  if ((await quorum.found(history)) !== history) throw foreign(path, await quorum.state());
  const durable = await withDatabase(path, async (db) => {
    await db.put(historyKey, Buffer.from(history));
    return readApplied(db);
  });
  await quorum.report({ uuid, durable });
  logger.info('This database begins the history in etcd', { path, record: durable });
}

/** Takes the whole database from the leader, into an empty one that gets its name when it is whole. */
async function fill(options: PrepareOptions, history: string): Promise<void> {
  const { path, clock, logger, quorum } = options;
  const aside = join(path, 'filling');
  for (;;) {
    const { leader } = await quorum.state();
    try {
      if (leader === undefined) throw new Error('no member leads; one that has the database must run');
      await rm(aside, { recursive: true, force: true });
      logger.info('Taking the database from the leader', { leader: leader.uuid });
      const number = await withDatabase(aside, async (db) => {
        const last = await options.fetch(leader, (entries) => putAll(db, entries));
        await db.put(historyKey, Buffer.from(history));
        await db.put(appliedKey, appliedMark(last));
        return last;
      });
      await rename(join(aside, 'db.mdb'), join(path, 'db.mdb'));
      await rm(join(path, 'db.mdb-lock'), { force: true });
      await rm(aside, { recursive: true, force: true });
      logger.info('The database is here', { record: number });
      return;
    } catch (error) {
      logger.warn('Cannot take the database from the leader yet', { problem: describeError(error) });
      await clock.sleep(pollMs);
    }
  }
}

async function putAll(db: RootDatabase<Buffer, Buffer>, entries: WriteSet): Promise<void> {
  const puts: Promise<boolean>[] = [];
  for (const [key, value] of entries) {
    if (value !== undefined) puts.push(db.put(Buffer.from(key, 'latin1'), Buffer.from(value)));
  }
  await Promise.all(puts);
}

async function withDatabase<T>(path: string, work: (db: RootDatabase<Buffer, Buffer>) => Promise<T>): Promise<T> {
  await makeFolder(path, 0o750);
  const unlock = await lockFolder(path);
  try {
    const db = await openDatabase(path);
    try {
      return await work(db);
    } finally {
      await db.close();
    }
  } finally {
    await unlock();
  }
}

function foreign(path: string, { history }: QuorumState): TerminalError {
  return new TerminalError(
    `--data-dir: the database in ${path} is not a part of the history ${history ?? '(none)'} in etcd: give this member an empty ` +
      'folder, or name the --etcd-prefix that it belongs to',
  );
}

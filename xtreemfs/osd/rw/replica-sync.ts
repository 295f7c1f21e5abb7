import { osdProcedures, type AuthoritativeReplicaState, type ReplicaStatus } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError } from '#xtreemfs/rpc/errors.ts';
import type { FileAccess } from '../access.ts';
import { masterEpochOf, setAttributesNow, truncateEpochOf, truncateLogOf } from '../file-attributes.ts';
import type { PeerOsds } from '../peer-osds.ts';
import type { FileLog } from '../store/file-log.ts';
import { Gate } from '../store/gate.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { flagWhole, recordType } from '../store/record.ts';
import { remotesOf, requestOf, unavailable } from './quorum.ts';
import { isMatching, newestOf, planReset, statusOf, type ResetPlan } from './replica-state.ts';

/** What {@link ReplicaSync} needs. */
export interface ReplicaSyncOptions {
  readonly osdUuid: string;
  readonly store: ObjectStore;
  readonly peers: PeerOsds;
  /** How long another replica may take to hand an object over, milliseconds. */
  readonly answerTimeoutMs: number;
}

/** Objects fetched at a time. Source: protocol reference, 15.2. */
const fetchesMax = 10;

/** This OSD's own replicas of read/write replicated files: what they hold, and how they get to what they should hold. */
export class ReplicaSync {
  private readonly options: ReplicaSyncOptions;
  private readonly fetchGate = new Gate(fetchesMax);
  /** States on their way in, by file; a primary repeats itself until it has an answer. */
  private readonly running = new Map<string, { readonly state: string; readonly done: Promise<void> }>();

  constructor(options: ReplicaSyncOptions) {
    this.options = options;
  }

  /**
   * What this replica holds, in order with the changes that were accepted before.
   * @param masterEpoch - of the primary that asks: nothing of an earlier one is accepted from then on.
   * @throws {RpcError} EIO when a later primary has asked before.
   */
  status(access: FileAccess, masterEpoch = 0): Promise<ReplicaStatus> {
    return this.options.store.use(access.fileId, (log) =>
      log.exclusive(async () => {
        if (masterEpoch > 0) checkEpoch(log, access, masterEpoch);
        // Not synced: what a primary before this one has still on its way does not outlive this process either.
        if (masterEpoch > masterEpochOf(log)) await setAttributesNow(log, { masterEpoch });
        return statusOf(log, access.stripe.objectBytes);
      }),
    );
  }

  /** Whether this replica has what a state asks for. */
  async isAtState(access: FileAccess, state: AuthoritativeReplicaState): Promise<boolean> {
    return isMatching(planReset(await this.status(access), state));
  }

  /**
   * Brings this replica to a state that a primary has found: removes what is not in it and fetches what is missing.
   * Changes that come in between stay, for they are newer. The same state again joins the work that is under way.
   * @param masterEpoch - of the primary that found it; 0 when it is not known.
   * @throws {RpcError} EIO when a later primary is known here, or no replica gives an object.
   */
  applyState(access: FileAccess, state: AuthoritativeReplicaState, masterEpoch = 0): Promise<void> {
    const { fileId } = access;
    const key = JSON.stringify([masterEpoch, state]);
    const running = this.running.get(fileId);
    if (running?.state === key) return running.done;
    const done = this.takeOver(access, state, masterEpoch).finally(() => {
      if (this.running.get(fileId)?.done === done) this.running.delete(fileId);
    });
    this.running.set(fileId, { state: key, done });
    return done;
  }

  /**
   * Puts an object that is damaged here right by the copy of another replica, of the same version. Only in turn with
   * changes of the object.
   * @throws {RpcError} INTERNAL_SERVER_ERROR when no replica gives it.
   */
  repair(access: FileAccess, object: number): Promise<void> {
    return this.options.store.use(access.fileId, async (log) => {
      const entry = log.state.objects.get(object);
      if (entry === undefined) return;
      const sources = remotesOf(access, this.options.osdUuid);
      await this.fetchObject(access, log, object, entry.version, sources, entry.length);
      await log.sync();
    });
  }

  private takeOver(access: FileAccess, state: AuthoritativeReplicaState, masterEpoch: number): Promise<void> {
    return this.options.store.use(access.fileId, async (log) => {
      const plan = await log.exclusive(async () => {
        if (masterEpoch > 0) checkEpoch(log, access, masterEpoch);
        const found = planReset(statusOf(log, access.stripe.objectBytes), state);
        await dropWhatIsGone(log, state, found);
        return found;
      });
      await Promise.all(
        plan.fetch.map(({ objectNumber, objectVersion, osdUuids }) =>
          this.fetchGate.run(() => this.fetchObject(access, log, objectNumber, objectVersion, osdUuids)),
        ),
      );
      if (plan.isLogDifferent) await log.sync();
    });
  }

  private async fetchObject(
    access: FileAccess,
    log: FileLog,
    object: number,
    version: number,
    sources: readonly string[],
    bytesMax = access.stripe.objectBytes,
  ): Promise<void> {
    const { peers, osdUuid, answerTimeoutMs } = this.options;
    const request = { ...requestOf(access), objectNumber: object, objectVersion: version };
    let problem: unknown;
    for (const uuid of sources) {
      if (uuid === osdUuid) continue;
      try {
        const { response, data } = await peers.call(uuid, osdProcedures.rwrFetch, request, undefined, answerTimeoutMs);
        // A replica that has not heard of the last truncate has more of the object than there is.
        const length = Math.min(bytesMax, data.length + response.zeroPadding);
        await putVersion(log, object, version, data.subarray(0, length), length);
        return;
      } catch (error) {
        problem = error;
      }
    }
    throw unavailable(`No replica gave object ${object} of ${access.fileId}`, problem);
  }
}

/**
 * Takes the truncates of a state over, with those that came after it, before any object: an object that comes back must
 * not be held off by a truncate that nobody else knows.
 */
async function dropWhatIsGone(log: FileLog, state: AuthoritativeReplicaState, plan: ResetPlan): Promise<void> {
  if (plan.isLogDifferent) {
    const newest = newestOf(state);
    const known = state.truncateLog.records.map(({ version, lastObjectNumber }) => ({
      version,
      lastObject: lastObjectNumber,
    }));
    const later = truncateLogOf(log).filter(({ version }) => version > newest);
    const truncateEpoch = Math.max(state.truncateEpoch, truncateEpochOf(log));
    await setAttributesNow(log, { truncateEpoch, truncateLog: [...known, ...later] });
  }
  for (const object of plan.remove) await log.appendNow({ ...plainWrite, type: recordType.remove, object }, empty);
}

const empty = Buffer.alloc(0);
const plainWrite = { type: recordType.write, flags: 0, object: 0, version: 0, offset: 0, objectLength: 0 };

/** Refuses what a primary sends whose time is over. */
export function checkEpoch(log: FileLog, file: FileAccess, masterEpoch: number): void {
  const known = masterEpochOf(log);
  if (masterEpoch >= known) return;
  throw errnoError(
    PosixErrno.EIO,
    `The primary of ${file.fileId} with master epoch ${masterEpoch} is outdated: this OSD knows ${known}`,
  );
}

/**
 * Stores a whole object unless what is here is newer: another version of it, or a truncate that cut it off.
 * @returns whether it was stored.
 */
export function putVersion(
  log: FileLog,
  object: number,
  version: number,
  data: Buffer,
  objectLength = data.length,
): Promise<boolean> {
  return log.exclusive(async () => {
    const local = log.state.objects.get(object)?.version ?? -1;
    const isCut = truncateLogOf(log).some((entry) => entry.version > version && entry.lastObject < object);
    if (local > version || isCut) return false;
    await log.appendNow({ ...plainWrite, flags: flagWhole, object, version, objectLength }, data);
    return true;
  });
}

import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { FileCredentials, OsdWriteResponse } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures, type ObjectData } from '#proto/generated/xtreemfs/osd.ts';
import { ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { redirectError, RpcError } from '../rpc/errors.ts';
import {
  fromStatusMessage,
  holdsState,
  mergeStates,
  planRepair,
  toAuthoritativeMessage,
  type AuthoritativeState,
} from './authoritative-state.ts';
import { FileLock } from './file-lock.ts';
import { NoLeaseError, type Flease } from './flease.ts';
import { quorumOf, type ReplicaPeers } from './replica-peers.ts';
import type { ReadBytes, ReplicatedFile, ReplicaState, ReplicaStore } from './replica-store.ts';

/** What a group needs. */
export interface ReplicaGroupDeps<F extends ReplicatedFile> {
  readonly osdUuid: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly flease: Flease;
  readonly store: ReplicaStore<F>;
  readonly peers: ReplicaPeers;
}

/** Versions of one master epoch; a primary starts at `epoch * versionsPerEpoch`. */
export const versionsPerEpoch = 2 ** 32;
/** Requests that may wait for a file to have a primary. */
const waitingMax = 10;
/** Objects fetched at a time when a replica is brought up to date. */
const fetchesMax = 10;
const settlePollMs = 50;
const settleTimeoutMs = 15_000;
/** Updates that one slow replica may have outstanding; above it, it is left behind until the next reset. */
const laggardUpdatesMax = 64;

/** The name of a file's Flease cell. */
export function cellOf(fileId: string): string {
  return `/file/${fileId}`;
}

/** No data to speak of in the answer. */
export const plainObjectData: ObjectData = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };

/**
 * One read/write replicated file on one OSD: who is primary, and what the primary does (protocol reference, 15.2).
 *
 * Each object is a linearizable register:
 * - a write is answered when enough replicas have it and this node is still primary by its own clock;
 * - a read waits for writes of its object that are under way, so nothing is seen that may still be lost;
 * - a new primary serves only when a majority holds the newest state that any of a majority held. (Upstream serves once it
 *   has that state itself, and sends the others after it in the background.)
 */
export class ReplicaGroup<F extends ReplicatedFile> {
  readonly lock = new FileLock();
  private readonly deps: ReplicaGroupDeps<F>;
  private readonly cellId: string;
  private others: readonly string[] = [];
  private view: number | undefined;
  private needed = 0;
  /** Epoch with which this node has been made primary; 0 when it has not. */
  private epoch = 0;
  private version = 0;
  private resetting: Promise<void> | undefined;
  private waiting = 0;
  private readonly outstanding = new Map<string, number>();
  private usedAt: number;

  constructor(fileId: string, deps: ReplicaGroupDeps<F>) {
    this.deps = deps;
    this.cellId = cellOf(fileId);
    this.usedAt = deps.clock.monotonic();
  }

  /** Monotonic time of the last request. */
  get lastUsed(): number {
    return this.usedAt;
  }

  /** Whether nothing goes on. */
  get isIdle(): boolean {
    return this.lock.load === 0 && this.waiting === 0;
  }

  /** Takes the replica set of a request; a newer one than known ends what was agreed on. */
  configure(file: F): void {
    this.usedAt = this.deps.clock.monotonic();
    const { version, replicas, replicaUpdatePolicy } = file.xlocs;
    if (this.view !== undefined && version <= this.view) return;
    const uuids = replicas.map((replica) => replica.osdUuids[0] ?? '');
    this.others = uuids.filter((uuid) => uuid !== this.deps.osdUuid && uuid !== '');
    this.needed = replicaUpdatePolicy === 'WqRq' ? Math.ceil(this.others.length / 2) : this.others.length;
    this.view = version;
    this.stepDown();
    this.deps.flease.open(this.cellId, this.others, version);
  }

  /** The view was invalidated: this node serves nobody until a newer one comes. */
  invalidate(): void {
    this.stepDown();
    this.deps.flease.invalidate(this.cellId);
  }

  /** Makes the next request collect the state of all replicas anew. */
  stepDown(): void {
    this.epoch = 0;
  }

  async read(file: F, object: number, offset: number, length: number): Promise<ReadBytes> {
    await this.asPrimary(file);
    return this.lock.object(object, async () => {
      const bytes = await this.deps.store.read(file, object, offset, length);
      this.checkPrimary();
      return bytes;
    });
  }

  async write(file: F, object: number, offset: number, data: Buffer): Promise<OsdWriteResponse> {
    await this.asPrimary(file);
    return this.lock.object(object, async () => {
      const { store, peers } = this.deps;
      this.checkPrimary();
      const version = ++this.version;
      const answer = await store.write(file, object, offset, data, version);
      await this.replicate(async () => {
        const whole = await store.readWhole(file, object);
        const change = {
          newFileSize: 0,
          objectVersion: version,
          offset: 0,
          obj: plainObjectData,
          objectNumber: object,
        };
        const request = { ...requestOf(file), ...change };
        return (uuid) => peers.call(uuid, osdProcedures.rwrUpdate, request, whole?.data ?? data);
      });
      return answer;
    });
  }

  async truncate(file: F, newFileBytes: number): Promise<OsdWriteResponse> {
    await this.asPrimary(file);
    return this.lock.all(async () => {
      const { store, peers } = this.deps;
      this.checkPrimary();
      const state = await store.state(file);
      if (state.truncateEpoch >= file.xcap.truncateEpoch) {
        return { sizeInBytes: state.fileBytes, truncateEpoch: state.truncateEpoch };
      }
      const version = ++this.version;
      const answer = await store.truncate(file, newFileBytes, version);
      await this.replicate(async () => {
        const request = { ...requestOf(file), newFileSize: newFileBytes, objectVersion: version };
        return (uuid) => peers.call(uuid, osdProcedures.rwrTruncate, request);
      });
      return answer;
    });
  }

  async fileBytes(file: F): Promise<number> {
    await this.asPrimary(file);
    return this.lock.all(async () => {
      const { fileBytes } = await this.deps.store.state(file);
      this.checkPrimary();
      return fileBytes;
    });
  }

  /** Brings this replica to a state: drops what the state does not have, fetches what it has. */
  async repair(file: F, state: AuthoritativeState): Promise<void> {
    const { store } = this.deps;
    const { remove, fetch } = planRepair(await store.state(file), state);
    await store.adopt(file, state.truncateEpoch, state.truncates);
    for (const object of remove) await this.lock.object(object, () => this.dropObject(file, object, state));
    const queue = [...fetch];
    const worker = async (): Promise<void> => {
      for (let object = queue.pop(); object !== undefined; object = queue.pop()) {
        const wanted = object;
        await this.lock.object(wanted, () => this.fetchObject(file, wanted, state));
      }
    };
    await Promise.all(Array.from({ length: Math.min(fetchesMax, queue.length) }, worker));
  }

  private async dropObject(file: F, object: number, state: AuthoritativeState): Promise<void> {
    const own = await this.deps.store.version(file, object);
    if (own !== undefined && own <= state.maxVersion) await this.deps.store.removeObject(file, object);
  }

  private async fetchObject(file: F, object: number, state: AuthoritativeState): Promise<void> {
    const wanted = state.objects.get(object);
    if (wanted === undefined) return;
    const { store, peers, osdUuid } = this.deps;
    const own = await store.version(file, object);
    const isCurrent = own !== undefined && (own === wanted.version || own > state.maxVersion);
    if (isCurrent) return;
    const { version } = wanted;
    const request = { ...requestOf(file), objectNumber: object, objectVersion: version };
    let problem: unknown;
    for (const holder of wanted.holders) {
      if (holder === osdUuid) continue;
      try {
        const { response, data } = await peers.call(holder, osdProcedures.rwrFetch, request);
        const zeros = Buffer.alloc(response.zeroPadding);
        await store.replace(file, object, { version, data: zeros.length === 0 ? data : Buffer.concat([data, zeros]) });
        return;
      } catch (error) {
        problem = error;
      }
    }
    throw unavailable(`Object ${object} of ${file.fileId} cannot be fetched from any replica`, problem);
  }

  /** Waits until this node is primary and its replica is up to date. @throws {RpcError} REDIRECT when another is. */
  private async asPrimary(file: F): Promise<void> {
    this.configure(file);
    if (this.isPrimary()) return;
    if (this.waiting >= waitingMax) throw unavailable(`Too many requests wait for a primary of ${file.fileId}`);
    this.waiting++;
    try {
      const lease = await this.deps.flease.acquire(this.cellId);
      if (lease.role === 'backup') throw redirectError(lease.holder);
      if (lease.role === 'none') throw unavailable(`Nobody has the lease of ${file.fileId} now`);
      if (this.epoch !== lease.masterEpoch) {
        this.resetting ??= this.reset(file, lease.masterEpoch).finally(() => (this.resetting = undefined));
        await this.resetting;
      }
      this.checkPrimary();
    } catch (error) {
      if (error instanceof NoLeaseError) throw unavailable(error.message, error);
      throw error;
    } finally {
      this.waiting--;
    }
  }

  /** Collects the newest state, takes it, and sees to it that enough replicas hold it. */
  private async reset(file: F, masterEpoch: number): Promise<void> {
    const { store, osdUuid, logger } = this.deps;
    // Waits for changes that are under way: what they did must be in the state, or it would undo them.
    const own = await this.lock.all(() => store.state(file));
    const states = await quorumOf(this.others, this.needed, (uuid) => this.askState(uuid, file));
    states.set(osdUuid, own);
    const state = mergeStates(states);
    await this.repair(file, state);
    const behind = [...states].filter(([uuid, replica]) => uuid !== osdUuid && !holdsState(replica, state));
    if (states.size - 1 - behind.length < this.needed) await this.settle(file, state, masterEpoch, states);
    if (this.deps.flease.lease(this.cellId).masterEpoch !== masterEpoch) {
      throw unavailable(`The lease of ${file.fileId} was lost while its state was collected`);
    }
    const lastTruncate = state.truncates.at(-1)?.version ?? 0;
    this.version = Math.max(masterEpoch * versionsPerEpoch, state.maxVersion, lastTruncate);
    this.epoch = masterEpoch;
    logger.debug('Serving as primary', { fileId: file.fileId, masterEpoch, repaired: behind.length });
  }

  /** Tells the others of the state and waits until enough of them have it. */
  private async settle(
    file: F,
    state: AuthoritativeState,
    masterEpoch: number,
    known: ReadonlyMap<string, ReplicaState>,
  ): Promise<void> {
    const { clock, peers, flease } = this.deps;
    const message = toAuthoritativeMessage(state, masterEpoch);
    const end = clock.monotonic() + settleTimeoutMs;
    const isSettled = async (uuid: string): Promise<void> => {
      const first = known.get(uuid);
      if (first !== undefined && holdsState(first, state)) return;
      await peers.call(uuid, osdProcedures.rwrAuthState, { ...requestOf(file), state: message });
      while (!holdsState(await this.askState(uuid, file), state)) {
        const isOver = clock.monotonic() > end || flease.lease(this.cellId).masterEpoch !== masterEpoch;
        if (isOver) throw unavailable(`OSD ${uuid} does not get up to date with ${file.fileId}`);
        await clock.sleep(settlePollMs);
      }
    };
    await quorumOf(this.others, this.needed, isSettled);
  }

  private async askState(uuid: string, file: F): Promise<ReplicaState> {
    const request = { ...requestOf(file), maxLocalObjVersion: 0 };
    const { response } = await this.deps.peers.call(uuid, osdProcedures.rwrStatus, request);
    return fromStatusMessage(response);
  }

  /**
   * Sends a change that was made here to every other replica and waits for enough of them. When they do not take it nobody
   * knows its fate: this node stops serving until it has collected the state anew.
   */
  private async replicate(prepare: () => Promise<(uuid: string) => Promise<unknown>>): Promise<void> {
    try {
      const send = await prepare();
      await quorumOf(this.others, this.needed, async (uuid) => {
        const count = this.outstanding.get(uuid) ?? 0;
        if (count >= laggardUpdatesMax) throw unavailable(`OSD ${uuid} is too slow`);
        this.outstanding.set(uuid, count + 1);
        try {
          await send(uuid);
        } finally {
          this.outstanding.set(uuid, (this.outstanding.get(uuid) ?? 1) - 1);
        }
      });
    } catch (error) {
      this.stepDown();
      this.deps.logger.warn('Not enough replicas took a change', { cell: this.cellId, problem: describeError(error) });
      throw unavailable('Not enough replicas took the change', error);
    }
    this.checkPrimary();
  }

  private isPrimary(): boolean {
    return this.epoch > 0 && this.deps.flease.lease(this.cellId).masterEpoch === this.epoch;
  }

  /** Asked before every answer: a lease that is over by our clock may be somebody else's already. */
  private checkPrimary(): void {
    if (!this.isPrimary()) throw unavailable('This OSD is not primary of the file any more');
  }
}

/** What every request about a file carries. */
function requestOf(file: ReplicatedFile): { fileCredentials: FileCredentials; fileId: string } {
  return { fileCredentials: { xcap: file.xcap, xlocs: file.xlocs }, fileId: file.fileId };
}

/** On this error clients try another replica. */
export function unavailable(message: string, cause?: unknown): RpcError {
  return new RpcError(message, { errorType: ErrorType.INTERNAL_SERVER_ERROR, posixErrno: PosixErrno.EIO, cause });
}

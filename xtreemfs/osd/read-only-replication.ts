import { shuffle, type Random } from '#common/random.ts';
import type { Logger } from '#common/logger.ts';
import { ReplFlag, type OsdWriteResponse, type Replica } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError } from '#xtreemfs/rpc/errors.ts';
import type { FileAccess } from './access.ts';
import { decodeObjectList } from './object-list.ts';
import type { PeerOsds } from './peer-osds.ts';
import type { ReplicatedFiles } from './replicated-files.ts';
import { CorruptionError } from './store/disk.ts';
import { Gate } from './store/gate.ts';
import type { ObjectBytes } from './store/log-reader.ts';
import type { ObjectStore } from './store/object-store.ts';
import { flagWhole, recordType } from './store/record.ts';

/** What {@link ReadOnlyReplication} needs. */
export interface ReadOnlyReplicationOptions {
  readonly osdUuid: string;
  readonly store: ObjectStore;
  readonly peers: PeerOsds;
  readonly random: Random;
  readonly logger: Logger;
  /** Tells the MRC that this OSD holds all of its part of a replica. */
  readonly markComplete: (fileId: string) => Promise<void>;
}

/** Limits. Source: protocol reference, 15.1. */
const objectsInFlightMax = 20;
const objectsPerFileMax = 5;
const prefetchObjects = 10;
const filledMax = 100_000;
const nothing: ObjectBytes = { data: Buffer.alloc(0), zeros: 0 };

/** One file that is being filled. */
interface Filling {
  readonly gate: Gate;
  readonly fetches: Map<number, Promise<void>>;
  background: Promise<void> | undefined;
  isForgotten: boolean;
}

/**
 * Files whose content does not change any more and that have several replicas (`ronly`). A replica starts empty: an
 * object is fetched from another replica when it is read first; full replicas also fetch the rest in the background and
 * are then marked complete at the MRC. Protocol reference, 15.1.
 */
export class ReadOnlyReplication implements ReplicatedFiles {
  private readonly options: ReadOnlyReplicationOptions;
  private readonly gate = new Gate(objectsInFlightMax);
  private readonly filling = new Map<string, Filling>();
  /** Full replicas that were reported complete, so that later reads under older credentials don't report again. */
  private readonly filled = new Set<string>();

  constructor(options: ReadOnlyReplicationOptions) {
    this.options = options;
  }

  async read(access: FileAccess, object: number, offset: number, length: number): Promise<ObjectBytes> {
    const { fileId, stripe } = access;
    if (!(object >= 0 && offset >= 0 && length >= 0 && offset + length <= stripe.objectBytes)) {
      throw errnoError(PosixErrno.EINVAL, `offset ${offset}, length ${length} does not lie in object ${object}`);
    }
    const objectBytes = objectBytesOf(access, object);
    const wanted = Math.min(length, objectBytes - offset);
    if (wanted <= 0) return nothing;
    if (!isComplete(access.replica)) {
      const isHere = await this.options.store.use(fileId, async (log) => log.state.objects.has(object));
      if (!isHere) await this.fetch(access, object);
      this.fillLater(access, object);
    }
    const bytes = await this.readLocally(access, object, offset, wanted);
    return { data: bytes.data, zeros: wanted - bytes.data.length };
  }

  async write(access: FileAccess): Promise<OsdWriteResponse> {
    throw errnoError(PosixErrno.EPERM, `${access.fileId} is read-only: its replicas may not be changed`);
  }

  async truncate(access: FileAccess): Promise<OsdWriteResponse> {
    return this.write(access);
  }

  async fileBytes(access: FileAccess): Promise<number> {
    return access.xlocs.readOnlyFileSize;
  }

  forget(fileId: string): void {
    const filling = this.filling.get(fileId);
    if (filling !== undefined) filling.isForgotten = true;
    this.filling.delete(fileId);
  }

  /**
   * Replaces an object by what another replica has, also if this one looks whole.
   * @throws {RpcError} EINVAL when there is no other replica, EIO when none can give it.
   */
  async repair(access: FileAccess, object: number): Promise<void> {
    if (access.xlocs.replicas.length < 2) {
      throw errnoError(PosixErrno.EINVAL, `${access.fileId} has no other replica to repair it from`);
    }
    await this.fetch(access, object);
    await this.options.store.use(access.fileId, (log) => log.sync());
  }

  /** Waits until nothing goes on in the background; for tests and a graceful stop. */
  async settle(): Promise<void> {
    for (const filling of [...this.filling.values()]) await filling.background;
  }

  /** Reads what lies here; a damaged object is fetched anew once. */
  private async readLocally(access: FileAccess, object: number, offset: number, length: number): Promise<ObjectBytes> {
    const read = (): Promise<ObjectBytes> =>
      this.options.store.use(access.fileId, async (log) => (await log.read(object, offset, length)) ?? nothing);
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof CorruptionError) || access.xlocs.replicas.length < 2) throw error;
      this.options.logger.warn('Repairing a damaged object', { fileId: access.fileId, object });
      await this.fetch(access, object);
      return read();
    }
  }

  /** Fetches one object from another replica; calls for the same one share the work. */
  private async fetch(access: FileAccess, object: number): Promise<void> {
    const filling = this.fillingOf(access.fileId);
    let fetching = filling.fetches.get(object);
    if (fetching === undefined) {
      fetching = filling.gate
        .run(() => this.gate.run(() => this.fetchNow(access, object, filling)))
        .finally(() => {
          filling.fetches.delete(object);
          this.forgetIdle(access.fileId, filling);
        });
      filling.fetches.set(object, fetching);
    }
    await fetching;
  }

  private async fetchNow(access: FileAccess, object: number, filling: Filling): Promise<void> {
    const { fileId, replica } = access;
    const objectBytes = objectBytesOf(access, object);
    const others = access.xlocs.replicas.filter((other) => other !== replica);
    // Complete replicas last: they are asked by everybody, and only they can say that an object is a hole.
    shuffle(this.options.random, others).sort((a, b) => Number(isComplete(a)) - Number(isComplete(b)));
    let problem: unknown;
    for (const source of others) {
      try {
        const bytes = await this.ask(access, source, object, objectBytes);
        if (bytes === undefined) continue;
        if (!filling.isForgotten) await this.keep(fileId, object, objectBytes, bytes);
        return;
      } catch (error) {
        problem = error;
      }
    }
    throw errnoError(PosixErrno.EIO, `No replica of ${fileId} could give object ${object}`, problem);
  }

  /** @returns undefined when the replica does not have the object either. */
  private async ask(
    access: FileAccess,
    source: Replica,
    object: number,
    objectBytes: number,
  ): Promise<Buffer | undefined> {
    const uuid = source.osdUuids[object % source.osdUuids.length] ?? '';
    const { response, data } = await this.options.peers.call(uuid, osdProcedures.internalReadLocal, {
      fileCredentials: { xcap: access.xcap, xlocs: access.xlocs },
      fileId: access.fileId,
      objectNumber: object,
      objectVersion: 0,
      offset: 0,
      length: objectBytes,
      attachObjectList: !isComplete(source),
      requiredObjects: [],
    });
    if (response.data.invalidChecksumOnOsd) {
      throw errnoError(PosixErrno.EIO, `OSD ${uuid} holds a damaged copy of object ${object}`);
    }
    const isEmpty = data.length === 0 && response.data.zeroPadding === 0;
    const has = response.objectSet.some((list) => decodeObjectList(list).has(object));
    if (isEmpty && !isComplete(source) && !has) return undefined;
    return data;
  }

  private async keep(fileId: string, object: number, objectBytes: number, data: Buffer): Promise<void> {
    const bytes = data.subarray(0, objectBytes);
    const body = { type: recordType.write, flags: flagWhole, object, version: 1, offset: 0, objectLength: objectBytes };
    await this.options.store.use(fileId, (log) => log.append(body, bytes));
  }

  /** Full replicas go on filling themselves; partial ones with the prefetching strategy look a little ahead. */
  private fillLater(access: FileAccess, object: number): void {
    const { replicationFlags } = access.replica;
    const isFull = (replicationFlags & ReplFlag.FULL_REPLICA) !== 0;
    const isAhead = (replicationFlags & ReplFlag.STRATEGY_SEQUENTIAL_PREFETCHING) !== 0;
    if ((!isFull && !isAhead) || this.filled.has(viewKey(access))) return;
    const filling = this.fillingOf(access.fileId);
    if (filling.background !== undefined) return;
    const task = isFull ? this.fill(access, filling) : this.prefetch(access, object);
    filling.background = task
      .catch((error: unknown) => {
        this.options.logger.warn('Filling a replica failed', { fileId: access.fileId, err: error });
      })
      .finally(() => {
        filling.background = undefined;
        this.forgetIdle(access.fileId, filling);
      });
  }

  private async prefetch(access: FileAccess, object: number): Promise<void> {
    const { width } = access.stripe;
    const ahead = Array.from({ length: prefetchObjects }, (_, i) => object + (i + 1) * width);
    await Promise.all((await this.missing(access, ahead)).map((next) => this.fetch(access, next)));
  }

  private async fill(access: FileAccess, filling: Filling): Promise<void> {
    const { fileId, stripe, xlocs } = access;
    const count = Math.ceil(xlocs.readOnlyFileSize / stripe.objectBytes);
    const own: number[] = [];
    for (let object = stripe.index; object < count; object += stripe.width) own.push(object);
    const missing = await this.missing(access, own);
    const order = await this.orderOf(access, missing);
    for (let at = 0; at < order.length && !filling.isForgotten; at += objectsPerFileMax) {
      await Promise.all(order.slice(at, at + objectsPerFileMax).map((object) => this.fetch(access, object)));
    }
    if (filling.isForgotten) return;
    await this.options.store.use(fileId, (log) => log.sync());
    await this.options.markComplete(fileId);
    if (this.filled.size >= filledMax) this.filled.clear();
    this.filled.add(viewKey(access));
  }

  private missing(access: FileAccess, objects: readonly number[]): Promise<number[]> {
    return this.options.store.use(access.fileId, async (log) => {
      return objects.filter((object) => objectBytesOf(access, object) > 0 && !log.state.objects.has(object));
    });
  }

  /** The order in which objects are fetched, by the replica's strategy. */
  private async orderOf(access: FileAccess, objects: number[]): Promise<number[]> {
    const flags = access.replica.replicationFlags;
    if ((flags & ReplFlag.STRATEGY_RANDOM) !== 0) return shuffle(this.options.random, objects);
    if ((flags & ReplFlag.STRATEGY_RAREST_FIRST) === 0) return objects;
    const copies = new Map(objects.map((object) => [object, 0]));
    const request = { fileCredentials: { xcap: access.xcap, xlocs: access.xlocs }, fileId: access.fileId };
    const partial = access.xlocs.replicas.filter((other) => other !== access.replica && !isComplete(other));
    for (const uuid of partial.flatMap((replica) => replica.osdUuids)) {
      try {
        const { response } = await this.options.peers.call(uuid, osdProcedures.internalGetObjectSet, request);
        for (const object of decodeObjectList(response)) {
          const count = copies.get(object);
          if (count !== undefined) copies.set(object, count + 1);
        }
      } catch {
        // A replica that does not answer has nothing to offer now.
      }
    }
    return shuffle(this.options.random, objects).sort((a, b) => (copies.get(a) ?? 0) - (copies.get(b) ?? 0));
  }

  private forgetIdle(fileId: string, filling: Filling): void {
    const isIdle = filling.fetches.size === 0 && filling.background === undefined;
    if (isIdle && this.filling.get(fileId) === filling) this.filling.delete(fileId);
  }

  private fillingOf(fileId: string): Filling {
    let filling = this.filling.get(fileId);
    if (filling === undefined) {
      filling = { gate: new Gate(objectsPerFileMax), fetches: new Map(), background: undefined, isForgotten: false };
      this.filling.set(fileId, filling);
    }
    return filling;
  }
}

function isComplete(replica: Replica): boolean {
  return (replica.replicationFlags & ReplFlag.IS_COMPLETE) !== 0;
}

function viewKey(access: FileAccess): string {
  return `${access.fileId} ${access.xlocs.version}`;
}

/** Bytes of an object by the size that the MRC gave with the credentials. */
function objectBytesOf(access: FileAccess, object: number): number {
  const { objectBytes } = access.stripe;
  return Math.max(0, Math.min(objectBytes, access.xlocs.readOnlyFileSize - object * objectBytes));
}

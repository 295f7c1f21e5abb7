import type { OsdWriteResponse, XCap, XLocSet } from '#proto/generated/xtreemfs/global-types.ts';
import { SystemVFcntl } from '#proto/generated/xtreemfs/global-types.ts';
import type { Stat } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { osdSyncProcedure } from '../osd/extensions.ts';
import { blocks } from '../rpc/blocks.ts';
import type { CallResult } from '../rpc/client-connection.ts';
import { errnoError, isErrno, RpcError } from '../rpc/errors.ts';
import { isRetryable, ServerList } from '../rpc/retry.ts';
import { serviceUser, type MetadataClient } from './metadata.ts';
import { splitRange, type ObjectPiece } from './striping.ts';

/** What is needed to use an open file: the capability and where its data is. Plain data, so that it can be kept. */
export interface OpenCredentials {
  readonly cap: XCap;
  readonly xlocs: XLocSet;
}

/** Bytes that were read. */
export interface ReadBytes {
  readonly parts: Buffer[];
  /** The parts are not needed any more: what they lie in may be used again. */
  done(): void;
}

/** How many times new replica lists are fetched for one request. Upstream: max_view_renewals, 5. */
const viewRenewalsMax = 5;
/** Attempts at each OSD of an object before the MRC is asked whether the data has moved. */
const triesPerLook = 2;
/** Requests to OSDs that one read or write has under way. */
const parallelMax = 16;

/**
 * A file's data at its OSDs, shared by all handles of the file in this process: where the objects are, and what has
 * been learnt of the file's size and not yet been told to the MRC.
 */
export class OpenFile {
  readonly fileId: string;
  private readonly metadata: MetadataClient;
  private xlocs: XLocSet;
  private servers = new Map<number, ServerList>();
  private objectBytes = 0;
  private width = 0;
  private pending: OsdWriteResponse | undefined;
  private told: OsdWriteResponse | undefined;
  private readonly unsynced = new Set<number>();
  private syncsAreKnown = true;

  constructor(metadata: MetadataClient, credentials: OpenCredentials) {
    this.metadata = metadata;
    this.fileId = credentials.cap.fileId;
    this.xlocs = credentials.xlocs;
    this.useXlocs(credentials.xlocs);
  }

  /** Size and epoch that an OSD answered and the MRC doesn't know yet. */
  get pendingSize(): OsdWriteResponse | undefined {
    return this.pending;
  }

  /** The newest size that OSDs answered to this process; undefined when the file was only read. */
  get knownSize(): OsdWriteResponse | undefined {
    return this.pending ?? this.told;
  }

  get locations(): XLocSet {
    return this.xlocs;
  }

  /** Bytes of one object. */
  get stripeBytes(): number {
    return this.objectBytes;
  }

  /** Takes a newer replica list (of a later open); an older one is ignored. */
  useXlocs(xlocs: XLocSet): void {
    if (this.width !== 0 && xlocs.version < this.xlocs.version) return;
    const [first] = xlocs.replicas;
    if (first === undefined) throw errnoError(PosixErrno.EIO, `file ${this.fileId} has no replica: it has no data`);
    if (this.width === 0 || xlocs.version !== this.xlocs.version) this.servers = new Map();
    this.xlocs = xlocs;
    this.objectBytes = first.stripingPolicy.stripeSize * 1024;
    this.width = first.stripingPolicy.width;
  }

  /**
   * Reads up to `length` bytes.
   * @returns the bytes in pieces; fewer than asked for mean the end of the file.
   */
  async read(handle: FileHandle, offset: number, length: number, signal?: AbortSignal): Promise<ReadBytes> {
    const pieces = splitRange(offset, length, this.objectBytes);
    if (pieces.length === 1 && pieces[0] !== undefined) return await this.readPiece(handle, pieces[0], signal);
    const results = await mapBounded(pieces, async (piece) => await this.readPiece(handle, piece, signal));
    const parts: Buffer[] = [];
    for (const [index, result] of results.entries()) {
      parts.push(...result.parts);
      if (sizeOf(result.parts) < (pieces[index]?.length ?? 0)) break;
    }
    return { parts, done: () => results.forEach((result) => result.done()) };
  }

  /** Writes all of `data`. @throws {RpcError} after which some of it may have been written. */
  async write(handle: FileHandle, offset: number, data: Buffer, signal?: AbortSignal): Promise<void> {
    const pieces = splitRange(offset, data.length, this.objectBytes);
    if (pieces.length === 1 && pieces[0] !== undefined) await this.writePiece(handle, pieces[0], data, signal);
    else await mapBounded(pieces, async (piece) => await this.writePiece(handle, piece, data, signal));
  }

  /**
   * Cuts or extends the file at its OSDs. `handle.cap` must be one that allows truncation.
   * The new size is told to the MRC, too.
   */
  async truncate(handle: FileHandle, size: number, signal?: AbortSignal): Promise<void> {
    const response = await this.atOsd(handle, 0, osdProcedures.truncate, undefined, signal, () => ({
      fileCredentials: this.credentials(handle),
      fileId: this.fileId,
      newFileSize: size,
    }));
    this.takeSize(response.response);
    this.unsynced.add(0);
    await this.tellSize(handle, false, signal);
  }

  /** Makes everything that OSDs acknowledged durable, where they can (`osdSyncProcedure`). */
  async sync(handle: FileHandle, signal?: AbortSignal): Promise<void> {
    const stripes = [...this.unsynced];
    if (!this.syncsAreKnown || stripes.length === 0) return;
    this.unsynced.clear();
    const request = (): { fileCredentials: ReturnType<OpenFile['credentials']>; fileId: string } => ({
      fileCredentials: this.credentials(handle),
      fileId: this.fileId,
    });
    try {
      await Promise.all(
        stripes.map(async (stripe) => await this.atOsd(handle, stripe, osdSyncProcedure, undefined, signal, request)),
      );
    } catch (error) {
      if (error instanceof RpcError && error.errorType === ErrorType.INVALID_PROC_ID) {
        this.syncsAreKnown = false;
        return;
      }
      for (const stripe of stripes) this.unsynced.add(stripe);
      throw error;
    }
  }

  /**
   * Tells the MRC the newest size, if it doesn't know it. A file that is gone needs no size.
   * @returns the file's attributes since then, when the MRC tells them.
   */
  async tellSize(handle: FileHandle, closeFile: boolean, signal?: AbortSignal): Promise<Stat | undefined> {
    const size = this.pending;
    if (size === undefined && !(closeFile && handle.cap.replicateOnClose)) return undefined;
    const update = size ?? this.told ?? { sizeInBytes: 0, truncateEpoch: handle.cap.truncateEpoch };
    let stat: Stat | undefined;
    try {
      stat = (await this.metadata.updateFileSize(handle.cap, update, closeFile, signal)).stbuf;
    } catch (error) {
      if (!isErrno(error, PosixErrno.ENOENT)) throw error;
    }
    this.told = update;
    if (this.pending === size) this.pending = undefined;
    return stat;
  }

  /**
   * Ends the vouchers of a handle (protocol reference, 10.2): every OSD of the first replica stops taking writes under
   * them and says how large the file is, and the MRC gives the reserved space back.
   */
  async finalizeVouchers(handle: FileHandle): Promise<void> {
    const expireTimeMs = handle.voucherKeys;
    const fileCredentials = this.credentials(handle);
    const answers = await Promise.all(
      Array.from({ length: this.width }, async (_unused, stripe) => {
        const request = { fileCredentials, expireTimeMs };
        return (await this.atOsd(handle, stripe, osdProcedures.finalizeVouchers, undefined, undefined, () => request))
          .response;
      }),
    );
    await this.metadata.clearVouchers(fileCredentials, answers, expireTimeMs);
  }

  /** Servers that hold an object, the preferred one first. */
  serversOf(objectNumber: number): ServerList {
    const { replicas } = this.xlocs;
    const stripe = replicas.length === 1 ? objectNumber % this.width : objectNumber % this.commonWidth();
    let list = this.servers.get(stripe);
    if (list === undefined) {
      list = new ServerList(
        replicas.map((replica) => replica.osdUuids[objectNumber % replica.osdUuids.length] ?? '').filter(Boolean),
      );
      this.servers.set(stripe, list);
    }
    return list;
  }

  credentials(handle: FileHandle): { xcap: XCap; xlocs: XLocSet } {
    return { xcap: handle.cap, xlocs: this.xlocs };
  }

  /** Calls the OSD of an object; fetches new replica lists and larger vouchers when it asks for them. */
  async atOsd<Request, Response>(
    handle: FileHandle,
    objectNumber: number,
    procedure: Procedure<Request, Response>,
    data: Buffer | undefined,
    signal: AbortSignal | undefined,
    makeRequest: () => Request,
  ): Promise<CallResult<Response>> {
    const { services } = this.metadata;
    const { triesMax } = services.retry;
    for (let renewals = 0, tries = 0; ;) {
      const servers = this.serversOf(objectNumber);
      const triesNow = Math.min(triesPerLook * servers.all.length, triesMax > 0 ? triesMax - tries : Infinity);
      const retry = { ...services.retry, triesMax: triesNow };
      try {
        return await services.call(servers, procedure, makeRequest(), { user: serviceUser, data, signal, retry });
      } catch (error) {
        if (isRetryable(error)) {
          tries += triesNow;
          if (triesMax > 0 && tries >= triesMax) throw error;
          await this.lookForData(handle, signal);
          continue;
        }
        if (!(error instanceof RpcError) || renewals++ >= viewRenewalsMax) throw error;
        if (error.errorType === ErrorType.INVALID_VIEW) {
          this.useXlocs(await this.metadata.getXlocSet(handle.cap, signal));
        } else if (error.errorType === ErrorType.INSUFFICIENT_VOUCHER) {
          await handle.renew(true, signal);
        } else throw error;
      }
    }
  }

  /** Nobody answers where the data was: it may have moved, and the OSD may be gone for good. */
  private async lookForData(handle: FileHandle, signal?: AbortSignal): Promise<void> {
    const { clock, retry } = this.metadata.services;
    const { version } = this.xlocs;
    const found = await this.metadata.peekXlocSet(handle.cap, signal);
    if (found !== undefined) this.useXlocs(found);
    if (this.xlocs.version === version) await clock.sleep(retry.retryDelayMs, signal);
  }

  private async readPiece(handle: FileHandle, piece: ObjectPiece, signal?: AbortSignal): Promise<ReadBytes> {
    const { response, data, block } = await this.atOsd(
      handle,
      piece.objectNumber,
      osdProcedures.read,
      undefined,
      signal,
      () => ({
        fileCredentials: this.credentials(handle),
        fileId: this.fileId,
        objectNumber: piece.objectNumber,
        objectVersion: 0,
        offset: piece.offset,
        length: piece.length,
      }),
    );
    const bytes = data.length > piece.length ? data.subarray(0, piece.length) : data;
    const padding = Math.min(response.zeroPadding >>> 0, piece.length - bytes.length);
    const parts = bytes.length === 0 ? [] : [bytes];
    if (padding > 0) parts.push(Buffer.alloc(padding));
    return { parts, done: () => (block === undefined ? undefined : blocks.give(block)) };
  }

  private async writePiece(handle: FileHandle, piece: ObjectPiece, data: Buffer, signal?: AbortSignal): Promise<void> {
    const bytes = data.subarray(piece.position, piece.position + piece.length);
    const { response } = await this.atOsd(handle, piece.objectNumber, osdProcedures.write, bytes, signal, () => ({
      fileCredentials: this.credentials(handle),
      fileId: this.fileId,
      objectNumber: piece.objectNumber,
      objectVersion: 0,
      offset: piece.offset,
      leaseTimeout: 0,
      objectData: noChecksum,
    }));
    this.unsynced.add(piece.objectNumber % this.commonWidth());
    this.takeSize(response);
  }

  /** Newer: a higher epoch, or the same and a larger size (protocol reference, section 3). */
  takeSize(response: OsdWriteResponse): void {
    if (response.sizeInBytes === undefined || response.truncateEpoch === undefined) return;
    const known = this.knownSize;
    if (known !== undefined && !isNewerSize(response, known)) return;
    this.pending = response;
  }

  private commonWidth(): number {
    if (this.xlocs.replicas.length === 1) return this.width;
    return this.xlocs.replicas.reduce((product, replica) => lcm(product, replica.osdUuids.length || 1), 1);
  }
}

const noChecksum = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };

function isNewerSize(a: OsdWriteResponse, b: OsdWriteResponse): boolean {
  const [epochA, epochB] = [a.truncateEpoch ?? 0, b.truncateEpoch ?? 0];
  return epochA > epochB || (epochA === epochB && (a.sizeInBytes ?? 0) > (b.sizeInBytes ?? 0));
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
const lcm = (a: number, b: number): number => (a / gcd(a, b)) * b;

const sizeOf = (parts: readonly Buffer[]): number => parts.reduce((sum, part) => sum + part.length, 0);

/** Runs at most `parallelMax` at a time; all are awaited, then the first failure is thrown. */
async function mapBounded<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  if (items.length <= parallelMax) return await settleAll(items.map(run));
  const results: R[] = [];
  for (let start = 0; start < items.length; start += parallelMax) {
    results.push(...(await settleAll(items.slice(start, start + parallelMax).map(run))));
  }
  return results;
}

/** All results, in order. Every promise has ended when this does, so that a buffer they use may be used again. */
async function settleAll<R>(promises: readonly Promise<R>[]): Promise<R[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

/** One opening of a file: its capability, renewed while it lasts. */
export class FileHandle {
  readonly file: OpenFile;
  private readonly metadata: MetadataClient;
  private capability: XCap;
  private readonly expireTimes = new Set<number>();
  private renewing: Promise<void> | undefined;
  private renewedAt: number;
  private truncating: Promise<unknown> = Promise.resolve();

  constructor(metadata: MetadataClient, file: OpenFile, cap: XCap) {
    this.metadata = metadata;
    this.file = file;
    this.capability = cap;
    this.renewedAt = metadata.services.clock.monotonic();
    this.noteVoucher(cap);
  }

  get cap(): XCap {
    return this.capability;
  }

  /** Expiry times of every voucher that this handle was given. */
  get voucherKeys(): number[] {
    return [...this.expireTimes];
  }

  /** Whether the handle may write. */
  get isWritable(): boolean {
    const writeBits = SystemVFcntl.O_WRONLY | SystemVFcntl.O_RDWR | SystemVFcntl.O_CREAT | SystemVFcntl.O_TRUNC;
    return (this.capability.accessMode & writeBits) !== 0;
  }

  /** Milliseconds since the capability was issued or renewed. */
  get ageMs(): number {
    return this.metadata.services.clock.monotonic() - this.renewedAt;
  }

  /** Cuts or extends the file: a new epoch from the MRC, then the OSDs, then the size to the MRC. One at a time. */
  async truncate(size: number, signal?: AbortSignal): Promise<void> {
    const run = this.truncating.then(async () => {
      const cap = await this.metadata.ftruncate(this.capability, signal);
      this.use(cap);
      await this.file.truncate(this, size, signal);
    });
    this.truncating = run.catch(() => undefined);
    await run;
  }

  /** Gets a capability that lasts longer, and (`increaseVoucher`) allows a larger file. */
  async renew(increaseVoucher: boolean, signal?: AbortSignal): Promise<void> {
    if (this.renewing !== undefined && !increaseVoucher) {
      await this.renewing;
      return;
    }
    this.renewing = this.metadata
      .renew(this.capability, increaseVoucher, signal)
      .then((cap) => this.useIfNewer(cap))
      .finally(() => (this.renewing = undefined));
    await this.renewing;
  }

  /** Gives back what the MRC has reserved for this handle. Only capabilities with a limit have anything reserved. */
  async finalizeVouchers(): Promise<void> {
    if (this.capability.voucherSize === 0) return;
    await this.file.finalizeVouchers(this);
  }

  private use(cap: XCap): void {
    this.capability = cap;
    this.renewedAt = this.metadata.services.clock.monotonic();
    this.noteVoucher(cap);
  }

  private useIfNewer(cap: XCap): void {
    const old = this.capability;
    const isNewer =
      cap.expireTimeMs > old.expireTimeMs ||
      (cap.expireTimeMs === old.expireTimeMs && cap.voucherSize > old.voucherSize);
    if (isNewer && cap.truncateEpoch >= old.truncateEpoch) this.use(cap);
  }

  private noteVoucher(cap: XCap): void {
    if (cap.voucherSize !== 0) this.expireTimes.add(cap.expireTimeMs);
  }
}

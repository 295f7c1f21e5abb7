import { constants } from 'node:os';
import { type Clock, systemClock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { textToBytes } from '#proto/wire.ts';
import { inHeaderBytes, NotifyCode, Opcode, opcodeNames, outHeaderBytes, pageBytes, uniqueResendHigh } from './abi.ts';
import { BufferPool } from './buffers.ts';
import { ArgumentReader, ReplyWriter } from './codec.ts';
import type { FuseDevice } from './device.ts';
import { errnoFrom, errnoName, FuseError } from './errno.ts';
import type { FuseFileSystem, RequestContext } from './file-system.ts';
import { type Agreement, defaultNegotiation, negotiate, type NegotiationOptions } from './negotiation.ts';
import { type Invocation, type Operation, operations, type Reply } from './operations.ts';

/** How a session ended: `unmounted`, or the connection was aborted from outside. */
export type SessionEnd = 'unmounted' | 'aborted';

export interface FuseSessionInit {
  readonly device: FuseDevice;
  readonly fileSystem: FuseFileSystem;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly negotiation?: Partial<NegotiationOptions>;
  /** What an earlier process of the same connection agreed on: INIT is not sent again. */
  readonly agreement?: Agreement;
  /** Called once INIT is answered. */
  readonly onAgreement?: (agreement: Agreement) => void;
  /** Called before anything is told to the kernel: what a successor must know is kept by then. */
  readonly beforeReply?: () => void;
  /** Requests under way (lock waits not counted); above it none is read. */
  readonly inFlightMax?: number;
  /** How long a request that was interrupted may still take before it is given up. Lock waits end at once. */
  readonly interruptDelayMs?: number;
  /** Lock waits under way; further ones get ENOLCK. */
  readonly waitsMax?: number;
}

class Request implements RequestContext {
  readonly opcode: number;
  readonly nodeId: number;
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  private controller: AbortController | undefined;
  private abortedBy: Error | undefined;

  constructor(bytes: Buffer) {
    this.opcode = bytes.readUInt32LE(4);
    this.uniqueLow = bytes.readUInt32LE(8);
    this.uniqueHigh = bytes.readUInt32LE(12);
    this.nodeId = bytes.readUInt32LE(16) + bytes.readUInt32LE(20) * 0x1_0000_0000;
    this.uid = bytes.readUInt32LE(24);
    this.gid = bytes.readUInt32LE(28);
    this.pid = bytes.readUInt32LE(32);
  }

  get key(): number {
    return requestKey(this.uniqueLow, this.uniqueHigh);
  }

  get isResent(): boolean {
    return this.uniqueHigh >= uniqueResendHigh;
  }

  get signal(): AbortSignal {
    this.controller ??= new AbortController();
    if (this.abortedBy !== undefined) this.controller.abort(this.abortedBy);
    return this.controller.signal;
  }

  abort(reason: Error): void {
    this.abortedBy = reason;
    this.controller?.abort(reason);
  }
}

/** Requests that have no reply. */
const unanswered: ReadonlySet<number> = new Set([
  Opcode.FORGET,
  Opcode.BATCH_FORGET,
  Opcode.INTERRUPT,
  Opcode.NOTIFY_REPLY,
]);

const requestKey = (low: number, high: number): number => low + (high & 0x1f_ffff) * 0x1_0000_0000;

/**
 * Serves one FUSE connection: reads requests, has the file system carry them out, and sends exactly one reply to each
 * (none to FORGET, BATCH_FORGET and INTERRUPT). Never blocks: replies are written at once, the file system's promises
 * are awaited without holding a reader.
 */
export class FuseSession {
  private readonly init: FuseSessionInit;
  private readonly negotiation: NegotiationOptions;
  private readonly pool: BufferPool;
  private readonly writer = new ReplyWriter(outHeaderBytes + 4 * pageBytes);
  private readonly inFlight = new Map<number, Request>();
  private readonly inFlightMax: number;
  private readonly waitsMax: number;
  private waits = 0;
  /** No request is read until one that is under way has ended. */
  private isStalled = false;
  private agreed: Agreement | undefined;
  private end: SessionEnd | undefined;
  private resolveEnd: ((end: SessionEnd) => void) | undefined;

  constructor(init: FuseSessionInit) {
    this.init = init;
    this.negotiation = { ...defaultNegotiation, ...init.negotiation };
    this.agreed = init.agreement;
    this.inFlightMax = init.inFlightMax ?? 512;
    this.waitsMax = init.waitsMax ?? 1024;
    this.pool = new BufferPool(this.negotiation.transferBytes + 2 * pageBytes, 96);
  }

  /** What was agreed on with the kernel; undefined before INIT. */
  get agreement(): Agreement | undefined {
    return this.agreed;
  }

  /** Requests that have no answer yet. */
  get pendingCount(): number {
    return this.inFlight.size;
  }

  /** Serves until the file system is unmounted or the connection aborted. Call it once. */
  async run(): Promise<SessionEnd> {
    const ended = new Promise<SessionEnd>((resolve) => {
      this.resolveEnd = resolve;
    });
    this.park();
    const end = await ended;
    const reason = new FuseError('ENODEV', 'the file system was unmounted');
    for (const request of this.inFlight.values()) request.abort(reason);
    return end;
  }

  /** Asks the kernel to send again every request that was read and not answered (after a predecessor died). */
  resend(): void {
    this.notify(NotifyCode.RESEND, []);
  }

  /**
   * Drops what the kernel holds of an inode: its attributes, and its pages from `offset` on (`length` 0: all of them).
   * A negative offset leaves the pages. An inode that the kernel does not know is no error.
   */
  invalidateInode(nodeId: number, offset = 0, length = 0): void {
    const body = new ReplyWriter(outHeaderBytes + 24);
    body.u64(nodeId);
    body.i64(offset);
    body.i64(length);
    this.notify(NotifyCode.INVAL_INODE, [body.buffer.subarray(outHeaderBytes)]);
  }

  /** Drops a name. Not to be called from within a change of the same directory: the kernel would wait for itself. */
  invalidateEntry(parent: number, name: string): void {
    const encoded = textToBytes(name);
    const body = new ReplyWriter(outHeaderBytes + 16);
    body.u64(parent);
    body.u32(encoded.length);
    body.u32(0);
    this.notify(NotifyCode.INVAL_ENTRY, [body.buffer.subarray(outHeaderBytes), encoded, Buffer.of(0)]);
  }

  private notify(code: number, parts: readonly Buffer[]): void {
    const header = Buffer.alloc(outHeaderBytes);
    header.writeUInt32LE(
      parts.reduce((sum, part) => sum + part.length, outHeaderBytes),
      0,
    );
    header.writeInt32LE(code, 4);
    try {
      this.init.device.write([header, ...parts]);
    } catch (error) {
      const errno = errnoFrom(error);
      if (errno === constants.errno.ENOENT || errno === constants.errno.ENODEV) return;
      this.init.logger.warn('Could not notify the kernel', { code, errno: errnoName(errno) });
    }
  }

  private park(): void {
    if (this.end !== undefined) return;
    const buffer = this.inFlight.size - this.waits >= this.inFlightMax ? undefined : this.pool.take();
    if (buffer === undefined) {
      this.isStalled = true;
      return;
    }
    this.init.device.read(buffer, (error, bytes) => {
      if (error !== null) {
        this.pool.give(buffer);
        this.onReadError(error);
        return;
      }
      if (!this.receive(buffer, bytes)) this.pool.give(buffer);
      this.park();
    });
  }

  /** A request has gone: reading goes on if it stood still for that. */
  private unstall(): void {
    if (!this.isStalled) return;
    this.isStalled = false;
    this.park();
  }

  private onReadError(error: NodeJS.ErrnoException): void {
    const errno = errnoFrom(error);
    const { ENOENT, EINTR, EAGAIN, ECONNABORTED, ENODEV } = constants.errno;
    if (errno === ENOENT || errno === EINTR || errno === EAGAIN) {
      this.park();
      return;
    }
    if (errno !== ENODEV && errno !== ECONNABORTED) {
      this.init.logger.error('Could not read from the FUSE device', { err: error });
    }
    this.finish(errno === ENODEV ? 'unmounted' : 'aborted');
  }

  private finish(end: SessionEnd): void {
    this.end ??= end;
    this.resolveEnd?.(this.end);
  }

  /** @returns true when the buffer stays in use until the answer is there. */
  private receive(buffer: Buffer, bytes: number): boolean {
    if (bytes < inHeaderBytes || buffer.readUInt32LE(0) !== bytes) {
      this.init.logger.error('Dropped a malformed FUSE request', { bytes });
      return false;
    }
    const request = new Request(buffer);
    const args = new ArgumentReader(buffer, bytes);
    const operation = operations.get(request.opcode);
    if (operation === undefined) {
      try {
        this.receiveSpecial(request, args);
      } catch (error) {
        this.init.logger.error('Dropped a malformed FUSE request', {
          opcode: request.opcode,
          reason: describeError(error),
        });
        if (!unanswered.has(request.opcode)) this.fail(request, error);
      }
      return false;
    }
    if (operation.waits === true && this.waits >= this.waitsMax) {
      this.fail(request, new FuseError('ENOLCK', 'too many lock waits'));
      return false;
    }
    const { fileSystem } = this.init;
    return this.carryOut(operation, request, buffer, { fileSystem, context: request, nodeId: request.nodeId, args });
  }

  private carryOut(operation: Operation, request: Request, buffer: Buffer, invocation: Invocation): boolean {
    let value: unknown;
    try {
      value = operation.call(invocation);
    } catch (error) {
      this.fail(request, error);
      return false;
    }
    if (!(value instanceof Promise)) {
      this.answer(operation, request, value, invocation);
      return false;
    }
    const { key } = request;
    this.inFlight.set(key, request);
    if (operation.waits === true) this.waits++;
    const settle = (): void => {
      this.inFlight.delete(key);
      if (operation.waits === true) this.waits--;
      if (operation.keepsBuffer === true) this.pool.give(buffer);
      this.unstall();
    };
    value.then(
      (result: unknown) => {
        this.answer(operation, request, result, invocation);
        settle();
      },
      (error: unknown) => {
        this.fail(request, error);
        settle();
      },
    );
    return operation.keepsBuffer === true;
  }

  private answer(operation: Operation, request: Request, value: unknown, invocation: Invocation): void {
    const { writer } = this;
    let extra: Reply;
    writer.begin();
    try {
      extra = operation.encode(writer, value, invocation);
    } catch (error) {
      this.fail(request, error);
      return;
    }
    if (extra === undefined) {
      writer.finish(0, request.uniqueLow, request.uniqueHigh);
      this.send(request, [writer.buffer.subarray(0, writer.position)]);
      return;
    }
    const extraBytes = extra.reduce((sum, part) => sum + part.length, 0);
    writer.finish(0, request.uniqueLow, request.uniqueHigh, extraBytes);
    this.send(request, [writer.buffer.subarray(0, writer.position), ...extra]);
    operation.sent?.(value);
  }

  private fail(request: Request, error: unknown): void {
    const errno = errnoFrom(error);
    const name = opcodeNames.get(request.opcode) ?? request.opcode;
    if (!(error instanceof FuseError) && errno === constants.errno.EIO) {
      this.init.logger.error('Request failed', {
        operation: name,
        nodeId: request.nodeId,
        reason: describeError(error),
      });
    }
    this.writer.begin();
    this.writer.finish(errno, request.uniqueLow, request.uniqueHigh);
    this.send(request, [this.writer.buffer.subarray(0, outHeaderBytes)]);
  }

  private send(request: Request, parts: readonly Buffer[]): void {
    this.init.beforeReply?.();
    try {
      this.init.device.write(parts);
    } catch (error) {
      const errno = errnoFrom(error);
      if (errno === constants.errno.ENOENT) return;
      if (errno === constants.errno.ENODEV) return;
      const operation = opcodeNames.get(request.opcode) ?? request.opcode;
      this.init.logger.error('The kernel refused a reply', { operation, errno: errnoName(errno) });
      if (parts.length > 1 || (parts[0]?.readInt32LE(4) ?? 0) === 0) this.fail(request, new FuseError('EIO'));
    }
  }

  /** Requests that are about the connection, or have no answer. */
  private receiveSpecial(request: Request, args: ArgumentReader): void {
    switch (request.opcode) {
      case Opcode.FORGET:
        this.init.fileSystem.forget(request.nodeId, args.u64());
        return;
      case Opcode.BATCH_FORGET: {
        const count = args.u32();
        args.skip(4);
        for (let index = 0; index < count; index++) this.init.fileSystem.forget(args.u64(), args.u64());
        return;
      }
      case Opcode.INTERRUPT:
        this.interrupt(request, args.u32(), args.u32());
        return;
      case Opcode.INIT:
        this.initialize(request, args);
        return;
      case Opcode.DESTROY:
        this.writer.begin();
        this.writer.finish(0, request.uniqueLow, request.uniqueHigh);
        this.send(request, [this.writer.buffer.subarray(0, outHeaderBytes)]);
        this.finish('unmounted');
        return;
      case Opcode.NOTIFY_REPLY:
        return;
      default:
        this.fail(request, new FuseError('ENOSYS'));
    }
  }

  /**
   * Aborts the request that the caller no longer waits for. One that is not known may still be on its way from
   * another reader: EAGAIN makes the kernel say it again (and it drops that when the request has been answered).
   */
  private interrupt(request: Request, low: number, high: number): void {
    const interrupted = this.inFlight.get(requestKey(low, high));
    if (interrupted === undefined) this.fail(request, new FuseError('EAGAIN'));
    else this.abortSoon(interrupted);
  }

  /**
   * Any signal to the caller makes an interrupt, also one that it handles; so short requests are let finish. Lock waits
   * end at once, others when they have taken longer than a moment.
   */
  private abortSoon(request: Request): void {
    const reason = new FuseError('EINTR', 'the caller was interrupted');
    if (request.opcode === Opcode.SETLKW) request.abort(reason);
    else
      (this.init.clock ?? systemClock).after(this.init.interruptDelayMs ?? 2000, () => request.abort(reason), {
        unref: true,
      });
  }

  private initialize(request: Request, args: ArgumentReader): void {
    const major = args.u32();
    const minor = args.u32();
    const maxReadahead = args.u32();
    const flags = args.u32();
    const flags2 = args.remaining >= 4 ? args.u32() : 0;
    let agreement: Agreement;
    try {
      agreement = negotiate({ major, minor, maxReadahead, flags, flags2 }, this.negotiation);
    } catch (error) {
      this.init.logger.error('Could not agree with the kernel', { reason: describeError(error) });
      this.fail(request, new FuseError('EPROTO'));
      return;
    }
    this.agreed = agreement;
    const { writer } = this;
    writer.begin();
    writer.u32(major);
    writer.u32(agreement.minor);
    writer.u32(agreement.maxReadahead);
    writer.u32(agreement.flags);
    writer.u16(agreement.maxBackground);
    writer.u16(Math.floor((agreement.maxBackground * 3) / 4));
    writer.u32(agreement.maxWriteBytes);
    writer.u32(agreement.timeGranularityNs);
    writer.u16(agreement.maxPages);
    writer.u16(0);
    writer.u32(agreement.flags2);
    writer.zeros(28);
    writer.finish(0, request.uniqueLow, request.uniqueHigh);
    this.send(request, [writer.buffer.subarray(0, writer.position)]);
    this.init.onAgreement?.(agreement);
  }
}

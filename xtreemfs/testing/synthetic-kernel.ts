import { inHeaderBytes, Opcode, outHeaderBytes } from '#xtreemfs/fuse/abi.ts';
import type { FuseDevice } from '#xtreemfs/fuse/device.ts';

/** A reply as the kernel would see it. */
export interface SyntheticReply {
  /** Positive errno, 0 for success. */
  readonly errno: number;
  readonly body: Buffer;
}

/**
 * Plays the kernel's part of a FUSE connection: hands requests to whoever reads, takes replies, and keeps count. A
 * second reply to a request, or one to a request that was never made, is remembered as a fault.
 */
export class SyntheticKernel implements FuseDevice {
  /** What a session did wrong. */
  readonly faults: string[] = [];
  /** Messages that are no replies, by their code. */
  readonly notices: { readonly code: number; readonly body: Buffer }[] = [];
  private readonly queue: Buffer[] = [];
  private readonly readers: { buffer: Buffer; done: (error: NodeJS.ErrnoException | null, bytes: number) => void }[] =
    [];
  private readonly waiting = new Map<bigint, (reply: SyntheticReply) => void>();
  private readonly answered = new Set<bigint>();
  private unique = 2n;
  private isClosed = false;

  /** Reads that wait. */
  get parkedReaders(): number {
    return this.readers.length;
  }

  read(buffer: Buffer, done: (error: NodeJS.ErrnoException | null, bytes: number) => void): void {
    this.readers.push({ buffer, done });
    this.deliver();
  }

  write(parts: readonly Buffer[]): void {
    const bytes = Buffer.concat(parts);
    if (bytes.readUInt32LE(0) !== bytes.length)
      this.faults.push(`a reply of ${bytes.length} bytes names another length`);
    const unique = bytes.readBigUInt64LE(8);
    const body = Buffer.from(bytes.subarray(outHeaderBytes));
    if (unique === 0n) {
      this.notices.push({ code: bytes.readInt32LE(4), body });
      return;
    }
    const resolve = this.waiting.get(unique);
    if (resolve === undefined) {
      this.faults.push(
        this.answered.has(unique) ? `request ${unique} was answered twice` : `${unique} was never asked`,
      );
      return;
    }
    this.waiting.delete(unique);
    this.answered.add(unique);
    resolve({ errno: Math.abs(bytes.readInt32LE(4)), body });
  }

  /** Sends a request and waits for its reply. */
  async ask(opcode: number, nodeId: number, args: Buffer = Buffer.alloc(0), flags = 0n): Promise<SyntheticReply> {
    const { reply } = this.start(opcode, nodeId, args, flags);
    return await reply;
  }

  /** Sends a request; gives its number, so that it can be interrupted. */
  start(opcode: number, nodeId: number, args: Buffer, flags = 0n): { unique: bigint; reply: Promise<SyntheticReply> } {
    const unique = this.unique | flags;
    this.unique += 2n;
    const reply = new Promise<SyntheticReply>((resolve) => this.waiting.set(unique, resolve));
    this.push(opcode, unique, nodeId, args);
    return { unique, reply };
  }

  /** Sends a request that has no reply (FORGET). */
  tell(opcode: number, nodeId: number, args: Buffer): void {
    this.push(opcode, this.unique, nodeId, args);
    this.unique += 2n;
  }

  /** Interrupts a request. An answer to the interrupt itself is expected only when it has to be said again. */
  interrupt(unique: bigint): Promise<SyntheticReply> {
    const args = Buffer.alloc(8);
    args.writeBigUInt64LE(unique);
    const reply = new Promise<SyntheticReply>((resolve) => this.waiting.set(unique | 1n, resolve));
    this.push(Opcode.INTERRUPT, unique | 1n, 0, args);
    return reply;
  }

  /** Puts raw bytes before the session, as a request. */
  raw(bytes: Buffer): void {
    this.queue.push(bytes);
    this.deliver();
  }

  /** The file system is unmounted: every read ends with ENODEV. */
  close(): void {
    this.isClosed = true;
    this.deliver();
  }

  private push(opcode: number, unique: bigint, nodeId: number, args: Buffer): void {
    const request = Buffer.alloc(inHeaderBytes + args.length);
    request.writeUInt32LE(request.length, 0);
    request.writeUInt32LE(opcode, 4);
    request.writeBigUInt64LE(unique, 8);
    request.writeBigUInt64LE(BigInt(nodeId), 16);
    args.copy(request, inHeaderBytes);
    this.raw(request);
  }

  private deliver(): void {
    while (this.readers.length > 0 && (this.queue.length > 0 || this.isClosed)) {
      const reader = this.readers.shift();
      const request = this.queue.shift();
      queueMicrotask(() => {
        if (request === undefined) {
          reader?.done(Object.assign(new Error('no such device'), { errno: -19, code: 'ENODEV' }), 0);
          return;
        }
        if (reader !== undefined) reader.done(null, request.copy(reader.buffer));
      });
    }
  }
}

/** INIT's arguments as Linux 6.18 sends them. */
export function initArguments(minor = 45): Buffer {
  const args = Buffer.alloc(64);
  args.writeUInt32LE(7, 0);
  args.writeUInt32LE(minor, 4);
  args.writeUInt32LE(131_072, 8);
  args.writeUInt32LE(0x73ff_fffb, 12);
  args.writeUInt32LE(0x3ff, 16);
  return args;
}

/** A name as requests carry it. */
export const nameArgument = (...names: readonly string[]): Buffer =>
  Buffer.from(names.map((name) => `${name}\0`).join(''));

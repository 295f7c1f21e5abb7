import { writeSync, writevSync } from 'node:fs';
import { Socket } from 'node:net';

/** The kernel's side of a FUSE connection. */
export interface FuseDevice {
  /**
   * Reads one request into `buffer`; one read at a time.
   * @param done - gets the size of the request, or a system error: ENODEV and ECONNABORTED mean the end.
   */
  read(buffer: Buffer, done: (error: NodeJS.ErrnoException | null, bytes: number) => void): void;
  /**
   * Sends one reply or notice, whole; it never waits.
   * @throws a system error: ENOENT when nobody waits for the reply any more, ENODEV when the connection has ended.
   */
  write(parts: readonly Buffer[]): void;
}

interface PendingRead {
  readonly buffer: Buffer;
  readonly done: (error: NodeJS.ErrnoException | null, bytes: number) => void;
}

const noBuffer = Buffer.alloc(1);

/** What is used of libuv's pipe handle. */
interface PipeHandle {
  open(descriptor: number): number;
  /** Where the next read goes. */
  useUserBuffer(buffer: Buffer): void;
}

/**
 * A connection over an open descriptor of `/dev/fuse`, which the event loop polls like a socket: a request wakes one
 * thread instead of two, as reads in libuv's thread pool do (ADR 0070). Node has no public name for that, hence the
 * binding. The descriptor becomes non-blocking, also for other processes that hold it.
 */
export class DescriptorDevice implements FuseDevice {
  private readonly descriptor: number;
  private readonly handle: PipeHandle;
  private readonly socket: Socket;
  private pending: PendingRead | undefined;
  private failure: NodeJS.ErrnoException | undefined;
  private isPolling = false;
  /** Node calls, and asks for the next buffer itself when it is told to go on. */
  private isReceiving = false;

  constructor(descriptor: number) {
    this.descriptor = descriptor;
    this.handle = openPipe(descriptor);
    const options = {
      handle: this.handle,
      manualStart: true,
      // After each request Node asks for the buffer of the next one; while nobody reads it is not written to.
      onread: {
        buffer: () => this.pending?.buffer ?? noBuffer,
        callback: (bytes: number) => this.received(bytes),
      },
    };
    // `handle` and `manualStart` are how Node itself makes sockets of handles; its types leave them out.
    this.socket = new Socket(options as unknown as ConstructorParameters<typeof Socket>[0]);
    this.socket.on('error', (error: NodeJS.ErrnoException) => this.ended(error));
    this.socket.on('close', () => this.ended(Object.assign(new Error('the device was closed'), { code: 'ENODEV' })));
  }

  read(buffer: Buffer, done: PendingRead['done']): void {
    const { failure } = this;
    if (failure !== undefined) {
      process.nextTick(() => done(failure, 0));
      return;
    }
    this.pending = { buffer, done };
    this.isPolling = true;
    if (this.isReceiving) return;
    this.handle.useUserBuffer(buffer);
    this.socket.resume();
  }

  write(parts: readonly Buffer[]): void {
    const [first] = parts;
    if (parts.length === 1 && first !== undefined) writeSync(this.descriptor, first);
    else writevSync(this.descriptor, parts);
  }

  /** @returns whether to go on reading. */
  private received(bytes: number): boolean {
    const read = this.pending;
    this.pending = undefined;
    this.isPolling = false;
    this.isReceiving = true;
    read?.done(null, bytes);
    this.isReceiving = false;
    return this.isPolling;
  }

  private ended(error: NodeJS.ErrnoException): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    const read = this.pending;
    this.pending = undefined;
    read?.done(error, 0);
  }
}

function openPipe(descriptor: number): PipeHandle {
  const { Pipe, constants } = bindingOf('pipe_wrap') as {
    Pipe: new (type: number) => PipeHandle;
    constants: { SOCKET: number };
  };
  const pipe = new Pipe(constants.SOCKET);
  const status = pipe.open(descriptor);
  if (status !== 0) throw new Error(`descriptor ${descriptor} of the FUSE device can't be polled (libuv ${status})`);
  return pipe;
}

function bindingOf(name: string): unknown {
  const { binding } = process as unknown as { binding: (name: string) => unknown };
  return binding.call(process, name);
}

import { read, writeSync, writevSync } from 'node:fs';

/** The kernel's side of a FUSE connection. */
export interface FuseDevice {
  /**
   * Reads one request into `buffer`; may be called again before the first call is done.
   * @param done - gets the size of the request, or a system error: ENODEV and ECONNABORTED mean the end.
   */
  read(buffer: Buffer, done: (error: NodeJS.ErrnoException | null, bytes: number) => void): void;
  /**
   * Sends one reply or notice, whole; it never waits.
   * @throws a system error: ENOENT when nobody waits for the reply any more, ENODEV when the connection has ended.
   */
  write(parts: readonly Buffer[]): void;
}

/** A connection over an open descriptor of `/dev/fuse`. Each read that waits holds a thread of libuv's pool. */
export class DescriptorDevice implements FuseDevice {
  private readonly descriptor: number;

  constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  read(buffer: Buffer, done: (error: NodeJS.ErrnoException | null, bytes: number) => void): void {
    read(this.descriptor, buffer, 0, buffer.length, null, done);
  }

  write(parts: readonly Buffer[]): void {
    const [first] = parts;
    if (parts.length === 1 && first !== undefined) writeSync(this.descriptor, first);
    else writevSync(this.descriptor, parts);
  }
}

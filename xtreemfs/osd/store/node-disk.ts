import fs from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Disk, DiskFile, DiskSpace } from './disk.ts';
import { Gate } from './gate.ts';

const open = promisify(fs.open);
const close = promisify(fs.close);
const fstat = promisify(fs.fstat);
const fsync = promisify(fs.fsync);
const fdatasync = promisify(fs.fdatasync);
const ftruncate = promisify(fs.ftruncate);
const rename = promisify(fs.rename);
const unlink = promisify(fs.unlink);
const mkdir = promisify(fs.mkdir);
const readdir = promisify(fs.readdir);
const statfs = promisify(fs.statfs);

/** Linux takes at most 1024 parts in one writev. */
const iovMax = 1024;

/**
 * A directory of the machine's file system. At most `concurrencyMax` calls are in libuv's thread pool at a time; the
 * rest wait here in order. The pool has 4 threads unless `UV_THREADPOOL_SIZE` is set before the process starts.
 */
export class NodeDisk implements Disk {
  private readonly root: string;
  private readonly gate: Gate;

  constructor(root: string, options: { concurrencyMax?: number } = {}) {
    this.root = root;
    this.gate = new Gate(options.concurrencyMax ?? 32);
  }

  async open(path: string, how: 'existing' | 'create'): Promise<DiskFile> {
    const flags =
      fs.constants.O_RDWR |
      fs.constants.O_NOFOLLOW |
      (how === 'create' ? fs.constants.O_CREAT | fs.constants.O_EXCL : 0);
    const fd = await this.gate.run(() => open(join(this.root, path), flags, 0o600));
    return new NodeFile(fd, this.gate);
  }

  unlink(path: string): Promise<void> {
    return this.gate.run(() => unlink(join(this.root, path)));
  }

  rename(from: string, to: string): Promise<void> {
    return this.gate.run(() => rename(join(this.root, from), join(this.root, to)));
  }

  async makeDirectory(path: string): Promise<void> {
    await this.gate.run(() => mkdir(join(this.root, path), { recursive: true, mode: 0o700 }));
  }

  list(path: string): Promise<string[]> {
    return this.gate.run(() => readdir(join(this.root, path)));
  }

  async syncDirectory(path: string): Promise<void> {
    await this.gate.run(async () => {
      const fd = await open(join(this.root, path), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
      try {
        await fsync(fd);
      } finally {
        await close(fd);
      }
    });
  }

  async space(): Promise<DiskSpace> {
    const stat = await this.gate.run(() => statfs(this.root));
    return {
      totalBytes: stat.blocks * stat.bsize,
      freeBytes: stat.bfree * stat.bsize,
      usableBytes: stat.bavail * stat.bsize,
    };
  }
}

class NodeFile implements DiskFile {
  private readonly fd: number;
  private readonly gate: Gate;

  constructor(fd: number, gate: Gate) {
    this.fd = fd;
    this.gate = gate;
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    let at = position;
    for (let start = 0; start < buffers.length; start += iovMax) {
      const part = buffers.length <= iovMax ? buffers : buffers.slice(start, start + iovMax);
      at += await this.gate.run(() => this.writeAll(part, at));
    }
  }

  read(into: Uint8Array, position: number): Promise<number> {
    return this.gate.run(async () => {
      let got = 0;
      while (got < into.length) {
        const more = await this.readSome(into, got, position + got);
        if (more === 0) break;
        got += more;
      }
      return got;
    });
  }

  sync(): Promise<void> {
    return this.gate.run(() => fdatasync(this.fd));
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.gate.run(() => ftruncate(this.fd, sizeBytes));
  }

  async sizeBytes(): Promise<number> {
    return (await this.gate.run(() => fstat(this.fd))).size;
  }

  close(): Promise<void> {
    return this.gate.run(() => close(this.fd));
  }

  private async writeAll(buffers: readonly Uint8Array[], position: number): Promise<number> {
    let total = 0;
    for (const buffer of buffers) total += buffer.length;
    let done = await this.writeSome(buffers, position);
    while (done < total) done += await this.writeSome(rest(buffers, done), position + done);
    return total;
  }

  private writeSome(buffers: readonly Uint8Array[], position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.writev(this.fd, buffers, position, (error, written) => {
        if (error === null) resolve(written);
        else reject(error);
      });
    });
  }

  private readSome(into: Uint8Array, from: number, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.fd, into, from, into.length - from, position, (error, got) => {
        if (error === null) resolve(got);
        else reject(error);
      });
    });
  }
}

/** What is left of `buffers` after their first `skip` bytes. */
function rest(buffers: readonly Uint8Array[], skip: number): Uint8Array[] {
  const left: Uint8Array[] = [];
  let passed = 0;
  for (const buffer of buffers) {
    if (passed + buffer.length > skip) left.push(buffer.subarray(Math.max(0, skip - passed)));
    passed += buffer.length;
  }
  return left;
}

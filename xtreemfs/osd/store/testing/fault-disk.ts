import type { Random } from '#common/random.ts';
import type { Disk, DiskFile, DiskSpace } from '../disk.ts';

/** How much of what was not synced a power loss leaves on disk. */
export type PowerLoss = 'nothing' | 'some' | 'everything';

const sectorBytes = 512;

interface Inode {
  /** What reads see. */
  bytes: Buffer;
  size: number;
  /** What the platter holds. */
  durable: Buffer;
  /** Sectors that differ from the platter, and whether the size does. */
  dirtySectors: Set<number>;
}

interface NameChange {
  readonly directory: string;
  readonly undo: () => void;
  readonly isApplied: () => boolean;
}

class DiskError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

/**
 * A disk in memory that misbehaves on request: it forgets what was not synced (all of it, or random sectors and names),
 * dies in the middle of a write, runs full, fails calls with EIO, and flips bits. Deterministic for one Random.
 */
export class FaultDisk {
  private readonly random: Random;
  private names = new Map<string, Inode>();
  private readonly directories = new Set<string>(['.']);
  private nameChanges: NameChange[] = [];
  private generation = 0;
  /** Bytes that may still be written to new sectors. */
  freeBytes = Number.MAX_SAFE_INTEGER;
  /** Calls until power fails; the call at which it reaches 0 is done in part. Negative: never. */
  callsUntilCrash = -1;
  /** Chance that a write or sync fails with EIO. */
  failureChance = 0;
  /** Calls done. */
  calls = 0;
  syncs = 0;

  constructor(random: Random) {
    this.random = random;
  }

  /** Whether power has failed; every call fails until `restart`. */
  isDown(): boolean {
    return this.callsUntilCrash === 0;
  }

  /** Power comes back; what was not synced is there as `loss` says. Handles from before are dead. */
  restart(loss: PowerLoss): void {
    this.generation++;
    this.callsUntilCrash = -1;
    this.failureChance = 0;
    if (loss !== 'everything') this.losePower(loss);
    this.nameChanges = [];
    for (const inode of this.names.values()) this.settle(inode);
  }

  /** Flips one random bit in one of the files whose path matches. @returns where, undefined when none matches. */
  flipBit(pattern: RegExp): { path: string; position: number } | undefined {
    const candidates = [...this.names].filter(([path, inode]) => pattern.test(path) && inode.size > 0);
    const chosen = candidates[this.random.int(Math.max(1, candidates.length))];
    if (chosen === undefined) return undefined;
    const [path, inode] = chosen;
    const position = this.random.int(inode.size);
    inode.bytes[position] = (inode.bytes[position] ?? 0) ^ (1 << this.random.int(8));
    this.settle(inode);
    return { path, position };
  }

  /** Paths of all files. */
  get paths(): string[] {
    return [...this.names.keys()];
  }

  /** The disk as one life of a process sees it: all its calls fail after the next `restart`. */
  mount(): Disk {
    const { generation } = this;
    return {
      open: (path, how) => this.open(generation, path, how),
      unlink: (path) => this.unlink(generation, path),
      rename: (from, to) => this.rename(generation, from, to),
      makeDirectory: (path) => this.makeDirectory(generation, path),
      list: (path) => this.list(generation, path),
      syncDirectory: (path) => this.syncDirectory(generation, path),
      space: () => this.space(generation),
    };
  }

  private async open(generation: number, path: string, how: 'existing' | 'create'): Promise<DiskFile> {
    await this.enter(false, generation);
    let inode = this.names.get(path);
    if (how === 'create') {
      if (inode !== undefined) throw new DiskError('EEXIST', path);
      inode = { bytes: Buffer.alloc(0), size: 0, durable: Buffer.alloc(0), dirtySectors: new Set() };
      this.setName(path, inode);
    }
    if (inode === undefined) throw new DiskError('ENOENT', path);
    return this.handle(inode, generation);
  }

  private async unlink(generation: number, path: string): Promise<void> {
    await this.enter(false, generation);
    const inode = this.names.get(path);
    if (inode === undefined) throw new DiskError('ENOENT', path);
    this.freeBytes += inode.size;
    this.setName(path, undefined);
  }

  private async rename(generation: number, from: string, to: string): Promise<void> {
    await this.enter(false, generation);
    const inode = this.names.get(from);
    if (inode === undefined) throw new DiskError('ENOENT', from);
    const before = this.names.get(to);
    this.names.delete(from);
    this.names.set(to, inode);
    this.nameChanges.push({
      directory: directoryOf(to),
      undo: () => {
        this.names.set(from, inode);
        if (before === undefined) this.names.delete(to);
        else this.names.set(to, before);
      },
      isApplied: () => this.names.get(to) === inode && !this.names.has(from),
    });
  }

  private async makeDirectory(generation: number, path: string): Promise<void> {
    await this.enter(false, generation);
    this.directories.add(path);
  }

  private async list(generation: number, path: string): Promise<string[]> {
    await this.enter(false, generation);
    if (!this.directories.has(path)) throw new DiskError('ENOENT', path);
    const names = [...this.names.keys()].filter((name) => directoryOf(name) === path);
    const below = path === '.' ? [...this.directories].filter((name) => name !== '.') : [];
    return [...names.map((name) => name.slice(name.lastIndexOf('/') + 1)), ...below];
  }

  private async syncDirectory(generation: number, path: string): Promise<void> {
    await this.enter(true, generation);
    this.syncs++;
    this.nameChanges = this.nameChanges.filter((change) => change.directory !== path);
  }

  private async space(generation: number): Promise<DiskSpace> {
    await this.enter(false, generation);
    let used = 0;
    for (const inode of this.names.values()) used += inode.size;
    return { totalBytes: used + this.freeBytes, freeBytes: this.freeBytes, usableBytes: this.freeBytes };
  }

  /** Every call passes here: time goes by, power may fail, the call may fail. */
  private async enter(mayFail: boolean, generation: number): Promise<void> {
    this.calls++;
    await Promise.resolve();
    if (generation !== this.generation) throw new DiskError('EIO', 'the handle is from before the power loss');
    if (this.isDown()) throw new DiskError('EIO', 'power is off');
    if (this.callsUntilCrash > 0) {
      this.callsUntilCrash--;
      if (this.isDown() && !mayFail) throw new DiskError('EIO', 'power failed');
    }
    if (mayFail && !this.isDown() && this.failureChance > 0 && this.random.next() < this.failureChance) {
      throw new DiskError('EIO', 'injected');
    }
  }

  private handle(inode: Inode, generation: number): DiskFile {
    return {
      write: async (buffers, position) => {
        await this.enter(true, generation);
        const data = Buffer.concat(buffers);
        if (this.isDown()) {
          this.put(inode, data.subarray(0, this.random.int(data.length + 1)), position);
          throw new DiskError('EIO', 'power failed in the middle of a write');
        }
        const growth = Math.max(0, position + data.length - inode.size);
        if (growth > this.freeBytes) {
          this.put(inode, data.subarray(0, Math.max(0, data.length - growth)), position);
          throw new DiskError('ENOSPC', 'no space left');
        }
        this.put(inode, data, position);
      },
      read: async (into, position) => {
        await this.enter(false, generation);
        if (position >= inode.size) return 0;
        return inode.bytes.copy(into, 0, position, Math.min(inode.size, position + into.length));
      },
      sync: async () => {
        await this.enter(true, generation);
        if (this.isDown()) throw new DiskError('EIO', 'power failed in a sync');
        this.syncs++;
        this.settle(inode);
      },
      truncate: async (sizeBytes) => {
        await this.enter(false, generation);
        this.freeBytes += Math.max(0, inode.size - sizeBytes);
        for (let at = sizeBytes; at < inode.size; at += sectorBytes) this.touch(inode, at);
        inode.bytes.fill(0, Math.min(sizeBytes, inode.bytes.length));
        inode.size = Math.min(inode.size, sizeBytes);
        this.touch(inode, sizeBytes);
      },
      sizeBytes: async () => {
        await this.enter(false, generation);
        return inode.size;
      },
      close: async () => Promise.resolve(),
    };
  }

  private put(inode: Inode, data: Buffer, position: number): void {
    const end = position + data.length;
    if (end > inode.bytes.length) {
      const grown = Buffer.alloc(Math.max(end, inode.bytes.length * 2));
      inode.bytes.copy(grown);
      inode.bytes = grown;
    }
    data.copy(inode.bytes, position);
    this.freeBytes -= Math.max(0, end - inode.size);
    inode.size = Math.max(inode.size, end);
    for (let at = position; at < end; at += sectorBytes) this.touch(inode, at);
    if (data.length > 0) this.touch(inode, end - 1);
  }

  private touch(inode: Inode, position: number): void {
    inode.dirtySectors.add(Math.floor(position / sectorBytes));
  }

  private settle(inode: Inode): void {
    inode.durable = Buffer.from(inode.bytes.subarray(0, inode.size));
    inode.dirtySectors.clear();
  }

  private setName(path: string, inode: Inode | undefined): void {
    const before = this.names.get(path);
    const put = (value: Inode | undefined): void => {
      if (value === undefined) this.names.delete(path);
      else this.names.set(path, value);
    };
    put(inode);
    this.nameChanges.push({
      directory: directoryOf(path),
      undo: () => put(before),
      isApplied: () => this.names.get(path) === inode,
    });
  }

  private losePower(loss: PowerLoss): void {
    const keep = (): boolean => loss === 'some' && this.random.next() < 0.5;
    for (const change of this.nameChanges.reverse()) if (!keep() && change.isApplied()) change.undo();
    for (const inode of this.names.values()) {
      const size = keep() ? inode.size : inode.durable.length;
      const after = Buffer.alloc(size);
      inode.durable.copy(after);
      for (const sector of inode.dirtySectors) {
        if (!keep()) continue;
        const at = sector * sectorBytes;
        inode.bytes.copy(after, at, at, Math.min(at + sectorBytes, inode.size));
      }
      inode.bytes = after;
      inode.size = size;
    }
  }
}

function directoryOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash === -1 ? '.' : path.slice(0, slash);
}

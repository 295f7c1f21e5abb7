import { inParallel } from '#common/parallel.ts';
import { type FileCredentials, SystemVFcntl } from '#proto/generated/xtreemfs/global-types.ts';
import { type DirectoryEntry, Setattrs, type Stat } from '#proto/generated/xtreemfs/mrc.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { isErrno } from '../rpc/errors.ts';
import { removeObjects } from './erase.ts';
import type { Caller, MetadataClient } from './metadata.ts';
import { FileHandle, OpenFile } from './open-file.ts';

/** Entries asked for at once. */
const pageSize = 256;
/** Files of a directory that are copied at a time. */
const filesAtOnce = 4;
/** Bytes moved at a time. */
const pieceBytes = 2 ** 20;
const zeros = Buffer.alloc(pieceBytes);
/** Capabilities are renewed after this. */
const renewMs = 60_000;
const typeBits = 0o170_000;
const types = { directory: 0o040_000, regular: 0o100_000, symlink: 0o120_000 } as const;
const ownerAndTimes = Setattrs.UID | Setattrs.GID | Setattrs.ATIME | Setattrs.MTIME;
const everything = ownerAndTimes | Setattrs.MODE;
/** Bits of `Stat.acls`, and the attribute of each list. */
const lists = [
  [1, 'xtreemfs.acl'],
  [2, 'xtreemfs.default_acl'],
] as const;

/** How far a copy is. */
export interface CopyProgress {
  readonly files: number;
  readonly bytes: number;
}

/** What is copied where. */
export interface TreeCopyOptions {
  /** A volume that nobody changes meanwhile: a snapshot. */
  readonly from: MetadataClient;
  /** A volume that nobody else uses yet. */
  readonly to: MetadataClient;
  /** Somebody who may do everything. */
  readonly caller: Caller;
  readonly report: (progress: CopyProgress) => void;
}

/**
 * Copies a whole volume with owners, permissions, times, lists, attributes, links and holes. May be stopped and repeated: a file gets the time
 * of its source when all of it is durable, and one that has that time and size is not copied again.
 * @throws {RpcError} when a server can not be reached or refuses.
 */
export async function copyVolume(options: TreeCopyOptions): Promise<void> {
  const copy = new TreeCopy(options);
  await copy.directory('');
}

class TreeCopy {
  private readonly options: TreeCopyOptions;
  private progress: CopyProgress = { files: 0, bytes: 0 };
  /** Where a file with several names was put first. */
  private readonly firstNames = new Map<number, Promise<string>>();

  constructor(options: TreeCopyOptions) {
    this.options = options;
  }

  async directory(path: string): Promise<void> {
    const { from, caller } = this.options;
    for (let seen = 0; ;) {
      caller.signal?.throwIfAborted();
      const page = await from.readdir(caller, path, seen, pageSize, false);
      const entries = page.filter(({ name }) => name !== '.' && name !== '..');
      const isFolder = ({ stbuf }: DirectoryEntry): boolean => typeOf(stbuf) === types.directory;
      await inParallel(
        entries.filter((entry) => !isFolder(entry)),
        filesAtOnce,
        async ({ name, stbuf }) => this.object(join(path, name), stbuf),
      );
      for (const { name } of entries.filter(isFolder)) {
        await this.made(async () => this.options.to.mkdir(caller, join(path, name), { mode: 0o700 }));
        await this.directory(join(path, name));
      }
      seen += page.length;
      if (page.length < pageSize) break;
    }
    await this.attributes(path, await from.getattr(caller, path));
  }

  private async object(path: string, stat: Stat | undefined): Promise<void> {
    const { from, to, caller } = this.options;
    caller.signal?.throwIfAborted();
    if (stat === undefined) return this.object(path, await from.getattr(caller, path));
    if (typeOf(stat) === types.symlink) {
      const target = await from.readlink(caller, path);
      await this.made(async () => to.symlink(caller, target, path));
      await to.setattr(caller, path, stat, ownerAndTimes);
    } else if (stat.nlink > 1) {
      await this.linked(path, stat);
    } else {
      await this.file(path, stat);
    }
    this.progress = { ...this.progress, files: this.progress.files + 1 };
    this.options.report(this.progress);
  }

  /** The first name of a file is copied, others are links to it. */
  private async linked(path: string, stat: Stat): Promise<void> {
    const { to, caller } = this.options;
    const first = this.firstNames.get(stat.ino);
    if (first === undefined) {
      const copying = this.file(path, stat).then(() => path);
      this.firstNames.set(stat.ino, copying);
      await copying;
      return;
    }
    const name = await first;
    await this.made(async () => to.link(caller, name, path));
  }

  private async file(path: string, stat: Stat): Promise<void> {
    if (await this.isThere(path, stat)) {
      this.count(stat.size);
      return;
    }
    const { to, caller } = this.options;
    if (typeOf(stat) === types.regular) {
      await this.contents(path, stat);
    } else {
      const mode = { mode: (stat.mode & typeBits) | 0o600 };
      await to.open(caller, path, SystemVFcntl.O_CREAT | SystemVFcntl.O_RDWR, mode, stat.attributes ?? 0);
    }
    await this.attributes(path, stat);
  }

  /** Whether an earlier try has copied the file; what it left half-done is taken away. */
  private async isThere(path: string, { size, mtimeNs }: Stat): Promise<boolean> {
    const { to, caller } = this.options;
    try {
      const found = await to.getattr(caller, path);
      if (found.size === size && found.mtimeNs === mtimeNs) return true;
    } catch (error) {
      if (!isErrno(error, PosixErrno.ENOENT)) throw error;
      return false;
    }
    const { creds } = await to.unlink(caller, path, true);
    if (creds !== undefined) await removeObjects(to, caller, creds);
    return false;
  }

  private async contents(path: string, stat: Stat): Promise<void> {
    const { to, caller } = this.options;
    const flags = SystemVFcntl.O_CREAT | SystemVFcntl.O_EXCL | SystemVFcntl.O_RDWR;
    const { creds } = await to.open(caller, path, flags, { mode: 0o600 });
    const target = handleOf(to, creds);
    try {
      if (stat.size > 0) await this.bytes(path, stat.size, target);
      await target.file.sync(target, caller.signal);
    } finally {
      await target.file.tellSize(target, true, caller.signal);
      await target.finalizeVouchers();
    }
  }

  private async bytes(path: string, size: number, target: FileHandle): Promise<void> {
    const { from, caller } = this.options;
    const { signal } = caller;
    const source = handleOf(from, (await from.open(caller, path, SystemVFcntl.O_RDONLY, { mode: 0 })).creds);
    let written = 0;
    for (let offset = 0; offset < size; offset += pieceBytes) {
      signal?.throwIfAborted();
      for (const handle of [source, target]) if (handle.ageMs > renewMs) await handle.renew(false, signal);
      const read = await source.file.read(source, offset, Math.min(pieceBytes, size - offset), signal);
      const bytes = Buffer.concat(read.parts);
      read.done();
      // A hole stays one.
      if (!bytes.equals(zeros.subarray(0, bytes.length))) {
        await target.file.write(target, offset, bytes, signal);
        written = offset + bytes.length;
      }
      this.count(Math.min(pieceBytes, size - offset));
    }
    if (written < size) await target.truncate(size, signal);
  }

  /** What makes the copy look like its source; the time comes last. */
  private async attributes(path: string, stat: Stat): Promise<void> {
    const { from, to, caller } = this.options;
    for (const { name, value, valueBytesString } of await from.listxattr(caller, path, false)) {
      if (name.startsWith('xtreemfs.')) continue;
      await to.setxattr(caller, path, name, Buffer.from(valueBytesString ?? value ?? ''), 0);
    }
    await to.setattr(caller, path, stat, everything & ~Setattrs.ATIME & ~Setattrs.MTIME);
    for (const [bit, name] of lists) {
      if (((stat.acls ?? 0) & bit) === 0) continue;
      const list = await from.getxattr(caller, path, name);
      await to.setxattr(caller, path, name, Buffer.concat([Buffer.from('s '), list]), 0);
    }
    await to.setattr(caller, path, stat, Setattrs.ATIME | Setattrs.MTIME);
  }

  /** Something that an earlier try may have made. */
  private async made(make: () => Promise<unknown>): Promise<void> {
    try {
      await make();
    } catch (error) {
      if (!isErrno(error, PosixErrno.EEXIST)) throw error;
    }
  }

  private count(bytes: number): void {
    this.progress = { ...this.progress, bytes: this.progress.bytes + bytes };
    this.options.report(this.progress);
  }
}

function handleOf(metadata: MetadataClient, creds: FileCredentials): FileHandle {
  return new FileHandle(metadata, new OpenFile(metadata, { cap: creds.xcap, xlocs: creds.xlocs }), creds.xcap);
}

const typeOf = (stat: Stat | undefined): number => (stat?.mode ?? 0) & typeBits;
const join = (folder: string, name: string): string => (folder === '' ? name : `${folder}/${name}`);

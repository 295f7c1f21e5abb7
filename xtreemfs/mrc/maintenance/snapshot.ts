import { aclKey, attributesPrefix, entriesPrefix, inodeKey } from '../core/keys.ts';
import type { Inode } from '../core/records.ts';
import {
  decodeEntry,
  decodeInode,
  encodeEntry,
  encodeInode,
  fileType,
  inodeFlags,
  isDirectory,
} from '../core/records.ts';
import { rootIno } from '../core/volume.ts';
import type { Engine } from '../engine.ts';
import { systemCaller } from '../engine.ts';
import type { Key, KvReader } from '../store/kv.ts';

/** Which tree is copied where. */
export interface CopyRequest {
  /** Numbers of the volume and of its snapshot. */
  readonly from: number;
  readonly to: number;
  /** The directory whose tree is wanted; the directories above it are kept, with nothing else in them. */
  readonly ino: number;
  readonly isRecursive: boolean;
}

const pageEntries = 500;
/** Bytes after which a batch is written; one object's attributes may still come on top. */
const batchBytesMax = 1024 * 1024;

/**
 * Copies the records of a tree from a frozen view into the records of a snapshot. Numbers stay the same: files of the
 * snapshot share their objects with the volume.
 * @returns how many records were written.
 */
export async function copyTree(engine: Engine, view: KvReader, request: CopyRequest): Promise<number> {
  const copy = new Copy(engine, view, request);
  await copy.ancestors();
  await copy.tree();
  return copy.count;
}

class Copy {
  private readonly engine: Engine;
  private readonly view: KvReader;
  private readonly request: CopyRequest;
  private batch = new Map<Key, Uint8Array>();
  private batchBytes = 0;
  count = 0;

  constructor(engine: Engine, view: KvReader, request: CopyRequest) {
    this.engine = engine;
    this.view = view;
    this.request = request;
  }

  /** The way from the root down to the wanted directory. */
  async ancestors(): Promise<void> {
    let inode = this.inode(this.request.ino);
    while (inode !== undefined && inode.ino !== rootIno) {
      const parent = this.inode(inode.parent);
      if (parent === undefined) return;
      this.putInode(parent, 2 + (isDirectory(inode) ? 1 : 0));
      const name = this.nameOf(parent.ino, inode.ino);
      if (name !== undefined) {
        this.put(
          entriesPrefix(this.request.to, parent.ino) + name,
          encodeEntry({ ino: inode.ino, type: inode.mode & fileType.mask }),
        );
      }
      inode = parent;
    }
    await this.flush();
  }

  async tree(): Promise<void> {
    const pending = [this.request.ino];
    for (let ino = pending.pop(); ino !== undefined; ino = pending.pop()) {
      const directory = this.inode(ino);
      if (directory === undefined) continue;
      this.putInode(directory, this.request.isRecursive ? directory.nlink : 2);
      await this.children(directory, pending);
    }
    await this.flush();
  }

  private async children(directory: Inode, pending: number[]): Promise<void> {
    const prefix = entriesPrefix(this.request.from, directory.ino);
    let after: Key | undefined;
    for (;;) {
      const page = this.view.scan({ prefix, limit: pageEntries, ...(after === undefined ? {} : { after }) });
      for (const { key, value } of page) {
        const entry = decodeEntry(value);
        const isSub = entry.type === fileType.directory;
        if (isSub && !this.request.isRecursive) continue;
        this.put(entriesPrefix(this.request.to, directory.ino) + key.slice(prefix.length), value);
        if (isSub) pending.push(entry.ino);
        else {
          const inode = this.inode(entry.ino);
          if (inode !== undefined) this.putInode(inode, inode.nlink);
        }
        if (this.batchBytes > batchBytesMax) await this.flush();
      }
      await this.flush();
      after = page.at(-1)?.key;
      if (page.length < pageEntries) return;
    }
  }

  private nameOf(parent: number, child: number): Key | undefined {
    const prefix = entriesPrefix(this.request.from, parent);
    let after: Key | undefined;
    for (;;) {
      const page = this.view.scan({ prefix, limit: pageEntries, ...(after === undefined ? {} : { after }) });
      const found = page.find(({ value }) => decodeEntry(value).ino === child);
      if (found !== undefined) return found.key.slice(prefix.length);
      after = page.at(-1)?.key;
      if (page.length < pageEntries) return undefined;
    }
  }

  private inode(ino: number): Inode | undefined {
    const bytes = this.view.get(inodeKey(this.request.from, ino));
    return bytes === undefined ? undefined : decodeInode(this.request.from, ino, bytes);
  }

  /** An inode with its list and attributes. Vouchers stay with the volume. */
  private putInode(inode: Inode, nlink: number): void {
    const { from, to } = this.request;
    this.put(
      inodeKey(to, inode.ino),
      encodeInode({ ...inode, volume: to, nlink, flags: inode.flags & ~inodeFlags.hasVouchers }),
    );
    const acl = this.view.get(aclKey(from, inode.ino));
    if (acl !== undefined) this.put(aclKey(to, inode.ino), acl);
    if ((inode.flags & (inodeFlags.hasAttributes | inodeFlags.hasPolicies)) === 0) return;
    const prefix = attributesPrefix(from, inode.ino);
    for (const { key, value } of this.view.scan({ prefix, limit: 100_000 })) {
      this.put(attributesPrefix(to, inode.ino) + key.slice(prefix.length), value);
    }
  }

  private put(key: Key, value: Uint8Array): void {
    this.batch.set(key, value);
    this.batchBytes += key.length + value.length;
    this.count++;
  }

  private async flush(): Promise<void> {
    const { batch } = this;
    this.batch = new Map();
    this.batchBytes = 0;
    if (batch.size === 0) return;
    await this.engine.run(systemCaller, (op) => {
      for (const [key, value] of batch) op.tx.put(key, value);
    });
  }
}

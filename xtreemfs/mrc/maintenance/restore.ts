import { createReadStream } from 'node:fs';
import { bytesToText } from '#proto/wire.ts';
import { refuse } from '../core/errno.ts';
import { parseList } from '../core/acls.ts';
import { protectionFlags } from '../core/system-xattrs.ts';
import { aclKey, attributeKey, checkName, entryKey, inodeKey, metaKey, quotaKey } from '../core/keys.ts';
import type { AclEntry, Counters, Inode, ReplicaRecord } from '../core/records.ts';
import {
  encodeAcl,
  encodeEntry,
  encodeInode,
  encodeQuota,
  fileType,
  inodeFlags,
  isDirectory,
  isRegular,
  isSymlink,
} from '../core/records.ts';
import { parsePolicy } from '../core/replicas.ts';
import { decodeVolume, rootIno, volumeSchema } from '../core/volume.ts';
import type { Volume } from '../core/volume.ts';
import type { Engine } from '../engine.ts';
import { systemCaller } from '../engine.ts';
import type { Key } from '../store/kv.ts';
import { defaultAclKey, dumpPath, dumpVersion } from './dump.ts';
import { readXml } from './xml-reader.ts';
import type { XmlEvent } from './xml-reader.ts';

/** Records written in one transaction. */
const batchRecords = 2000;
const batchBytesMax = 1024 * 1024;

/**
 * Reads a dump, ours or upstream's, into an empty database. Volumes become visible at the very end: a restore that breaks off leaves
 * nothing but records that the next one replaces.
 * @throws {PosixError} EEXIST when there are volumes already, ENOENT without the file, EINVAL when it is damaged.
 */
export async function restoreDatabase(engine: Engine, folder: string, file: string): Promise<void> {
  if (engine.allVolumes().length > 0) refuse('EEXIST', 'The database has volumes: restore into an empty one');
  const reader = new DumpReader(engine);
  try {
    const stream = createReadStream(dumpPath(folder, file), { encoding: 'utf8', highWaterMark: 256 * 1024 });
    for await (const event of readXml(stream as AsyncIterable<string>)) {
      if (event.kind === 'start') reader.start(event);
      else reader.end(event);
      if (reader.isFull) await reader.flush();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      refuse('ENOENT', `dump_file: ${file} does not exist in ${folder}`);
    throw error;
  }
  await reader.finish();
}

class DumpReader {
  private readonly engine: Engine;
  private readonly writes = new Map<Key, Uint8Array>();
  private writtenBytes = 0;
  private readonly volumes: Volume[] = [];
  private readonly totals: Counters[] = [];
  private readonly path: Inode[] = [];
  private readonly seenFiles = new Set<number>();
  private readonly links = new Map<number, number>();
  private volume: Volume | undefined;
  private object: Inode | undefined;
  private name = '';
  private acl: AclEntry[] = [];
  /** The whole list of the current object. */
  private access: AclEntry[] = [];
  private replicas: ReplicaRecord[] = [];
  private osds: string[] = [];

  constructor(engine: Engine) {
    this.engine = engine;
  }

  get isFull(): boolean {
    return this.writes.size >= batchRecords || this.writtenBytes > batchBytesMax;
  }

  start({ name, attributes }: XmlEvent): void {
    const text = (key: string): string => attributes.get(key) ?? refuse('EINVAL', `dump_file: <${name}> lacks ${key}`);
    switch (name) {
      case 'filesystem':
        if (Number(text('dbversion')) !== dumpVersion) {
          refuse('EINVAL', `dump_file: it has version ${text('dbversion')}, not ${dumpVersion}`);
        }
        return;
      case 'volume':
        this.startVolume(text);
        return;
      case 'dir':
      case 'file':
        this.startObject(name, attributes, text);
        return;
      case 'xlocList':
        this.current.xlocs = {
          version: numberOf(text('version')),
          policy: parsePolicy(text('ruPolicy')),
          replicas: [],
        };
        this.replicas = [];
        return;
      case 'xloc':
        this.osds = [];
        this.replicas.push({
          osds: this.osds,
          flags: numberOf(text('replFlags')),
          striping: stripingOf(text('pattern')),
        });
        return;
      case 'osd':
        this.osds.push(text('location'));
        return;
      case 'entry':
        this.acl.push(aclEntry(text('entity'), numberOf(text('rights'))));
        return;
      case 'attr':
        this.attribute(text('key'), valueOf(attributes), attributes.get('owner') ?? '');
        return;
      case 'quota':
        this.quota(text);
        return;
      default: // containers, and elements of later versions
    }
  }

  end({ name }: XmlEvent): void {
    if (name === 'xlocList') {
      const { current } = this;
      if (current.xlocs !== undefined) current.xlocs = { ...current.xlocs, replicas: this.replicas };
    } else if (name === 'acl') {
      const { current } = this;
      this.access = this.acl;
      this.writes.set(aclKey(current.volume, current.ino), encodeAcl({ access: this.access }));
      current.flags |= inodeFlags.hasAcl;
      this.acl = [];
    } else if (name === 'file') {
      this.putObject(this.current, this.name);
      this.object = this.path.at(-1);
    } else if (name === 'dir') {
      const directory = this.path.pop();
      if (directory === undefined) refuse('EINVAL', 'dump_file: </dir> without <dir>');
      this.writes.set(inodeKey(directory.volume, directory.ino), encodeInode(directory));
      this.object = this.path.at(-1);
    }
  }

  async flush(): Promise<void> {
    const writes = new Map(this.writes);
    this.writes.clear();
    this.writtenBytes = 0;
    await this.engine.run(systemCaller, (op) => {
      for (const [key, value] of writes) op.tx.put(key, value);
    });
  }

  async finish(): Promise<void> {
    if (this.path.length > 0) refuse('EINVAL', 'dump_file: it ends before its directories do');
    await this.flush();
    await this.engine.run(systemCaller, (op) => {
      this.volumes.forEach((volume, at) => {
        op.tx.putVolume(volume);
        Object.assign(op.tx.counters(volume.number), this.totals[at]);
      });
      op.tx.put(metaKey('next-volume'), Buffer.from(String(this.volumes.length + 1)));
    });
  }

  private get current(): Inode {
    return this.object ?? refuse('EINVAL', 'dump_file: an element stands outside a file or directory');
  }

  private get counters(): Counters {
    return this.totals.at(-1) ?? refuse('EINVAL', 'dump_file: a file stands outside a volume');
  }

  private startVolume(text: (key: string) => string): void {
    const parsed = volumeSchema.safeParse({
      number: this.volumes.length + 1,
      id: text('id'),
      name: text('name'),
      createdMs: Date.parse('2000-01-01'),
      accessPolicy: numberOf(text('acPolicy')),
      striping: { stripeSizeKb: 128, width: 1 },
    });
    if (!parsed.success) refuse('EINVAL', 'dump_file: a volume has an unknown access policy');
    this.volume = parsed.data;
    this.volumes.push(parsed.data);
    this.totals.push({ nextIno: 2, files: 0, directories: 0, usedBytes: 0, blockedBytes: 0 });
    this.seenFiles.clear();
    this.links.clear();
  }

  private startObject(
    element: 'dir' | 'file',
    attributes: ReadonlyMap<string, string>,
    text: (key: string) => string,
  ): void {
    const volume = this.volume ?? refuse('EINVAL', 'dump_file: an object stands outside a volume');
    const isDir = element === 'dir';
    const type = isDir ? fileType.directory : Number(attributes.get('type') ?? fileType.regular);
    const [atime, mtime, ctime] = (attributes.get('times') ?? '').split(' ');
    const nanoseconds = (full: string | undefined, key: string): bigint =>
      full === undefined || full === '' ? BigInt(text(key)) * 1_000_000_000n : BigInt(full);
    const inode: Inode = {
      volume: volume.number,
      ino: numberOf(text('id')),
      mode: type | (numberOf(text('rights')) & 0o7777),
      nlink: isDir ? 2 : 1,
      user: text('uid'),
      group: text('gid'),
      size: isDir ? 0 : numberOf(text('size')),
      epoch: isDir ? 0 : numberOf(text('epoch')),
      issuedEpoch: isDir ? 0 : numberOf(text('issuedEpoch')),
      atimeNs: nanoseconds(atime, 'atime'),
      mtimeNs: nanoseconds(mtime, 'mtime'),
      ctimeNs: nanoseconds(ctime, 'ctime'),
      attributes: numberOf(attributes.get('w32Attrs') ?? '0'),
      flags:
        (attributes.get('readOnly') === 'true' ? inodeFlags.readOnly : 0) |
        protectionFlags(attributes.get('protection') ?? ''),
      parent: this.path.at(-1)?.ino ?? 0,
      target: '',
      xlocs: undefined,
    };
    this.name = nameOf(attributes, text);
    this.object = inode;
    this.access = [];
    this.counters.nextIno = Math.max(this.counters.nextIno, inode.ino + 1);
    if (!isDir) return;
    const parent = this.path.at(-1);
    if (parent !== undefined) {
      this.enter(inode, this.name);
      parent.nlink++;
    } else if (inode.ino !== rootIno) refuse('EINVAL', `dump_file: the root directory has number ${inode.ino}, not 1`);
    this.counters.directories++;
    this.path.push(inode);
  }

  private enter(inode: Inode, name: string): void {
    const parent = this.path.at(-1) ?? refuse('EINVAL', 'dump_file: a file stands outside a directory');
    const key = entryKey(inode.volume, parent.ino, checkName(name));
    this.writes.set(key, encodeEntry({ ino: inode.ino, type: inode.mode & fileType.mask }));
  }

  private putObject(inode: Inode, name: string): void {
    this.enter(inode, name);
    if (this.seenFiles.has(inode.ino)) {
      // Another name of a file that came before: only its link count changes.
      this.links.set(inode.ino, (this.links.get(inode.ino) ?? 1) + 1);
      inode.nlink = this.links.get(inode.ino) ?? 2;
    } else {
      this.seenFiles.add(inode.ino);
      this.counters.files++;
      this.counters.usedBytes += isRegular(inode) ? inode.size : 0;
    }
    this.writes.set(inodeKey(inode.volume, inode.ino), encodeInode(inode));
  }

  private attribute(key: string, value: Buffer, owner: string): void {
    const inode = this.current;
    if (owner === '' && inode.ino === rootIno && isDirectory(inode) && this.path.length === 1) {
      if (this.volumeSetting(key, value.toString())) return;
    }
    if (owner === '' && key === 'lt') {
      inode.mode = (inode.mode & 0o7777) | fileType.symlink;
      inode.target = bytesToText(value);
      if (isSymlink(inode)) inode.size = value.length;
      return;
    }
    if (owner === '' && key === defaultAclKey) {
      const acl = { access: this.access, inherited: parseList(value.toString()) };
      this.writes.set(aclKey(inode.volume, inode.ino), encodeAcl(acl));
      inode.flags |= inodeFlags.hasDefaultAcl;
      return;
    }
    if (owner === '' && key !== 'sp' && key !== 'rp') return; // upstream's own bookkeeping
    const stored = owner === '' && key === 'sp' ? directoryStriping(value.toString()) : value;
    this.writes.set(attributeKey(inode.volume, inode.ino, owner, key), stored);
    this.writtenBytes += stored.length;
    inode.flags |= owner === '' ? inodeFlags.hasPolicies : inodeFlags.hasAttributes;
  }

  /** @returns whether the key was a volume's setting. */
  private volumeSetting(key: string, text: string): boolean {
    const at = this.volumes.length - 1;
    const volume = this.volumes[at] ?? refuse('EINVAL', 'dump_file: a setting stands outside a volume');
    const ids = (list: string): number[] =>
      list
        .split(',')
        .filter((id) => /^\d+$/.test(id))
        .map(Number);
    const changes: Readonly<Record<string, () => Partial<Volume>>> = {
      sp: () => ({ striping: stripingOf(text) }),
      osdPol: () => ({ osdPolicies: ids(text) }),
      replPol: () => ({ replicaPolicies: ids(text) }),
      allowSnaps: () => ({ snapshotsEnabled: text === 'true' }),
      quota: () => ({ quotaBytes: numberOf(text) }),
      voucherSize: () => ({ voucherBytes: Math.max(1, numberOf(text)) }),
      acPol: () => ({}),
      volId: () => ({}),
      settings: () => ({ ...decodeVolume(Buffer.from(text)), number: volume.number, id: volume.id, name: volume.name }),
    };
    const change = Object.hasOwn(changes, key) ? changes[key] : undefined;
    if (change === undefined) return false;
    this.volume = { ...volume, ...change() };
    this.volumes[at] = this.volume;
    return true;
  }

  private quota(text: (key: string) => string): void {
    const volume = this.volume ?? refuse('EINVAL', 'dump_file: a quota stands outside a volume');
    const kind = text('type') === 'user' ? 'u' : 'g';
    const record = { quotaBytes: numberOf(text('quota')), usedBytes: numberOf(text('used')), blockedBytes: 0 };
    this.writes.set(quotaKey(volume.number, kind, text('name')), encodeQuota(record));
  }
}

function numberOf(text: string): number {
  const value = Number(text);
  return text !== '' && Number.isFinite(value) && value >= 0
    ? value
    : refuse('EINVAL', `dump_file: "${text}" is not a number`);
}

/** `RAID0, 128, 1`. */
function stripingOf(text: string): { stripeSizeKb: number; width: number } {
  const [, size, width] =
    /^\w*RAID0\s*,\s*(\d+)\s*,\s*(\d+)$/.exec(text.trim()) ?? refuse('EINVAL', `dump_file: "${text}" is no striping`);
  return { stripeSizeKb: Math.max(1, Number(size)), width: Math.max(1, Number(width)) };
}

/** A directory's own policy: our JSON, or upstream's text. */
function directoryStriping(text: string): Buffer {
  return Buffer.from(text.startsWith('{') ? text : JSON.stringify(stripingOf(text)));
}

function aclEntry(entity: string, rights: number): AclEntry {
  const [kind = '', name = ''] = entity.split(/:(.*)/s);
  if (kind === 'm') return { kind: 'mask', name: '', rights };
  if (kind === 'g' && name === '') return { kind: 'group', name: '', rights };
  return { kind: kind === 'u' ? 'u' : 'g', name, rights };
}

function valueOf(attributes: ReadonlyMap<string, string>): Buffer {
  const value = attributes.get('value') ?? '';
  return attributes.get('enc') === 'BASE64' ? Buffer.from(value, 'base64') : Buffer.from(value);
}

function nameOf(attributes: ReadonlyMap<string, string>, text: (key: string) => string): string {
  return attributes.get('nameEnc') === 'BASE64' ? bytesToText(Buffer.from(text('name'), 'base64')) : text('name');
}

import type { FileHandle } from 'node:fs/promises';
import { open, rename } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { makeFolder, syncFolder } from '#common/durable-files.ts';
import { textToBytes } from '#proto/wire.ts';
import { entityOf, showList } from '../core/acls.ts';
import { refuse } from '../core/errno.ts';
import { aclKey, attributesPrefix, entriesPrefix, fromBinary, inodeKey, quotaPrefix } from '../core/keys.ts';
import type { Inode } from '../core/records.ts';
import {
  decodeAcl,
  decodeEntry,
  decodeInode,
  decodeQuota,
  inodeFlags,
  isDirectory,
  isRegular,
  isSymlink,
} from '../core/records.ts';
import { protectionOf } from '../core/system-xattrs.ts';
import { readVolumes } from '../core/tx.ts';
import type { Volume } from '../core/volume.ts';
import { rootIno } from '../core/volume.ts';
import type { Engine } from '../engine.ts';
import type { Key, KvEntry, KvReader } from '../store/kv.ts';

/** Version of upstream's database, which dumps name (protocol reference, section 11). */
export const dumpVersion = 11;
/** Key of the list that new objects get, among the entries without an owner: upstream has none, and skips it. */
export const defaultAclKey = 'dacl';
const pageEntries = 500;
const bufferBytes = 256 * 1024;

/**
 * Where a dump lies. A plain name is taken in the MRC's dump folder; a path must lie in it: the call comes over the network and
 * may not write anywhere else.
 * @throws {PosixError} EACCES for a path elsewhere.
 */
export function dumpPath(folder: string, file: string): string {
  const path = resolve(folder, file);
  if (dirname(path) !== resolve(folder) || basename(path).startsWith('.')) {
    refuse('EACCES', `dump_file: ${file} is not in ${folder}, the folder of dumps`);
  }
  return path;
}

/** Writes every volume as upstream's XML, from one frozen state. The file has its name only when it is whole. */
export async function dumpDatabase(engine: Engine, folder: string, file: string): Promise<void> {
  const path = dumpPath(folder, file);
  await makeFolder(folder);
  const temporary = join(folder, `.${basename(path)}.part`);
  const view = await engine.store.view();
  const handle = await open(temporary, 'w');
  try {
    const writer = new DumpWriter(handle, view);
    await writer.all(readVolumes(view).filter((volume) => volume.snapshotOf === undefined));
    await handle.sync();
  } finally {
    view.close();
    await handle.close();
  }
  await rename(temporary, path);
  await syncFolder(folder);
}

class DumpWriter {
  private readonly handle: FileHandle;
  private readonly view: KvReader;
  private text: string[] = [];
  private textBytes = 0;

  constructor(handle: FileHandle, view: KvReader) {
    this.handle = handle;
    this.view = view;
  }

  async all(volumes: readonly Volume[]): Promise<void> {
    this.put(`<?xml version="1.0" encoding="UTF-8"?>\n<filesystem dbversion="${dumpVersion}">\n`);
    for (const volume of volumes) {
      this.put(`<volume${attrs({ id: volume.id, name: volume.name, acPolicy: volume.accessPolicy })}>\n`);
      await this.tree(volume);
      this.quotas(volume);
      this.put('</volume>\n');
    }
    this.put('</filesystem>\n');
    await this.flush();
  }

  /** Depth first without recursion: a stack of directories with the names that are still to come. */
  private async tree(volume: Volume): Promise<void> {
    const root = this.inode(volume.number, rootIno);
    if (root === undefined) return;
    this.openDirectory(volume, root, volume.name);
    const stack = [this.children(volume.number, root.ino)];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const next = top.next();
      if (next.done === true) {
        this.put('</dir>\n');
        stack.pop();
      } else {
        const { name, inode } = next.value;
        if (isDirectory(inode)) {
          this.openDirectory(volume, inode, name);
          stack.push(this.children(volume.number, inode.ino));
        } else this.file(inode, name);
      }
      if (this.textBytes > bufferBytes) await this.flush();
    }
  }

  private *children(volume: number, parent: number): Generator<{ name: string; inode: Inode }> {
    const prefix = entriesPrefix(volume, parent);
    for (const { key, value } of this.pages(prefix)) {
      const inode = this.inode(volume, decodeEntry(value).ino);
      if (inode !== undefined) yield { name: fromBinary(key.slice(prefix.length)), inode };
    }
  }

  private *pages(prefix: Key): Generator<KvEntry> {
    let after: Key | undefined;
    for (;;) {
      const page = this.view.scan({ prefix, limit: pageEntries, ...(after === undefined ? {} : { after }) });
      yield* page;
      after = page.at(-1)?.key;
      if (page.length < pageEntries) return;
    }
  }

  private openDirectory(volume: Volume, inode: Inode, name: string): void {
    this.put(`<dir${attrs({ id: inode.ino, ...nameAttrs(name), ...common(inode) })}>\n`);
    const own = inode.ino === rootIno ? volumeSettings(volume) : [];
    this.extras(inode, own);
  }

  private file(inode: Inode, name: string): void {
    const facts = {
      id: inode.ino,
      ...nameAttrs(name),
      size: inode.size,
      epoch: inode.epoch,
      issuedEpoch: inode.issuedEpoch,
      ...common(inode),
      readOnly: (inode.flags & inodeFlags.readOnly) !== 0,
      ...(isRegular(inode) ? {} : { type: inode.mode & 0xf000 }),
    };
    this.put(`<file${attrs(facts)}>\n`);
    if (inode.xlocs !== undefined) {
      this.put(`<xlocList${attrs({ version: inode.xlocs.version, ruPolicy: inode.xlocs.policy })}>\n`);
      for (const { striping, flags, osds } of inode.xlocs.replicas) {
        const pattern = `RAID0, ${striping.stripeSizeKb}, ${striping.width}`;
        const inner = osds.map((osd) => `<osd${attrs({ location: osd })}/>`).join('');
        this.put(`<xloc${attrs({ pattern, replFlags: flags })}>${inner}</xloc>\n`);
      }
      this.put('</xlocList>\n');
    }
    this.extras(inode, isSymlink(inode) ? [{ key: 'lt', value: textToBytes(inode.target), owner: '' }] : []);
    this.put('</file>\n');
  }

  private extras(inode: Inode, own: readonly { key: string; value: Uint8Array; owner: string }[]): void {
    const acl = this.view.get(aclKey(inode.volume, inode.ino));
    let defaults: typeof own = [];
    if (acl !== undefined) {
      const { access, inherited } = decodeAcl(acl);
      const entries = access.map((entry) => `<entry${attrs({ entity: entityOf(entry), rights: entry.rights })}/>`);
      if (entries.length > 0) this.put(`<acl>${entries.join('')}</acl>\n`);
      if (inherited !== undefined)
        defaults = [{ key: defaultAclKey, value: Buffer.from(showList(inherited)), owner: '' }];
    }
    const stored = [...this.storedAttributes(inode), ...own, ...defaults];
    if (stored.length === 0) return;
    const lines = stored.map(({ key, value, owner }) => {
      const base64 = Buffer.from(value).toString('base64');
      return `<attr${attrs({ key, value: base64, enc: 'BASE64', owner })}/>`;
    });
    this.put(`<attrs>${lines.join('')}</attrs>\n`);
  }

  private *storedAttributes(inode: Inode): Generator<{ key: string; value: Uint8Array; owner: string }> {
    if ((inode.flags & (inodeFlags.hasAttributes | inodeFlags.hasPolicies)) === 0) return;
    const prefix = attributesPrefix(inode.volume, inode.ino);
    for (const { key, value } of this.pages(prefix)) {
      const [owner = '', name = ''] = key.slice(prefix.length).split('\0', 2).map(fromBinary);
      yield { key: name, value, owner };
    }
  }

  private quotas(volume: Volume): void {
    const prefix = quotaPrefix(volume.number);
    this.put('<quotas>\n');
    for (const { key, value } of this.pages(prefix)) {
      const { quotaBytes, usedBytes, blockedBytes } = decodeQuota(value);
      const type = key.charAt(prefix.length) === 'u' ? 'user' : 'group';
      const name = fromBinary(key.slice(prefix.length + 1));
      this.put(`<quota${attrs({ type, name, quota: quotaBytes, used: usedBytes, blocked: blockedBytes })}/>\n`);
    }
    this.put('</quotas>\n');
  }

  private inode(volume: number, ino: number): Inode | undefined {
    const bytes = this.view.get(inodeKey(volume, ino));
    return bytes === undefined ? undefined : decodeInode(volume, ino, bytes);
  }

  private put(text: string): void {
    this.text.push(text);
    this.textBytes += text.length;
  }

  private async flush(): Promise<void> {
    const text = this.text.join('');
    this.text = [];
    this.textBytes = 0;
    await this.handle.write(text);
  }
}

/** Settings of a volume, as upstream keeps them (attributes of the root without owner), and all of ours as JSON. */
function volumeSettings(volume: Volume): { key: string; value: Uint8Array; owner: string }[] {
  const settings = {
    sp: `RAID0, ${volume.striping.stripeSizeKb}, ${volume.striping.width}`,
    osdPol: volume.osdPolicies.join(','),
    replPol: volume.replicaPolicies.join(','),
    acPol: String(volume.accessPolicy),
    volId: volume.id,
    allowSnaps: String(volume.snapshotsEnabled),
    quota: String(volume.quotaBytes),
    voucherSize: String(volume.voucherBytes),
    settings: JSON.stringify(volume),
  };
  return Object.entries(settings).map(([key, value]) => ({ key, value: Buffer.from(value), owner: '' }));
}

function common(inode: Inode): Record<string, string | number | boolean> {
  const seconds = (ns: bigint): number => Number(ns / 1_000_000_000n);
  const times = [inode.atimeNs, inode.mtimeNs, inode.ctimeNs];
  return {
    uid: inode.user,
    gid: inode.group,
    atime: seconds(inode.atimeNs),
    ctime: seconds(inode.ctimeNs),
    mtime: seconds(inode.mtimeNs),
    // Ours: full times, which upstream does not have.
    times: times.join(' '),
    ...(protectionOf(inode) === '' ? {} : { protection: protectionOf(inode) }),
    rights: inode.mode & 0o7777,
    w32Attrs: inode.attributes,
  };
}

/** A name that XML can't carry goes in Base64 beside a mark. */
function nameAttrs(name: string): Record<string, string> {
  // eslint-disable-next-line no-control-regex
  if (name.isWellFormed() && !/[\0-\x1f\ufffe\uffff]/.test(name)) return { name };
  return { name: textToBytes(name).toString('base64'), nameEnc: 'BASE64' };
}

function attrs(values: Readonly<Record<string, string | number | boolean>>): string {
  return Object.entries(values)
    .map(([key, value]) => ` ${key}="${escape(String(value))}"`)
    .join('');
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => escapes[sign] ?? sign);
}

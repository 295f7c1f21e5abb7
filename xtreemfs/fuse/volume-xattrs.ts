import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import type { Caller } from '../client/metadata.ts';
import { isErrno } from '../rpc/errors.ts';
import { ExtendedFlag, FileFlag, Ioctl } from './abi.ts';
import { refuse } from './errno.ts';
import type { RequestContext } from './file-system.ts';
import type { Node } from './inode-table.ts';
import * as acls from './posix-acls.ts';
import { VolumeFiles } from './volume-files.ts';

/** Extended attributes of a volume, and the access control lists that the kernel keeps among them. */
export class VolumeXattrs extends VolumeFiles {
  async getxattr(context: RequestContext, nodeId: number, name: string): Promise<Buffer> {
    const node = this.table.node(nodeId);
    const caller = this.caller(context);
    const list = acls.aclAttribute(name);
    if (list !== undefined) {
      const held = await this.readAcl(caller, node, list);
      return held === undefined ? refuse('ENODATA') : acls.encodeAcl(held, this.init.users);
    }
    if (!isStored(name)) refuse(name.startsWith('system.') ? 'EOPNOTSUPP' : 'ENODATA');
    return await this.readStored(caller, node, name);
  }

  async setxattr(context: RequestContext, nodeId: number, name: string, value: Buffer, flags: number): Promise<void> {
    const node = this.table.node(nodeId);
    const caller = this.caller(context);
    const list = acls.aclAttribute(name);
    if (list !== undefined) await this.writeAcl(caller, node, list, value);
    else if (!isStored(name)) refuse('EOPNOTSUPP');
    else await this.metadata.setxattr(caller, this.table.pathOf(node), name, value, flags);
    this.expire(node);
  }

  /** Names that a user set: the `xtreemfs.*` ones can be read by name, but copying a file must not try to set them. */
  async listxattr(context: RequestContext, nodeId: number): Promise<string[]> {
    const node = this.table.node(nodeId);
    const caller = this.caller(context);
    const list = await this.metadata.listxattr(caller, this.table.pathOf(node), true);
    const names = list.map((attribute) => attribute.name);
    await this.attributesOf(caller, node);
    const held = this.showsAcls ? acls.aclNames(node.acls ?? 0) : [];
    return [...held, ...names.filter((name) => isStored(name) && !name.startsWith('xtreemfs.'))];
  }

  async removexattr(context: RequestContext, nodeId: number, name: string): Promise<void> {
    const node = this.table.node(nodeId);
    const list = acls.aclAttribute(name);
    if (list === undefined && !isStored(name)) refuse('ENODATA');
    await this.metadata.removexattr(this.caller(context), this.table.pathOf(node), list?.stored ?? name);
    this.expire(node);
  }

  /**
   * Flags as chattr(1) sets and lsattr(1) shows: immutable and append-only, where the MRC is ours. The kernel asks for them
   * in both of its forms when they are set.
   */
  async ioctl(
    context: RequestContext,
    nodeId: number,
    command: number,
    input: Buffer,
    outBytes: number,
  ): Promise<Buffer> {
    const node = this.table.node(nodeId);
    const caller = this.caller(context);
    if (command === Ioctl.SETFLAGS && input.length >= flagsBytes) {
      await this.writeFlags(caller, node, input.readUInt32LE());
      return Buffer.alloc(0);
    }
    const isExtended = command === Ioctl.FSGETXATTR && outBytes >= extendedBytes;
    if (!isExtended && (command !== Ioctl.GETFLAGS || outBytes < flagsBytes)) refuse('ENOTTY');
    const letters = await this.readStored(caller, node, protection).catch(() => refuse('ENOTTY'));
    const { IMMUTABLE, APPEND } = isExtended ? ExtendedFlag : FileFlag;
    const output = Buffer.alloc(isExtended ? extendedBytes : flagsBytes);
    output.writeUInt32LE((letters.includes('i') ? IMMUTABLE : 0) | (letters.includes('a') ? APPEND : 0));
    return output;
  }

  private async writeFlags(caller: Caller, node: Node, flags: number): Promise<void> {
    const { IMMUTABLE, APPEND } = FileFlag;
    if ((flags & ~(IMMUTABLE | APPEND)) !== 0) refuse('EOPNOTSUPP');
    const letters = `${(flags & IMMUTABLE) === 0 ? '' : 'i'}${(flags & APPEND) === 0 ? '' : 'a'}`;
    await this.metadata.setxattr(caller, this.table.pathOf(node), protection, Buffer.from(letters), 0);
    this.expire(node);
  }

  private get showsAcls(): boolean {
    return this.init.posixAcl === true;
  }

  private async readStored(caller: Caller, node: Node, name: string): Promise<Buffer> {
    try {
      return await this.metadata.getxattr(caller, this.table.pathOf(node), name);
    } catch (error) {
      if (isErrno(error, PosixErrno.ENODATA)) refuse('ENODATA');
      throw error;
    }
  }

  /** @returns undefined when the object has no such list. The kernel asks often: attributes tell whether there is one. */
  private async readAcl(caller: Caller, node: Node, list: ListAttribute): Promise<acls.Acl | undefined> {
    if (!this.showsAcls) refuse('EOPNOTSUPP');
    await this.attributesOf(caller, node);
    if (node.acls === undefined ? list.bit !== 1 : (node.acls & list.bit) === 0) return undefined;
    try {
      const text = (await this.metadata.getxattr(caller, this.table.pathOf(node), list.stored)).toString();
      return text === '' ? undefined : acls.parseAcl(text);
    } catch (error) {
      if (isErrno(error, PosixErrno.ENODATA)) return undefined;
      throw error;
    }
  }

  private async writeAcl(caller: Caller, node: Node, list: ListAttribute, value: Buffer): Promise<void> {
    const { users } = this.init;
    const held = await this.readAcl(caller, node, list);
    const wanted = acls.keepUnknown(acls.decodeAcl(value, users), held ?? new Map(), users);
    const isUpstream = node.acls === undefined;
    if (isUpstream && list.bit !== 1) refuse('EOPNOTSUPP', "upstream's MRC has no lists to inherit");
    const steps = isUpstream ? acls.aclSteps(wanted, held) : [`s ${acls.formatAcl(wanted)}`];
    const path = this.table.pathOf(node);
    for (const step of steps) await this.metadata.setxattr(caller, path, list.stored, Buffer.from(step), 0);
  }
}

/** The MRC's attribute for immutable (`i`) and append-only (`a`). */
const protection = 'xtreemfs.protection';
const flagsBytes = 4;
/** `struct fsxattr`, of which only the flags are told. */
const extendedBytes = 28;

type ListAttribute = NonNullable<ReturnType<typeof acls.aclAttribute>>;

/** Attributes that the MRC keeps as they are. Security labels are not among them. */
function isStored(name: string): boolean {
  return name.startsWith('user.') || name.startsWith('trusted.') || name.startsWith('xtreemfs.');
}

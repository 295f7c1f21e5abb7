import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import type { Stat } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { serviceUser, type Caller, type Changed, type MetadataClient } from '../client/metadata.ts';
import type { UserMapping } from '../client/users.ts';
import { ServerList } from '../rpc/retry.ts';
import { Mode, rootNodeId } from './abi.ts';
import { errnoFrom, refuse } from './errno.ts';
import type { Attributes, AttributesReply, Entry, RequestContext, Timestamp } from './file-system.ts';
import { InodeTable, type Node, type Note } from './inode-table.ts';
import type { ConsistencyMode } from './negotiation.ts';

/** What a volume needs to be shown as a file system. */
export interface VolumeFileSystemInit {
  readonly metadata: MetadataClient;
  readonly users: UserMapping;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly consistency: ConsistencyMode;
  /** How long names and attributes are trusted, milliseconds; not in `strict` mode. Default 10,000, as upstream. */
  readonly metadataTtlMs?: number;
  /** Entries asked for at a time when a directory is listed. Default 1,024, as upstream. */
  readonly readdirChunk?: number;
  /** Writes are answered before they have reached an OSD; their errors show at fsync or close. Default true. */
  readonly asyncWrites?: boolean;
  /** Bytes that may be on their way to OSDs. Default 64 MiB. */
  readonly dirtyBytesMax?: number;
  /** Takes note of what a successor of this process has to know. */
  readonly note?: Note;
  /** The kernel checks access control lists, which it reads as `system.posix_acl_*`. */
  readonly posixAcl?: boolean;
  /** Names this mount among all that lock files; a UUID. */
  readonly lockClient: string;
}

const exclusiveTtlMs = 3_600_000;
const negativeTtlMs = 1_000;
const nanosPerSecond = 1_000_000_000n;

/** What the parts of a volume's file system share. */
export class VolumeState {
  protected readonly init: VolumeFileSystemInit;
  protected readonly metadata: MetadataClient;
  protected readonly clock: Clock;
  protected readonly logger: Logger;
  protected readonly table: InodeTable;
  protected readonly note: Note;
  /** How long the kernel may trust what it is told. */
  protected readonly ttlMs: number;
  /** Deletions of objects that are under way. */
  protected readonly deleting = new Set<Promise<void>>();

  constructor(init: VolumeFileSystemInit) {
    this.init = init;
    this.metadata = init.metadata;
    this.clock = init.clock;
    this.logger = init.logger;
    this.note = init.note ?? (() => undefined);
    this.table = new InodeTable(this.note);
    this.ttlMs = { strict: 0, 'close-to-open': init.metadataTtlMs ?? 10_000, exclusive: exclusiveTtlMs }[
      init.consistency
    ];
  }

  protected caller(context: RequestContext): Caller {
    return {
      user: this.init.users.caller(context.uid, context.gid, context.pid),
      signal: context.signal,
      isRepeated: context.isResent,
    };
  }

  /** What a name that isn't there is answered with: the kernel remembers it for a moment. */
  protected noEntry(): Entry {
    return {
      nodeId: 0,
      generation: 0,
      attributes: nothing,
      entryValidMs: Math.min(this.ttlMs, negativeTtlMs),
      attributesValidMs: 0,
    };
  }

  protected entryOf(node: Node, attributes: Attributes): Entry {
    const validMs = this.remainingMs(node);
    node.toldSize = attributes.size;
    return { nodeId: node.id, generation: 0, attributes, entryValidMs: validMs, attributesValidMs: validMs };
  }

  protected replyOf(node: Node, attributes: Attributes): AttributesReply {
    node.toldSize = attributes.size;
    return { attributes, validMs: this.remainingMs(node) };
  }

  private remainingMs(node: Node): number {
    return Math.max(0, node.validUntil - this.clock.monotonic());
  }

  /** Takes what the MRC says of a node, and adds what only this mount knows: the size of a file being written. */
  protected takeStat(node: Node, stat: Stat): Attributes {
    const attributes = this.toAttributes(stat);
    node.truncateEpoch = stat.truncateEpoch;
    node.etag = stat.etag ?? 0;
    node.acls = stat.acls;
    return this.keep(node, this.withLocalSize(node, attributes));
  }

  /** Remembers attributes for as long as they may be trusted. */
  protected keep(node: Node, attributes: Attributes): Attributes {
    node.attributes = attributes;
    node.validUntil = this.clock.monotonic() + this.ttlMs;
    return attributes;
  }

  /** The next question about this node goes to the MRC. */
  protected expire(node: Node): void {
    node.validUntil = 0;
  }

  /**
   * A directory has got or lost a name. If the MRC tells that nobody else had changed it before, everything that was
   * known of its names is still right.
   */
  protected touchDirectory(directory: Node, changed: Changed): void {
    const told = changed.directories.find(({ stbuf }) => stbuf.ino === directory.id);
    if (told === undefined) {
      this.expire(directory);
      return;
    }
    const isOnlyOurs = told.etagBefore === directory.etag;
    this.takeStat(directory, told.stbuf);
    if (!isOnlyOurs) directory.listing = undefined;
    else if (directory.listing !== undefined) directory.listing.until = directory.validUntil;
  }

  private withLocalSize(node: Node, attributes: Attributes): Attributes {
    const known = node.file?.knownSize;
    let { size } = attributes;
    if (known?.sizeInBytes !== undefined) {
      const epoch = known.truncateEpoch ?? 0;
      if (epoch > node.truncateEpoch) size = known.sizeInBytes;
      else if (epoch === node.truncateEpoch) size = Math.max(size, known.sizeInBytes);
    }
    const isDirty = node.writes?.isDirty === true;
    if (isDirty && node.attributes !== undefined) size = Math.max(size, node.attributes.size);
    return size === attributes.size ? attributes : { ...attributes, size, blocks: Math.ceil(size / 512) };
  }

  protected toAttributes(stat: Stat): Attributes {
    const { users } = this.init;
    return {
      ino: stat.ino,
      mode: stat.mode,
      nlink: stat.directoryLinks ?? stat.nlink,
      uid: users.uid(stat.userId),
      gid: users.gid(stat.groupId),
      rdev: isDevice(stat.mode) ? (stat.attributes ?? 0) >>> 0 : 0,
      size: stat.size,
      blocks: Math.ceil(stat.size / 512),
      blksize: 4096,
      atime: toTimestamp(stat.atimeNs),
      mtime: toTimestamp(stat.mtimeNs),
      ctime: toTimestamp(stat.ctimeNs),
    };
  }

  protected now(): Timestamp {
    const ms = this.clock.now();
    const seconds = Math.floor(ms / 1000);
    return { seconds, nanoseconds: Math.floor((ms - seconds * 1000) * 1e6) };
  }

  /** Attributes that may be used without asking; undefined when it is time to ask. */
  protected freshAttributes(node: Node): Attributes | undefined {
    if (node.isGone) return node.attributes;
    return node.validUntil > this.clock.monotonic() ? node.attributes : undefined;
  }

  /** Attributes of a node, from the MRC when what is known is too old. */
  protected async attributesOf(caller: Caller, node: Node): Promise<Attributes> {
    return this.freshAttributes(node) ?? (await this.askAttributes(caller, node));
  }

  /**
   * Asks the MRC. A file that was deleted elsewhere, but is open here, keeps what is known of it.
   */
  protected async askAttributes(caller: Caller, node: Node): Promise<Attributes> {
    try {
      const stat = await this.metadata.getattr(caller, this.table.pathOf(node));
      if (stat.ino !== node.id && node.id !== rootNodeId) {
        return this.goneElsewhere(node) ?? this.takeStat(node, stat);
      }
      return this.takeStat(node, stat);
    } catch (error) {
      if (errnoFrom(error) !== PosixErrno.ENOENT) throw error;
      // The kernel looks the name up again then: another file may have it, or it may be made.
      return this.goneElsewhere(node) ?? refuse('ESTALE', 'another client has deleted or renamed the file');
    }
  }

  private goneElsewhere(node: Node): Attributes | undefined {
    if (node.openCount === 0 || node.attributes === undefined) return undefined;
    return node.attributes;
  }

  /**
   * Deletes the objects of a file that has no name left, in the background: it is gone for everybody already, and what
   * a dying process leaves is found by xtfs_cleanup.
   */
  protected deleteObjects(credentials: FileCredentials): void {
    const { xcap, xlocs } = credentials;
    const work = Promise.all(
      xlocs.replicas.map(async (replica) => {
        const head = replica.osdUuids[0];
        if (head === undefined) return;
        const request = { fileCredentials: credentials, fileId: xcap.fileId };
        const options = { user: serviceUser, retry: { triesMax: 3, retryDelayMs: 1000 } };
        await this.metadata.services.call(new ServerList([head]), osdProcedures.unlink, request, options);
      }),
    )
      .then(() => undefined)
      .catch((error: unknown) => {
        this.logger.warn('Could not delete objects', { fileId: xcap.fileId, reason: describeError(error) });
      })
      .finally(() => this.deleting.delete(work));
    this.deleting.add(work);
  }
}

const epoch: Timestamp = { seconds: 0, nanoseconds: 0 };

const nothing: Attributes = {
  ino: 0,
  mode: 0,
  nlink: 0,
  uid: 0,
  gid: 0,
  rdev: 0,
  size: 0,
  blocks: 0,
  blksize: 0,
  atime: epoch,
  mtime: epoch,
  ctime: epoch,
};

export function isDevice(mode: number): boolean {
  const type = mode & Mode.TYPE;
  return type === Mode.BLOCK || type === Mode.CHARACTER;
}

export function toTimestamp(nanoseconds: bigint): Timestamp {
  let seconds = nanoseconds / nanosPerSecond;
  let rest = nanoseconds % nanosPerSecond;
  if (rest < 0n) {
    seconds -= 1n;
    rest += nanosPerSecond;
  }
  return { seconds: Number(seconds), nanoseconds: Number(rest) };
}

export function fromTimestamp({ seconds, nanoseconds }: Timestamp): bigint {
  return BigInt(seconds) * nanosPerSecond + BigInt(nanoseconds);
}

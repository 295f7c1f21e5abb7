import { fsyncDataOnly, getattrHasHandle, lockIsFlock, nameBytesMax, Opcode, openKillSuidgid } from './abi.ts';
import {
  ioctlCommandAt,
  ioctlOutBytes,
  outHeaderBytes,
  releaseFlockUnlock,
  setxattrAclKillSgid,
  writeFromCache,
  writeKillSuidgid,
} from './abi.ts';
import { type ArgumentReader, DirentWriter, readAttributeChange, ReplyWriter } from './codec.ts';
import { FuseError } from './errno.ts';
import type { Entry, FuseFileSystem, LockRequest, OpenReply, RequestContext } from './file-system.ts';
import { textToBytes } from '#proto/wire.ts';

/** What a reply consists of beside its header: fields in the writer, and raw data after them. */
export type Reply = readonly Buffer[] | undefined;

/** One request on its way through an operation. */
export interface Invocation {
  readonly fileSystem: FuseFileSystem;
  readonly context: RequestContext;
  readonly nodeId: number;
  readonly args: ArgumentReader;
}

/** How one opcode is carried out: reads its arguments, calls the file system, writes the answer. */
export interface Operation {
  /** Reads every argument before it returns, so that the request's buffer is free then (but for WRITE's data). */
  call(invocation: Invocation): unknown;
  /** Puts the value that `call` gave into the writer. @returns raw data to send after it. */
  encode(writer: ReplyWriter, value: unknown, invocation: Invocation): Reply;
  /** The value has been sent. */
  sent?(value: unknown): void;
  /** The request's data is used until the answer is there. */
  readonly keepsBuffer?: boolean;
  /** May wait for other callers (locks); doesn't count as work under way. */
  readonly waits?: boolean;
}

function operation<T>(
  call: (invocation: Invocation) => T | Promise<T>,
  encode: (writer: ReplyWriter, value: T, invocation: Invocation) => Reply = () => undefined,
  traits: { keepsBuffer?: boolean; waits?: boolean; sent?: (value: T) => void } = {},
): Operation {
  const { sent, ...rest } = traits;
  return {
    call,
    encode: (writer, value, invocation) => encode(writer, value as T, invocation),
    ...(sent === undefined ? {} : { sent: (value) => sent(value as T) }),
    ...rest,
  };
}

/** The method, or ENOSYS. */
function has<T>(method: T | undefined): T {
  if (method === undefined) throw new FuseError('ENOSYS');
  return method;
}

function checkedName(name: string): string {
  if (name.length > nameBytesMax || (name.length > nameBytesMax / 3 && textToBytes(name).length > nameBytesMax)) {
    throw new FuseError('ENAMETOOLONG');
  }
  return name;
}

/** An encoder that writes fields only. */
const fields =
  <T>(write: (writer: ReplyWriter, value: T) => void) =>
  (writer: ReplyWriter, value: T): Reply => {
    write(writer, value);
    return undefined;
  };

const putEntry = fields<Entry>((writer, entry) => writer.entry(entry));

const putOpen = fields<OpenReply>((writer, open) => {
  writer.u64(open.handle);
  writer.u32(open.flags);
  writer.u32(0);
});

const putCreated = fields<{ entry: Entry; open: OpenReply }>((writer, value) => {
  writer.entry(value.entry);
  putOpen(writer, value.open);
});

const readLock = (args: ArgumentReader): LockRequest => {
  const handle = args.u64();
  const owner = args.big64();
  const lock = { start: args.big64(), end: args.big64(), type: args.u32(), pid: args.u32() };
  return { handle, owner, lock, isFlock: (args.u32() & lockIsFlock) !== 0 };
};

/** READDIR and READDIRPLUS write straight into the reply of a call that may take a while: so they bring a writer. */
const readdir = (plus: boolean): Operation =>
  operation(
    async ({ fileSystem, context, nodeId, args }) => {
      const handle = args.u64();
      const offset = args.u64();
      const size = args.u32();
      const writer = new ReplyWriter(outHeaderBytes + size);
      const sink = new DirentWriter(writer, size, plus);
      await fileSystem.readdir(context, nodeId, handle, offset, sink);
      return writer.buffer.subarray(outHeaderBytes, writer.position);
    },
    (_writer, entries) => [entries],
  );

const statfs = operation(
  ({ fileSystem, context, nodeId }) => fileSystem.statfs(context, nodeId),
  fields((writer, value) => writer.statfs(value)),
);

/** Answers GETXATTR and LISTXATTR: the size alone when 0 bytes were asked for, ERANGE when it doesn't fit. */
function putSized(writer: ReplyWriter, { value, size }: { value: Buffer; size: number }): Reply {
  if (size === 0) {
    writer.u32(value.length);
    writer.u32(0);
    return undefined;
  }
  if (value.length > size) throw new FuseError('ERANGE');
  return [value];
}

/** Waits for a value if it is a promise, without making one otherwise. */
function then<T, R>(value: T | Promise<T>, map: (value: T) => R): R | Promise<R> {
  return value instanceof Promise ? value.then(map) : map(value);
}

export const operations: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [
    Opcode.LOOKUP,
    operation(
      ({ fileSystem, context, nodeId, args }) => fileSystem.lookup(context, nodeId, checkedName(args.text())),
      putEntry,
    ),
  ],
  [
    Opcode.GETATTR,
    operation(
      ({ fileSystem, context, nodeId, args }) => {
        const flags = args.u32();
        args.skip(4);
        const handle = args.u64();
        return fileSystem.getattr(context, nodeId, (flags & getattrHasHandle) === 0 ? undefined : handle);
      },
      fields((writer, value) => writer.attributesReply(value)),
    ),
  ],
  [
    Opcode.SETATTR,
    operation(
      ({ fileSystem, context, nodeId, args }) => fileSystem.setattr(context, nodeId, readAttributeChange(args)),
      fields((writer, value) => writer.attributesReply(value)),
    ),
  ],
  [
    Opcode.READLINK,
    operation(
      ({ fileSystem, context, nodeId }) => has(fileSystem.readlink?.bind(fileSystem))(context, nodeId),
      (_writer, target) => [textToBytes(target)],
    ),
  ],
  [
    Opcode.SYMLINK,
    operation(({ fileSystem, context, nodeId, args }) => {
      const name = checkedName(args.text());
      return has(fileSystem.symlink?.bind(fileSystem))(context, nodeId, name, args.text());
    }, putEntry),
  ],
  [
    Opcode.MKNOD,
    operation(({ fileSystem, context, nodeId, args }) => {
      const mode = args.u32();
      const rdev = args.u32();
      const umask = args.u32();
      args.skip(4);
      const name = checkedName(args.text());
      return has(fileSystem.mknod?.bind(fileSystem))(context, nodeId, name, { mode, umask }, rdev);
    }, putEntry),
  ],
  [
    Opcode.MKDIR,
    operation(({ fileSystem, context, nodeId, args }) => {
      const mode = args.u32();
      const umask = args.u32();
      return has(fileSystem.mkdir?.bind(fileSystem))(context, nodeId, checkedName(args.text()), { mode, umask });
    }, putEntry),
  ],
  [
    Opcode.UNLINK,
    operation(({ fileSystem, context, nodeId, args }) =>
      has(fileSystem.unlink?.bind(fileSystem))(context, nodeId, checkedName(args.text())),
    ),
  ],
  [
    Opcode.RMDIR,
    operation(({ fileSystem, context, nodeId, args }) =>
      has(fileSystem.rmdir?.bind(fileSystem))(context, nodeId, checkedName(args.text())),
    ),
  ],
  [
    Opcode.RENAME,
    operation(({ fileSystem, context, nodeId, args }) => {
      const newParent = args.u64();
      const name = checkedName(args.text());
      const newName = checkedName(args.text());
      return has(fileSystem.rename?.bind(fileSystem))(context, nodeId, name, newParent, newName, 0);
    }),
  ],
  [
    Opcode.RENAME2,
    operation(({ fileSystem, context, nodeId, args }) => {
      const newParent = args.u64();
      const flags = args.u32();
      args.skip(4);
      const name = checkedName(args.text());
      const newName = checkedName(args.text());
      return has(fileSystem.rename?.bind(fileSystem))(context, nodeId, name, newParent, newName, flags);
    }),
  ],
  [
    Opcode.LINK,
    operation(({ fileSystem, context, nodeId, args }) => {
      const target = args.u64();
      return has(fileSystem.link?.bind(fileSystem))(context, target, nodeId, checkedName(args.text()));
    }, putEntry),
  ],
  [
    Opcode.OPEN,
    operation(({ fileSystem, context, nodeId, args }) => {
      const flags = args.u32();
      return fileSystem.open(context, nodeId, flags, (args.u32() & openKillSuidgid) !== 0);
    }, putOpen),
  ],
  [
    Opcode.CREATE,
    operation(({ fileSystem, context, nodeId, args }) => {
      const flags = args.u32();
      const mode = args.u32();
      const umask = args.u32();
      args.skip(4);
      const name = checkedName(args.text());
      return has(fileSystem.create?.bind(fileSystem))(context, nodeId, name, { mode, umask }, flags);
    }, putCreated),
  ],
  [
    Opcode.TMPFILE,
    operation(({ fileSystem, context, nodeId, args }) => {
      const flags = args.u32();
      const mode = args.u32();
      return has(fileSystem.tmpfile?.bind(fileSystem))(context, nodeId, mode, flags);
    }, putCreated),
  ],
  [
    Opcode.READ,
    operation(
      ({ fileSystem, context, nodeId, args }) => {
        const handle = args.u64();
        const offset = args.i64();
        return fileSystem.read(context, nodeId, handle, offset, args.u32());
      },
      (_writer, { parts }) => parts,
      { sent: (reply) => reply.done?.() },
    ),
  ],
  [
    Opcode.WRITE,
    operation(
      ({ fileSystem, context, nodeId, args }) => {
        const handle = args.u64();
        const offset = args.i64();
        const size = args.u32();
        const writeFlags = args.u32();
        args.skip(8);
        const flags = args.u32();
        args.skip(4);
        return has(fileSystem.write?.bind(fileSystem))(context, nodeId, {
          handle,
          offset,
          data: args.view(size),
          isFromCache: (writeFlags & writeFromCache) !== 0,
          killSuidgid: (writeFlags & writeKillSuidgid) !== 0,
          flags,
        });
      },
      fields((writer, count) => {
        writer.u32(count);
        writer.u32(0);
      }),
      { keepsBuffer: true },
    ),
  ],
  [Opcode.STATFS, statfs],
  [
    Opcode.RELEASE,
    operation(({ fileSystem, context, nodeId, args }) => {
      const handle = args.u64();
      args.skip(4);
      const dropsFlock = (args.u32() & releaseFlockUnlock) !== 0;
      const owner = args.big64();
      return fileSystem.release?.(context, nodeId, handle, dropsFlock ? owner : undefined);
    }),
  ],
  [
    Opcode.FLUSH,
    operation(({ fileSystem, context, nodeId, args }) => {
      const handle = args.u64();
      args.skip(8);
      return has(fileSystem.flush?.bind(fileSystem))(context, nodeId, handle, args.big64());
    }),
  ],
  [
    Opcode.FSYNC,
    operation(({ fileSystem, context, nodeId, args }) => {
      const handle = args.u64();
      return has(fileSystem.fsync?.bind(fileSystem))(context, nodeId, handle, (args.u32() & fsyncDataOnly) !== 0);
    }),
  ],
  [
    Opcode.OPENDIR,
    operation(
      ({ fileSystem, context, nodeId, args }) => has(fileSystem.opendir?.bind(fileSystem))(context, nodeId, args.u32()),
      putOpen,
    ),
  ],
  [Opcode.READDIR, readdir(false)],
  [Opcode.READDIRPLUS, readdir(true)],
  [
    Opcode.RELEASEDIR,
    operation(({ fileSystem, context, nodeId, args }) => fileSystem.releasedir?.(context, nodeId, args.u64())),
  ],
  [
    Opcode.FSYNCDIR,
    operation(({ fileSystem, context, nodeId, args }) => {
      const handle = args.u64();
      return has(fileSystem.fsyncdir?.bind(fileSystem))(context, nodeId, handle, (args.u32() & fsyncDataOnly) !== 0);
    }),
  ],
  [
    Opcode.SETXATTR,
    operation(({ fileSystem, context, nodeId, args }) => {
      const size = args.u32();
      const flags = args.u32();
      const killSgid = (args.u32() & setxattrAclKillSgid) !== 0;
      args.skip(4);
      const name = args.text();
      const value = Buffer.from(args.view(size));
      return has(fileSystem.setxattr?.bind(fileSystem))(context, nodeId, name, value, flags, killSgid);
    }),
  ],
  [
    Opcode.GETXATTR,
    operation(({ fileSystem, context, nodeId, args }) => {
      const size = args.u32();
      args.skip(4);
      const value = has(fileSystem.getxattr?.bind(fileSystem))(context, nodeId, args.text());
      return then(value, (bytes) => ({ value: bytes, size }));
    }, putSized),
  ],
  [
    Opcode.LISTXATTR,
    operation(({ fileSystem, context, nodeId, args }) => {
      const size = args.u32();
      const names = has(fileSystem.listxattr?.bind(fileSystem))(context, nodeId);
      return then(names, (list) => ({ value: textToBytes(list.map((name) => `${name}\0`).join('')), size }));
    }, putSized),
  ],
  [
    Opcode.REMOVEXATTR,
    operation(({ fileSystem, context, nodeId, args }) =>
      has(fileSystem.removexattr?.bind(fileSystem))(context, nodeId, args.text()),
    ),
  ],
  [
    Opcode.ACCESS,
    operation(({ fileSystem, context, nodeId, args }) =>
      has(fileSystem.access?.bind(fileSystem))(context, nodeId, args.u32()),
    ),
  ],
  [
    Opcode.GETLK,
    operation(
      ({ fileSystem, context, nodeId, args }) =>
        has(fileSystem.getlk?.bind(fileSystem))(context, nodeId, readLock(args)),
      fields((writer, lock) => writer.lock(lock)),
    ),
  ],
  [
    Opcode.SETLK,
    operation(({ fileSystem, context, nodeId, args }) =>
      has(fileSystem.setlk?.bind(fileSystem))(context, nodeId, readLock(args), false),
    ),
  ],
  [
    Opcode.SETLKW,
    operation(
      ({ fileSystem, context, nodeId, args }) =>
        has(fileSystem.setlk?.bind(fileSystem))(context, nodeId, readLock(args), true),
      undefined,
      { waits: true },
    ),
  ],
  [
    Opcode.IOCTL,
    operation(
      ({ fileSystem, context, nodeId, args }) => {
        args.skip(ioctlCommandAt);
        const command = args.u32();
        args.skip(8);
        const inBytes = args.u32();
        const outBytes = args.u32();
        const input = Buffer.from(args.view(inBytes));
        return has(fileSystem.ioctl?.bind(fileSystem))(context, nodeId, command, input, outBytes);
      },
      (writer, output) => {
        writer.zeros(ioctlOutBytes);
        return output.length === 0 ? undefined : [output];
      },
    ),
  ],
  [
    Opcode.FALLOCATE,
    operation(({ fileSystem, context, nodeId, args }) => {
      const handle = args.u64();
      const offset = args.i64();
      const length = args.i64();
      return has(fileSystem.fallocate?.bind(fileSystem))(context, nodeId, handle, offset, length, args.u32());
    }),
  ],
  [
    Opcode.LSEEK,
    operation(
      ({ fileSystem, context, nodeId, args }) => {
        const handle = args.u64();
        const offset = args.i64();
        return has(fileSystem.lseek?.bind(fileSystem))(context, nodeId, handle, offset, args.u32());
      },
      fields((writer, offset) => writer.u64(offset)),
    ),
  ],
  [
    Opcode.COPY_FILE_RANGE,
    copyFileRange((writer, count) => {
      writer.u32(count);
      writer.u32(0);
    }),
  ],
  [Opcode.COPY_FILE_RANGE_64, copyFileRange((writer, count) => writer.u64(count))],
  [
    Opcode.SYNCFS,
    operation(({ fileSystem, context, nodeId }) => has(fileSystem.syncfs?.bind(fileSystem))(context, nodeId)),
  ],
]);

function copyFileRange(put: (writer: ReplyWriter, count: number) => void): Operation {
  return operation(({ fileSystem, context, nodeId, args }) => {
    const handleIn = args.u64();
    const offsetIn = args.i64();
    const nodeIdOut = args.u64();
    const handleOut = args.u64();
    const offsetOut = args.i64();
    const length = args.i64();
    const request = { handleIn, offsetIn, nodeIdOut, handleOut, offsetOut, length };
    return has(fileSystem.copyFileRange?.bind(fileSystem))(context, nodeId, request);
  }, fields(put));
}

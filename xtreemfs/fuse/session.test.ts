import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { silentLogger } from '#common/logger.ts';
import { MemoryFileSystem } from '#xtreemfs/testing/memory-file-system.ts';
import { initArguments, nameArgument, SyntheticKernel } from '#xtreemfs/testing/synthetic-kernel.ts';
import { Mode, NotifyCode, Opcode, rootNodeId } from './abi.ts';
import { errnoOf } from './errno.ts';
import { FuseSession, type FuseSessionInit } from './session.ts';

function start(init: Partial<FuseSessionInit> = {}): {
  kernel: SyntheticKernel;
  session: FuseSession;
  fileSystem: MemoryFileSystem;
  ended: Promise<string>;
} {
  const kernel = new SyntheticKernel();
  const fileSystem = new MemoryFileSystem();
  const session = new FuseSession({ device: kernel, fileSystem, logger: silentLogger, ...init });
  return { kernel, session, fileSystem, ended: session.run() };
}

const u32 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => bytes.writeUInt32LE(value >>> 0, index * 4));
  return bytes;
};

const u64 = (...values: bigint[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 8);
  values.forEach((value, index) => bytes.writeBigUInt64LE(value, index * 8));
  return bytes;
};

async function makeFile(kernel: SyntheticKernel, name: string): Promise<{ nodeId: number; handle: bigint }> {
  const args = Buffer.concat([u32(2, Mode.REGULAR | 0o644, 0, 0), nameArgument(name)]);
  const { errno, body } = await kernel.ask(Opcode.CREATE, rootNodeId, args);
  expect(errno).toBe(0);
  return { nodeId: Number(body.readBigUInt64LE(0)), handle: body.readBigUInt64LE(128) };
}

const lockArguments = (handle: bigint, owner: bigint, type: number): Buffer =>
  Buffer.concat([u64(handle, owner, 0n, (1n << 63n) - 1n), u32(type, 1, 0, 0)]);

describe('FuseSession', () => {
  test('agrees with the kernel on requests of 1 MiB and on being sent requests again', async () => {
    const { kernel, session } = start();
    const { errno, body } = await kernel.ask(Opcode.INIT, 0, initArguments());
    expect(errno).toBe(0);
    expect({ minor: body.readUInt32LE(4), maxWrite: body.readUInt32LE(20), maxPages: body.readUInt16LE(28) }).toEqual({
      minor: 45,
      maxWrite: 1 << 20,
      maxPages: 256,
    });
    expect(session.agreement).toMatchObject({ canResend: true, hasWriteback: false });
  });

  test('refuses a kernel that is too old', async () => {
    const { kernel } = start();
    expect((await kernel.ask(Opcode.INIT, 0, initArguments(26))).errno).toBe(errnoOf('EPROTO'));
  });

  test('answers an operation that nobody knows with ENOSYS', async () => {
    const { kernel } = start();
    expect((await kernel.ask(999, rootNodeId)).errno).toBe(errnoOf('ENOSYS'));
    expect((await kernel.ask(Opcode.IOCTL, rootNodeId, Buffer.alloc(32))).errno).toBe(errnoOf('ENOSYS'));
  });

  test('reads back what was written', async () => {
    const { kernel } = start();
    const { nodeId, handle } = await makeFile(kernel, 'f');
    const data = Buffer.from('some bytes');
    const write = Buffer.concat([u64(handle, 3n), u32(data.length, 0), u64(0n), u32(0, 0), data]);
    expect((await kernel.ask(Opcode.WRITE, nodeId, write)).body.readUInt32LE(0)).toBe(data.length);
    const read = Buffer.concat([u64(handle, 0n), u32(4096, 0), u64(0n), u32(0, 0)]);
    expect((await kernel.ask(Opcode.READ, nodeId, read)).body).toEqual(Buffer.concat([Buffer.alloc(3), data]));
  });

  test('refuses names of more than 255 bytes, also when they have fewer letters', async () => {
    const { kernel } = start();
    const lookup = async (name: string): Promise<number> =>
      (await kernel.ask(Opcode.LOOKUP, rootNodeId, nameArgument(name))).errno;
    expect(await lookup('x'.repeat(255))).toBe(errnoOf('ENOENT'));
    expect(await lookup('x'.repeat(256))).toBe(errnoOf('ENAMETOOLONG'));
    expect(await lookup('é'.repeat(128))).toBe(errnoOf('ENAMETOOLONG'));
  });

  test('lists no more than fits, and goes on where it stopped', async () => {
    const { kernel } = start();
    for (let index = 0; index < 40; index++) await makeFile(kernel, `name-${index}`);
    const opened = await kernel.ask(Opcode.OPENDIR, rootNodeId, u32(0, 0));
    const handle = opened.body.readBigUInt64LE(0);
    const names: string[] = [];
    for (let offset = 0n; ;) {
      const args = Buffer.concat([u64(handle, offset), u32(256, 0), u64(0n), u32(0, 0)]);
      const { body } = await kernel.ask(Opcode.READDIR, rootNodeId, args);
      expect(body.length).toBeLessThanOrEqual(256);
      if (body.length === 0) break;
      for (let at = 0; at < body.length;) {
        const length = body.readUInt32LE(at + 16);
        offset = body.readBigUInt64LE(at + 8);
        names.push(body.toString('utf8', at + 24, at + 24 + length));
        at += (24 + length + 7) & ~7;
      }
    }
    expect(names.sort()).toEqual(['.', '..', ...Array.from({ length: 40 }, (_x, index) => `name-${index}`)].sort());
  });

  test('gives the size of an attribute, its value, or ERANGE', async () => {
    const { kernel } = start();
    const set = Buffer.concat([u32(5, 0, 0, 0), nameArgument('user.a'), Buffer.from('value')]);
    expect((await kernel.ask(Opcode.SETXATTR, rootNodeId, set)).errno).toBe(0);
    const get = (size: number): Buffer => Buffer.concat([u32(size, 0), nameArgument('user.a')]);
    expect((await kernel.ask(Opcode.GETXATTR, rootNodeId, get(0))).body.readUInt32LE(0)).toBe(5);
    expect((await kernel.ask(Opcode.GETXATTR, rootNodeId, get(9))).body.toString()).toBe('value');
    expect((await kernel.ask(Opcode.GETXATTR, rootNodeId, get(4))).errno).toBe(errnoOf('ERANGE'));
  });

  test('ends a wait for a lock when the caller is interrupted', async () => {
    const { kernel, session } = start();
    const { nodeId, handle } = await makeFile(kernel, 'f');
    expect((await kernel.ask(Opcode.SETLK, nodeId, lockArguments(handle, 1n, 1))).errno).toBe(0);
    expect((await kernel.ask(Opcode.SETLK, nodeId, lockArguments(handle, 2n, 1))).errno).toBe(errnoOf('EAGAIN'));
    const waiting = kernel.start(Opcode.SETLKW, nodeId, lockArguments(handle, 2n, 1));
    expect((await kernel.ask(Opcode.STATFS, rootNodeId)).errno).toBe(0);
    expect(session.pendingCount).toBe(1);
    void kernel.interrupt(waiting.unique);
    expect((await waiting.reply).errno).toBe(errnoOf('EINTR'));
    expect(session.pendingCount).toBe(0);
  });

  test('asks for an interrupt again when the request has not come yet', async () => {
    const { kernel } = start();
    expect((await kernel.interrupt(4711n)).errno).toBe(errnoOf('EAGAIN'));
  });

  test('refuses more lock waits than it has room for, and goes on reading', async () => {
    const { kernel } = start({ waitsMax: 2 });
    const { nodeId, handle } = await makeFile(kernel, 'f');
    await kernel.ask(Opcode.SETLK, nodeId, lockArguments(handle, 1n, 1));
    for (const owner of [2n, 3n]) kernel.start(Opcode.SETLKW, nodeId, lockArguments(handle, owner, 1));
    expect((await kernel.ask(Opcode.SETLKW, nodeId, lockArguments(handle, 4n, 1))).errno).toBe(errnoOf('ENOLCK'));
    expect((await kernel.ask(Opcode.STATFS, rootNodeId)).errno).toBe(0);
  });

  test('answers a request that is sent again under its own number', async () => {
    const { kernel, session } = start();
    session.resend();
    expect(kernel.notices.map((notice) => notice.code)).toEqual([NotifyCode.RESEND]);
    const args = Buffer.concat([u32(0o755, 0), nameArgument('again')]);
    expect((await kernel.ask(Opcode.MKDIR, rootNodeId, args, 1n << 63n)).errno).toBe(0);
    expect(kernel.faults).toEqual([]);
  });

  test('drops an inode when the kernel has given every look-up back', async () => {
    const { kernel, fileSystem } = start();
    const { nodeId, handle } = await makeFile(kernel, 'f');
    await kernel.ask(Opcode.UNLINK, rootNodeId, nameArgument('f'));
    expect((await kernel.ask(Opcode.GETATTR, nodeId, Buffer.alloc(16))).errno).toBe(0);
    await kernel.ask(Opcode.RELEASE, nodeId, Buffer.concat([u64(handle), u32(0, 0), u64(0n)]));
    kernel.tell(Opcode.FORGET, nodeId, u64(1n));
    expect((await kernel.ask(Opcode.GETATTR, nodeId, Buffer.alloc(16))).errno).toBe(errnoOf('ESTALE'));
    expect(fileSystem.inodeCount).toBe(1);
  });

  test('ends when the file system is unmounted', async () => {
    const { kernel, ended } = start();
    kernel.close();
    await expect(ended).resolves.toBe('unmounted');
  });

  test('gives exactly one reply to whatever bytes a request consists of', async () => {
    const { kernel } = start();
    const quiet = new Set<number>([Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY]);
    const opcodes = Object.values(Opcode).filter((opcode) => !quiet.has(opcode) && opcode !== Opcode.DESTROY);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...opcodes, 54, 4096),
        fc.nat(8),
        fc.uint8Array({ maxLength: 160 }),
        async (opcode, nodeId, bytes) => {
          const isWait = opcode === Opcode.SETLKW;
          const { unique, reply } = kernel.start(opcode, nodeId, Buffer.from(bytes));
          if (isWait) void kernel.interrupt(unique);
          const { errno } = await reply;
          expect(errno).toBeGreaterThanOrEqual(0);
          expect(errno).toBeLessThan(4096);
        },
      ),
      { numRuns: 2000 },
    );
    expect(kernel.faults.filter((fault) => !fault.includes('never asked'))).toEqual([]);
  });
});

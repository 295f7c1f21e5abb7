import { beforeEach, describe, expect, test } from '@jest/globals';
import type { FileCredentials, XCap } from '#proto/generated/xtreemfs/global-types.ts';
import { aCaller, anOsd, aWorld, makeTestVolume, root } from '../testing/fixtures.ts';
import type { World } from '../testing/fixtures.ts';
import { altered, Harness, mount } from '../testing/harness.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { fsetattr } from './attributes.ts';
import { openFlags } from './capabilities.ts';
import { clearVouchersOf, ftruncate, open, renewCapability, updateFileSize } from './files.ts';
import { bucketOf } from './keys.ts';
import { mkdir, unlink } from './names.ts';
import { purgeErased, purgeOrphans, type Remover } from './removal.ts';
import { restoreFile } from './restore-file.ts';

const ann = aCaller('ann', ['staff']);
const bob = aCaller('bob', ['guests']);
let world: World;
let fs: Harness;

beforeEach(async () => {
  world = aWorld();
  await makeTestVolume(world.engine);
  fs = new Harness(world.engine);
});

/** Lets the time after a start pass, in which every file counts as open; the OSDs are heard of again. */
function startOver(): void {
  world.clock.advance(600_001);
  world.osds.replace([anOsd('osd1', { lastUpdatedS: world.clock.now() / 1000 })]);
}

const report = async (cap: XCap, sizeBytes: number, epoch: number): Promise<unknown> =>
  fs.as(ann, (op) => updateFileSize(op, { cap, sizeBytes, epoch, closes: false }));

describe('open', () => {
  test('gives a capability and replicas on the OSDs that the policy chooses', async () => {
    const { cap, xlocs, changed } = await fs.open(ann, 'f');
    expect(changed).toBe(true);
    expect(cap).toMatchObject({ accessMode: 0x102, clientIdentity: '10.0.0.1', truncateEpoch: 0, voucherSize: 0 });
    expect(cap.fileId).toBe('6a6c3e8e-1c0b-4f3a-9d55-0a1b2c3d4e5f:2');
    expect(cap.expireTimeMs - world.clock.now()).toBe(600_000);
    expect(xlocs).toMatchObject({ version: 0, replicaUpdatePolicy: '' });
    expect(xlocs.replicas[0]?.osdUuids).toHaveLength(1);
    expect(world.keys.check(cap, world.clock.now())).toBe('valid');
  });

  test('keeps the replicas of a file that has some', async () => {
    const first = await fs.open(ann, 'f');
    for (let i = 0; i < 10; i++) expect((await fs.open(ann, 'f')).xlocs).toEqual(first.xlocs);
  });

  test('makes the stripe narrower when there are fewer OSDs than it is wide', async () => {
    await fs.set('', 'xtreemfs.default_sp', '{"pattern":"STRIPING_POLICY_RAID0","size":64,"width":5}');
    const { xlocs } = await fs.open(ann, 'f');
    expect(xlocs.replicas[0]).toMatchObject({ stripingPolicy: { stripeSize: 64, width: 3 } });
    expect(new Set(xlocs.replicas[0]?.osdUuids).size).toBe(3);
  });

  test('a directory policy gives read/write replicas', async () => {
    await fs.as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    await fs.set('d', 'xtreemfs.default_rp', '{"update-policy":"WqRq","replication-factor":3,"replication-flags":0}');
    const { xlocs } = await fs.open(ann, 'd/f');
    expect(xlocs.replicaUpdatePolicy).toBe('WqRq');
    expect(xlocs.replicas.map((replica) => replica.osdUuids.length)).toEqual([1, 1, 1]);
    expect((await fs.open(ann, 'g')).xlocs.replicas).toHaveLength(1);
  });

  test.each([
    ['EIO', 'without any usable OSD', 'f', 0x102],
    ['ENOENT', 'of a missing file without CREAT', 'f', 0],
  ])('answers %s %s', async (code, _, path, flags) => {
    world.osds.replace([anOsd('osd1', { status: 1 }), anOsd('osd2', { lastUpdatedS: 0 })]);
    expect(await fs.codeOf(ann, fs.opening(path, flags))).toBe(code);
  });

  test('answers ENOSPC when the OSDs are full, and EIO when there would be too few in any case', async () => {
    const full = { usableBytes: 1000 };
    world.osds.replace([anOsd('osd1', full), anOsd('osd2', full), anOsd('osd3', { ...full, status: 1 })]);
    expect(await fs.codeOf(ann, fs.opening('f'))).toBe('ENOSPC');
    await fs.set('', 'xtreemfs.default_rp', '{"update-policy":"WqRq","replication-factor":3,"replication-flags":0}');
    expect(await fs.codeOf(ann, fs.opening('f'))).toBe('EIO');
  });

  test('checks the rights for the way of access', async () => {
    await fs.open(ann, 'f', undefined, 0o644);
    expect(await fs.codeOf(bob, fs.opening('f', 0))).toBe('done');
    for (const flags of [openFlags.writeOnly, openFlags.readWrite, openFlags.truncate]) {
      expect(await fs.codeOf(bob, fs.opening('f', flags))).toBe('EACCES');
    }
  });

  test('a file marked read-only is not opened for writing', async () => {
    await fs.open(ann, 'f');
    await fs.set('f', 'xtreemfs.read_only', 'true');
    expect(await fs.codeOf(root, fs.opening('f', openFlags.readWrite))).toBe('EPERM');
    expect(await fs.codeOf(root, fs.opening('f', 0))).toBe('done');
  });

  test('makes FIFOs for anyone and devices for the superuser', async () => {
    expect(await fs.codeOf(ann, fs.opening('fifo', 0x502, 0o10644))).toBe('done');
    expect(await fs.codeOf(ann, fs.opening('dev', 0x502, 0o20644))).toBe('EPERM');
    expect(await fs.codeOf(root, fs.opening('dev', 0x502, 0o20644))).toBe('done');
    expect((await fs.stat('fifo')).mode).toBe(0o10644);
    expect(await fs.codeOf(ann, fs.opening('fifo', 0))).toBe('ENXIO');
  });
});

describe('sizes and epochs', () => {
  test('a later epoch wins, or a larger size in the same one', async () => {
    const { cap } = await fs.open(ann, 'f');
    const seen: number[] = [];
    for (const [size, epoch] of [
      [100, 0],
      [50, 0],
      [10, 1],
      [200, 0],
      [20, 1],
    ] as const) {
      await report(cap, size, epoch);
      seen.push((await fs.stat('f')).size);
    }
    expect(seen).toEqual([100, 100, 10, 10, 20]);
  });

  test('each truncation gets an epoch of its own, which the file takes with the report', async () => {
    const { cap } = await fs.open(ann, 'f');
    const first = await fs.as(ann, (op) => ftruncate(op, cap));
    const second = await fs.as(ann, (op) => ftruncate(op, cap));
    expect([first.truncateEpoch, second.truncateEpoch]).toEqual([1, 2]);
    expect(first.accessMode & openFlags.truncate).not.toBe(0);
    expect((await fs.open(ann, 'f', openFlags.truncate | openFlags.readWrite)).cap.truncateEpoch).toBe(3);
    await report(second, 7, 2);
    expect(await fs.stat('f')).toMatchObject({ size: 7, truncateEpoch: 2 });
  });

  test('a report without its epoch is refused', async () => {
    const { cap } = await fs.open(ann, 'f');
    const update = { cap, sizeBytes: 1, epoch: undefined, closes: false };
    expect(await fs.codeOf(ann, (op) => updateFileSize(op, update))).toBe('EINVAL');
  });
});

describe('capabilities', () => {
  test.each<[string, (cap: XCap) => Partial<XCap>]>([
    ['another file', (cap) => ({ fileId: `${cap.fileId}1` })],
    ['another access', () => ({ accessMode: 0x202 })],
    ['a later end', (cap) => ({ expireTimeS: cap.expireTimeS + 1 })],
    ['another client', () => ({ clientIdentity: '10.9.9.9' })],
    ['a larger voucher', () => ({ voucherSize: 1 })],
    ['another epoch', () => ({ truncateEpoch: 9 })],
    [
      'fields shifted into each other',
      (cap) => ({ fileId: cap.fileId.slice(0, -1), accessMode: Number(`${cap.fileId.slice(-1)}${cap.accessMode}`) }),
    ],
    ['no signature', () => ({ serverSignature: '' })],
  ])('one altered to %s is refused', async (_, change) => {
    const { cap } = await fs.open(ann, 'f');
    const forged = altered(cap, change(cap));
    expect(await fs.codeOf(ann, (op) => renewCapability(op, forged, false))).toBe('EPERM');
    expect(await fs.codeOf(ann, (op) => ftruncate(op, forged))).toBe('EPERM');
    expect(
      await fs.codeOf(ann, (op) => updateFileSize(op, { cap: forged, sizeBytes: 1, epoch: 0, closes: false })),
    ).toBe('EPERM');
    expect(await fs.codeOf(ann, (op) => fsetattr(op, forged, { ...times }, 16))).toBe('EPERM');
  });

  test('an expired one is refused, and renewing in time prolongs it', async () => {
    const { cap } = await fs.open(ann, 'f');
    world.clock.advance(500_000);
    const renewed = await fs.as(ann, (op) => renewCapability(op, cap, false));
    expect(renewed.expireTimeMs).toBeGreaterThan(cap.expireTimeMs);
    world.clock.advance(200_000);
    expect(await fs.codeOf(ann, (op) => renewCapability(op, cap, false))).toBe('EPERM');
    expect(await fs.codeOf(ann, (op) => renewCapability(op, renewed, false))).toBe('done');
  });

  test('a read capability truncates nothing', async () => {
    await fs.open(ann, 'f');
    const { cap } = await fs.open(ann, 'f', 0);
    expect(await fs.codeOf(ann, (op) => ftruncate(op, cap))).toBe('EPERM');
  });

  test('sets times only', async () => {
    const { cap } = await fs.open(ann, 'f');
    expect(await fs.codeOf(ann, (op) => fsetattr(op, cap, times, 1))).toBe('EINVAL');
    await fs.as(ann, (op) => fsetattr(op, cap, { ...times, mtimeNs: 77n }, 32));
    expect((await fs.stat('f')).mtimeNs).toBe(77n);
  });
});

const times = { mode: 0, userId: '', groupId: '', size: 0, truncateEpoch: 0, atimeNs: 0n, mtimeNs: 0n, ctimeNs: 0n };

describe('an unlinked open file', () => {
  test('stays usable by its capability, and goes when that ends', async () => {
    startOver();
    const { cap, inode } = await fs.open(ann, 'f');
    await fs.as(ann, (op) => unlink(op, 'vol', 'f', { client: mount }));
    await report(cap, 42, 0);
    expect(world.engine.runNow(root, (op) => op.tx.findInode(1, inode.ino))).toMatchObject({ nlink: 0, size: 42 });
    world.clock.advance(300_000);
    const renewed = await fs.as(ann, (op) => renewCapability(op, cap, false));
    world.clock.advance(400_000);
    await fs.as(root, (op) => purgeOrphans(op, 100));
    expect(world.engine.runNow(root, (op) => op.tx.findInode(1, inode.ino))).toBeDefined();
    world.clock.advance(400_000);
    await fs.as(root, (op) => purgeOrphans(op, 100));
    expect(world.engine.runNow(root, (op) => op.tx.findInode(1, inode.ino))).toBeUndefined();
    expect(await fs.codeOf(ann, (op) => renewCapability(op, { ...renewed }, false))).toBe('EPERM');
  });

  test('a file that nobody has open goes at once', async () => {
    const { inode } = await fs.open(ann, 'f');
    world.clock.advance(700_000);
    await fs.as(ann, (op) => unlink(op, 'vol', 'f'));
    expect(world.engine.runNow(root, (op) => op.tx.findInode(1, inode.ino))).toBeUndefined();
  });
});

describe('the objects of an unlinked file', () => {
  const other = 'other mount';
  const openBy = async (client: string | undefined): Promise<unknown> => {
    const args = { volumeName: 'vol', path: 'f', flags: openFlags.readWrite, mode: 0, attributes: 0, client };
    return fs.as(ann, (op) => open(op, { ...args, coordinates: undefined }));
  };
  const areGiven = async (by: Remover): Promise<boolean> =>
    (await fs.as(ann, (op) => unlink(op, 'vol', 'f', by))).file !== undefined;

  let store: MemoryStore;

  beforeEach(async () => {
    store = new MemoryStore(bucketOf);
    world = aWorld({ store });
    await makeTestVolume(world.engine);
    fs = new Harness(world.engine);
    startOver();
  });

  test('are left to nobody whose name is too long to be kept', async () => {
    await fs.open(ann, 'f');
    await expect(openBy('x'.repeat(37))).rejects.toThrow('client_uuid: has 37 characters');
  });

  test('are left to the one client that has it open', async () => {
    await fs.open(ann, 'f');
    await openBy(mount);
    expect(await areGiven({ client: mount })).toBe(true);
  });

  test.each([
    ['another client has it open', [other], { client: mount }, false],
    ['a client of upstream has it open', [undefined], { client: mount }, false],
    ['a client of upstream deletes it', [], {}, false],
    ['another client has it open, but it is to be erased', [other], { client: mount, erases: true }, true],
  ])('when %s', async (_when, openers, by, given) => {
    await fs.open(ann, 'f');
    for (const client of openers) await openBy(client);
    expect(await areGiven(by)).toBe(given);
  });

  test('stay when the MRC was restarted and may have forgotten who has it open', async () => {
    await fs.open(ann, 'f');
    world = aWorld({ clock: world.clock, store });
    fs = new Harness(world.engine);
    await fs.as(ann, (op) => unlink(op, 'vol', 'f', { client: mount }));
    expect(await due()).toEqual([]);
    world.clock.advance(600_001);
    expect(await due()).toHaveLength(1);
  });

  test('are to be erased when the last capability has ended, again until that was done, and for a day', async () => {
    const { cap, inode } = await fs.open(ann, 'f');
    await openBy(other);
    expect(await areGiven({ client: mount })).toBe(false);
    world.clock.advance(300_000);
    await fs.as(ann, (op) => renewCapability(op, cap, false));
    world.clock.advance(400_000);
    expect(await due()).toEqual([]);
    world.clock.advance(200_001);
    const [creds] = await due();
    expect(creds).toMatchObject({ xcap: { fileId: cap.fileId }, xlocs: { replicas: [{}] } });
    expect(await due()).toEqual([]);
    world.clock.advance(600_001);
    expect(await due()).toHaveLength(1);
    await fs.as(root, (op) => purgeErased(op, cap.fileId));
    expect(world.engine.runNow(root, (op) => op.tx.findInode(1, inode.ino))).toBeUndefined();
    world.clock.advance(600_001);
    expect(await due()).toEqual([]);
  });

  test('are given up after a day', async () => {
    const { inode } = await fs.open(ann, 'f');
    expect(await areGiven({})).toBe(false);
    world.clock.advance(86_400_001);
    expect(await due()).toEqual([]);
    expect(world.engine.runNow(root, (op) => op.tx.findInode(1, inode.ino))).toBeUndefined();
  });

  const due = async (): Promise<readonly FileCredentials[]> =>
    (await fs.as(root, (op) => purgeOrphans(op, 100))).toErase;
});

describe('quotas', () => {
  const used = async (): Promise<string[]> => [
    await fs.get('', 'xtreemfs.usedspace'),
    await fs.get('', 'xtreemfs.blockedspace'),
    await fs.get('', 'xtreemfs.userusedspace.ann'),
    await fs.get('', 'xtreemfs.groupusedspace.staff'),
  ];

  test('vouchers reserve space, growth uses it, closing frees what is left', async () => {
    await fs.set('', 'xtreemfs.quota', '1000');
    await fs.set('', 'xtreemfs.vouchersize', '600');
    const { cap } = await fs.open(ann, 'f');
    expect(cap.voucherSize).toBe(600);
    expect(await used()).toEqual(['0', '600', '0', '0']);
    await report(cap, 500, 0);
    expect(await used()).toEqual(['500', '100', '500', '500']);
    const more = await fs.as(ann, (op) => renewCapability(op, cap, true));
    expect(more.voucherSize).toBe(1000);
    expect(await fs.codeOf(ann, fs.opening('g'))).toBe('ENOSPC');
    await fs.as(ann, (op) =>
      clearVouchersOf(op, more, [{ sizeBytes: 500, epoch: 0, isGenuine: true }], [cap.expireTimeMs]),
    );
    expect(await used()).toEqual(['500', '0', '500', '500']);
    expect(await fs.codeOf(ann, fs.opening('g'))).toBe('done');
  });

  test('a refused create leaves no file', async () => {
    await fs.set('', 'xtreemfs.userquota.ann', '10');
    const { cap } = await fs.open(ann, 'f');
    await report(cap, 10, 0);
    expect(await fs.codeOf(ann, fs.opening('g'))).toBe('ENOSPC');
    expect(await fs.names('')).toEqual(['f']);
    expect(await fs.codeOf(bob, fs.opening('g'))).toBe('done');
  });

  test('unlinking gives the space back', async () => {
    await fs.set('', 'xtreemfs.quota', '1000');
    const { cap } = await fs.open(ann, 'f');
    await report(cap, 300, 0);
    await fs.as(ann, (op) => unlink(op, 'vol', 'f'));
    expect(await used()).toEqual(['0', '0', '0', '0']);
  });

  test.each([
    ['a wrong number of answers', []],
    ['a forged answer', [{ sizeBytes: 1, epoch: 0, isGenuine: false }]],
  ])('clearing refuses %s', async (_, answers) => {
    const { cap } = await fs.open(ann, 'f');
    expect(await fs.codeOf(ann, (op) => clearVouchersOf(op, cap, answers, []))).toBe('EINVAL');
  });

  test('clearing the vouchers of a deleted file is fine', async () => {
    startOver();
    const { cap } = await fs.open(ann, 'f');
    await fs.as(ann, (op) => unlink(op, 'vol', 'f'));
    await fs.as(root, (op) => {
      op.tx.removeInode(op.tx.inode(1, 2));
    });
    expect(await fs.codeOf(ann, (op) => clearVouchersOf(op, cap, [], []))).toBe('done');
  });
});

describe('restoring an orphan', () => {
  const orphan = {
    path: 'lost+found/7',
    fileId: '6a6c3e8e-1c0b-4f3a-9d55-0a1b2c3d4e5f:77',
    sizeBytes: 5,
    osd: 'osd1',
    stripeSizeKb: 128,
  };

  test('enters it under its own number, and new files get later ones', async () => {
    await fs.as(root, (op) => restoreFile(op, orphan));
    expect(await fs.stat('lost+found/7')).toMatchObject({ ino: 77, size: 5, userId: 'root', mode: 0o100600 });
    expect((await fs.open(ann, 'new')).inode.ino).toBe(78);
  });

  test('refuses a number that is taken', async () => {
    await fs.open(ann, 'f');
    const taken = { ...orphan, fileId: orphan.fileId.replace(':77', ':2') };
    expect(await fs.codeOf(root, (op) => restoreFile(op, taken))).toBe('EEXIST');
  });
});

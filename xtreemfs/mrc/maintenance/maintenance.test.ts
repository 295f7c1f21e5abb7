import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { silentLogger } from '#common/logger.ts';
import { setattr, setattrs } from '../core/attributes.ts';
import { updateFileSize } from '../core/files.ts';
import { link, mkdir, readlink, symlink, unlink } from '../core/names.ts';
import { aCaller, aWorld, makeTestVolume, root } from '../testing/fixtures.ts';
import type { World } from '../testing/fixtures.ts';
import { Harness, mount } from '../testing/harness.ts';
import { volumePrefixes } from '../core/volumes.ts';
import { Maintenance } from './maintenance.ts';

type Terms = Parameters<Maintenance['createSnapshot']>[3];
const ann = aCaller('ann', ['staff']);
let folder: string;
let world: World;
let fs: Harness;
let maintenance: Maintenance;
const erased: string[] = [];
const looks: string[] = [];
let isDown = false;

function maintain(of: World): Maintenance {
  return new Maintenance({
    engine: of.engine,
    osds: {
      unlink: async (osd, { xcap }) => {
        erased.push(`${xcap.fileId} at ${osd}`);
        if (isDown) throw new Error('the OSD is down');
      },
      lookAtSnapshots: async (osd, volumeId) => {
        looks.push(`${volumeId} at ${osd}`);
        if (isDown) throw new Error('the OSD is down');
      },
    },
    osdUuids: () => ['osd-1', 'osd-2'],
    clock: of.clock,
    logger: silentLogger,
    dumpFolder: folder,
    orphanIntervalMs: 1000,
  });
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xtreemfs-mrc-dump-'));
  world = aWorld();
  erased.length = 0;
  looks.length = 0;
  isDown = false;
  await makeTestVolume(world.engine);
  fs = new Harness(world.engine);
  maintenance = maintain(world);
});
afterEach(async () => {
  await maintenance.stop();
  await rm(folder, { recursive: true, force: true });
});

async function plant(): Promise<void> {
  await fs.as(ann, (op) => mkdir(op, 'vol', 'd', 0o2755));
  await fs.as(ann, (op) => mkdir(op, 'vol', 'd/sub', 0o700));
  const { cap } = await fs.open(ann, 'd/file');
  await fs.as(ann, (op) => updateFileSize(op, { cap, sizeBytes: 1234, epoch: 3, closes: false }));
  await fs.open(ann, 'd/sub/deep');
  await fs.open(ann, 'd/fifo', 0x502, 0o10600);
  await fs.as(ann, (op) => symlink(op, 'vol', 'a <b> & "c"', 'd/sym'));
  await fs.as(ann, (op) => link(op, 'vol', 'd/file', 'hard'));
  await fs.open(ann, 'odd \udcff\n name');
  await fs.set('d/file', 'user.key', 'välue', ann);
  await fs.set('d/file', 'xtreemfs.acl', 'm u:bob:rw', ann);
  await fs.set('d', 'xtreemfs.default_acl', 's {"u:":"7","u:bob":"5","g:":"5","m:":"5","o:":"0"}', ann);
  await fs.set('d', 'xtreemfs.default_sp', '{"pattern":"STRIPING_POLICY_RAID0","size":64,"width":2}');
  await fs.set('', 'xtreemfs.userquota.ann', '1000000');
  await fs.set('', 'xtreemfs.volattr.color', 'red & blue');
  const past = {
    mode: 0,
    userId: '',
    groupId: '',
    size: 0,
    truncateEpoch: 0,
    atimeNs: 1n,
    mtimeNs: 1_600_000_000_123_456_789n,
    ctimeNs: 0n,
  };
  await fs.as(ann, (op) => setattr(op, 'vol', 'd/file', past, setattrs.mtime));
}

/** Everything that a client can see, as text. */
async function picture(of: Harness): Promise<string[]> {
  const lines: string[] = [];
  const visit = async (path: string): Promise<void> => {
    const stat = { ...(await of.stat(path)), dev: 0, etag: 0 };
    const isLink = (stat.mode & 0xf000) === 0xa000;
    const target = isLink ? await of.as(root, (op) => readlink(op, of.volumeName, path)) : '';
    lines.push(`${path} ${Object.values(stat).join(' ')} ${target}`);
    if ((stat.mode & 0xf000) !== 0x4000) return;
    for (const name of await of.names(path)) await visit(path === '' ? name : `${path}/${name}`);
  };
  await visit('');
  for (const [path, name] of [
    ['d/file', 'user.key'],
    ['d/file', 'xtreemfs.acl'],
    ['d', 'xtreemfs.default_acl'],
    ['d/file', 'xtreemfs.locations'],
    ['d', 'xtreemfs.default_sp'],
    ['', 'xtreemfs.userquota.ann'],
    ['', 'xtreemfs.userusedspace.ann'],
    ['', 'xtreemfs.volattr.color'],
    ['', 'xtreemfs.num_files'],
    ['', 'xtreemfs.num_dirs'],
    ['', 'xtreemfs.used_space'],
  ] as const) {
    lines.push(`${path} ${name} ${await of.get(path, name)}`);
  }
  return lines;
}

describe('dump and restore', () => {
  test('give the same tree, attributes, quotas and settings', async () => {
    await plant();
    await maintenance.dump('all.xml');
    const copy = aWorld();
    const other = maintain(copy);
    await other.restore('all.xml');
    await other.stop();
    expect(await picture(new Harness(copy.engine))).toEqual(await picture(fs));
    const next = await new Harness(copy.engine).open(ann, 'new');
    expect(next.inode.ino).toBe((await fs.open(ann, 'new')).inode.ino);
  });

  test('a restore is refused where volumes are, and a broken dump leaves none', async () => {
    await plant();
    await maintenance.dump('all.xml');
    await expect(maintenance.restore('all.xml')).rejects.toThrow('restore into an empty one');
    const text = await readFile(join(folder, 'all.xml'), 'utf8');
    for (const [name, broken] of [
      ['cut.xml', text.slice(0, text.length / 2)],
      ['version.xml', text.replace('dbversion="11"', 'dbversion="3"')],
      ['doctype.xml', `<!DOCTYPE x [<!ENTITY a "b">]>${text}`],
      ['number.xml', text.replace(/size="1234"/g, 'size="many"')],
    ] as const) {
      await writeFile(join(folder, name), broken);
      const copy = aWorld();
      const other = maintain(copy);
      await expect(other.restore(name)).rejects.toMatchObject({ code: 'EINVAL' });
      await other.stop();
      expect(copy.engine.listVolumes()).toEqual([]);
    }
  });

  test.each([['../elsewhere.xml'], ['/etc/passwd'], ['.hidden']])('%p is not in the folder of dumps', async (file) => {
    await expect(maintenance.dump(file)).rejects.toMatchObject({ code: 'EACCES' });
  });

  test('reads what upstream writes', async () => {
    await writeFile(
      join(folder, 'upstream.xml'),
      `<?xml version="1.0" encoding="UTF-8"?>
<filesystem dbversion="11"><volume id="v-1" name="old" acPolicy="2">
<dir id="1" name="old" uid="root" gid="root" atime="1" ctime="2" mtime="3" rights="511" w32Attrs="0">
<attrs><attr key="sp" value="UkFJRDAsIDI1NiwgMg==" enc="BASE64" owner=""/><attr key="osdPol" value="MTAwMCwzMDAy" enc="BASE64" owner=""/></attrs>
<file id="5" name="a&amp;b" size="7" epoch="1" issuedEpoch="2" uid="u" gid="g" atime="4" ctime="5" mtime="6" rights="420" w32Attrs="0" readOnly="false">
<xlocList version="0" ruPolicy=""><xloc pattern="RAID0, 256, 2" replFlags="0"><osd location="osd1"/><osd location="osd2"/></xloc></xlocList>
<attrs><attr key="note" value="aGk=" enc="BASE64" owner="u"/></attrs>
</file></dir><quotas><quota type="user" name="u" quota="99" used="7" blocked="0"/></quotas></volume></filesystem>`,
    );
    const copy = aWorld();
    const other = maintain(copy);
    await other.restore('upstream.xml');
    await other.stop();
    const old = new Harness(copy.engine, 'old');
    expect(await old.stat('a&b')).toMatchObject({
      ino: 5,
      size: 7,
      mtimeNs: 6_000_000_000n,
      mode: 0o100644,
      userId: 'u',
    });
    expect(JSON.parse(await old.get('a&b', 'xtreemfs.locations'))).toMatchObject({
      replicas: [{ osds: [{ uuid: 'osd1' }, { uuid: 'osd2' }] }],
    });
    expect(await old.get('', 'xtreemfs.default_sp')).toContain('"size":256,"width":2');
    expect(await old.get('', 'xtreemfs.userquota.u')).toBe('99');
    expect(await old.get('a&b', 'note', aCaller('u', ['g']))).toBe('hi');
  });
});

describe('a file that was deleted while another client had it open', () => {
  const advance = async (seconds: number): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      world.clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };

  test('is erased when its capabilities have ended, also by an OSD that was down at first', async () => {
    const { cap, inode, xlocs } = await fs.open(ann, 'f');
    await fs.open(ann, 'f', 0x2, 0, 'other mount');
    await fs.as(ann, (op) => unlink(op, 'vol', 'f', { client: mount }));
    const isKept = (): boolean => world.engine.runNow(root, (op) => op.tx.findInode(1, inode.ino)) !== undefined;
    const erasing = `${cap.fileId} at ${xlocs.replicas[0]?.osdUuids[0]}`;
    isDown = true;
    await maintenance.start();
    await advance(500);
    expect([erased, isKept()]).toEqual([[], true]);
    await advance(110);
    expect([erased, isKept()]).toEqual([[erasing], true]);
    isDown = false;
    await advance(620);
    expect([erased, isKept()]).toEqual([[erasing, erasing], false]);
  });
});

describe('snapshots', () => {
  const [flat, whole] = [false, true].map((isRecursive) => ({ isRecursive, isStrict: false })) as [Terms, Terms];

  test('keep a tree as it was, under the same file numbers, and can not be written', async () => {
    await plant();
    const before = await fs.stat('d/file');
    const write = await fs.set('', 'xtreemfs.snapshots', 'cr monday');
    if (write?.kind !== 'createSnapshot') throw new Error('no snapshot asked for');
    await maintenance.createSnapshot(write.volume, write.ino, write.name, write);
    await fs.as(ann, (op) => unlink(op, 'vol', 'd/file'));
    await fs.open(ann, 'later');
    const snapshot = new Harness(world.engine, 'vol@monday');
    expect(await snapshot.stat('d/file')).toMatchObject({ ino: before.ino, size: 1234 });
    expect(await snapshot.names('')).not.toContain('later');
    expect(await fs.get('', 'xtreemfs.snapshots')).toBe('monday');
    expect(await snapshot.codeOf(ann, snapshot.opening('new'))).toBe('EPERM');
    expect(await snapshot.codeOf(ann, snapshot.opening('d/file', 0x2))).toBe('EPERM');
    const opened = await snapshot.open(ann, 'd/file', 0);
    expect(opened.cap).toMatchObject({ snapConfig: 2, fileId: `${write.volume.id}:${before.ino}` });
    expect(opened.cap.snapTimestamp).toBeGreaterThan(0);
  });

  /** After this no capability is valid any more. */
  const closedMs = 700_000;
  const [gone, stays] = ['d/file', 'd/sub/deep'];

  /** Makes a snapshot of the whole volume. */
  async function freeze(name: string): Promise<void> {
    const [volume] = world.engine.listVolumes();
    if (volume === undefined) throw new Error('no volume');
    await maintenance.createSnapshot(volume, 1, name, { isRecursive: true, isStrict: true });
  }

  async function thaw(name: string): Promise<void> {
    const [volume] = world.engine.listVolumes();
    if (volume === undefined) throw new Error('no volume');
    await maintenance.deleteSnapshot(volume, name);
    await maintenance.settle();
  }

  /** Deletes a file with all its names. @returns whether the client is to delete its objects. */
  async function remove(path: string, ...names: string[]): Promise<boolean> {
    let isClients = false;
    for (const name of [path, ...names]) {
      const { file } = await fs.as(root, (op) => unlink(op, 'vol', name, { client: mount }));
      isClients = file !== undefined;
    }
    return isClients;
  }

  test('have every OSD keep what files hold before they are there, and none is made when one does not answer', async () => {
    await plant();
    await freeze('monday');
    const id = world.engine.listVolumes()[0]?.id ?? '';
    expect(looks).toEqual([`${id} at osd-1`, `${id} at osd-2`]);
    expect(Number(await fs.get('', 'xtreemfs.snapshot_times'))).toBeGreaterThan(0);
    isDown = true;
    await expect(freeze('tuesday')).rejects.toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/osd-1 does/),
    });
    expect(await fs.get('', 'xtreemfs.snapshots')).toBe('monday');
    expect((await fs.get('', 'xtreemfs.snapshot_times')).split(',')).toHaveLength(1);
  });

  test('keep the objects of files that are deleted meanwhile, and the last one takes them along', async () => {
    await plant();
    await freeze('first');
    await freeze('second');
    await fs.open(ann, 'young');
    world.clock.advance(closedMs);
    expect(await remove(gone, 'hard')).toBe(false);
    expect(await remove('young')).toBe(true);
    await thaw('first');
    expect(erased).toEqual([]);
    await thaw('second');
    expect(erased).toEqual([expect.stringMatching(/^[^:]+:\d+ at /)]);
    expect(await fs.stat(stays)).toMatchObject({ size: 0 });
  });

  test('are not forgotten while an OSD that is to delete objects is down, also over a restart', async () => {
    await plant();
    await freeze('first');
    world.clock.advance(closedMs);
    await remove(gone, 'hard');
    isDown = true;
    await thaw('first');
    expect(await fs.get('', 'xtreemfs.snapshots')).toBe('');
    await maintenance.stop();
    erased.length = 0;
    maintenance = maintain(world);
    await maintenance.start();
    await maintenance.settle();
    expect(erased.length).toBe(1);
    isDown = false;
    for (let i = 0; i < 20 && erased.length < 2; i++) {
      world.clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
      await maintenance.settle();
    }
    expect(erased).toHaveLength(2);
    expect(world.engine.runNow(root, (op) => op.tx.scan({ prefix: 'Mpurge:', limit: 10 }))).toEqual([]);
  });

  test('a file that is deleted while one is being made goes when it is known not to be in it', async () => {
    await plant();
    const [volume] = world.engine.listVolumes();
    if (volume === undefined) throw new Error('no volume');
    const snapshotOf = { volume: 1, name: 'half', timeMs: 1, rootIno: 1, isComplete: false };
    await fs.as(root, (op) => op.tx.putVolume({ ...volume, number: 9, snapshotOf }));
    expect(await remove(stays)).toBe(false);
    await maintenance.start();
    await maintenance.settle();
    for (let second = 0; second < 700 && erased.length === 0; second++) {
      world.clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(erased).toHaveLength(1);
  });

  test('a non-recursive one has the files of one directory and the way to it', async () => {
    await plant();
    const { ino } = await fs.stat('d');
    const [volume] = world.engine.listVolumes();
    if (volume === undefined) throw new Error('no volume');
    await maintenance.createSnapshot(volume, ino, 'flat', flat);
    const snapshot = new Harness(world.engine, 'vol@flat');
    expect(await snapshot.names('')).toEqual(['d']);
    expect(await snapshot.names('d')).toEqual(['fifo', 'file', 'sym']);
    await expect(maintenance.createSnapshot(volume, ino, 'flat', flat)).rejects.toMatchObject({ code: 'EEXIST' });
  });

  test('deleting one, or the volume, removes every record', async () => {
    await plant();
    const [volume] = world.engine.listVolumes();
    if (volume === undefined) throw new Error('no volume');
    await maintenance.createSnapshot(volume, 1, 'gone', whole);
    await maintenance.deleteSnapshot(volume, 'gone');
    await maintenance.createSnapshot(volume, 1, 'too', whole);
    await maintenance.removeVolume(volume);
    await maintenance.settle();
    expect(world.engine.allVolumes()).toEqual([]);
    const view = await world.engine.store.view();
    const left = [1, 2, 3]
      .flatMap((number) => volumePrefixes(number))
      .flatMap((prefix) => view.scan({ prefix, limit: 10 }));
    expect(left).toEqual([]);
    expect(view.scan({ prefix: 'M', limit: 10 }).map(({ key }) => key)).toEqual(['Mnext-volume']);
  });

  test('one that was being made when the MRC died is removed at the next start', async () => {
    await plant();
    const [volume] = world.engine.listVolumes();
    if (volume === undefined) throw new Error('no volume');
    await fs.as(root, (op) => {
      op.tx.putVolume({
        ...volume,
        number: 9,
        snapshotOf: { volume: 1, name: 'half', timeMs: 1, rootIno: 1, isComplete: false },
      });
    });
    await maintenance.start();
    await maintenance.settle();
    expect(world.engine.allVolumes().map((held) => held.number)).toEqual([1]);
  });
});

/** The mount holder over real FUSE and a real installation: what it mounts, whom files belong to, what survives what. */
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { listMounts } from '#xtreemfs/fuse/mount.ts';
import { canMount } from '../xtreemfs/mounts.ts';
import { ann, as, bob, LocalNode, team } from './local-node.ts';

const optionsAt = (mountPoint: string): readonly string[] =>
  listMounts().findLast((mount) => mount.mountPoint === mountPoint)?.options ?? [];

(canMount ? describe : describe.skip)('The mount holder (needs root and /dev/fuse)', () => {
  let node: LocalNode;
  const stage = async (): Promise<unknown> => node.ask({ op: 'stage', source: node.source, path: node.stagingPath });
  const publish = async (pod: string, isReadOnly = false): Promise<string> => {
    const target = node.podPath(pod);
    await node.ask({ op: 'publish', stagingPath: node.stagingPath, path: target, isReadOnly, isExclusive: false });
    return target;
  };

  beforeAll(async () => {
    node = await LocalNode.start();
    await stage();
  }, 120_000);
  afterAll(async () => node.stop(), 90_000);

  test('shows one mount to many pods, read-only to those that asked for it, and twice is once', async () => {
    await stage();
    const [one, two] = [await publish('one'), await publish('two', true)];
    await publish('one');
    expect(as(ann.uid, team.gid, `echo hello > ${one}/greeting && cat ${two}/greeting`)).toEqual({
      status: 0,
      output: 'hello',
    });
    expect(as(ann.uid, team.gid, `echo no > ${two}/greeting`).output).toMatch(/Read-only file system/);
    expect(
      new Set(
        listMounts()
          .filter(({ mountPoint }) => mountPoint.startsWith(node.kubeletDir))
          .map(({ device }) => device),
      ).size,
    ).toBe(1);
    await expect(
      node.ask({ op: 'publish', stagingPath: node.stagingPath, path: one, isReadOnly: true, isExclusive: false }),
    ).rejects.toThrow(/writable/);
    for (const target of [one, two]) await node.ask({ op: 'unpublish', path: target });
    expect(existsSync(one)).toBe(false);
    await node.ask({ op: 'unpublish', path: one });
  }, 60_000);

  test('files belong to members by name; ids that nobody was given, and root, are nobody', async () => {
    const target = await publish('names');
    as(ann.uid, team.gid, `umask 027; echo mine > ${target}/mine`);
    expect(as(bob.uid, team.gid, `cat ${target}/mine; stat -c '%u %g' ${target}/mine`).output).toBe(
      `mine\n${ann.uid} ${team.gid}`,
    );
    expect(as(4711, 4711, `cat ${target}/mine`).output).toMatch(/Permission denied/);
    expect(as(0, 0, `cat ${target}/mine`).output).toMatch(/Permission denied/);
    as(0, 0, `echo root > ${target}/by-root`);
    expect(as(ann.uid, team.gid, `stat -c %u ${target}/by-root`).output).toBe('65534');
    const admin = path.join(node.installation.mountPoint, 'mine');
    expect(statSync(admin).uid).toBe(65_534);
    await node.ask({ op: 'unpublish', path: target });
  }, 60_000);

  test('threat 27: no set-user-id program and no device works on a volume', async () => {
    const target = await publish('flags');
    expect(optionsAt(target)).toEqual(expect.arrayContaining(['nosuid', 'nodev']));
    expect(optionsAt(node.stagingPath)).toEqual(expect.arrayContaining(['nosuid', 'nodev']));
    as(ann.uid, team.gid, `cp /usr/bin/id ${target}/id && chmod 6755 ${target}/id`);
    expect(as(bob.uid, team.gid, `${target}/id -u`).output).toBe(String(bob.uid));
    await node.ask({ op: 'unpublish', path: target });
  }, 60_000);

  test('a terminating pod never takes the mount of another, and a volume in use stays', async () => {
    const [old, young] = [await publish('old'), await publish('young')];
    await expect(node.ask({ op: 'unstage', path: node.stagingPath })).rejects.toThrow(/in use at/);
    await node.ask({ op: 'unpublish', path: old });
    expect(as(ann.uid, team.gid, `echo still > ${young}/still && cat ${young}/still`).output).toBe('still');
    await node.ask({ op: 'unpublish', path: young });
  }, 60_000);

  test('threat 18: refuses paths that lead elsewhere', async () => {
    const elsewhere = path.join(node.scratch, 'elsewhere');
    mkdirSync(elsewhere);
    symlinkSync(elsewhere, path.join(node.kubeletDir, 'pods/link'));
    const to = async (target: string): Promise<unknown> =>
      node.ask({ op: 'publish', stagingPath: node.stagingPath, path: target, isReadOnly: false, isExclusive: false });
    await expect(to(`${node.kubeletDir}/pods/../../elsewhere/mount`)).rejects.toThrow(/plain absolute path/);
    await expect(to(`${elsewhere}/mount`)).rejects.toThrow(/does not lie below/);
    await expect(to(`${node.kubeletDir}/pods/link/mount`)).rejects.toThrow(/symbolic link/);
    await expect(to(`${node.kubeletDir}/pods/a\0b`)).rejects.toThrow(/NUL/);
    expect(existsSync(path.join(elsewhere, 'mount'))).toBe(false);
  }, 60_000);

  test('threat 19: only root of the node can open the socket', () => {
    const socket = path.join(node.stateDir, 'holder.sock');
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    expect(statSync(node.stateDir).mode & 0o777).toBe(0o700);
    const script = `require('net').connect('${socket}').on('error', (e) => console.log(e.code)).on('connect', () => console.log('in'))`;
    expect(as(ann.uid, team.gid, `${process.execPath} -e "${script}"`).output).toBe('EACCES');
  });

  test('a worker that is killed costs no open file and no byte', async () => {
    const target = await publish('worker');
    const file = await fs.open(path.join(target, 'kept'), 'w+');
    await file.write('before ');
    const [held] = await node.ask({ op: 'list' });
    process.kill(held?.pid ?? 0, 'SIGKILL');
    await file.write('after');
    await file.sync();
    await file.close();
    expect(readFileSync(path.join(target, 'kept'), 'utf8')).toBe('before after');
    const [after] = await node.ask({ op: 'list' });
    expect(after?.pid).not.toBe(held?.pid);
    await node.ask({ op: 'unpublish', path: target });
  }, 60_000);

  test('a holder that died is followed by one that mounts anew, also where pods have the volume', async () => {
    const [one, two] = [await publish('one'), await publish('two', true)];
    as(ann.uid, team.gid, `echo kept > ${one}/over-holders`);
    await node.killHolder();
    await node.startHolder();
    expect(as(ann.uid, team.gid, `cat ${one}/over-holders ${two}/over-holders`).output).toBe('kept\nkept');
    expect(optionsAt(two)).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']));
    for (const target of [one, two]) await node.ask({ op: 'unpublish', path: target });
  }, 60_000);

  test('an unstaged volume leaves nothing, and staging finds it again', async () => {
    await node.ask({ op: 'unstage', path: node.stagingPath });
    await node.ask({ op: 'unstage', path: node.stagingPath });
    expect(listMounts().filter(({ mountPoint }) => mountPoint.startsWith(node.kubeletDir))).toEqual([]);
    await stage();
    expect(await node.ask({ op: 'list' })).toHaveLength(1);
  }, 60_000);
});

/** What POSIX and Linux promise of every call, as cases that run in a directory of any file system. */
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import { sh } from './mounts.ts';

/** One promise. `folder` is fresh and empty, its mode 777. */
export interface PosixCase {
  readonly name: string;
  readonly run: (folder: string) => Promise<void>;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

const pause = async (ms: number): Promise<void> => await new Promise((resolve) => setTimeout(resolve, ms));
const asNobody = (command: string): string => `setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '${command}'`;
/** renameat2(2), which Node.js cannot call: FROM TO FLAGS; prints `done` or the error. */
const renameat2 =
  'my $n = `uname -m` =~ /^x86_64/ ? 316 : 276; my ($from, $to, $flags) = @ARGV; ' +
  'print syscall($n, -100, $from, -100, $to, $flags + 0) == 0 ? "done" : $!';
const long = 'n'.repeat(255);

const files: PosixCase[] = [
  {
    name: 'reads back what was written, also at odd offsets and across objects',
    run: async (folder) => {
      const file = await fs.open(join(folder, 'f'), 'w+');
      const data = Buffer.from(Array.from({ length: 400_003 }, (_unused, index) => (index * 31) % 251));
      await file.write(data, 0, data.length, 12_345);
      const back = Buffer.alloc(500_000, 1);
      const { bytesRead } = await file.read(back, 0, back.length, 0);
      await file.close();
      expect(bytesRead).toBe(12_345 + data.length);
      expect(back.subarray(0, 12_345).every((byte) => byte === 0)).toBe(true);
      expect(back.subarray(12_345, bytesRead).equals(data)).toBe(true);
    },
  },
  {
    name: 'open tells EEXIST, ENOENT, EISDIR, ENOTDIR and ENAMETOOLONG apart',
    run: async (folder) => {
      await fs.writeFile(join(folder, 'f'), 'x');
      expect(await codeOf(fs.open(join(folder, 'f'), 'wx'))).toBe('EEXIST');
      expect(await codeOf(fs.open(join(folder, 'none'), 'r'))).toBe('ENOENT');
      expect(await codeOf(fs.open(folder, 'r+'))).toBe('EISDIR');
      expect(await codeOf(fs.open(join(folder, 'f/below'), 'r'))).toBe('ENOTDIR');
      expect(await codeOf(fs.open(join(folder, `${long}n`), 'w'))).toBe('ENAMETOOLONG');
      await fs.writeFile(join(folder, long), 'x');
      expect(await fs.readFile(join(folder, long), 'utf8')).toBe('x');
    },
  },
  {
    name: 'appends at the end, wherever that has moved to',
    run: async (folder) => {
      const [a, b] = [await fs.open(join(folder, 'f'), 'a'), await fs.open(join(folder, 'f'), 'a')];
      for (let index = 0; index < 10; index++) await (index % 2 === 0 ? a : b).write(`${index};`);
      await a.close();
      await b.close();
      expect(await fs.readFile(join(folder, 'f'), 'utf8')).toBe('0;1;2;3;4;5;6;7;8;9;');
    },
  },
  {
    name: 'truncates to nothing when opened so, and to any size by path or by descriptor',
    run: async (folder) => {
      const path = join(folder, 'f');
      await fs.writeFile(path, 'x'.repeat(300_000));
      await fs.truncate(path, 200_000);
      expect((await fs.stat(path)).size).toBe(200_000);
      await fs.truncate(path, 3);
      await fs.truncate(path, 200_001);
      const content = await fs.readFile(path);
      expect([
        content.length,
        content.subarray(0, 3).toString(),
        content.subarray(3).every((byte) => byte === 0),
      ]).toEqual([200_001, 'xxx', true]);
      const file = await fs.open(path, 'w');
      expect((await file.stat()).size).toBe(0);
      await file.write('ab');
      await file.truncate(1);
      await file.close();
      expect(await fs.readFile(path, 'utf8')).toBe('a');
    },
  },
  {
    name: 'keeps holes: a byte at 5 GiB leaves zeros before it',
    run: async (folder) => {
      const at = 5 * 2 ** 30;
      const file = await fs.open(join(folder, 'f'), 'w+');
      const isBounded = (await codeOf(file.write(Buffer.from('z'), 0, 1, at))) === 'EFBIG';
      if (!isBounded) {
        expect((await file.stat()).size).toBe(at + 1);
        const { buffer } = await file.read(Buffer.alloc(3, 1), 0, 3, at - 2);
        expect(buffer).toEqual(Buffer.from([0, 0, 'z'.charCodeAt(0)]));
      }
      await file.close();
    },
  },
  {
    name: 'goes on with a file that was deleted while open, until it is closed',
    run: async (folder) => {
      const path = join(folder, 'f');
      const file = await fs.open(path, 'w+');
      await file.write('before');
      await fs.unlink(path);
      expect(await codeOf(fs.stat(path))).toBe('ENOENT');
      await file.write(' after', 6);
      expect((await file.stat()).nlink).toBe(0);
      expect((await file.read(Buffer.alloc(20), 0, 20, 0)).buffer.toString('utf8', 0, 12)).toBe('before after');
      await file.chmod(0o600);
      expect((await file.stat()).mode & 0o777).toBe(0o600);
      await file.truncate(2);
      expect((await file.stat()).size).toBe(2);
      await fs.writeFile(path, 'other');
      await file.close();
      expect(await fs.readFile(path, 'utf8')).toBe('other');
    },
  },
  {
    name: 'shows one process what another has written, at once',
    run: async (folder) => {
      const file = await fs.open(join(folder, 'f'), 'w');
      await file.write('not closed yet');
      expect(await sh(`cat '${join(folder, 'f')}'`)).toBe('not closed yet');
      await file.close();
    },
  },
  {
    name: 'syncs data, and a directory',
    run: async (folder) => {
      const file = await fs.open(join(folder, 'f'), 'w');
      await file.write('x');
      await file.sync();
      await file.datasync();
      await file.close();
      const directory = await fs.open(folder, 'r');
      await directory.sync();
      await directory.close();
    },
  },
  {
    name: 'copies a file, reserves space, and maps it',
    run: async (folder) => {
      await fs.writeFile(join(folder, 'a'), 'y'.repeat(150_000));
      await fs.copyFile(join(folder, 'a'), join(folder, 'b'));
      await sh(`cmp '${folder}/a' '${folder}/b' && fallocate -l 200000 '${folder}/b'`);
      expect((await fs.stat(join(folder, 'b'))).size).toBe(200_000);
    },
  },
  {
    name: 'punches holes, writes zeros and reserves space, with and without a change of size',
    run: async (folder) => {
      const path = join(folder, 'f');
      const data = Buffer.alloc(400_000, 7);
      await fs.writeFile(path, data);
      const same = async (): Promise<void> => {
        const found = await fs.readFile(path);
        expect([found.length, found.equals(data)]).toEqual([data.length, true]);
      };
      await sh(`fallocate --punch-hole --offset 100001 --length 150000 '${path}'`);
      data.fill(0, 100_001, 250_001);
      await same();
      await sh(`fallocate --zero-range --keep-size --offset 390000 --length 50000 '${path}'`);
      data.fill(0, 390_000);
      await same();
      await sh(`fallocate --keep-size --offset 400000 --length 90000 '${path}'`);
      await same();
      await sh(`fallocate --punch-hole --offset 500000 --length 10 '${path}'`);
      await same();
      await sh(`fallocate --zero-range --offset 300000 --length 150000 '${path}'`);
      expect((await fs.readFile(path)).equals(Buffer.concat([data.fill(0, 300_000), Buffer.alloc(50_000)]))).toBe(true);
      await expect(sh(`fallocate --collapse-range --offset 0 --length 4096 '${path}'`)).rejects.toThrow(
        'not supported',
      );
    },
  },
];

const names: PosixCase[] = [
  {
    name: 'makes directories and removes them when they are empty',
    run: async (folder) => {
      await fs.mkdir(join(folder, 'd'));
      expect(await codeOf(fs.mkdir(join(folder, 'd')))).toBe('EEXIST');
      await fs.writeFile(join(folder, 'd/f'), '');
      expect(await codeOf(fs.rmdir(join(folder, 'd')))).toBe('ENOTEMPTY');
      expect(await codeOf(fs.rmdir(join(folder, 'd/f')))).toBe('ENOTDIR');
      expect(['EISDIR', 'EPERM']).toContain(await codeOf(fs.unlink(join(folder, 'd'))));
      await fs.unlink(join(folder, 'd/f'));
      await fs.rmdir(join(folder, 'd'));
      expect(await fs.readdir(folder)).toEqual([]);
    },
  },
  {
    name: 'counts the links of directories',
    run: async (folder) => {
      await fs.mkdir(join(folder, 'a'));
      await fs.mkdir(join(folder, 'b'));
      expect((await fs.stat(folder)).nlink).toBe(4);
      await fs.rename(join(folder, 'a'), join(folder, 'b/a'));
      expect([(await fs.stat(folder)).nlink, (await fs.stat(join(folder, 'b'))).nlink]).toEqual([3, 3]);
    },
  },
  {
    name: 'links a file under two names',
    run: async (folder) => {
      const [a, b] = [join(folder, 'a'), join(folder, 'b')];
      await fs.writeFile(a, 'one');
      await fs.link(a, b);
      expect([(await fs.stat(a)).nlink, (await fs.stat(b)).ino]).toEqual([2, (await fs.stat(a)).ino]);
      expect(await codeOf(fs.link(a, b))).toBe('EEXIST');
      await fs.mkdir(join(folder, 'd'));
      expect(await codeOf(fs.link(join(folder, 'd'), join(folder, 'e')))).toBe('EPERM');
      await fs.appendFile(b, ' two');
      await fs.unlink(a);
      expect([await fs.readFile(b, 'utf8'), (await fs.stat(b)).nlink]).toEqual(['one two', 1]);
    },
  },
  {
    name: 'follows symbolic links, but not in circles',
    run: async (folder) => {
      await fs.writeFile(join(folder, 'f'), 'target');
      await fs.symlink('f', join(folder, 's'));
      expect([await fs.readlink(join(folder, 's')), await fs.readFile(join(folder, 's'), 'utf8')]).toEqual([
        'f',
        'target',
      ]);
      expect((await fs.lstat(join(folder, 's'))).size).toBe(1);
      await fs.symlink('loop', join(folder, 'loop'));
      expect(await codeOf(fs.stat(join(folder, 'loop')))).toBe('ELOOP');
      expect(await codeOf(fs.readlink(join(folder, 'f')))).toBe('EINVAL');
    },
  },
  {
    name: 'renames over what may be replaced, and refuses the rest',
    run: async (folder) => {
      const at = (name: string): string => join(folder, name);
      await fs.writeFile(at('a'), 'a');
      await fs.writeFile(at('b'), 'b');
      await fs.mkdir(at('d'));
      await fs.mkdir(at('full'));
      await fs.writeFile(at('full/f'), '');
      await fs.rename(at('a'), at('b'));
      expect([await fs.readFile(at('b'), 'utf8'), await codeOf(fs.stat(at('a')))]).toEqual(['a', 'ENOENT']);
      expect(await codeOf(fs.rename(at('b'), at('d')))).toBe('EISDIR');
      expect(await codeOf(fs.rename(at('d'), at('b')))).toBe('ENOTDIR');
      expect(['ENOTEMPTY', 'EEXIST']).toContain(await codeOf(fs.rename(at('d'), at('full'))));
      expect(await codeOf(fs.rename(at('d'), at('d/below')))).toBe('EINVAL');
      expect(await codeOf(fs.rename(at('none'), at('x')))).toBe('ENOENT');
      await fs.rename(at('full'), at('d'));
      expect(await fs.readdir(at('d'))).toEqual(['f']);
      await fs.link(at('b'), at('c'));
      await fs.rename(at('b'), at('c'));
      expect((await fs.readdir(folder)).sort()).toEqual(['b', 'c', 'd']);
    },
  },
  {
    name: 'lets two names change places, and renames without replacing',
    run: async (folder) => {
      const at = (name: string): string => join(folder, name);
      const flagged = async (from: string, to: string, flags: number): Promise<string> =>
        await sh(`perl -e '${renameat2}' '${at(from)}' '${at(to)}' ${flags} || true`);
      await fs.writeFile(at('a'), 'a');
      await fs.mkdir(at('d'));
      await fs.mkdir(at('d/e'));
      await fs.writeFile(at('d/e/f'), 'f');
      expect(await flagged('a', 'd/e', 2)).toBe('done');
      expect([await fs.readFile(at('d/e'), 'utf8'), await fs.readFile(at('a/f'), 'utf8')]).toEqual(['a', 'f']);
      expect([(await fs.stat(folder)).nlink, (await fs.stat(at('d'))).nlink]).toEqual([4, 2]);
      expect(await flagged('a', 'none', 2)).toBe('No such file or directory');
      expect(await flagged('d', 'd/e', 2)).toBe('Invalid argument');
      expect(await flagged('a', 'd', 1)).toBe('File exists');
      expect(await flagged('a', 'new', 1)).toBe('done');
      expect((await fs.readdir(folder)).sort()).toEqual(['d', 'new']);
      expect(await fs.readdir(at('new'))).toEqual(['f']);
    },
  },
  {
    name: 'goes on with open files below a directory that is renamed',
    run: async (folder) => {
      await fs.mkdir(join(folder, 'd'));
      const file = await fs.open(join(folder, 'd/f'), 'w+');
      await file.write('one');
      await fs.rename(join(folder, 'd'), join(folder, 'e'));
      await file.write(' two');
      await file.close();
      expect(await fs.readFile(join(folder, 'e/f'), 'utf8')).toBe('one two');
    },
  },
  {
    name: 'lists a large directory whole, and while it is emptied',
    run: async (folder) => {
      const wanted = Array.from({ length: 2500 }, (_unused, index) => `name-${index}`);
      for (let at = 0; at < wanted.length; at += 50) {
        await Promise.all(wanted.slice(at, at + 50).map(async (name) => await fs.writeFile(join(folder, name), '')));
      }
      expect((await fs.readdir(folder)).sort()).toEqual([...wanted].sort());
      await fs.rm(folder, { recursive: true });
      expect(await codeOf(fs.stat(folder))).toBe('ENOENT');
    },
  },
  {
    name: 'takes names that are no UTF-8, and keeps them',
    run: async (folder) => {
      const name = Buffer.from([0x66, 0xff, 0xfe, 0x67]);
      const path = Buffer.concat([Buffer.from(`${folder}/`), name]);
      await fs.writeFile(path, 'x');
      expect(await fs.readdir(folder, { encoding: 'buffer' })).toEqual([name]);
      expect(await fs.readFile(path, 'utf8')).toBe('x');
      await fs.unlink(path);
    },
  },
  {
    name: 'makes FIFOs and sockets that work',
    run: async (folder) => {
      await sh(`mkfifo '${folder}/p' && (echo through > '${folder}/p' &) && cat '${folder}/p' | grep -q through`);
      expect((await fs.stat(join(folder, 'p'))).isFIFO()).toBe(true);
    },
  },
];

const attributes: PosixCase[] = [
  {
    name: 'sets modes and owners, and clears set-user-ID when the owner changes',
    run: async (folder) => {
      const path = join(folder, 'f');
      await fs.writeFile(path, '');
      await fs.chmod(path, 0o4755);
      expect((await fs.stat(path)).mode & 0o7777).toBe(0o4755);
      await fs.chown(path, 65_534, 12_345);
      const { mode, uid, gid } = await fs.stat(path);
      expect([mode & 0o7777, uid, gid]).toEqual([0o755, 65_534, 12_345]);
    },
  },
  {
    name: 'clears set-user-ID when somebody else writes',
    run: async (folder) => {
      const path = join(folder, 'f');
      await fs.writeFile(path, 'x');
      await fs.chmod(path, 0o6777);
      await sh(asNobody(`echo y >> ${path}`));
      expect((await fs.stat(path)).mode & 0o7777).toBe(0o777);
    },
  },
  {
    name: 'sets times to the nanosecond, also of a symbolic link',
    run: async (folder) => {
      const path = join(folder, 'f');
      await fs.writeFile(path, '');
      await sh(`touch -d '2001-02-03 04:05:06.123456789 UTC' '${path}'`);
      expect((await fs.stat(path, { bigint: true })).mtimeNs).toBe(981_173_106_123_456_789n);
      await fs.symlink('f', join(folder, 's'));
      await fs.lutimes(join(folder, 's'), 1000, 2000);
      expect((await fs.lstat(join(folder, 's'))).mtimeMs).toBe(2_000_000);
      await sh(`touch -d '1960-01-01 UTC' '${path}'`);
      expect((await fs.stat(path)).mtimeMs).toBe(Date.UTC(1960, 0, 1));
    },
  },
  {
    name: 'moves the times that each call has to move',
    run: async (folder) => {
      const path = join(folder, 'f');
      await fs.writeFile(path, 'x');
      const [file, directory] = [await fs.stat(path), await fs.stat(folder)];
      await pause(20);
      await fs.chmod(path, 0o600);
      const changed = await fs.stat(path);
      expect([changed.ctimeMs > file.ctimeMs, changed.mtimeMs]).toEqual([true, file.mtimeMs]);
      await fs.appendFile(path, 'y');
      expect((await fs.stat(path)).mtimeMs).toBeGreaterThan(file.mtimeMs);
      expect((await fs.stat(folder)).mtimeMs).toBe(directory.mtimeMs);
      await fs.unlink(path);
      expect((await fs.stat(folder)).mtimeMs).toBeGreaterThan(directory.mtimeMs);
    },
  },
  {
    name: 'lets only those in who may',
    run: async (folder) => {
      await fs.writeFile(join(folder, 'secret'), 'x');
      await fs.chmod(join(folder, 'secret'), 0o600);
      await fs.chmod(folder, 0o755);
      await expect(sh(asNobody(`cat ${folder}/secret`))).rejects.toThrow('Permission denied');
      await expect(sh(asNobody(`touch ${folder}/new`))).rejects.toThrow('Permission denied');
      await expect(sh(asNobody(`rm -f ${folder}/secret`))).rejects.toThrow('Permission denied');
      await expect(sh(asNobody(`chmod 777 ${folder}/secret`))).rejects.toThrow('not permitted');
    },
  },
  {
    name: 'keeps others from deleting in a sticky directory',
    run: async (folder) => {
      await fs.writeFile(join(folder, 'mine'), 'x');
      await fs.chmod(folder, 0o1777);
      await expect(sh(asNobody(`rm -f ${folder}/mine`))).rejects.toThrow('not permitted');
      await sh(asNobody(`touch ${folder}/theirs && rm ${folder}/theirs`));
    },
  },
  {
    name: 'hands the group of a set-group-ID directory down',
    run: async (folder) => {
      await fs.chown(folder, 0, 4321);
      await fs.chmod(folder, 0o2775);
      await fs.mkdir(join(folder, 'd'));
      await fs.writeFile(join(folder, 'f'), '');
      const [directory, file] = [await fs.stat(join(folder, 'd')), await fs.stat(join(folder, 'f'))];
      expect([directory.gid, directory.mode & 0o2000, file.gid]).toEqual([4321, 0o2000, 4321]);
    },
  },
  {
    name: 'excludes by flock, until the lock is given back',
    run: async (folder) => {
      const path = join(folder, 'f');
      await fs.writeFile(path, '');
      await sh(`exec 9<>'${path}'; flock -x 9; ! flock -n '${path}' true`);
      await sh(`flock -n '${path}' true`);
      await sh(`exec 9<'${path}'; flock -s 9; flock -n -s '${path}' true; ! flock -n -x '${path}' true`);
    },
  },
  {
    name: 'says how much room there is',
    run: async (folder) => {
      const { blocks, bfree, bsize } = await fs.statfs(folder);
      expect(blocks * bsize).toBeGreaterThan(0);
      expect(bfree).toBeLessThanOrEqual(blocks);
    },
  },
  {
    name: 'tells what access is allowed',
    run: async (folder) => {
      await fs.writeFile(join(folder, 'f'), '');
      await fs.access(join(folder, 'f'), constants.R_OK | constants.W_OK);
      expect(await codeOf(fs.access(join(folder, 'f'), constants.X_OK))).toBe('EACCES');
      expect(await codeOf(fs.access(join(folder, 'none')))).toBe('ENOENT');
    },
  },
];

/** Every case. */
export const posixCases: readonly PosixCase[] = [...files, ...names, ...attributes];

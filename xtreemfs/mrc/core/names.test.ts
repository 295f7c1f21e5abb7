import { beforeEach, describe, expect, test } from '@jest/globals';
import { aCaller, aWorld, makeTestVolume, root } from '../testing/fixtures.ts';
import type { World } from '../testing/fixtures.ts';
import { linksOf, mount } from '../testing/harness.ts';
import type { Caller } from './access.ts';
import { access, getattr, setattr, setattrs } from './attributes.ts';
import { openFlags } from './capabilities.ts';
import { PosixError } from './errno.ts';
import type { Opened } from './files.ts';
import { open } from './files.ts';
import { ListingPositions, readdir } from './listing.ts';
import { link, mkdir, readlink, rename, renameFlagged, rmdir, symlink, unlink } from './names.ts';
import type { Operation } from './operation.ts';

const ann = aCaller('ann', ['staff']);
const bob = aCaller('bob', ['guests']);
let world: World;

beforeEach(async () => {
  world = aWorld();
  await makeTestVolume(world.engine);
});

async function as<T>(caller: Caller, body: (op: Operation) => T): Promise<T> {
  return world.engine.run(caller, body);
}

async function codeOf(caller: Caller, body: (op: Operation) => unknown): Promise<string> {
  try {
    await as(caller, body);
    return 'done';
  } catch (error) {
    if (error instanceof PosixError) return error.code;
    throw error;
  }
}

function touch(path: string, mode = 0o644): (op: Operation) => Opened {
  return (op) =>
    open(op, {
      volumeName: 'vol',
      path,
      flags: openFlags.create,
      mode,
      attributes: 0,
      coordinates: undefined,
      client: mount,
    });
}

const stat = async (path: string): Promise<NonNullable<ReturnType<typeof getattr>>> => {
  const found = await as(root, (op) => getattr(op, 'vol', path, 0));
  if (found === undefined) throw new Error('no stat');
  return { ...found, nlink: linksOf(found) };
};
const names = async (path: string): Promise<string[]> => {
  const args = { volumeName: 'vol', path, knownEtag: 0, limit: 0, namesOnly: true, seen: 0 };
  return (await as(root, (op) => readdir(op, args, new ListingPositions()))).map((entry) => entry.name);
};
const chmod = (path: string, mode: number, caller = root): Promise<unknown> =>
  as(caller, (op) => setattr(op, 'vol', path, { ...none, mode }, setattrs.mode));
const none = {
  mode: 0,
  userId: '',
  groupId: '',
  size: 0,
  truncateEpoch: 0,
  atimeNs: 0n,
  mtimeNs: 0n,
  ctimeNs: 0n,
  attributes: undefined,
};

test.each(['..', '../a', 'dir/..', 'dir/../../a', './a', 'dir/.', 'a\0b', 'dir/\0'])(
  'threat 18: %j names nothing: nothing is made, found or removed by it',
  async (path) => {
    await as(root, (op) => mkdir(op, 'vol', 'dir', 0o755));
    const before = await names('');
    for (const change of [touch(path), (op: Operation) => mkdir(op, 'vol', path, 0o755)]) {
      expect(await codeOf(root, change)).not.toBe('done');
    }
    expect(await codeOf(root, (op) => rmdir(op, 'vol', path))).not.toBe('done');
    expect(await codeOf(root, (op) => symlink(op, 'vol', 'target', path))).not.toBe('done');
    expect(await names('')).toEqual(before);
  },
);

describe('mkdir and rmdir', () => {
  test('a directory counts as a link of its parent while it exists', async () => {
    expect((await stat('')).nlink).toBe(2);
    await as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    expect(await stat('d')).toMatchObject({ nlink: 2, mode: 0o40755, userId: 'ann', groupId: 'staff' });
    expect((await stat('')).nlink).toBe(3);
    await as(ann, (op) => rmdir(op, 'vol', 'd'));
    expect((await stat('')).nlink).toBe(2);
    expect(await names('')).toEqual(['..', '.']);
  });

  test('a directory has one link for clients that read only the field of upstream, whose cache allows no other number', async () => {
    await as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    const args = { volumeName: 'vol', path: '', knownEtag: 0, limit: 0, namesOnly: false, seen: 0 };
    const entries = await as(ann, (op) => readdir(op, args, new ListingPositions()));
    expect(entries.map(({ name, stbuf }) => [name, stbuf?.nlink, stbuf?.directoryLinks])).toEqual([
      ['..', 1, 3],
      ['.', 1, 3],
      ['d', 1, 2],
    ]);
  });

  test('a setgid directory passes on its group, and to directories the bit', async () => {
    await as(ann, (op) => mkdir(op, 'vol', 'd', 0o777));
    await chmod('d', 0o2777);
    await as(bob, (op) => mkdir(op, 'vol', 'd/sub', 0o755));
    await as(bob, touch('d/file'));
    expect(await stat('d/sub')).toMatchObject({ groupId: 'staff', mode: 0o42755 });
    expect(await stat('d/file')).toMatchObject({ groupId: 'staff', mode: 0o100644 });
  });

  test.each([
    ['EEXIST', 'd', (op: Operation) => mkdir(op, 'vol', 'd', 0o755)],
    ['EEXIST', 'the root', (op: Operation) => mkdir(op, 'vol', '/', 0o755)],
    ['ENOENT', 'a missing parent', (op: Operation) => mkdir(op, 'vol', 'x/y', 0o755)],
    ['ENOTDIR', 'a file as parent', (op: Operation) => mkdir(op, 'vol', 'f/y', 0o755)],
    ['ENAMETOOLONG', 'a name of 256 bytes', (op: Operation) => mkdir(op, 'vol', 'é'.repeat(128), 0o755)],
    ['EINVAL', 'a dot name', (op: Operation) => mkdir(op, 'vol', 'd/..', 0o755)],
    ['EINVAL', 'a name with NUL', (op: Operation) => mkdir(op, 'vol', 'a\0b', 0o755)],
    ['ENOENT', 'an unknown volume', (op: Operation) => mkdir(op, 'other', 'd', 0o755)],
    ['ENOTEMPTY', 'rmdir of a full directory', (op: Operation) => rmdir(op, 'vol', 'd')],
    ['ENOTDIR', 'rmdir of a file', (op: Operation) => rmdir(op, 'vol', 'f')],
    ['EBUSY', 'rmdir of the root', (op: Operation) => rmdir(op, 'vol', '')],
    ['EISDIR', 'unlink of a directory', (op: Operation) => unlink(op, 'vol', 'd')],
    ['ENOENT', 'unlink of nothing', (op: Operation) => unlink(op, 'vol', 'nothing')],
    ['EPERM', 'a hard link to a directory', (op: Operation) => link(op, 'vol', 'd', 'l')],
    ['EEXIST', 'a hard link over a name', (op: Operation) => link(op, 'vol', 'f', 'd')],
    ['EINVAL', 'readlink of a file', (op: Operation) => readlink(op, 'vol', 'f')],
    ['EINVAL', 'rename into the own subtree', (op: Operation) => rename(op, 'vol', 'd', 'd/x')],
    ['ENOTEMPTY', 'rename over an ancestor', (op: Operation) => rename(op, 'vol', 'd/e', 'd')],
    ['EISDIR', 'rename of a file over a directory', (op: Operation) => rename(op, 'vol', 'f', 'd')],
    ['ENOTDIR', 'rename of a directory over a file', (op: Operation) => rename(op, 'vol', 'd', 'f')],
    ['ENOENT', 'rename of nothing', (op: Operation) => rename(op, 'vol', 'nothing', 'x')],
    ['EBUSY', 'rename of the root', (op: Operation) => rename(op, 'vol', '/', 'x')],
    ['EISDIR', 'open of a directory', touch('d')],
    ['EACCES', 'access to a missing file', (op: Operation) => access(op, 'vol', 'nothing', 4)],
    [
      'ENOTDIR',
      'readdir of a file',
      (op: Operation) =>
        readdir(
          op,
          { volumeName: 'vol', path: 'f', knownEtag: 0, limit: 0, namesOnly: true, seen: 0 },
          new ListingPositions(),
        ),
    ],
  ])('answers %s for %s', async (code, _, body) => {
    await as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    await as(ann, (op) => mkdir(op, 'vol', 'd/e', 0o755));
    await as(ann, touch('f'));
    expect(await codeOf(ann, body)).toBe(code);
  });
});

describe('permissions', () => {
  test('searching, listing, adding and removing each want their right', async () => {
    await as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    await as(ann, touch('d/f', 0o600));
    expect(await codeOf(bob, touch('d/g'))).toBe('EACCES');
    expect(await codeOf(bob, (op) => unlink(op, 'vol', 'd/f'))).toBe('EACCES');
    expect(await codeOf(bob, (op) => getattr(op, 'vol', 'd/f', 0))).toBe('done');
    expect(await codeOf(bob, touch('d/f'))).toBe('EACCES');
    await chmod('d', 0o700, ann);
    expect(await codeOf(bob, (op) => getattr(op, 'vol', 'd/f', 0))).toBe('EACCES');
    expect(await codeOf(root, (op) => getattr(op, 'vol', 'd/f', 0))).toBe('done');
  });

  test('in a sticky directory only the owner of the entry or directory removes or renames', async () => {
    await as(root, (op) => mkdir(op, 'vol', 'tmp', 0o1777));
    await as(ann, touch('tmp/a'));
    await as(bob, touch('tmp/b'));
    expect(await codeOf(bob, (op) => unlink(op, 'vol', 'tmp/a'))).toBe('EPERM');
    expect(await codeOf(bob, (op) => rename(op, 'vol', 'tmp/a', 'tmp/c'))).toBe('EPERM');
    expect(await codeOf(bob, (op) => rename(op, 'vol', 'tmp/b', 'tmp/a'))).toBe('EPERM');
    expect(await codeOf(ann, (op) => unlink(op, 'vol', 'tmp/a'))).toBe('done');
  });

  test('moving a directory to another parent wants write permission on it', async () => {
    await as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    await as(ann, (op) => mkdir(op, 'vol', 'e', 0o777));
    expect(await codeOf(bob, (op) => rename(op, 'vol', 'd', 'e/d'))).toBe('EACCES');
    expect(await codeOf(bob, (op) => rename(op, 'vol', 'd', 'd2'))).toBe('done');
  });

  test('the name root gives no rights', async () => {
    await as(ann, (op) => mkdir(op, 'vol', 'd', 0o700));
    expect(await codeOf(aCaller('root', ['root', 'admin']), touch('d/f'))).toBe('EACCES');
  });
});

describe('rename', () => {
  test('replaces a file and reports it for deletion at the OSDs', async () => {
    await as(ann, touch('a'));
    await as(ann, touch('b'));
    const removed = await as(ann, (op) => rename(op, 'vol', 'a', 'b', { client: mount }));
    expect(removed.file?.inode.xlocs?.replicas).toHaveLength(1);
    expect(await names('')).toEqual(['..', '.', 'b']);
  });

  test('leaves two names of one file alone', async () => {
    await as(ann, touch('a'));
    await as(ann, (op) => link(op, 'vol', 'a', 'b'));
    expect((await as(ann, (op) => rename(op, 'vol', 'a', 'b'))).file).toBeUndefined();
    expect(await names('')).toEqual(['..', '.', 'a', 'b']);
    expect((await stat('a')).nlink).toBe(2);
  });

  test('moves a directory with its link counts and its ..', async () => {
    await as(ann, (op) => mkdir(op, 'vol', 'from', 0o755));
    await as(ann, (op) => mkdir(op, 'vol', 'to', 0o755));
    await as(ann, (op) => mkdir(op, 'vol', 'from/d', 0o755));
    await as(ann, (op) => rename(op, 'vol', 'from/d', 'to/d'));
    expect([(await stat('from')).nlink, (await stat('to')).nlink]).toEqual([2, 3]);
    expect(await codeOf(ann, (op) => rename(op, 'vol', 'to', 'to/d/x'))).toBe('EINVAL');
  });

  test('replaces an empty directory', async () => {
    await as(ann, (op) => mkdir(op, 'vol', 'a', 0o755));
    await as(ann, (op) => mkdir(op, 'vol', 'b', 0o755));
    await as(ann, (op) => rename(op, 'vol', 'a', 'b'));
    expect(await names('')).toEqual(['..', '.', 'b']);
    expect((await stat('')).nlink).toBe(3);
  });
});

describe('links', () => {
  test('a symlink keeps its target, with the length as size', async () => {
    await as(ann, (op) => symlink(op, 'vol', '../tärget', 's'));
    expect(await as(bob, (op) => readlink(op, 'vol', 's'))).toBe('../tärget');
    expect(await stat('s')).toMatchObject({ mode: 0o120777, size: 10 });
  });

  test('a file lives until its last name goes, and only then its objects are to be deleted', async () => {
    await as(ann, touch('a'));
    await as(ann, (op) => link(op, 'vol', 'a', 'b'));
    expect((await as(ann, (op) => unlink(op, 'vol', 'a'))).file).toBeUndefined();
    expect((await stat('b')).nlink).toBe(1);
    expect((await as(ann, (op) => unlink(op, 'vol', 'b', { client: mount }))).file).toBeDefined();
  });

  test('names that are no UTF-8 keep their bytes', async () => {
    await as(ann, touch('a\udcff\udc80'));
    expect(await names('')).toEqual(['..', '.', 'a\udcff\udc80']);
  });
});

describe('attributes', () => {
  test('chown ends setuid and, on executables, setgid', async () => {
    await as(ann, touch('f', 0o6755));
    await as(root, (op) => setattr(op, 'vol', 'f', { ...none, userId: 'bob' }, setattrs.uid));
    expect(await stat('f')).toMatchObject({ mode: 0o100755, userId: 'bob' });
  });

  test.each([
    ['EPERM', 'mode of another user', { mode: 0o777 }, setattrs.mode],
    ['EPERM', 'owner', { userId: 'bob' }, setattrs.uid],
    ['EPERM', 'group one is not in', { groupId: 'staff' }, setattrs.gid],
    ['EPERM', 'times of another user', { mtimeNs: 5n }, setattrs.mtime],
  ])('refuses with %s to change the %s', async (code, _, change, toSet) => {
    await as(ann, touch('f'));
    expect(await codeOf(bob, (op) => setattr(op, 'vol', 'f', { ...none, ...change }, toSet))).toBe(code);
  });

  test('a writer who is no owner sets times to now only', async () => {
    await as(ann, touch('f', 0o666));
    await as(bob, (op) => setattr(op, 'vol', 'f', { ...none, mtimeNs: 5n }, setattrs.mtime));
    expect((await stat('f')).mtimeNs).toBeGreaterThan(1_000_000_000_000_000_000n);
  });

  test('a chmod by someone outside the group drops setgid', async () => {
    await as(ann, touch('f'));
    await as(root, (op) => setattr(op, 'vol', 'f', { ...none, groupId: 'wheel' }, setattrs.gid));
    await chmod('f', 0o2755, ann);
    expect((await stat('f')).mode).toBe(0o100755);
  });

  test('the caller who knows the present state gets no attributes again', async () => {
    await as(ann, touch('f'));
    const { etag = 0 } = await stat('f');
    expect(await as(ann, (op) => getattr(op, 'vol', 'f', etag))).toBeUndefined();
    await chmod('f', 0o600);
    expect(await as(ann, (op) => getattr(op, 'vol', 'f', etag))).toBeDefined();
  });
});

describe('readdir', () => {
  test('pages cover every name once, also when earlier names vanish between pages', async () => {
    for (let i = 0; i < 25; i++) await as(ann, touch(`f${String(i).padStart(2, '0')}`));
    const positions = new ListingPositions();
    const seen: string[] = [];
    for (;;) {
      const args = { volumeName: 'vol', path: '', knownEtag: 0, limit: 10, namesOnly: false, seen: seen.length };
      const page = await as(ann, (op) => readdir(op, args, positions));
      seen.push(...page.map((entry) => entry.name));
      if (page.length < 10) break;
      if (seen.length === 10) await as(ann, (op) => unlink(op, 'vol', 'f00'));
    }
    expect(seen).toEqual(['..', '.', ...Array.from({ length: 25 }, (_, i) => `f${String(i).padStart(2, '0')}`)]);
  });

  test('without a remembered position it counts from the start', async () => {
    for (let i = 0; i < 9; i++) await as(ann, touch(`f${i}`));
    const args = { volumeName: 'vol', path: '', knownEtag: 0, limit: 3, namesOnly: true, seen: 4 };
    expect((await as(ann, (op) => readdir(op, args, new ListingPositions()))).map((e) => e.name)).toEqual([
      'f2',
      'f3',
      'f4',
    ]);
  });

  test('without search permission there are names only', async () => {
    await as(ann, (op) => mkdir(op, 'vol', 'd', 0o744));
    await as(ann, touch('d/f'));
    const args = { volumeName: 'vol', path: 'd', knownEtag: 0, limit: 0, namesOnly: false, seen: 0 };
    expect(await as(bob, (op) => readdir(op, args, new ListingPositions()))).toEqual([
      { name: '..' },
      { name: '.' },
      { name: 'f' },
    ]);
  });
});

describe('names that change places', () => {
  const swap =
    (source: string, target: string, ino: number, flags = 2) =>
    (op: Operation) =>
      renameFlagged(op, 'vol', { source, target }, flags, ino).ino;
  const inoOf = async (path: string): Promise<number> => await as(root, (op) => getattr(op, 'vol', path, 0)?.ino ?? 0);

  beforeEach(async () => {
    await as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    await as(ann, (op) => mkdir(op, 'vol', 'd/e', 0o755));
    await as(ann, touch('f'));
  });

  test('do so once, however often it is asked for', async () => {
    const [file, folder] = [await inoOf('f'), await inoOf('d/e')];
    for (let time = 0; time < 3; time++) expect(await as(ann, swap('f', 'd/e', file))).toBe(file);
    expect([await inoOf('f'), await inoOf('d/e')]).toEqual([folder, file]);
    await as(ann, (op) => rename(op, 'vol', 'f', 'd/back'));
    expect(await inoOf('d/back')).toBe(folder);
  });

  test('are left alone when they are not what the caller means', async () => {
    const file = await inoOf('f');
    expect(await codeOf(ann, swap('d', 'd/e', file))).toBe('ENOENT');
    expect(await codeOf(ann, swap('f', 'none', file))).toBe('ENOENT');
    expect(await codeOf(ann, swap('f', 'd', file, 3))).toBe('EINVAL');
    expect(await codeOf(bob, swap('f', 'd/e', file))).toBe('EACCES');
    expect(await codeOf(ann, swap('d', 'd/e', await inoOf('d')))).toBe('EINVAL');
    expect(await codeOf(ann, swap('f', 'd', file, 1))).toBe('EEXIST');
    expect(await as(ann, swap('f', 'g', file, 1))).toBe(file);
    expect(await as(ann, swap('f', 'g', file, 1))).toBe(file);
    expect(await codeOf(ann, (op) => unlink(op, 'vol', 'f'))).toBe('ENOENT');
  });
});

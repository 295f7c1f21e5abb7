import { beforeEach, describe, expect, test } from '@jest/globals';
import { aCaller, aWorld, makeTestVolume, root } from '../testing/fixtures.ts';
import type { World } from '../testing/fixtures.ts';
import { Harness } from '../testing/harness.ts';
import { access } from './attributes.ts';
import { openFlags } from './capabilities.ts';
import { open } from './files.ts';
import { mkdir, unlink } from './names.ts';
import { getxattr, listxattr, removexattr, xattrFlags } from './xattrs.ts';

const ann = aCaller('ann', ['staff']);
const bob = aCaller('bob', ['guests', 'team']);
const cid = aCaller('cid', ['team']);
const opening = {
  volumeName: 'vol',
  flags: openFlags.create | openFlags.readWrite,
  attributes: 0,
  coordinates: undefined,
};
let world: World;
let fs: Harness;

beforeEach(async () => {
  world = aWorld();
  await makeTestVolume(world.engine);
  fs = new Harness(world.engine);
  await fs.open(ann, 'f');
});

const list = async (path: string, caller = root): Promise<string[]> =>
  (await fs.as(caller, (op) => listxattr(op, 'vol', path, true))).map((entry) => entry.name);

describe('attributes of users', () => {
  test('are set, listed, replaced and removed', async () => {
    await fs.set('f', 'user.a', 'one', ann);
    await fs.set('f', 'user.a', 'two', ann);
    expect(await fs.get('f', 'user.a')).toBe('two');
    expect(await list('f')).toContain('user.a');
    await fs.as(ann, (op) => removexattr(op, 'vol', 'f', 'user.a', false));
    expect(await fs.codeOf(ann, (op) => getxattr(op, 'vol', 'f', 'user.a'))).toBe('ENODATA');
  });

  test.each([
    ['EEXIST', 'creating one that exists', 'user.a', xattrFlags.create],
    ['ENODATA', 'replacing one that is missing', 'user.b', xattrFlags.replace],
    ['EINVAL', 'an empty name', '', 0],
    ['ERANGE', 'a name of 256 bytes', `user.${'x'.repeat(251)}`, 0],
    ['EPERM', 'a trusted one by a user', 'trusted.a', 0],
  ])('answers %s for %s', async (code, _, name, flags) => {
    await fs.set('f', 'user.a', 'one', ann);
    expect(await fs.codeOf(ann, fs.setting('f', name, 'x', flags))).toBe(code);
  });

  test('user.* follows the permissions of the file, other names are private', async () => {
    await fs.set('f', 'user.a', 'one', ann);
    await fs.set('f', 'note', 'of ann', ann);
    expect(await fs.get('f', 'user.a', bob)).toBe('one');
    expect(await fs.codeOf(bob, fs.setting('f', 'user.a', 'two'))).toBe('EACCES');
    expect(await fs.codeOf(bob, (op) => getxattr(op, 'vol', 'f', 'note'))).toBe('ENODATA');
    expect(await list('f', bob)).not.toContain('note');
  });
});

describe('attributes of the system', () => {
  test('the root shows what a mount needs', async () => {
    const names = await list('');
    expect(names).toEqual(
      expect.arrayContaining(['xtreemfs.ac_policy_id', 'xtreemfs.default_sp', 'xtreemfs.usable_osds']),
    );
    expect(await fs.get('', 'xtreemfs.ac_policy_id')).toBe('2');
    expect(JSON.parse(await fs.get('', 'xtreemfs.usable_osds'))).toHaveProperty('osd2', 'osd2.example.org');
    expect(await fs.get('', 'xtreemfs.num_files')).toBe('1');
  });

  test('the address of an object has no slash at its end', async () => {
    expect(await fs.get('/', 'xtreemfs.url')).toBe('pbrpc://mrc.example.org:32636/vol');
    expect(await fs.get('/f', 'xtreemfs.url')).toBe('pbrpc://mrc.example.org:32636/vol/f');
  });

  test('a file shows where it is', async () => {
    expect(JSON.parse(await fs.get('f', 'xtreemfs.locations'))).toMatchObject({
      'update-policy': '',
      version: 0,
      replicas: [
        {
          'striping-policy': { pattern: 'STRIPING_POLICY_RAID0', size: 128, width: 1 },
          osds: [{ vivaldi_coordinates: '' }],
        },
      ],
    });
    expect(await fs.get('f', 'xtreemfs.file_id')).toBe('6a6c3e8e-1c0b-4f3a-9d55-0a1b2c3d4e5f:2');
    expect([await fs.get('f', 'xtreemfs.object_type'), await fs.get('', 'xtreemfs.object_type')]).toEqual(['1', '2']);
  });

  test.each([
    ['EPERM', 'f', 'xtreemfs.default_sp', '{"pattern":"RAID0","size":1,"width":1}'],
    ['EPERM', '', 'xtreemfs.default_sp', ''],
    ['EINVAL', '', 'xtreemfs.default_sp', '{"pattern":"RAID5","size":1,"width":1}'],
    ['EINVAL', '', 'xtreemfs.default_sp', 'not json'],
    ['EPERM', '', 'xtreemfs.default_rp', '{"update-policy":"WqRq","replication-factor":1}'],
    ['EINVAL', '', 'xtreemfs.osel_policy', '1000,4711'],
    ['EINVAL', '', 'xtreemfs.quota', '-1'],
    ['EINVAL', 'f', 'xtreemfs.read_only', 'maybe'],
    ['EINVAL', 'f', 'xtreemfs.acl', 'q x'],
    ['EINVAL', 'f', 'xtreemfs.nothing', 'x'],
    ['EPERM', 'f', 'xtreemfs.file_id', 'x'],
    ['EINVAL', '', 'xtreemfs.snapshots', 'x y'],
  ])('answers %s when %p gets %s = %s', async (code, path, name, value) => {
    expect(await fs.codeOf(root, fs.setting(path, name, value))).toBe(code);
  });

  test('a rw policy needs stripes of width 1', async () => {
    await fs.set('', 'xtreemfs.default_sp', '{"pattern":"STRIPING_POLICY_RAID0","size":64,"width":2}');
    expect(
      await fs.codeOf(root, fs.setting('', 'xtreemfs.default_rp', '{"update-policy":"WaR1","replication-factor":2}')),
    ).toBe('EINVAL');
  });

  test('only the owner, a superuser or the admin writes', async () => {
    expect(await fs.codeOf(bob, fs.setting('f', 'xtreemfs.read_only', 'true'))).toBe('EPERM');
    expect(await fs.codeOf(ann, fs.setting('f', 'xtreemfs.read_only', 'true'))).toBe('done');
    expect(await fs.codeOf(ann, fs.setting('', 'xtreemfs.quota', '5'))).toBe('EPERM');
  });

  test('volume and policy attributes come and go', async () => {
    await fs.set('', 'xtreemfs.volattr.color', 'red');
    await fs.set('', 'xtreemfs.policies.1002.uuids', 'osd1');
    expect(await list('')).toEqual(expect.arrayContaining(['xtreemfs.volattr.color', 'xtreemfs.policies.1002.uuids']));
    await fs.set('', 'xtreemfs.volattr.color', '');
    expect(await list('')).not.toContain('xtreemfs.volattr.color');
  });

  test('a directory keeps its own striping until it is cleared', async () => {
    await fs.as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    await fs.set('d', 'xtreemfs.default_sp', '{"pattern":"STRIPING_POLICY_RAID0","size":32,"width":2}');
    expect((await fs.open(ann, 'd/f')).xlocs.replicas[0]?.stripingPolicy).toMatchObject({ stripeSize: 32, width: 2 });
    await fs.set('d', 'xtreemfs.default_sp', '');
    expect((await fs.open(ann, 'd/g')).xlocs.replicas[0]?.stripingPolicy).toMatchObject({ stripeSize: 128, width: 1 });
  });
});

describe('protection', () => {
  const writing = openFlags.readWrite;
  const appending = openFlags.writeOnly | openFlags.append;
  const tried = async (): Promise<string[]> =>
    await Promise.all([
      fs.codeOf(ann, fs.opening('f', writing)),
      fs.codeOf(ann, fs.opening('f', appending)),
      fs.codeOf(ann, fs.opening('f', appending | openFlags.truncate)),
      fs.codeOf(ann, fs.setting('f', 'user.a', 'x')),
      fs.codeOf(ann, fs.setting('f', 'xtreemfs.acl', 'm o::0')),
    ]);

  test.each([
    ['', ['done', 'done', 'done', 'done', 'done']],
    ['a', ['EPERM', 'done', 'EPERM', 'EPERM', 'EPERM']],
    ['i', ['EPERM', 'EPERM', 'EPERM', 'EPERM', 'EPERM']],
    ['ia', ['EPERM', 'EPERM', 'EPERM', 'EPERM', 'EPERM']],
  ])('"%s" lets pass what chattr says', async (letters, expected) => {
    await fs.set('f', 'xtreemfs.protection', letters);
    expect([await fs.get('f', 'xtreemfs.protection'), await tried()]).toEqual([letters, expected]);
    await fs.set('f', 'xtreemfs.protection', '');
    expect(await tried()).not.toContain('EPERM');
  });

  test('is for superusers, and of two letters only', async () => {
    expect(await fs.codeOf(ann, fs.setting('f', 'xtreemfs.protection', 'i'))).toBe('EPERM');
    expect(await fs.codeOf(root, fs.setting('f', 'xtreemfs.protection', 'd'))).toBe('EINVAL');
  });

  test('keeps a directory from getting and losing names', async () => {
    await fs.as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    await fs.open(ann, 'd/f');
    const made = async (path: string): Promise<string> => await fs.codeOf(ann, fs.opening(path));
    const gone = async (path: string): Promise<string> => await fs.codeOf(root, (op) => unlink(op, 'vol', path));
    await fs.set('d', 'xtreemfs.protection', 'a');
    expect([await made('d/g'), await gone('d/f')]).toEqual(['done', 'EPERM']);
    await fs.set('d', 'xtreemfs.protection', 'i');
    expect([await made('d/h'), await gone('d/f')]).toEqual(['EPERM', 'EPERM']);
  });
});

describe('access control lists', () => {
  const may = async (caller: typeof ann): Promise<string> => {
    const granted = await Promise.all(
      (
        [
          ['r', 4],
          ['w', 2],
          ['x', 1],
        ] as const
      ).map(async ([letter, bit]) =>
        (await fs.codeOf(caller, (op) => access(op, 'vol', 'f', bit))) === 'done' ? letter : '-',
      ),
    );
    return granted.join('');
  };

  test('named users and groups count under the mask', async () => {
    await fs.set('f', 'xtreemfs.acl', 'm u:bob:rwx', ann);
    expect([await may(bob), await may(cid)]).toEqual(['rwx', 'r--']);
    await fs.set('f', 'xtreemfs.acl', 'm g:team:rw', ann);
    expect([await may(bob), await may(cid)]).toEqual(['rwx', 'rw-']);
    await fs.set('f', 'xtreemfs.acl', 'm m::r', ann);
    expect([await may(bob), await may(cid), await may(ann)]).toEqual(['r--', 'r--', 'rw-']);
    await fs.set('f', 'xtreemfs.acl', 'x u:bob', ann);
    await fs.set('f', 'xtreemfs.acl', 'x g:team', ann);
    expect([await may(bob), (await fs.stat('f')).mode]).toEqual(['r--', 0o100644]);
    expect(await fs.codeOf(root, (op) => getxattr(op, 'vol', 'f', 'xtreemfs.acl'))).toBe('ENODATA');
  });

  const whole = '{"u:":"rw-","u:bob":"rwx","g:":"r--","m:":"r-x","o:":"---"}';

  test('a whole list takes the place of mode and list, and of no list', async () => {
    await fs.set('f', 'xtreemfs.acl', `s ${whole}`, ann);
    expect([await may(ann), await may(bob), await may(cid)]).toEqual(['rw-', 'r-x', '---']);
    expect(JSON.parse(await fs.get('f', 'xtreemfs.acl'))).toEqual(JSON.parse(whole));
    expect(await fs.stat('f')).toMatchObject({ mode: 0o100650, acls: 1 });
    await fs.set('f', 'xtreemfs.acl', 's {"u:":"6","g:":"4","o:":"4"}', ann);
    expect(await fs.stat('f')).toMatchObject({ mode: 0o100644, acls: 0 });
  });

  test.each([
    ['no entry of the owner', '{"g:":"4","o:":"4"}'],
    ['named entries without a mask', '{"u:":"6","u:bob":"6","g:":"4","o:":"4"}'],
    ['no object', '[1]'],
    ['rights that are none', '{"u:":"9","g:":"4","o:":"4"}'],
  ])('a whole list with %s is refused', async (_, text) => {
    expect(await fs.codeOf(ann, fs.setting('f', 'xtreemfs.acl', `s ${text}`))).toBe('EINVAL');
    await fs.as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    expect(await fs.codeOf(ann, fs.setting('d', 'xtreemfs.default_acl', `s ${text}`))).toBe('EINVAL');
  });

  test('what is made in a directory gets its default list, cut by the mode and not by the umask', async () => {
    await fs.as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    await fs.set('d', 'xtreemfs.default_acl', 's {"u:":"7","u:bob":"7","g:":"5","m:":"7","o:":"5"}', ann);
    await fs.as(ann, (op) => open(op, { ...opening, path: 'd/f', mode: 0o600, unmaskedMode: 0o666 }));
    await fs.as(ann, (op) => mkdir(op, 'vol', 'd/e', 0o700, 0o770));
    expect([await fs.stat('d/f'), await fs.stat('d/e')]).toMatchObject([
      { mode: 0o100664, acls: 1 },
      { mode: 0o040770, acls: 3 },
    ]);
    expect(JSON.parse(await fs.get('d/f', 'xtreemfs.acl'))).toMatchObject({ 'u:bob': 'rwx', 'g:': 'r-x', 'm:': 'rw-' });
    expect(await fs.get('d/e', 'xtreemfs.default_acl')).toBe(await fs.get('d', 'xtreemfs.default_acl'));
    await fs.set('d', 'xtreemfs.default_acl', '', ann);
    await fs.as(ann, (op) => open(op, { ...opening, path: 'd/g', mode: 0o600, unmaskedMode: 0o666 }));
    expect(await fs.stat('d/g')).toMatchObject({ mode: 0o100600, acls: 0 });
  });

  test('a list of its own comes and goes beside a default list', async () => {
    await fs.as(ann, (op) => mkdir(op, 'vol', 'd', 0o755));
    await fs.set('d', 'xtreemfs.default_acl', `s ${whole}`, ann);
    await fs.set('d', 'xtreemfs.acl', `s ${whole}`, ann);
    await fs.set('d', 'xtreemfs.acl', '', ann);
    expect(await fs.stat('d')).toMatchObject({ mode: 0o040650, acls: 2 });
    expect(JSON.parse(await fs.get('d', 'xtreemfs.default_acl'))).toEqual(JSON.parse(whole));
  });

  test('the list reads as letters, as xtfsutil of upstream wants them', async () => {
    await fs.set('f', 'xtreemfs.acl', 'm u:bob:rx', ann);
    expect(JSON.parse(await fs.get('f', 'xtreemfs.acl'))).toEqual({
      'u:': 'rw-',
      'u:bob': 'r-x',
      'g:': 'r--',
      'm:': 'r-x',
      'o:': 'r--',
    });
  });

  test.each([
    ['POSIX', 2, ['rw-', 'r--']],
    ['NULL', 1, ['rwx', 'rwx']],
    ['VOLUME', 3, ['rwx', 'rwx']],
  ])('under the %s policy the owner and a stranger have their rights', async (_, accessPolicy, expected) => {
    world = aWorld();
    await makeTestVolume(world.engine, { accessPolicy });
    fs = new Harness(world.engine);
    await fs.open(ann, 'f');
    expect([await may(ann), await may(bob)]).toEqual(expected);
  });
});

describe('the permission matrix', () => {
  const bits = [0o000, 0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001, 0o754, 0o077];
  test.each(bits.map((mode) => [mode.toString(8), mode] as const))(
    'mode %s means the same for every class of user',
    async (_, mode) => {
      const member = aCaller('mia', ['other', 'staff']);
      await fs.as(root, (op) => {
        const inode = op.tx.inode(1, 2);
        inode.mode = 0o100000 | mode;
        op.tx.touch(inode);
      });
      for (const [caller, shift] of [
        [ann, 6],
        [member, 3],
        [bob, 0],
      ] as const) {
        for (const wanted of [1, 2, 3, 4, 5, 6, 7]) {
          const expected = ((mode >> shift) & wanted) === wanted ? 'done' : 'EACCES';
          expect(await fs.codeOf(caller, (op) => access(op, 'vol', 'f', wanted))).toBe(expected);
        }
      }
      const executes = (mode & 0o111) !== 0 ? 'done' : 'EACCES';
      expect(await fs.codeOf(root, (op) => access(op, 'vol', 'f', 6))).toBe('done');
      expect(await fs.codeOf(root, (op) => access(op, 'vol', 'f', 1))).toBe(executes);
    },
  );
});

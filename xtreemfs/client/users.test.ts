import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { issuedUsers, nobodyId, UserMapping } from './users.ts';

function mapping(files: Record<string, string>): {
  users: UserMapping;
  clock: VirtualClock;
  files: Record<string, string>;
} {
  const clock = new VirtualClock();
  return { users: new UserMapping({ read: (path) => files[path] }, clock), clock, files };
}

const passwd = 'root:x:0:0:root:/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\n# comment\nbroken\n';

describe('UserMapping', () => {
  test('writes a number without a name in digits, and reads it back', () => {
    const { users } = mapping({ '/etc/passwd': passwd });
    expect([users.userName(1000), users.userName(4711)]).toEqual(['ann', '4711']);
    expect([users.uid('ann'), users.uid('4711')]).toEqual([1000, 4711]);
  });

  test('shows a name that nobody has here as 65534, and never a number out of range', () => {
    const { users } = mapping({ '/etc/passwd': passwd });
    expect([users.uid('stranger'), users.uid('4294967295'), users.uid('99999999999')]).toEqual([
      nobodyId,
      nobodyId,
      nobodyId,
    ]);
  });

  test('names the groups of a calling process, the primary one first', () => {
    const { users } = mapping({
      '/etc/passwd': passwd,
      '/etc/group': 'users:x:100:\nwheel:x:10:ann\n',
      '/proc/77/status': 'Name:\tcat\nGroups:\t10 100 \n',
    });
    expect(users.caller(1000, 100, 77)).toEqual({ username: 'ann', groups: ['users', 'wheel'] });
    expect(users.caller(1000, 100, 0)).toEqual({ username: 'ann', groups: ['users'] });
  });

  test('asks for groups again after some seconds', () => {
    const { users, clock, files } = mapping({ '/proc/7/status': 'Groups:\t5\n' });
    expect(users.caller(1, 1, 7).groups).toEqual(['1', '5']);
    files['/proc/7/status'] = 'Groups:\t6\n';
    expect(users.caller(1, 1, 7).groups).toEqual(['1', '5']);
    clock.advance(6_000);
    expect(users.caller(1, 1, 7).groups).toEqual(['1', '6']);
  });
});

describe('UserMapping with a closed set of names', () => {
  const closed = (files: Record<string, string>): { users: UserMapping; clock: VirtualClock } => {
    const clock = new VirtualClock();
    const paths = { usersPath: '/ids/users', groupsPath: '/ids/groups' };
    const source = issuedUsers({ read: (path) => files[path] }, paths);
    return { users: new UserMapping(source, clock, { isClosed: true }), clock };
  };
  const files = { '/etc/passwd': passwd, '/ids/users': 'u-ann-7:x:7:8:::\n', '/ids/groups': 'vo-a:x:8:\n' };

  test('threat 26: root, and every id that is not in it, is nobody, whatever the machine calls it', () => {
    const { users } = closed(files);
    expect([0, 1000, 4711, 7].map((uid) => users.userName(uid))).toEqual(['nobody', 'nobody', 'nobody', 'u-ann-7']);
    expect(['root', '0', '1000', 'ann', 'u-ann-7'].map((name) => users.uid(name))).toEqual([
      ...[nobodyId, nobodyId, nobodyId, nobodyId],
      7,
    ]);
  });

  test('who is nobody gets nothing by groups either', () => {
    const { users } = closed({ ...files, '/proc/5/status': 'Groups:\t8\n' });
    expect(users.caller(0, 8, 5)).toEqual({ username: 'nobody', groups: ['nobody'] });
    expect(users.caller(7, 8, 5)).toEqual({ username: 'u-ann-7', groups: ['vo-a'] });
  });

  test('knows a new id within a quarter of a second', () => {
    const changing = { ...files };
    const { users, clock } = closed(changing);
    expect(users.caller(9, 8, 0).username).toBe('nobody');
    changing['/ids/users'] += 'u-bob-9:x:9:8:::\n';
    clock.advance(300);
    expect(users.caller(9, 8, 0).username).toBe('u-bob-9');
  });
});

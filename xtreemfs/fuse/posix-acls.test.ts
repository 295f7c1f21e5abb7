import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { UserMapping } from '../client/users.ts';
import { aclSteps, decodeAcl, encodeAcl, formatAcl, keepUnknown, parseAcl } from './posix-acls.ts';

const texts: Readonly<Record<string, string>> = {
  '/etc/passwd': 'root:x:0:0\nanna:x:1001:100\nbob:x:1000:100\nnobody:x:65534:65534',
  '/etc/group': 'root:x:0\nstaff:x:2000\nnogroup:x:65534',
};
const users = new UserMapping({ read: (path) => texts[path] }, new VirtualClock());
/** From `setfacl -m u:1001:rwx,u:1000:r,g:2000:rx` on ext4, mode 644. */
const kernels = Buffer.from(
  '02000000' + // version
    '01000600ffffffff' + // owner
    '02000400e8030000' + // bob
    '02000700e9030000' + // anna
    '04000400ffffffff' + // owning group
    '08000500d0070000' + // staff
    '10000700ffffffff' + // mask
    '20000400ffffffff', // others
  'hex',
);
const shown = '{"u:":"rw-","u:anna":"rwx","u:bob":"r--","g:staff":"r-x","g:":"r--","m:":"rwx","o:":"r--"}';

test("reads and writes the kernel's form, in its order", () => {
  expect(encodeAcl(parseAcl(shown), users)).toEqual(kernels);
  expect(decodeAcl(kernels, users)).toEqual(parseAcl(shown));
  expect(JSON.parse(formatAcl(decodeAcl(kernels, users)))).toMatchObject({ 'u:anna': '7', 'm:': '7' });
});

test.each([
  ['too short', '0200', 'EINVAL'],
  ['cut off', '0200000001000600ffff', 'EINVAL'],
  ['of another version', '01000000', 'ENOTSUP'],
  ['with an unknown tag', '0200000003000600ffffffff', 'EINVAL'],
])('refuses a list that is %s', (_, hex, code) => {
  expect(() => decodeAcl(Buffer.from(hex, 'hex'), users)).toThrow(expect.objectContaining({ code }));
});

describe('entries for names that this machine does not know', () => {
  const held = parseAcl('{"u:":"rw-","u:elsewhere":"rwx","u:anna":"r--","g:":"r--","m:":"rwx","o:":"---"}');

  test('are not shown, also not as nobody', () => {
    expect(decodeAcl(encodeAcl(held, users), users)).toEqual(
      parseAcl('{"u:":"rw-","u:anna":"r--","g:":"r--","m:":"rwx","o:":"---"}'),
    );
  });

  test('stay when the list is changed, and go when all named entries go', () => {
    const wanted = parseAcl('{"u:":"rw-","u:bob":"r--","g:":"r--","m:":"rwx","o:":"---"}');
    expect([...keepUnknown(wanted, held, users).keys()].sort()).toEqual([
      'g:',
      'm:',
      'o:',
      'u:',
      'u:bob',
      'u:elsewhere',
    ]);
    const plain = parseAcl('{"u:":"rw-","g:":"r--","o:":"---"}');
    expect(keepUnknown(plain, held, users)).toEqual(plain);
  });
});

test('takes single steps at an MRC that knows no whole lists: who goes first, the mask last', () => {
  const held = parseAcl('{"u:":"rw-","u:anna":"r--","g:":"r--","m:":"r--","o:":"---"}');
  const wanted = parseAcl('{"u:":"rw-","u:bob":"rwx","g:":"r--","m:":"r-x","o:":"---"}');
  expect(aclSteps(wanted, held)).toEqual(['x u:anna', 'm u::6', 'm o::0', 'm u:bob:7', 'm g::4', 'm m::5']);
});

import { describe, expect, test } from '@jest/globals';
import { parseScopes, permits } from './scopes.ts';

/** The examples of WLCG Common JWT Profiles 1.3 §2.2.1; a path with a trailing slash is a directory. */
describe('scopes allow what the profile says and no more (threat 34)', () => {
  test.each([
    ['storage.read:/foo', 'storage.read', '/foo', true],
    ['storage.read:/foo', 'storage.read', '/foo/x', true],
    ['storage.read:/foo', 'storage.read', '/bar', false],
    ['storage.modify:/baz', 'storage.modify', '/baz/qux', true],
    ['storage.create:/foo/bar', 'storage.create', '/foo/', true],
    ['storage.create:/foo/bar', 'storage.create', '/foo/bar', true],
    ['storage.create:/foo/bar', 'storage.create', '/foo/bar/', true],
    ['storage.create:/foo/bar', 'storage.create', '/foo/bar/qux', true],
    ['storage.create:/foo/bar', 'storage.create', '/foo', false],
    ['storage.create:/foo/bar', 'storage.create', '/foo/bargain', false],
    ['storage.create:/foo/bar', 'storage.create', '/foo/bargain/', false],
    ['storage.create:/foo/bar', 'storage.create', '/fo/', false],
    ['storage.create:/foo/bar/', 'storage.create', '/foo/bar', false],
    ['storage.create:/foo/bar/', 'storage.create', '/foo/bar/', true],
    ['storage.create:/foo/bar/', 'storage.create', '/foo/bar/x', true],
    ['storage.read:/foo/bar', 'storage.read', '/foo/', false],
    ['storage.read:/', 'storage.read', '/any/thing', true],
    ['storage.read:/', 'storage.create', '/any/thing', false],
    ['storage.create:/foo storage.create:/bar', 'storage.create', '/bar/x', true],
    ['storage.read:/protected storage.create:/protected/subdir', 'storage.create', '/protected/x', false],
    ['storage.read:/protected storage.create:/protected/subdir', 'storage.create', '/protected/subdir/x', true],
    ['storage.stage:/tape/subdir storage.read:/protected/data', 'storage.read', '/tape/subdir/x', false],
    ['storage.stage:/tape/subdir storage.read:/protected/data', 'storage.stage', '/tape/subdir/x', true],
    ['storage.create:/dir/file', 'storage.stat', '/dir/file', true],
    ['storage.poll:/dir', 'storage.stat', '/dir/file', false],
    ['storage.create:/dir/file', 'storage.stat', '/dir/', false],
    ['compute.create', 'compute.create', undefined, true],
    ['compute.create', 'compute.cancel', undefined, false],
    ['compute.create', 'storage.create', '/x', false],
    ['storage.read:/', 'compute.read', undefined, false],
    ['storage.read:/foo', 'storage.read', undefined, false],
    ['storage.read:/Foo', 'storage.read', '/foo', false],
    ['storage.read:/foo', 'storage.read', '/foo/../bar', false],
    ['storage.read:/foo', 'storage.read', '//foo', false],
    ['storage.read:/foo', 'storage.read', '/foo//x', false],
    ['storage.read:/foo', 'storage.read', '/foo/%2e%2e/bar', false],
    ['storage.read:/foo', 'storage.read', '/%66oo', false],
    ['storage.read:/a%20b', 'storage.read', '/a%20b/c', true],
    ['storage.read:/foo', 'storage.read', 'foo', false],
  ])('%s: %s of %s is %s', (text, operation, path, expected) => {
    expect(permits(parseScopes(text), operation, path)).toBe(expected);
  });

  test.each([
    ['storage.read', 'needs a path'],
    ['storage.read:', 'not absolute'],
    ['storage.read:foo', 'not absolute'],
    ['storage.read:/a/../b', 'not absolute and normalized'],
    ['storage.read:/a/./b', 'not absolute and normalized'],
    ['storage.read:/a//b', 'not absolute and normalized'],
    ['storage.read://', 'not absolute and normalized'],
    ['storage.read:/%2e%2e/b', 'not absolute and normalized'],
    ['storage.read:/%2E', 'not absolute and normalized'],
    ['storage.read:/%41', 'not absolute and normalized'],
    ['storage.read:/a%2Fb', 'not absolute and normalized'],
    ['storage.read:/a%2fb', 'not absolute and normalized'],
    ['storage.read:/a%00', 'not absolute and normalized'],
    ['storage.read:/a\u0000b', 'not absolute and normalized'],
    ['storage.read:/ü', 'not absolute and normalized'],
    ['storage.write:/a', 'is not known'],
    ['Storage.read:/a', 'is not known'],
    ['compute.create:/a', 'takes no path'],
    ['storage.read:/a  storage.read:/b', 'is not known'],
    ['', 'is not known'],
  ])('%p is refused, not repaired', (text, message) => {
    expect(() => parseScopes(text)).toThrow(message);
  });
});

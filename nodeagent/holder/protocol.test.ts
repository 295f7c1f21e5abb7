import { expect, test } from '@jest/globals';
import { holderRequest, parseSource, sourceText, type VolumeSource } from './protocol.ts';

const source: VolumeSource = {
  scheme: 'pbrpcs',
  dirs: [
    { host: 'dir.example.org', port: 32_638 },
    { host: 'fd00::1', port: 1 },
  ],
  volumeName: 'vol-22222222-2222-4222-8222-222222222222',
};

test('the mount table keeps all that is needed to mount anew', () => {
  expect(parseSource(sourceText(source))).toEqual(source);
  const relayed = { ...source, relay: { host: 'relay.example.org', port: 7444 } };
  expect(parseSource(sourceText(relayed))).toEqual(relayed);
});

test.each([
  'tmpfs',
  'xtreemfs@host:1/vol',
  'xtreemfs@pbrpc://host/vol',
  'xtreemfs@pbrpc://h:1/a/b',
  'xtreemfs@http://h:1/a',
  'xtreemfs@pbrpcs://h:1/a@relay',
  'xtreemfs@pbrpcs://h:1/a@relay:1@relay:2',
])('does not take %s for a mount of ours', (text) => {
  expect(parseSource(text)).toBeUndefined();
});

test.each([
  { op: 'stage', source: { ...source, volumeName: '../x' }, path: '/a' },
  { op: 'stage', source: { ...source, tls: '/etc' }, path: '/a' },
  { op: 'publish', stagingPath: 'a', path: '/b', isReadOnly: true, isExclusive: false },
  { op: 'exec', path: '/bin/sh' },
  { op: 'unpublish', path: '/a', force: true },
])('refuses the request %j', (request) => {
  expect(holderRequest.safeParse(request).success).toBe(false);
});

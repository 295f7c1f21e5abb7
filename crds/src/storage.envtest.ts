/** The rules of FileSystem and Volume on a real API server. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, type KubeObject } from '#sites/kube-client.ts';
import { installCrds } from './testing/install.ts';
import { collectionOf, refusalOf, refusalOfChange } from './testing/refusals.ts';

jest.setTimeout(30_000);
let plane: AloneControlPlane;
let client: KubeClient;

beforeAll(async () => {
  plane = await startControlPlane({ dir: mkdtempSync(path.join(tmpdir(), 'xtreemos-storage-')), name: 'storage-crds' });
  client = new KubeClient(plane.credentials);
  await installCrds(client);
}, 60_000);

afterAll(async () => {
  client.close();
  await plane.stop();
});

const apiVersion = 'xtreemos.io/v1alpha1';
const fileSystem = (spec: object, name = 'test'): KubeObject => ({
  apiVersion,
  kind: 'FileSystem',
  metadata: { name, namespace: 'default' },
  spec: spec as never,
});
const volume = (spec: object, name = 'test'): KubeObject => ({
  apiVersion,
  kind: 'Volume',
  metadata: { name, namespace: 'default' },
  spec: { size: '1Gi', ...spec },
});

test('an empty FileSystem gets one server of each and TLS, and lets no other namespace in', async () => {
  const stored = await client.json('POST', collectionOf(fileSystem({})), { body: fileSystem({}, 'defaults') });
  expect(stored.spec).toMatchObject({
    dir: { storage: { size: '1Gi' } },
    mrc: { storage: { size: '10Gi' }, resources: { requests: { cpu: '100m' } } },
    osds: { count: 1, storage: { size: '10Gi' } },
    store: 'Embedded',
    tls: 'Required',
    allowedVirtualOrganizations: [],
  });
});

test('a Volume gets its defaults: one copy, kept when it is deleted, for its group only', async () => {
  const stored = await client.json('POST', collectionOf(volume({})), { body: volume({}, 'defaults') });
  expect(stored.spec).toMatchObject({
    size: '1Gi',
    striping: { width: 1, stripeSizeKiB: 128 },
    replication: { policy: 'None', replicas: 1 },
    mode: '0770',
    reclaimPolicy: 'Retain',
    grants: [],
    snapshots: [],
  });
});

describe('is refused, and the refusal names the field,', () => {
  test.each<[string, KubeObject, RegExp]>([
    ['a name that makes no Service', fileSystem({}, '1st'), /must start with a letter/],
    ['a name too long', fileSystem({}, 'a'.repeat(41)), /at most 40/],
    ['a FileSystem over etcd', fileSystem({ store: 'Etcd' }), /spec\.store: .*use Embedded/],
    ['no OSD', fileSystem({ osds: { count: 0 } }), /spec\.osds\.count: .*greater than or equal to 1/],
    [
      'somebody who can be no virtual organization',
      fileSystem({ allowedVirtualOrganizations: ['Physics'] }),
      /spec\.allowedVirtualOrganizations\[0\]/,
    ],
    ['a Volume of no size', volume({ size: 'big' }), /spec\.size: Invalid value/],
    ['a mode in words', volume({ mode: 'rwx' }), /spec\.mode: Invalid value/],
    ['an owner who is no member', volume({ owner: 'alice' }), /spec\.owner: Invalid value/],
    ['copies without a policy', volume({ replication: { replicas: 2 } }), /spec\.replication\.replicas: .*must be 1/],
    [
      'a quorum of two',
      volume({ replication: { policy: 'Quorum', replicas: 2 } }),
      /spec\.replication\.replicas: .*at least 3 with Quorum/,
    ],
    [
      'stripes of files that are written to every copy',
      volume({ striping: { width: 2 }, replication: { policy: 'All', replicas: 2 } }),
      /spec\.striping\.width: .*use width 1/,
    ],
    [
      'a grant twice',
      volume({ grants: [{ virtualOrganization: 'biology' }, { virtualOrganization: 'biology' }] }),
      /spec\.grants\[1\]: Duplicate value/,
    ],
    [
      'a FileSystem without its namespace',
      volume({ fileSystem: { name: 'main' } }),
      /spec\.fileSystem\.namespace: Required/,
    ],
  ])('%s', async (_, object, message) => {
    expect(await refusalOf(client, object)).toMatch(message);
  });
});

describe('can not change:', () => {
  const source = { volume: 'other', snapshot: 'monday' };

  test.each<[string, KubeObject, object, RegExp]>([
    ['tls', fileSystem({}, 'tls'), { tls: 'Disabled' }, /spec\.tls: .*can not change/],
    [
      'the storage of OSDs',
      fileSystem({}, 'storage'),
      { osds: { storage: { size: '20Gi' } } },
      /spec\.osds\.storage: .*raise osds\.count/,
    ],
    [
      'the FileSystem of a Volume',
      volume({ fileSystem: { name: 'main', namespace: 'default' } }, 'moved'),
      { fileSystem: { name: 'other', namespace: 'default' } },
      /spec\.fileSystem: .*make another Volume/,
    ],
    ['its mode', volume({}, 'mode'), { mode: '0777' }, /spec\.mode: .*can not change/],
    [
      'what it began with',
      volume({ source }, 'filled'),
      { source: { ...source, snapshot: 'x' } },
      /source can not change/,
    ],
    ['that it began with something', volume({ source }, 'whole'), { source: null }, /spec\.source: .*or never/],
    ['that it began empty', volume({}, 'bare'), { source }, /spec\.source: .*or never/],
  ])('%s', async (_, object, change, message) => {
    await client.json('POST', collectionOf(object), { body: object });
    expect(await refusalOfChange(client, object, { spec: change })).toMatch(message);
  });

  test('the number of OSDs and the size of a Volume can', async () => {
    const storage = fileSystem({}, 'grows');
    await client.json('POST', collectionOf(storage), { body: storage });
    expect(await refusalOfChange(client, storage, { spec: { osds: { count: 3 } } })).toBe('');
    const data = volume({}, 'grows');
    await client.json('POST', collectionOf(data), { body: data });
    expect(await refusalOfChange(client, data, { spec: { size: '2Gi' } })).toBe('');
    const owner = 'u-alice-2013300123';
    expect(await refusalOfChange(client, data, { spec: { owner } })).toBe('');
  });
});

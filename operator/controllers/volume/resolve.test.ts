import { describe, expect, test } from '@jest/globals';
import { type FileSystem, fileSystemDefinition, isLetIn } from '#crds/file-system.ts';
import { type Volume, volumeDefinition } from '#crds/volume.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Stored } from '#runtime/types.ts';
import { claimOf, persistentVolumeOf, planClaims } from './claims.ts';
import { chooseFileSystem, ownershipOf } from './resolve.ts';

const stored = (name: string, namespace: string): Stored<FileSystem>['metadata'] => ({
  ...{ name, namespace, uid: `uid-of-${name}`, resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' },
});
const aFileSystem = (name: string, allowed: string[], annotations = {}): Stored<FileSystem> => ({
  metadata: { ...stored(name, 'xtreemos-system'), annotations },
  spec: fileSystemDefinition.spec.parse({ allowedVirtualOrganizations: allowed }),
});
const aVolume = (spec: object, namespace = 'vo-physics'): Stored<Volume> => ({
  metadata: stored('results', namespace),
  spec: volumeDefinition.spec.parse({ size: '1Gi', ...spec }),
});
const physics = {
  metadata: stored('physics', ''),
  spec: { groups: [{ name: 'analysis' }] },
} as unknown as Stored<VirtualOrganization>;
const alice = { metadata: stored('alice', 'vo-physics'), status: { userName: 'u-alice-2013266944' } };

describe('threat 57: a FileSystem of another namespace', () => {
  test.each<[string, string, string[], boolean]>([
    ['lets in a virtual organization that it names', 'vo-physics', ['physics'], true],
    ['lets in every one with *', 'vo-biology', ['*'], true],
    ['lets in no other', 'vo-biology', ['physics'], false],
    ['lets in no namespace that is none of a virtual organization', 'default', ['*'], false],
    ['lets in its own namespace', 'xtreemos-system', [], true],
  ])('%s', (_, namespace, allowed, expected) => {
    expect(isLetIn(namespace, aFileSystem('main', allowed))).toBe(expected);
  });
});

describe('a Volume that names no FileSystem', () => {
  const isDefault = { 'xtreemos.io/is-default-file-system': 'true' };
  test.each<[string, Stored<FileSystem>[], object]>([
    ['takes the only one', [aFileSystem('main', ['*'])], { metadata: { name: 'main' } }],
    [
      'takes the default one of several',
      [aFileSystem('main', ['*']), aFileSystem('fast', ['*'], isDefault)],
      { metadata: { name: 'fast' } },
    ],
    [
      'says that it must choose',
      [aFileSystem('main', ['*']), aFileSystem('fast', ['*'])],
      { reason: 'FileSystemAmbiguous' },
    ],
    ['says that it is not let in', [aFileSystem('main', ['biology'])], { reason: 'NotAllowed' }],
    ['says that there is none', [], { reason: 'FileSystemMissing' }],
  ])('%s', (_, fileSystems, expected) => {
    expect(chooseFileSystem('vo-physics', fileSystems)).toMatchObject(expected);
  });
});

describe('the root folder', () => {
  const members = [alice] as unknown as Stored<VOMembership>[];
  test.each<[string, object, object]>([
    ['is for all members by default', {}, { owner: 'root', group: 'vo-physics' }],
    [
      'belongs to a member and a group',
      { owner: 'u-alice-2013266944', group: 'analysis' },
      { owner: 'u-alice-2013266944', group: 'vo-physics/analysis' },
    ],
    ['belongs to no stranger', { owner: 'u-mallory-2013266945' }, { reason: 'OwnerUnknown' }],
    ['belongs to no group that is not there', { group: 'secret' }, { reason: 'OwnerUnknown' }],
  ])('%s', (_, spec, expected) => {
    expect(ownershipOf(aVolume(spec), physics, members)).toMatchObject(expected);
  });
});

test('a grant to read makes a claim in the other namespace, on a PersistentVolume that can only be read', () => {
  const volume = aVolume({ grants: [{ virtualOrganization: 'biology', access: 'Read' }] });
  const [own, granted] = planClaims(volume);
  expect(own).toMatchObject({ namespace: 'vo-physics', claimName: 'results', isReadOnly: false });
  expect(granted).toMatchObject({ namespace: 'vo-biology', claimName: 'physics-results', isReadOnly: true });
  const claim = { ...claimOf(volume, granted!), metadata: stored('physics-results', 'vo-biology') };
  expect(persistentVolumeOf(volume, 'uid-of-main', granted!, claim).spec).toMatchObject({
    claimRef: { namespace: 'vo-biology', name: 'physics-results', uid: claim.metadata.uid },
    csi: { driver: 'csi.xtreemos.io', volumeHandle: 'uid-of-main/uid-of-results', readOnly: true },
    persistentVolumeReclaimPolicy: 'Retain',
  });
});

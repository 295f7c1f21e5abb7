import { beforeAll, describe, expect, test } from '@jest/globals';
import { TestOrganization } from '#common/identity/testing/organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { FollowEvent } from '#proto/site/schema.ts';
import { aVirtualOrganization } from '#operator/testing/builders.ts';
import type { Volume } from '#crds/volume.ts';
import { tellMember, tellOrganization, tellVolume } from './documents.ts';
import { ForgottenStateError, Told } from './told.ts';

let physics: TestOrganization;
let other: TestOrganization;
const nothing = { genesis: undefined, epoch: 0, digest: undefined };

beforeAll(async () => {
  [physics, other] = [await TestOrganization.found(), await TestOrganization.found()];
});

/** What the home of physics tells of it. */
async function organizationEvent(
  epoch = 1,
  { by = physics, uid = 'uid-of-physics', spec = {} } = {},
): Promise<FollowEvent> {
  const vo = aVirtualOrganization('physics', { enrolment: { mode: 'Open' }, ...spec });
  const told = { ...vo, metadata: { ...vo.metadata, uid } };
  const json = tellOrganization(told, { genesis: by.genesisJws, state: await by.stateJws({ epoch }) });
  return { kind: 'ORGANIZATION', name: 'physics', json };
}

const member = (spec: object, status: object | undefined): VOMembership =>
  ({
    metadata: { name: 'ada', namespace: 'vo-physics' },
    spec: {
      principal: { issuer: 'https://id.example.org', subject: '42' },
      state: 'Active',
      groups: [],
      roles: ['member'],
      capabilities: [],
      identity: { slice: 7, localId: 2000 },
      acceptedUse: `sha256:${'0'.repeat(64)}`,
      ...spec,
    },
    status,
  }) as unknown as VOMembership;

describe('what the home of a virtual organization tells', () => {
  test('is taken when it is signed by what founded it, as one that nobody joins here', async () => {
    const told = new Told('rennes', nothing);
    await told.take(await organizationEvent());
    await told.take({ kind: 'WHOLE', name: 'physics', json: '' });
    expect(told).toMatchObject({ isWhole: true, rootKid: physics.genesis.rootKid });
    expect(told.organization?.spec).toMatchObject({
      homeSite: 'rennes',
      enrolment: { mode: 'Closed' },
      state: 'Operational',
    });
    expect(told.state?.content.epoch).toBe(1);
  });

  test('is frozen here once it is dissolved there', async () => {
    const told = new Told('rennes', nothing);
    await told.take(await organizationEvent(1, { spec: { state: 'Dissolved' } }));
    expect(told.organization?.spec.state).toBe('Frozen');
  });

  test('is refused when it is older than what was seen, also in an earlier life (threat 29)', async () => {
    const told = new Told('rennes', nothing);
    await told.take(await organizationEvent(5));
    await expect(told.take(await organizationEvent(4))).rejects.toThrow('5 was seen already');
    const later = new Told('rennes', { genesis: physics.genesis.digest, epoch: 6, digest: undefined });
    await expect(later.take(await organizationEvent(5))).rejects.toThrow('6 was seen here already');
  });

  test('is refused when it is another one of the number that was seen, also in an earlier life (threats 29, 64)', async () => {
    const told = new Told('rennes', nothing);
    await told.take(await organizationEvent(5));
    const pinned = { genesis: physics.genesis.digest, epoch: 5 };
    const same = new Told('rennes', { ...pinned, digest: told.state?.digest });
    await same.take(await organizationEvent(5));
    expect(same.state?.content.epoch).toBe(5);
    const another = new Told('rennes', { ...pinned, digest: `sha256:${'0'.repeat(64)}` });
    await expect(another.take(await organizationEvent(5))).rejects.toThrow(ForgottenStateError);
  });

  test.each<[string, () => Promise<FollowEvent>, string, object]>([
    [
      'of one founded anew under the name (threats 28, 68)',
      async () => organizationEvent(1, { by: other }),
      'rennes',
      nothing,
    ],
    ['of another home', async () => organizationEvent(), 'lyon', nothing],
    [
      'of another uid than it was founded with',
      async () => organizationEvent(1, { uid: 'uid-of-chemistry' }),
      'rennes',
      nothing,
    ],
    [
      'without what it must have',
      async () => Promise.resolve({ kind: 'ORGANIZATION', name: 'physics', json: '{}' }),
      'rennes',
      nothing,
    ],
    ['as no JSON', async () => Promise.resolve({ kind: 'MEMBER', name: 'ada', json: '{' }), 'rennes', nothing],
    [
      'of a member without a principal',
      async () => Promise.resolve({ kind: 'MEMBER', name: 'ada', json: '{}' }),
      'rennes',
      nothing,
    ],
    [
      'of a member under a path',
      async () => Promise.resolve({ kind: 'MEMBER', name: '../x', json: '{}' }),
      'rennes',
      nothing,
    ],
    [
      'of everything, and nothing of the organization',
      async () => Promise.resolve({ kind: 'WHOLE', name: '', json: '' }),
      'rennes',
      nothing,
    ],
  ])('is refused %s', async (_, event, home, pinned) => {
    const told = new Told(home, { ...nothing, ...pinned, genesis: physics.genesis.digest });
    await expect(told.take(await event())).rejects.toThrow();
    expect(told.organization).toBeUndefined();
    expect(told.members.size).toBe(0);
  });

  test.each<[string, object, object | undefined, string | undefined]>([
    ['Active', {}, { state: 'Active' }, 'Active'],
    ['suspended', { state: 'Suspended' }, { state: 'Suspended' }, 'Suspended'],
    ['suspended, before the status says so', { state: 'Suspended' }, { state: 'Active' }, 'Suspended'],
    ['banned', { state: 'Banned' }, { state: 'Banned' }, 'Banned'],
    ['only asking', { state: 'Requested' }, { state: 'Requested' }, undefined],
    ['without an id', { identity: undefined }, { state: 'Active' }, undefined],
    ['not looked at yet', {}, {}, undefined],
  ])('of a member who is %s', async (_, spec, status, state) => {
    const json = tellMember(member(spec, status));
    if (state === undefined) {
      expect(json).toBeUndefined();
      return;
    }
    const told = new Told('rennes', nothing);
    await told.take({ kind: 'MEMBER', name: 'ada', json: json ?? '' });
    expect(told.members.get('ada')).toMatchObject({ state, identity: { slice: 7, localId: 2000 } });
    expect(told.members.get('ada')).not.toHaveProperty('acceptedUse');
    await told.take({ kind: 'REMOVED', name: 'ada', json: '' });
    expect(told.members.size).toBe(0);
  });

  const uids = { uid: '11111111-1111-4111-8111-111111111111', fileSystemUID: '22222222-2222-4222-8222-222222222222' };
  const volume = (more: { metadata?: object; spec?: object; status?: object } = {}): Volume =>
    ({
      metadata: { name: 'data', namespace: 'vo-physics', uid: uids.uid, ...more.metadata },
      spec: {
        size: '1Gi',
        owner: 'u-alice-2013300123',
        grants: [],
        mode: '0770',
        reclaimPolicy: 'Delete',
        ...more.spec,
      },
      status: { sizeBytes: 1, fileSystemUID: uids.fileSystemUID, ...more.status },
    }) as unknown as Volume;

  test('of a volume stands for it here, and says nothing of what becomes of its files', async () => {
    const told = new Told('rennes', nothing);
    const grants = [{ virtualOrganization: 'biology', access: 'Write' }];
    await told.take({ kind: 'VOLUME', name: 'data', json: tellVolume(volume({ spec: { grants } })) ?? '' });
    expect(told.volumes.get('data')).toMatchObject({
      ...{ size: '1Gi', owner: 'u-alice-2013300123', mode: '0770', grants: [], reclaimPolicy: 'Retain' },
      remote: { site: 'rennes', volumeUID: uids.uid, fileSystemUID: uids.fileSystemUID },
    });
    await told.take({ kind: 'VOLUME_REMOVED', name: 'data', json: '' });
    expect(told.volumes.size).toBe(0);
  });

  test.each<[string, Volume]>([
    ['not made yet', volume({ status: { sizeBytes: undefined } })],
    ['of another site', volume({ spec: { remote: { site: 'lyon' } } })],
    ['made for a claim', volume({ metadata: { labels: { 'xtreemos.io/provisioned': 'true' } } })],
    ['being deleted', volume({ metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } })],
  ])('is nothing of a volume that is %s', (_, untold) => {
    expect(tellVolume(untold)).toBeUndefined();
  });

  test.each<[string, string, object]>([
    ['under a path', '../x', { ...uids, spec: { size: '1Gi' } }],
    ['with the uid of nothing', 'data', { ...uids, uid: '../../etc', spec: { size: '1Gi' } }],
    ['without a size', 'data', { ...uids, spec: {} }],
    ['that claims to be a home of another mode', 'data', { ...uids, spec: { size: '1Gi', mode: 'rwx' } }],
  ])('is refused of a volume %s (threat 52)', async (_, name, json) => {
    const told = new Told('rennes', nothing);
    await expect(told.take({ kind: 'VOLUME', name, json: JSON.stringify(json) })).rejects.toThrow();
    expect(told.volumes.size).toBe(0);
  });
});

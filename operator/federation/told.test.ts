import { beforeAll, describe, expect, test } from '@jest/globals';
import { TestOrganization } from '#common/identity/testing/organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { FollowEvent } from '#proto/site/schema.ts';
import { aVirtualOrganization } from '#operator/testing/builders.ts';
import { tellMember, tellOrganization } from './documents.ts';
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
});

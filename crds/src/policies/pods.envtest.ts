/** What pods of members may be, asked of a real API server by the members themselves, directly and through every kind that makes pods. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { waitFor } from '#sites/kube-client.ts';
import { podAttacks, podSecurity } from './testing/pod-attacks.ts';
import {
  accounts,
  aPod,
  chemistryBase,
  completeSpec,
  namespace,
  type Organization,
  physicsBase,
  pods,
  refusal,
  startOrganization,
  workloads,
} from './testing/organization.ts';

jest.setTimeout(60_000);
let organization: Organization;

beforeAll(async () => {
  organization = await startOrganization({ name: 'pods' });
}, 120_000);
afterAll(async () => organization.stop());

const attacks = podAttacks({
  ...{ uid: physicsBase + 1080, gid: physicsBase, account: accounts.alice },
  ...{ otherUid: physicsBase + 1081, otherAccount: accounts.bob },
  ...{ foreignGid: chemistryBase, foreignAccount: accounts.dave },
});

describe.each(workloads)('a %s', (_kind, at, build) => {
  test('of a member is accepted as it is written most shortly', async () => {
    expect(await refusal(organization.as('alice'), at, build('mine', {}))).toBe('');
  });

  test('of a member is accepted in all words', async () => {
    expect(await refusal(organization.as('alice'), at, build('mine', completeSpec(accounts.alice)))).toBe('');
  });

  test.each(attacks)('is refused with %s', async (_, spec, message) => {
    const answer = await refusal(organization.as('alice'), at, build('mine', spec));
    expect(answer).toMatch(message);
  });
});

test('a pod gets the identity of its member, and its token is taken away', async () => {
  const stored = await organization.as('alice').json('POST', `${pods()}?dryRun=All`, { body: aPod('mine') });
  expect(stored.spec).toMatchObject({
    ...completeSpec(accounts.alice),
    securityContext: {
      runAsUser: physicsBase + 1080,
      runAsGroup: physicsBase,
      fsGroup: physicsBase,
      supplementalGroups: [physicsBase + 2],
      supplementalGroupsPolicy: 'Strict',
    },
    volumes: [{ name: 'xtreemos-account', configMap: { name: `${accounts.alice}-account` } }],
  });
  expect(JSON.stringify(stored)).not.toContain('serviceAccountToken');
});

test('a pod keeps fewer groups when it says so', async () => {
  const spec = podSecurity({ supplementalGroups: [physicsBase + 2] }) as Record<string, unknown>;
  const stored = await organization.as('alice').json('POST', `${pods()}?dryRun=All`, { body: aPod('mine', spec) });
  expect(stored.spec?.securityContext).toMatchObject({ supplementalGroups: [physicsBase + 2] });
});

test('a member without groups gets none', async () => {
  const stored = await organization.as('bob').json('POST', `${pods()}?dryRun=All`, { body: aPod('mine') });
  expect(JSON.stringify(stored.spec)).not.toContain('supplementalGroups"');
});

describe('threat 4: an ephemeral container', () => {
  const at = `${pods('target')}/ephemeralcontainers`;
  beforeAll(async () => {
    await organization.as('alice').json('POST', pods(), { body: aPod('target') });
  });
  const adding = (container: object): object => ({
    spec: { ephemeralContainers: [{ name: 'debug', image: 'xtreemos.io/busybox:1', ...container }] },
  });

  test('of the owner is accepted and restricted', async () => {
    expect(await refusal(organization.as('alice'), at, adding({}), 'PATCH')).toBe('');
  });

  test.each<[string, object, RegExp]>([
    ['as root', { securityContext: { runAsUser: 0 } }, /container debug: securityContext\.runAsUser: 0/],
    ['with privilege', { securityContext: { privileged: true } }, /container debug|allowPrivilegeEscalation/],
    ['with a Secret', { envFrom: [{ secretRef: { name: 's' } }] }, /container debug: envFrom\.secretRef/],
  ])('is refused %s', async (_, container, message) => {
    expect(await refusal(organization.as('alice'), at, adding(container), 'PATCH')).toMatch(message);
  });

  test('of another member is refused', async () => {
    expect(await refusal(organization.as('bob'), at, adding({}), 'PATCH')).toMatch(/target belongs to u-alice/);
  });
});

describe('where ids are local', () => {
  const setMode = async (labels: object): Promise<void> => {
    await organization.admin.json('PATCH', `/api/v1/namespaces/${namespace}`, {
      body: { metadata: { labels } },
      contentType: 'application/merge-patch+json',
    });
  };
  const local = 'xtreemos.io/uid-mode';
  beforeAll(async () => setMode({ [local]: 'Local' }));
  afterAll(async () => setMode({ [local]: 'Global' }));

  test('threat 4: the namespace alone can not say so', async () => {
    expect(await refusal(organization.as('alice'), pods(), aPod('mine'))).toMatch(
      /uid-mode.*differs from spec\.identity\.uidMode/,
    );
  });

  test('threat 4: a pod is refused with ids that are not its own there', async () => {
    const organizations = '/apis/xtreemos.io/v1alpha1/virtualorganizations';
    const { spec } = await organization.admin.json('GET', `${organizations}/physics`);
    await organization.admin.json('DELETE', `${organizations}/physics`);
    await organization.admin.json('POST', organizations, {
      body: {
        apiVersion: 'xtreemos.io/v1alpha1',
        kind: 'VirtualOrganization',
        metadata: { name: 'physics' },
        spec: { ...spec, identity: { uidMode: 'Local' } },
      },
    });
    const alice = organization.as('alice');
    await waitFor('the mode is seen', async () => (await refusal(alice, pods(), aPod('mine'))) === '', {
      limitMs: 10_000,
    });
    for (const [wrong, message] of [
      [podSecurity({ runAsUser: physicsBase + 1080 }), /runAsUser: 2013267000.*set it to 1080/],
      [podSecurity({ runAsUser: 0 }), /runAsUser: 0.*set it to 1080/],
      [{ hostUsers: true }, /hostUsers: true.*set it to false/],
    ] as const) {
      expect(await refusal(alice, pods(), aPod('mine', wrong as Record<string, unknown>))).toMatch(message);
    }
  });
});

/** Objects that are huge, nested, malformed or costly to judge, sent by a member. The API server stays up and lets nothing through. */
import { request } from 'node:https';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import {
  accounts,
  aPod,
  completeContainer,
  completeSpec,
  namespace,
  type Organization,
  pods,
  refusal,
  startOrganization,
} from './testing/organization.ts';

jest.setTimeout(120_000);
let organization: Organization;
const memberships = `/apis/xtreemos.io/v1alpha1/namespaces/${namespace}/vomemberships`;
const membership = (name: string, spec: object = {}): object => ({
  apiVersion: 'xtreemos.io/v1alpha1',
  kind: 'VOMembership',
  metadata: { name },
  spec: { principal: { issuer: 'https://id.example.org', subject: 'x' }, ...spec },
});

beforeAll(async () => {
  organization = await startOrganization({ name: 'flood' });
}, 120_000);
afterAll(async () => organization.stop());

/** Sends a body as it is, as the administrator of the site: what is refused here is refused for everybody. */
async function send(at: string, body: string, contentType: string): Promise<{ status: number; text: string }> {
  const { server, authority, certificate, key } = organization.plane.credentials;
  return new Promise((resolve, reject) => {
    const call = request(
      new URL(at, server),
      { method: 'POST', ca: authority, cert: certificate, key, headers: { 'content-type': contentType } },
      (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString().slice(0, 4096)));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    call.on('error', reject);
    call.end(body);
  });
}

describe('threat 61: a pod that is costly to judge', () => {
  const many = (count: number, last: object): object[] => [
    ...Array.from({ length: count }, (_, index) => completeContainer(`c${index}`)),
    { ...completeContainer('last'), ...last },
  ];
  const evil = { securityContext: { privileged: true, allowPrivilegeEscalation: true } };

  test.each([10, 100, 1000])(
    'with %i containers is refused for the last one, or because it costs too much',
    async (count) => {
      const startedAt = performance.now();
      const answer = await refusal(
        organization.as('alice'),
        pods(),
        aPod('x', { ...completeSpec(accounts.alice), containers: many(count, evil) }),
      );
      expect(answer).toMatch(/container last: securityContext|cost|budget|more than/);
      expect(performance.now() - startedAt).toBeLessThan(30_000);
    },
  );

  test('with 64 containers, all in order, is accepted', async () => {
    expect(
      await refusal(
        organization.as('alice'),
        pods(),
        aPod('x', { ...completeSpec(accounts.alice), containers: many(63, {}) }),
      ),
    ).toBe('');
  });

  test('with 5,000 variables, tolerations or volumes does not hide a bad one', async () => {
    const env = Array.from({ length: 5000 }, (_, index) => ({ name: `A${index}`, value: 'x' }));
    const bad = { name: 'S', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } };
    const container = { ...completeContainer('main'), env: [...env, bad] };
    expect(
      await refusal(
        organization.as('alice'),
        pods(),
        aPod('x', { ...completeSpec(accounts.alice), containers: [container] }),
      ),
    ).toMatch(/secretKeyRef|more than/);
    const volumes = Array.from({ length: 5000 }, (_, index) => ({ name: `v${index}`, emptyDir: {} }));
    const hostPath = { name: 'h', hostPath: { path: '/' } };
    expect(
      await refusal(
        organization.as('alice'),
        pods(),
        aPod('x', {
          ...completeSpec(accounts.alice),
          volumes: [...(completeSpec(accounts.alice).volumes as object[]), ...volumes, hostPath],
        }),
      ),
    ).toMatch(/hostPath|cost|budget|more than/);
  });

  test('does not keep others waiting', async () => {
    const flood = Promise.all(
      Array.from({ length: 20 }, async () =>
        refusal(
          organization.as('alice'),
          pods(),
          aPod('x', { ...completeSpec(accounts.alice), containers: many(500, evil) }),
        ),
      ),
    );
    expect(await refusal(organization.as('bob'), pods(), aPod('y'))).toBe('');
    expect((await flood).every((answer) => answer !== '')).toBe(true);
  });
});

describe('threat 15: a body of a member', () => {
  const yaml = 'application/yaml';
  test.each<[string, string, string]>([
    [
      'aliases that grow',
      yaml,
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
        .split('')
        .map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefg'[index]}`).join(',')}]`)
        .join('\n')}\nkind: VOMembership\napiVersion: xtreemos.io/v1alpha1\nmetadata: {name: x}\n`,
    ],
    [
      'depth',
      'application/json',
      `{"kind":"VOMembership","apiVersion":"xtreemos.io/v1alpha1","metadata":{"name":"x"},"spec":${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}}`,
    ],
    ['more than the limit', 'application/json', JSON.stringify(membership('x', { handle: 'a'.repeat(4_000_000) }))],
    [
      '10,000 groups',
      'application/json',
      JSON.stringify(
        membership('x', { groups: Array.from({ length: 10_000 }, (_, index) => ({ name: `g${index}` })) }),
      ),
    ],
    [
      'a number that is none',
      'application/json',
      '{"kind":"VOMembership","apiVersion":"xtreemos.io/v1alpha1","metadata":{"name":"x"},"spec":{"principal":NaN}}',
    ],
    [
      'a key twice',
      'application/json',
      '{"kind":"VOMembership","apiVersion":"xtreemos.io/v1alpha1","metadata":{"name":"x","name":"y"},"spec":{}}',
    ],
    [
      'a key of the prototype',
      'application/json',
      '{"kind":"VOMembership","apiVersion":"xtreemos.io/v1alpha1","metadata":{"name":"x"},"spec":{"__proto__":{"principal":{"issuer":"https://a.example.org","subject":"x"}}}}',
    ],
  ])('with %s is refused, and the next one is answered', async (_, contentType, body) => {
    const { status } = await send(`${memberships}?fieldValidation=Strict`, body, contentType);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
    expect((await organization.admin.list(memberships)).items).toEqual([]);
  });

  test.each(['аlice', 'alice\u202Egnp', 'Alice', 'alice\u200B', 'ali ce', 'alice/..', '__proto__'])(
    'with the name %j is refused',
    async (name) => {
      expect(await refusal(organization.admin, memberships, membership(name))).not.toBe('');
    },
  );

  test('with a subject of the system is refused', async () => {
    const spec = { principal: { issuer: 'https://id.example.org', subject: 'system:masters' } };
    expect(await refusal(organization.admin, memberships, membership('x', spec))).toMatch(/principal.*system:/s);
  });
});

describe('threat 59: a member', () => {
  test('can not write the status of its membership along with it', async () => {
    const body = { ...membership('spoof'), status: { state: 'Active', uid: 0, userName: accounts.bob } };
    const stored = await organization.admin.json('POST', `${memberships}?dryRun=All`, { body });
    expect(stored.status).toBeUndefined();
  });

  test('can not change who a membership is of, nor the ids of a virtual organization', async () => {
    await organization.admin.json('POST', memberships, { body: membership('dora') });
    const principal = { principal: { issuer: 'https://id.example.org', subject: 'y' } };
    expect(await refusal(organization.admin, `${memberships}/dora`, { spec: principal }, 'PATCH')).toMatch(/principal/);
    const organizations = '/apis/xtreemos.io/v1alpha1/virtualorganizations/physics';
    expect(
      await refusal(organization.admin, organizations, { spec: { identity: { uidMode: 'Local' } } }, 'PATCH'),
    ).toMatch(/uidMode/);
  });
});

/** The gateway as users meet it: real TLS, real OpenID providers, a real API server, keys of a real cert-manager. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { verifyAccessToken } from '#common/identity/access-token.ts';
import {
  kubernetesCredentialAnswer,
  pendingAnswer,
  sessionAnswer,
  siteAnswer,
  stateAnswer,
  whoamiAnswer,
} from '#common/identity/gateway-api.ts';
import { unverifiedPayload } from '#common/identity/unverified.ts';
import { verifyFreshness, verifyGenesis, verifyState } from '#common/identity/vo-state.ts';
import { waitFor } from '#sites/kube-client.ts';
import { type Authority, createAuthority } from '#sites/pki.ts';
import YAML from 'yaml';
import { aVerifier, type GatewayAnswer, GatewayClient } from '../testing/gateway-client.ts';
import { type GatewayReplica, GatewaySite, systemNamespace } from '../testing/gateway-site.ts';
import { TestOpenIDProvider } from '../testing/openid-provider.ts';

jest.setTimeout(60_000);
let site: GatewaySite;
let lab: TestOpenIDProvider;
let campus: TestOpenIDProvider;
let authority: Authority;
let first: GatewayReplica;
let gateway: GatewayClient;
let other: GatewayClient;
let caBundle: string;

/** What must never be seen outside: every secret of these tests is put here. */
const canaries = new Set<string>();

beforeAll(async () => {
  // The provider tells at length that it is set up for tests.
  for (const method of ['info', 'warn'] as const) jest.spyOn(console, method).mockImplementation(() => undefined);
  [lab, campus] = [await TestOpenIDProvider.start(), await TestOpenIDProvider.start()];
  authority = await createAuthority('grid');
  const openID = (name: string, provider: TestOpenIDProvider): object => ({
    name,
    type: 'OpenIDConnect',
    openIDConnect: {
      issuer: provider.issuer,
      clientID: provider.clientID,
      clientSecret: { name: `idp-${name}`, key: 'secret' },
      caBundle: provider.caBundle,
    },
  });
  site = await GatewaySite.start({
    acceptedVirtualOrganizations: [{ name: 'physics' }, { name: 'open' }, { name: 'asking' }],
    identityProviders: [
      openID('lab', lab),
      openID('campus', campus),
      { name: 'grid', type: 'ClientCertificate', clientCertificate: { caBundle: authority.certificate } },
    ],
  });
  for (const [name, provider] of [
    ['lab', lab],
    ['campus', campus],
  ] as const) {
    canaries.add(provider.clientSecret);
    const data = { secret: Buffer.from(provider.clientSecret).toString('base64') };
    const body = { apiVersion: 'v1', kind: 'Secret', metadata: { name: `idp-${name}` }, data };
    await site.client.json('POST', `/api/v1/namespaces/${systemNamespace}/secrets`, { body });
  }
  first = site.replica();
  const second = site.replica();
  caBundle = await site.caBundle();
  [gateway, other] = [await first.client(caBundle), await second.client(caBundle)];
  await site.form('physics', 1);
  await site.form('open', 2, { enrolment: { mode: 'Open', acceptableUse: { text: 'Be kind.' } } });
  await site.form('asking', 3, { enrolment: { mode: 'Approval' } });
  await site.form('refused', 4, { enrolment: { mode: 'Open' } });
}, 240_000);

afterAll(async () => {
  await site.stop();
  await Promise.all([lab.stop(), campus.stop()]);
});

const errorOf = ({ body }: GatewayAnswer): { code?: string; message?: string; policy?: string } => body.error ?? {};

/** Login by device flow, with the browser driven by hand. */
async function byDevice(provider: TestOpenIDProvider, name: string, login: string) {
  const { verifier, challenge } = aVerifier();
  const started = await gateway.call('POST', '/v1/sessions', { body: { method: 'device', provider: name, challenge } });
  expect(started.status).toBe(202);
  const pending = pendingAnswer.parse(started.body);
  if (pending.method !== 'device') throw new Error('another method was answered');
  canaries.add(pending.handle).add(verifier);
  expect(
    (await gateway.call('POST', '/v1/sessions', { body: { method: 'device', handle: pending.handle, verifier } }))
      .status,
  ).toBe(202);
  await provider.browse(pending.verificationURIComplete ?? '', login);
  return finished(
    await other.call('POST', '/v1/sessions', { body: { method: 'device', handle: pending.handle, verifier } }),
  );
}

/** Login by code flow. */
async function byCode(provider: TestOpenIDProvider, name: string, login: string) {
  const { verifier, challenge } = aVerifier();
  const start = { method: 'code', provider: name, challenge, redirectURI: 'http://127.0.0.1:8400/callback' };
  const started = await gateway.call('POST', '/v1/sessions', { body: start });
  const pending = pendingAnswer.parse(started.body);
  if (pending.method !== 'code') throw new Error('another method was answered');
  canaries.add(pending.handle).add(verifier);
  const callbackURL = await provider.browse(pending.authorizationURL, login);
  canaries.add(new URL(callbackURL).searchParams.get('code') ?? '?');
  const finish = { method: 'code', handle: pending.handle, verifier, callbackURL };
  return { finish, session: finished(await gateway.call('POST', '/v1/sessions', { body: finish })) };
}

function finished(answer: GatewayAnswer) {
  expect([answer.status, answer.body.error]).toEqual([201, undefined]);
  const session = sessionAnswer.parse(answer.body);
  canaries.add(session.refreshToken).add(session.sessionToken);
  return session;
}

/** What kubectl would use as this user. */
function clusterUser(name: string): { certificate: string; key: string } {
  const config = YAML.parse(readFileSync(site.plane.kubeconfigPath, 'utf8')) as {
    users: { name: string; user: Record<string, string> }[];
  };
  const user = config.users.find((each) => each.name.startsWith(`${name}@`))?.user ?? {};
  const decode = (key: string): string => Buffer.from(user[key] ?? '', 'base64').toString();
  const pair = { certificate: decode('client-certificate-data'), key: decode('client-key-data') };
  canaries.add(pair.key);
  return pair;
}

const byCluster = async (name: string) =>
  finished(
    await gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, certificate: clusterUser(name) }),
  );

test('tells anyone how to log in', async () => {
  const answer = siteAnswer.parse((await gateway.call('GET', '/v1/site')).body);
  expect(answer).toMatchObject({
    site: 'rennes',
    kubernetesLogin: true,
    identityProviders: [
      { name: 'lab', issuer: lab.issuer },
      { name: 'campus' },
      { name: 'grid', type: 'ClientCertificate' },
    ],
  });
});

describe('logging in', () => {
  test('by device flow at a real provider, without a browser on the machine, through two replicas', async () => {
    const { principal } = await byDevice(lab, 'lab', 'alice');
    expect(principal).toEqual({ issuer: lab.issuer, subject: 'alice' });
  });

  test('by authorization code with PKCE', async () => {
    const { session, finish } = await byCode(lab, 'lab', 'alice');
    expect(session.principal).toEqual({ issuer: lab.issuer, subject: 'alice' });
    const again = await gateway.call('POST', '/v1/sessions', { body: finish });
    expect([again.status, errorOf(again).code]).toEqual([403, 'LoginRefused']);
  });

  test('by a certificate of the cluster, and by a token of it', async () => {
    expect((await byCluster('ada')).principal).toEqual({ issuer: 'kubernetes:rennes', subject: 'ada' });
    const answer = await gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, bearer: 'forged' });
    expect([answer.status, errorOf(answer).code]).toEqual([401, 'Unauthenticated']);
  });

  test('by a certificate of a provider', async () => {
    const pair = await authority.issue({ commonName: 'Alice, Ph.D.', organizations: ['CERN'], usages: ['client'] });
    const session = finished(
      await gateway.call('POST', '/v1/sessions', {
        body: { method: 'certificate', provider: 'grid' },
        certificate: pair,
      }),
    );
    expect(session.principal.issuer).toBe('x509:grid');
    expect(session.principal.subject).toContain('Alice\\, Ph.D.');
  });

  test('one subject at two providers is two people (threat 41)', async () => {
    const [a, b] = [await byDevice(lab, 'lab', 'mallory'), await byDevice(campus, 'campus', 'mallory')];
    expect(a.principal.subject).toBe(b.principal.subject);
    expect(a.principal.issuer).not.toBe(b.principal.issuer);
  });

  test.each(['system:masters', 'System:Masters', 'system:serviceaccount:kube-system:default'])(
    'nobody is %s, whoever says so (threat 41)',
    async (subject) => {
      const { verifier, challenge } = aVerifier();
      const { body } = await gateway.call('POST', '/v1/sessions', {
        body: { method: 'device', provider: 'lab', challenge },
      });
      await lab.browse(String(body.verificationURIComplete), subject);
      const answer = await gateway.call('POST', '/v1/sessions', {
        body: { method: 'device', handle: body.handle, verifier },
      });
      expect([answer.status, errorOf(answer).code]).toEqual([403, 'LoginRefused']);
    },
  );

  test('a certificate of one authority is none of another (threats 30, 41)', async () => {
    const pair = await authority.issue({ commonName: 'admin', organizations: ['system:masters'], usages: ['client'] });
    const asCluster = await gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, certificate: pair });
    expect([asCluster.status, errorOf(asCluster).code]).toEqual([401, 'Unauthenticated']);
    const asGrid = await gateway.call('POST', '/v1/sessions', {
      body: { method: 'certificate', provider: 'grid' },
      certificate: clusterUser('ada'),
    });
    expect([asGrid.status, errorOf(asGrid).code]).toEqual([401, 'Unauthenticated']);
  });

  test.each([
    [
      'of an authority that nobody knows',
      async () => (await createAuthority('unknown')).issue({ commonName: 'x', usages: ['client'] }),
    ],
    ['that is over', async () => authority.issue({ commonName: 'x', usages: ['client'], lifetimeMs: -1000 })],
    ['that is for servers', async () => authority.issue({ commonName: 'x', usages: ['server'] })],
  ])('a certificate %s is refused', async (_, make) => {
    const answer = await gateway.call('POST', '/v1/sessions', {
      body: { method: 'certificate', provider: 'grid' },
      certificate: await make(),
    });
    expect([answer.status, errorOf(answer).code]).toEqual([401, 'Unauthenticated']);
  });

  test('whoever has seen a code or a handle can do nothing with it (threat 38)', async () => {
    const { challenge } = aVerifier();
    const { body } = await gateway.call('POST', '/v1/sessions', {
      body: { method: 'device', provider: 'lab', challenge },
    });
    await lab.browse(String(body.verificationURIComplete), 'victim');
    const stolen = await gateway.call('POST', '/v1/sessions', {
      body: { method: 'device', handle: body.handle, verifier: aVerifier().verifier },
    });
    expect([stolen.status, errorOf(stolen).code]).toEqual([403, 'LoginRefused']);
    const forged = await gateway.call('POST', '/v1/sessions', {
      body: { method: 'device', handle: `xosh_${'A'.repeat(80)}`, verifier: aVerifier().verifier },
    });
    expect([forged.status, errorOf(forged).code]).toEqual([400, 'LoginExpired']);
  });

  test('a token of a pod, or of a pod that is gone, logs nobody in (threat 46)', async () => {
    const accounts = `/api/v1/namespaces/${systemNamespace}/serviceaccounts`;
    await site.client.json('POST', accounts, {
      body: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'pod' } },
    });
    const made = await site.client.json('POST', `${accounts}/pod/token`, { body: { spec: {} } });
    const { token } = made.status as { token: string };
    canaries.add(token);
    const alive = await gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, bearer: token });
    expect([alive.status, errorOf(alive).code]).toEqual([403, 'LoginRefused']);
    await site.client.json('DELETE', `${accounts}/pod`);
    const gone = await waitFor('the token is worthless', async () => {
      const answer = await gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, bearer: token });
      return answer.status === 401 ? answer : undefined;
    }, { limitMs: 30_000 }); // prettier-ignore
    expect(errorOf(gone).code).toBe('Unauthenticated');
  });

  test('the owner of the site can forbid the users of the cluster, at once', async () => {
    await site.patchSite({ kubernetesLogin: false });
    await waitFor('it is refused', async () => {
      const answer = await gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, certificate: clusterUser('ada') });
      return errorOf(answer).policy === 'site/kubernetesLogin';
    }); // prettier-ignore
    await site.patchSite({ kubernetesLogin: true });
    await waitFor('it is allowed again', async () => {
      const answer = await gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, certificate: clusterUser('ada') });
      return answer.status === 201;
    }, { limitMs: 20_000 }); // prettier-ignore
  });
});

describe('sessions', () => {
  const anAttempt = (): string => randomBytes(32).toString('base64url');
  const refresh = async (refreshToken: string, at = gateway, attempt = anAttempt()): Promise<GatewayAnswer> =>
    at.call('POST', '/v1/sessions/refresh', { body: { refreshToken, attempt } });

  test('are refreshed at any replica, and a token before the last one ends them (threat 38)', async () => {
    const session = await byCluster('ada');
    const second = sessionAnswer.parse((await refresh(session.refreshToken, other)).body);
    canaries.add(second.refreshToken).add(second.sessionToken);
    const third = sessionAnswer.parse((await refresh(second.refreshToken)).body);
    canaries.add(third.refreshToken);
    const reused = await refresh(session.refreshToken);
    expect([reused.status, errorOf(reused).code]).toEqual([401, 'SessionEnded']);
    for (const token of [third.refreshToken, second.refreshToken])
      expect((await refresh(token, other)).status).toBe(401);
    expect((await gateway.call('GET', '/v1/whoami', { bearer: third.sessionToken })).status).toBe(401);
    expect(site.output.audit()).toContainEqual(
      expect.objectContaining({ why: 'RefreshTokenReused', outcome: 'Refused' }),
    );
  });

  test('give one attempt the same next token however often it is made, until that is used (threat 38)', async () => {
    const { refreshToken } = await byCluster('ada');
    const attempt = anAttempt();
    const answers = await Promise.all(
      Array.from({ length: 8 }, async (_, index) => refresh(refreshToken, index % 2 === 0 ? gateway : other, attempt)),
    );
    const tokens = new Set(answers.map(({ body }) => body.refreshToken));
    expect(tokens.size).toBe(1);
    const [next] = [...tokens].map(String);
    canaries.add(String(next));
    expect((await refresh(refreshToken, other, attempt)).body.refreshToken).toBe(next);
    const { status, body } = await refresh(String(next));
    expect(status).toBe(200);
    canaries.add(String(body.refreshToken));
    expect(errorOf(await refresh(refreshToken, gateway, attempt)).code).toBe('SessionEnded');
    expect((await refresh(String(body.refreshToken))).status).toBe(401);
  });

  test('end when two attempts are made with one token, at once too (threat 38)', async () => {
    const { refreshToken } = await byCluster('ada');
    const answers = await Promise.all([refresh(refreshToken), refresh(refreshToken, other)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 401]);
    const got = answers.find(({ status }) => status === 200)?.body.refreshToken;
    canaries.add(String(got));
    expect((await refresh(String(got))).status).toBe(401);
  });

  test('end at every replica when one logs out', async () => {
    const session = await byCluster('eve');
    expect((await other.call('GET', '/v1/whoami', { bearer: session.sessionToken })).status).toBe(200);
    expect((await gateway.call('DELETE', '/v1/sessions', { bearer: session.sessionToken })).status).toBe(204);
    await waitFor(
      'the other replica knows',
      async () => (await other.call('GET', '/v1/whoami', { bearer: session.sessionToken })).status === 401,
    );
    expect((await refresh(session.refreshToken, other)).status).toBe(401);
  });

  test('of one person are sixteen at most', async () => {
    for (let i = 0; i < 18; i++) {
      await byCluster('eve');
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    const tags = (await site.sessions()).map(({ metadata }) => metadata?.labels?.['xtreemos.io/principal']);
    const most = Math.max(...tags.map((tag) => tags.filter((each) => each === tag).length));
    expect(most).toBeLessThanOrEqual(16);
  });

  test('are stored encrypted, and name nobody', async () => {
    await byDevice(lab, 'lab', 'alice');
    const text = JSON.stringify(await site.sessions());
    const decoded = (await site.sessions()).map((each) =>
      Buffer.from(String((each as { data?: { record?: string } }).data?.record), 'base64').toString('latin1'),
    );
    for (const word of ['alice', lab.issuer, 'kubernetes:rennes']) {
      expect(text).not.toContain(word);
      expect(decoded.join()).not.toContain(word);
    }
  });

  test.each(['', 'xoss_', 'xoss_AAAA', `xoss_${'A'.repeat(200)}`, 'eyJhbGciOiJub25lIn0.e30.'])(
    '%p is no session',
    async (bearer) => {
      expect((await gateway.call('GET', '/v1/whoami', { bearer })).status).toBe(401);
    },
  );
});

describe('members', () => {
  const alice = { issuer: '', subject: 'alice' };
  let session: Awaited<ReturnType<typeof byDevice>>;
  let userName: string;

  beforeAll(async () => {
    alice.issuer = lab.issuer;
    userName = await site.join('physics', 'alice', alice, 1, 1024, { roles: ['member'] });
    session = await byDevice(lab, 'lab', 'alice');
  });

  const token = async (body: object, bearer = session.sessionToken): Promise<GatewayAnswer> =>
    gateway.call('POST', '/v1/token', {
      body: { virtualOrganization: 'physics', audience: 'storage', ...body },
      bearer,
    });
  const credential = async (organization = 'physics', bearer = session.sessionToken): Promise<GatewayAnswer> =>
    gateway.call('POST', '/v1/kubernetes-credential', { body: { virtualOrganization: organization }, bearer });

  test('see who they are and where they belong', async () => {
    const answer = whoamiAnswer.parse((await gateway.call('GET', '/v1/whoami', { bearer: session.sessionToken })).body);
    expect(answer.memberships).toEqual([
      expect.objectContaining({ virtualOrganization: 'physics', state: 'Active', usable: true, userName }),
    ]);
  });

  test('ask which nodes would take some work, and nobody else does', async () => {
    const ask = async (body: object, bearer = session.sessionToken) =>
      gateway.call('POST', '/v1/virtual-organizations/physics/selection', { bearer, body });
    const { status, body } = await ask({
      resources: { cpu: '1' },
      requirements: { static: [{ attribute: 'arch', in: ['amd64'] }] },
    });
    expect([status, body]).toEqual([
      200,
      expect.objectContaining({
        nodes: [expect.objectContaining({ node: 'node-1', fits: 4 })],
        refusals: [],
        isWhole: true,
      }),
    ]);
    expect((await ask({ resources: { cpu: '5' } })).body).toMatchObject({ nodes: [], refusals: [{ nodes: 1 }] });
    expect(errorOf(await ask({ requirements: { dynamic: ['free.cpu >'] } }))).toMatchObject({
      code: 'InvalidRequest',
      message: expect.stringContaining('spec.requirements.dynamic[0]'),
    });
    expect(errorOf(await ask({ limit: 5 })).code).toBe('InvalidRequest');
    expect((await ask({}, 'nobody')).status).toBe(401);
    const elsewhere = await gateway.call('POST', '/v1/virtual-organizations/open/selection', {
      bearer: session.sessionToken,
      body: {},
    });
    expect(errorOf(elsewhere).code).toBe('Forbidden');
  });

  test('get tokens that anyone can verify offline with the published state (threat 33)', async () => {
    const published = stateAnswer.parse((await gateway.call('GET', '/v1/virtual-organizations/physics/state')).body);
    const state = await verifyState(published.state, await verifyGenesis(published.genesis));
    await expect(verifyFreshness(published.freshness ?? '', state, Date.now())).resolves.toBeUndefined();
    const { status, body } = await token({ scope: 'storage.read:/data' });
    expect(status).toBe(200);
    canaries.add(String(body.accessToken));
    const claims = await verifyAccessToken(String(body.accessToken), { state, audience: 'storage', nowMs: Date.now() });
    expect(claims).toMatchObject({ sub: userName, principal: alice, roles: ['member'], scope: 'storage.read:/data' });
    await expect(
      verifyAccessToken(String(body.accessToken), { state, audience: 'compute', nowMs: Date.now() }),
    ).rejects.toMatchObject({ problem: 'WrongAudience' });
  });

  test.each([
    ['a session token as access token of the gateway', async () => token({}, 'not-a-session')],
    ['an access token as session token (threat 33)', async () => token({}, String((await token({})).body.accessToken))],
  ])('%s is not taken', async (_, ask) => {
    expect((await ask()).status).toBe(401);
  });

  test('act in the namespace with plain Kubernetes, as themselves, and nowhere else', async () => {
    const { status, body } = await credential();
    expect(status).toBe(200);
    const answer = kubernetesCredentialAnswer.parse(body);
    canaries.add(answer.token);
    expect(Date.parse(answer.expiresAt) - Date.now()).toBeLessThanOrEqual(3_601_000);
    const rbac = '/apis/rbac.authorization.k8s.io/v1';
    const group = 'rbac.authorization.k8s.io';
    const role = { metadata: { name: 'pods' }, rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['list'] }] };
    await site.client.json('POST', `${rbac}/namespaces/vo-physics/roles`, { body: role });
    const binding = {
      metadata: { name: 'pods' },
      roleRef: { apiGroup: group, kind: 'Role', name: 'pods' },
      subjects: [{ kind: 'ServiceAccount', name: userName, namespace: 'vo-physics' }],
    };
    await site.client.json('POST', `${rbac}/namespaces/vo-physics/rolebindings`, { body: binding });
    const member = new GatewayClient(Number(new URL(answer.server).port), answer.caBundle);
    const asMember = async (method: string, path: string, body?: object): Promise<GatewayAnswer> =>
      member.call(method, path, { bearer: answer.token, ...(body === undefined ? {} : { body }) });
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
    const me = await asMember('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', review);
    expect(me.body.status).toMatchObject({
      userInfo: { username: `system:serviceaccount:vo-physics:${userName}` },
    });
    await waitFor('the right is there', async () => {
      return (await asMember('GET', '/api/v1/namespaces/vo-physics/pods')).status === 200;
    });
    for (const namespace of ['kube-system', 'vo-open', systemNamespace]) {
      expect((await asMember('GET', `/api/v1/namespaces/${namespace}/pods`)).status).toBe(403);
    }
  });

  test.each([
    ['another one', 'open', 'vo/membership'],
    ['one that the site refuses', 'refused', 'vo/membership'],
    ['one that does not exist', 'nowhere', 'vo/membership'],
  ])('get nothing for %s', async (_, organization, policy) => {
    const answer = await credential(organization);
    expect([answer.status, errorOf(answer).policy]).toEqual([403, policy]);
  });

  test('get nothing more within five seconds of being suspended, and their tokens are in the next state (threat 39)', async () => {
    const { body } = await token({});
    const start = Date.now();
    await site.patchMember('physics', 'alice', { state: 'Suspended' });
    await waitFor('tokens are refused', async () => errorOf(await token({})).policy === 'member/state', {
      limitMs: 5000,
    });
    await waitFor('credentials are refused', async () => errorOf(await credential()).policy === 'member/state', {
      limitMs: 5000,
    });
    await waitFor('services refuse the old token', async () => {
      const published = stateAnswer.parse((await other.call('GET', '/v1/virtual-organizations/physics/state')).body);
      const state = await verifyState(published.state, await verifyGenesis(published.genesis));
      return verifyAccessToken(String(body.accessToken), { state, audience: 'storage', nowMs: Date.now() }).then(() => false, () => true);
    }, { limitMs: 5000 }); // prettier-ignore
    expect(Date.now() - start).toBeLessThan(5000);
    const { memberships } = whoamiAnswer.parse(
      (await gateway.call('GET', '/v1/whoami', { bearer: session.sessionToken })).body,
    );
    expect(memberships[0]).toMatchObject({ usable: false, reason: expect.stringContaining('ask an administrator') });
    expect(site.output.audit()).toContainEqual(
      expect.objectContaining({
        what: 'token.mint',
        outcome: 'Refused',
        why: 'MemberSuspended',
        policy: 'member/state',
        who: alice,
        on: expect.objectContaining({ VirtualOrganization: 'physics' }),
      }),
    );
    await site.patchMember('physics', 'alice', { state: 'Active' });
    await waitFor('tokens are given again', async () => (await token({})).status === 200);
  });

  test('get nothing once the site has cut their organization, whatever that says (threat 53)', async () => {
    await site.patchSite({ acceptedVirtualOrganizations: [{ name: 'open' }, { name: 'asking' }] });
    await waitFor(
      'the site has the last word',
      async () => errorOf(await token({})).policy === 'site/acceptedVirtualOrganizations',
      { limitMs: 5000 },
    );
    await site.patchSite({ acceptedVirtualOrganizations: [{ name: 'physics' }, { name: 'open' }, { name: 'asking' }] });
    await waitFor('tokens are given again', async () => (await token({})).status === 200);
  });
});

describe('asking to join', () => {
  const ask = async (organization: string, bearer: string, body: object = {}): Promise<GatewayAnswer> =>
    gateway.call('POST', `/v1/virtual-organizations/${organization}/requests`, { body, bearer });

  test('is possible for oneself only, makes one membership, and accepts a use by its digest', async () => {
    const { sessionToken, principal } = await byDevice(campus, 'campus', 'bob');
    const answers = await Promise.all([ask('open', sessionToken), ask('open', sessionToken)]);
    const { body } = answers[0];
    expect(new Set(answers.map((each) => each.body.membership)).size).toBe(1);
    const { digest, text } = body.acceptableUse as { digest: string; text: string };
    expect(text).toBe('Be kind.');
    const wrong = await ask('open', sessionToken, { acceptedUse: `sha256:${'0'.repeat(64)}` });
    expect([wrong.status, errorOf(wrong).code]).toEqual([403, 'AcceptableUseRequired']);
    await waitFor('it is known', async () => {
      const { status } = await ask('open', sessionToken, { acceptedUse: digest });
      return status === 200;
    });
    const stored = await site.client.json('GET', site.membership('open', String(body.membership)));
    expect(stored.spec).toMatchObject({
      principal,
      handle: 'bob',
      acceptedUse: digest,
      state: 'Requested',
      roles: ['member'],
    });
    const acceptance = String((stored.status as { acceptance?: string }).acceptance);
    expect(unverifiedPayload(acceptance)).toMatchObject({
      principal,
      acceptedUse: digest,
      site: 'rennes',
    });
  });

  test('waits for approval where that is wanted', async () => {
    const { sessionToken } = await byDevice(campus, 'campus', 'carol');
    const answer = await ask('asking', sessionToken);
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({ state: 'Requested', message: expect.stringContaining('approve') });
  });

  test.each([
    ['is closed', 'physics', 403, 'vo/enrolment'],
    ['the site refuses', 'refused', 404, 'site/acceptedVirtualOrganizations'],
    ['does not exist', 'nowhere', 404, 'site/acceptedVirtualOrganizations'],
  ])('is refused where it %s', async (_, organization, status, policy) => {
    const { sessionToken } = await byDevice(campus, 'campus', 'dave');
    const answer = await ask(organization, sessionToken);
    expect([answer.status, errorOf(answer).policy]).toEqual([status, policy]);
  });
});

describe('bad requests', () => {
  test.each([
    ['no JSON', { text: '{' }, 400, 'InvalidRequest'],
    [
      'another type',
      { text: 'a=b', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      400,
      'InvalidRequest',
    ],
    ['a method nobody knows', { body: { method: 'password' } }, 400, 'InvalidRequest'],
    ['a body of a megabyte', { text: JSON.stringify({ a: 'x'.repeat(1_000_000) }) }, 413, 'TooLarge'],
    ['deep nesting', { text: `${'['.repeat(30_000)}${']'.repeat(30_000)}` }, 400, 'InvalidRequest'],
    ['a prototype', { text: '{"__proto__":{"method":"kubernetes"}}' }, 400, 'InvalidRequest'],
  ])('%s is refused with a reason', async (_, options, status, code) => {
    const answer = await gateway.call('POST', '/v1/sessions', options);
    expect([answer.status, errorOf(answer).code]).toEqual([status, code]);
    expect(errorOf(answer).message?.length).toBeGreaterThan(10);
  });

  test('unknown paths and methods are named', async () => {
    expect((await gateway.call('GET', '/v1/../etc/passwd')).status).toBe(404);
    expect((await gateway.call('GET', '/v1/virtual-organizations/..%2f/state')).status).toBe(404);
    const answer = await gateway.call('PUT', '/v1/sessions');
    expect([answer.status, errorOf(answer).message]).toEqual([405, expect.stringContaining('POST')]);
  });

  test('a connection that says nothing is closed', async () => {
    const socket = connect({ host: '127.0.0.1', port: (gateway as unknown as { port: number }).port, ca: caBundle });
    const start = Date.now();
    await new Promise((resolve) =>
      socket
        .once('close', resolve)
        .on('error', () => undefined)
        .resume(),
    );
    expect(Date.now() - start).toBeLessThan(40_000);
  });

  test('a flood of logins is slowed down, with the time to wait, and others are served on', async () => {
    const attempts = Array.from({ length: 120 }, async () =>
      gateway.callOnce('POST', '/v1/sessions', { body: { method: 'certificate', provider: 'grid' } }),
    );
    const statuses = (await Promise.all(attempts)).map(
      ({ status, headers }) => `${status} ${JSON.stringify(headers['retry-after'])}`,
    );
    expect(statuses.some((each) => /^429 "[0-9]+"$/.test(each))).toBe(true);
    expect((await gateway.call('GET', '/v1/site')).status).toBe(200);
  });
});

describe('a provider in trouble (threat 45)', () => {
  const start = async (): Promise<GatewayAnswer> =>
    gateway.call('POST', '/v1/sessions', {
      body: { method: 'device', provider: 'lab', challenge: aVerifier().challenge },
    });

  test.each(['hangs', 'floods', 'fails'] as const)(
    'that %s at the device endpoint is answered in time, and the gateway goes on',
    async (trouble) => {
      lab.troubles.set('/device/auth', trouble);
      const [before, memory] = [Date.now(), process.memoryUsage().rss];
      const answer = await start();
      expect(Date.now() - before).toBeLessThan(8000);
      expect([403, 503]).toContain(answer.status);
      expect(process.memoryUsage().rss - memory).toBeLessThan(150 * 1_048_576);
      lab.troubles.clear();
      expect((await gateway.call('GET', '/v1/site')).status).toBe(200);
      expect((await start()).status).toBe(202);
    },
  );

  test.each(['hangs', 'floods', 'fails'] as const)(
    'whose keys can not be had (%s) is believed by the keys that are known',
    async (trouble) => {
      await byDevice(lab, 'lab', 'alice');
      lab.troubles.set('/jwks', trouble);
      const { principal } = await byDevice(lab, 'lab', 'alice');
      expect(principal.subject).toBe('alice');
      lab.troubles.clear();
    },
  );
});

test('takes over a new certificate without closing anything', async () => {
  const path = `/apis/cert-manager.io/v1/namespaces/${systemNamespace}/certificates/xtreemos-gateway-tls/status`;
  const serial = async (): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(
        { host: '127.0.0.1', port: (gateway as unknown as { port: number }).port, ca: caBundle },
        () => {
          resolve(socket.getPeerCertificate().serialNumber);
          socket.end();
        },
      );
      socket.on('error', reject);
    });
  const before = await serial();
  const { status } = await site.client.json('GET', path);
  const issuing = {
    type: 'Issuing',
    status: 'True',
    reason: 'Test',
    message: 'Renew',
    lastTransitionTime: new Date().toISOString(),
  };
  const conditions = [...((status?.conditions ?? []) as object[]), issuing];
  await site.client.json('PATCH', path, {
    body: { status: { conditions } },
    contentType: 'application/merge-patch+json',
  });
  await waitFor('another certificate is served', async () => (await serial()) !== before, { limitMs: 30_000 });
  expect((await gateway.call('GET', '/v1/site')).status).toBe(200);
});

test('a replica that is killed in the middle of a login harms nobody: the next one goes on', async () => {
  const third = site.replica();
  const client = await third.client(caBundle);
  const { verifier, challenge } = aVerifier();
  const { body } = await client.call('POST', '/v1/sessions', {
    body: { method: 'device', provider: 'campus', challenge },
  });
  await third.stop();
  await campus.browse(String(body.verificationURIComplete), 'erin');
  const session = finished(
    await other.call('POST', '/v1/sessions', { body: { method: 'device', handle: body.handle, verifier } }),
  );
  expect(session.principal.subject).toBe('erin');
});

test('no secret is in logs, audit log, metrics, events or objects that people read (threat 65)', async () => {
  const texts = [...site.output.lines, await first.registry.metrics()];
  for (const path of [
    '/apis/events.k8s.io/v1/events',
    '/apis/xtreemos.io/v1alpha1/sites',
    '/apis/xtreemos.io/v1alpha1/virtualorganizations',
    '/apis/xtreemos.io/v1alpha1/vomemberships',
    '/api/v1/configmaps',
    `/apis/cert-manager.io/v1/namespaces/${systemNamespace}/certificates`,
  ]) {
    texts.push(JSON.stringify(await site.client.list(path)));
  }
  expect(site.output.audit().length).toBeGreaterThan(50);
  expect(canaries.size).toBeGreaterThan(40);
  const all = texts.join('\n');
  const shown = [...canaries].filter((secret) => secret.length > 12 && all.includes(secret));
  expect(shown).toEqual([]);
  const { items } = await site.client.list(`/api/v1/namespaces/${systemNamespace}/secrets`);
  const keys = items.flatMap((each) => Object.values((each as { data?: Record<string, string> }).data ?? {}));
  const privateOnes = keys
    .map((value) => Buffer.from(value, 'base64').toString())
    .filter((text) => text.includes('PRIVATE KEY'));
  expect(privateOnes.length).toBeGreaterThan(5);
  for (const key of privateOnes) expect(all).not.toContain(key.split('\n')[1]);
});

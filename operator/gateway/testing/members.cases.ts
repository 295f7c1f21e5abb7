import { beforeAll, describe, expect, test } from '@jest/globals';
import { verifyAccessToken } from '#common/identity/access-token.ts';
import { kubernetesCredentialAnswer, stateAnswer, whoamiAnswer } from '#common/identity/gateway-api.ts';
import { unverifiedPayload } from '#common/identity/unverified.ts';
import { verifyFreshness, verifyGenesis, verifyState } from '#common/identity/vo-state.ts';
import { waitFor } from '#sites/kube-client.ts';
import { type GatewayAnswer, GatewayClient } from '../../testing/gateway-client.ts';
import { systemNamespace } from '../../testing/gateway-site.ts';
import { errorOf, type GatewayScene } from './gateway-scene.ts';

/** What members get, and those who ask to be some. */
export function memberCases(scene: GatewayScene): void {
  describe('members', () => {
    const alice = { issuer: '', subject: 'alice' };
    let session: Awaited<ReturnType<GatewayScene['byDevice']>>;
    let userName: string;

    beforeAll(async () => {
      alice.issuer = scene.lab.issuer;
      userName = await scene.site.join('physics', 'alice', alice, 1, 1024, { roles: ['member'] });
      session = await scene.byDevice(scene.lab, 'lab', 'alice');
    });

    const token = async (body: object, bearer = session.sessionToken): Promise<GatewayAnswer> =>
      scene.gateway.call('POST', '/v1/token', {
        body: { virtualOrganization: 'physics', audience: 'storage', ...body },
        bearer,
      });
    const credential = async (organization = 'physics', bearer = session.sessionToken): Promise<GatewayAnswer> =>
      scene.gateway.call('POST', '/v1/kubernetes-credential', { body: { virtualOrganization: organization }, bearer });

    test('see who they are and where they belong', async () => {
      const answer = whoamiAnswer.parse(
        (await scene.gateway.call('GET', '/v1/whoami', { bearer: session.sessionToken })).body,
      );
      expect(answer.memberships).toEqual([
        expect.objectContaining({ virtualOrganization: 'physics', state: 'Active', usable: true, userName }),
      ]);
    });

    test('ask which nodes would take some work, and nobody else does', async () => {
      const ask = async (body: object, bearer = session.sessionToken) =>
        scene.gateway.call('POST', '/v1/virtual-organizations/physics/selection', { bearer, body });
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
      const elsewhere = await scene.gateway.call('POST', '/v1/virtual-organizations/open/selection', {
        bearer: session.sessionToken,
        body: {},
      });
      expect(errorOf(elsewhere).code).toBe('Forbidden');
    });

    test('get tokens that anyone can verify offline with the published state (threat 33)', async () => {
      const published = stateAnswer.parse(
        (await scene.gateway.call('GET', '/v1/virtual-organizations/physics/state')).body,
      );
      const state = await verifyState(published.state, await verifyGenesis(published.genesis));
      await expect(verifyFreshness(published.freshness ?? '', state, Date.now())).resolves.toBeUndefined();
      const { status, body } = await token({ scope: 'storage.read:/data' });
      expect(status).toBe(200);
      scene.canaries.add(String(body.accessToken));
      const claims = await verifyAccessToken(String(body.accessToken), {
        state,
        audience: 'storage',
        nowMs: Date.now(),
      });
      expect(claims).toMatchObject({ sub: userName, principal: alice, roles: ['member'], scope: 'storage.read:/data' });
      await expect(
        verifyAccessToken(String(body.accessToken), { state, audience: 'compute', nowMs: Date.now() }),
      ).rejects.toMatchObject({ problem: 'WrongAudience' });
    });

    test.each([
      ['a session token as access token of the gateway', async () => token({}, 'not-a-session')],
      [
        'an access token as session token (threat 33)',
        async () => token({}, String((await token({})).body.accessToken)),
      ],
    ])('%s is not taken', async (_, ask) => {
      expect((await ask()).status).toBe(401);
    });

    test('act in the namespace with plain Kubernetes, as themselves, and nowhere else', async () => {
      const { status, body } = await credential();
      expect(status).toBe(200);
      const answer = kubernetesCredentialAnswer.parse(body);
      scene.canaries.add(answer.token);
      expect(Date.parse(answer.expiresAt) - Date.now()).toBeLessThanOrEqual(3_601_000);
      const rbac = '/apis/rbac.authorization.k8s.io/v1';
      const group = 'rbac.authorization.k8s.io';
      const role = { metadata: { name: 'pods' }, rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['list'] }] };
      await scene.site.client.json('POST', `${rbac}/namespaces/vo-physics/roles`, { body: role });
      const binding = {
        metadata: { name: 'pods' },
        roleRef: { apiGroup: group, kind: 'Role', name: 'pods' },
        subjects: [{ kind: 'ServiceAccount', name: userName, namespace: 'vo-physics' }],
      };
      await scene.site.client.json('POST', `${rbac}/namespaces/vo-physics/rolebindings`, { body: binding });
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
      await scene.site.patchMember('physics', 'alice', { state: 'Suspended' });
      await waitFor('tokens are refused', async () => errorOf(await token({})).policy === 'member/state', {
        limitMs: 5000,
      });
      await waitFor('credentials are refused', async () => errorOf(await credential()).policy === 'member/state', {
        limitMs: 5000,
      });
      await waitFor('services refuse the old token', async () => {
        const published = stateAnswer.parse((await scene.other.call('GET', '/v1/virtual-organizations/physics/state')).body);
        const state = await verifyState(published.state, await verifyGenesis(published.genesis));
        return verifyAccessToken(String(body.accessToken), { state, audience: 'storage', nowMs: Date.now() }).then(() => false, () => true);
      }, { limitMs: 5000 }); // prettier-ignore
      expect(Date.now() - start).toBeLessThan(5000);
      const { memberships } = whoamiAnswer.parse(
        (await scene.gateway.call('GET', '/v1/whoami', { bearer: session.sessionToken })).body,
      );
      expect(memberships[0]).toMatchObject({ usable: false, reason: expect.stringContaining('ask an administrator') });
      expect(scene.site.output.audit()).toContainEqual(
        expect.objectContaining({
          what: 'token.mint',
          outcome: 'Refused',
          why: 'MemberSuspended',
          policy: 'member/state',
          who: alice,
          on: expect.objectContaining({ VirtualOrganization: 'physics' }),
        }),
      );
      await scene.site.patchMember('physics', 'alice', { state: 'Active' });
      await waitFor('tokens are given again', async () => (await token({})).status === 200);
    });

    test('get nothing once the site has cut their organization, whatever that says (threat 53)', async () => {
      await scene.site.patchSite({ acceptedVirtualOrganizations: [{ name: 'open' }, { name: 'asking' }] });
      await waitFor(
        'the site has the last word',
        async () => errorOf(await token({})).policy === 'site/acceptedVirtualOrganizations',
        { limitMs: 5000 },
      );
      await scene.site.patchSite({
        acceptedVirtualOrganizations: [{ name: 'physics' }, { name: 'open' }, { name: 'asking' }],
      });
      await waitFor('tokens are given again', async () => (await token({})).status === 200);
    });
  });

  describe('asking to join', () => {
    const ask = async (organization: string, bearer: string, body: object = {}): Promise<GatewayAnswer> =>
      scene.gateway.call('POST', `/v1/virtual-organizations/${organization}/requests`, { body, bearer });

    test('is possible for oneself only, makes one membership, and accepts a use by its digest', async () => {
      const { sessionToken, principal } = await scene.byDevice(scene.campus, 'campus', 'bob');
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
      const stored = await scene.site.client.json('GET', scene.site.membership('open', String(body.membership)));
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
      const { sessionToken } = await scene.byDevice(scene.campus, 'campus', 'carol');
      const answer = await ask('asking', sessionToken);
      expect(answer.status).toBe(201);
      expect(answer.body).toMatchObject({ state: 'Requested', message: expect.stringContaining('approve') });
    });

    test.each([
      ['is closed', 'physics', 403, 'vo/enrolment'],
      ['the site refuses', 'refused', 404, 'site/acceptedVirtualOrganizations'],
      ['does not exist', 'nowhere', 404, 'site/acceptedVirtualOrganizations'],
    ])('is refused where it %s', async (_, organization, status, policy) => {
      const { sessionToken } = await scene.byDevice(scene.campus, 'campus', 'dave');
      const answer = await ask(organization, sessionToken);
      expect([answer.status, errorOf(answer).policy]).toEqual([status, policy]);
    });
  });
}

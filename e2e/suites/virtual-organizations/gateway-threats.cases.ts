import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { allows, verifyAccessToken } from '#common/identity/access-token.ts';
import { verifyGenesis, verifyState } from '#common/identity/vo-state.ts';
import type { Site } from '#crds/site.ts';
import { aVerifier, type GatewayAnswer, GatewayClient } from '#operator/testing/gateway-client.ts';
import { waitFor } from '#sites/harness.ts';
import { readCredentials } from '#sites/kubeconfig.ts';
import { outside, system, type ThreatScene } from './threats-scene.ts';

/** Attacks on the gateway; the last of them looks at what all the others left. */
export function gatewayThreats(scene: ThreatScene): void {
  describe('the gateway', () => {
    let gateway: GatewayClient;

    beforeAll(async () => {
      const { data } = await scene.site.get<{ data: Record<string, string> }>(
        'cm',
        'xtreemos-gateway',
        '-n',
        'kube-public',
      );
      const [host, port] = (data.address ?? '').split(':');
      gateway = new GatewayClient(Number(port), data.caBundle ?? '', host);
    });

    const logIn = async (): Promise<Record<string, unknown>> => {
      const { status, body } = await gateway.call('POST', '/v1/sessions', {
        body: { method: 'kubernetes' },
        certificate: readCredentials(scene.shared.kubeconfig, `mallory@${scene.site.name}`),
      });
      expect(status).toBe(201);
      for (const name of ['sessionToken', 'refreshToken']) scene.canaries.add(String(body[name]));
      return body;
    };

    test('believes no token that was made up, or is for something else (threats 32, 33)', async () => {
      const { sessionToken } = await logIn();
      const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
      const claims = { iss: 'kubernetes:home', sub: 'mallory', exp: 4_102_444_800, iat: 0, aud: 'xtreemos' };
      const kubernetes = (
        await scene.site.kubectl(['create', 'token', scene.alice.userName, '-n', scene.namespace])
      ).trim();
      const forged = [
        `${encode({ alg: 'none', typ: 'JWT' })}.${encode(claims)}.`,
        `${encode({ alg: 'HS256', jwk: {}, kid: '../../etc/passwd' })}.${encode(claims)}.${randomBytes(32).toString('base64url')}`,
        `${encode({ alg: 'RS256', jku: 'https://evil.example.org/jwks' })}.${encode(claims)}.AAAA`,
        `${String(sessionToken).slice(0, -4)}AAAA`,
        kubernetes,
      ];
      for (const token of forged) expect((await gateway.call('GET', '/v1/whoami', { bearer: token })).status).toBe(401);
      expect((await gateway.call('GET', '/v1/whoami', { bearer: String(sessionToken) })).status).toBe(200);
    });

    test('narrows a token to a path, and not to what looks like it (threat 34)', async () => {
      await scene.product.join('mallory', { principal: { issuer: 'kubernetes:home', subject: 'mallory' } });
      await scene.product.member('mallory');
      const { sessionToken: bearer } = await logIn();
      const mint = async (scope: string): Promise<GatewayAnswer> =>
        gateway.call('POST', '/v1/token', {
          body: { virtualOrganization: system, audience: 'storage.home', scope },
          bearer: String(bearer),
        });
      for (const path of ['data', '/data/../etc', '/data/%2e%2e/etc', '//data', '/data/./run']) {
        expect([path, (await mint(`storage.read:${path}`)).status]).toEqual([path, 400]);
      }
      const minted = await waitFor('a token is minted', async () => {
        const answer = await mint('storage.read:/data');
        return answer.status === 200 ? answer.body : undefined;
      });
      scene.canaries.add(String(minted.accessToken));
      const { body } = await gateway.call('GET', `/v1/virtual-organizations/${system}/state`);
      const state = await verifyState(String(body.state), await verifyGenesis(String(body.genesis)));
      const token = await verifyAccessToken(String(minted.accessToken), {
        ...{ state, audience: 'storage.home' },
        nowMs: Date.now(),
      });
      const may = (operation: string, path: string): boolean => allows(token, operation, path);
      expect(['/data', '/data/run/1'].map((path) => may('storage.read', path))).toEqual([true, true]);
      const others = ['/database', '/data2', '/dat', '/', '/Data', '/data/../etc', '/data//run', '/other/data'];
      expect(others.filter((path) => may('storage.read', path))).toEqual([]);
      expect(['storage.modify', 'storage.create'].filter((operation) => may(operation, '/data'))).toEqual([]);
    });

    test('ends a session whose refresh token comes back a second time (threat 38)', async () => {
      const first = await logIn();
      const refresh = async (refreshToken: unknown): Promise<GatewayAnswer> =>
        gateway.call('POST', '/v1/sessions/refresh', {
          body: { refreshToken, attempt: randomBytes(32).toString('base64url') },
        });
      const second = await refresh(first.refreshToken);
      const third = await refresh(second.body.refreshToken);
      for (const { body } of [second, third])
        scene.canaries.add(String(body.refreshToken)).add(String(body.sessionToken));
      expect([second.status, third.status]).toEqual([200, 200]);
      expect((await refresh(first.refreshToken)).status).toBe(401);
      expect((await refresh(third.body.refreshToken)).status).toBe(401);
      expect((await gateway.call('GET', '/v1/whoami', { bearer: String(third.body.sessionToken) })).status).toBe(401);
    });

    test('logs no pod in, and no member by the account that it gave them (threat 46)', async () => {
      for (const [name, where] of [
        [scene.alice.userName, scene.namespace],
        ['default', outside],
      ] as const) {
        const token = (await scene.site.kubectl(['create', 'token', name, '-n', where])).trim();
        const { status } = await gateway.call('POST', '/v1/sessions', {
          body: { method: 'kubernetes' },
          bearer: token,
        });
        expect([name, [401, 403].includes(status)]).toEqual([name, true]);
      }
    });

    test('answers in time when a provider does not (threat 45)', async () => {
      const provider = {
        ...{ name: 'silent', type: 'OpenIDConnect' },
        openIDConnect: { issuer: 'https://198.51.100.9', clientID: 'xtreemos' },
      };
      const setProviders = async (providers: object[]): Promise<unknown> =>
        scene.site.kubectl([
          ...['patch', 'site', 'home', '--type=merge', '-p'],
          JSON.stringify({ spec: { local: { identityProviders: providers } } }),
        ]);
      await setProviders([provider]);
      await waitFor('the gateway knows it', async () =>
        JSON.stringify((await gateway.call('GET', '/v1/site')).body).includes('silent'),
      );
      const { challenge } = aVerifier();
      const begun = process.hrtime.bigint();
      const asking = gateway.call('POST', '/v1/sessions', {
        body: { method: 'device', provider: 'silent', challenge },
      });
      expect((await gateway.call('GET', '/v1/site')).status).toBe(200);
      expect([403, 503]).toContain((await asking).status);
      // What bounds it is the gateway's own limit of time, not the one of this client.
      expect(Number(process.hrtime.bigint() - begun) / 1e9).toBeLessThan(9.5);
      await setProviders([]);
      expect((await scene.site.get<Site>('site', 'home')).spec).toMatchObject({ type: 'Local' });
    });

    test('nothing that was secret is in logs, events, status or objects that people read (threat 65)', async () => {
      const texts = [await scene.site.kubectl(['get', 'events', '-A', '-o', 'yaml'])];
      for (const kinds of ['vo,vom,islice,sites.xtreemos.io,gridjobs', 'pods,configmaps,deployments']) {
        texts.push(await scene.site.kubectl(['get', kinds, '-A', '-o', 'yaml']));
      }
      // Pods with which the operator tries the network come and go: one that is just starting has no log yet.
      const logs = await waitFor('the logs of all pods are read', async () => {
        const { items } = await scene.site.get<{ items: { metadata: { name: string } }[] }>('pods', '-n', system);
        const read = items.map(async ({ metadata: { name } }) =>
          scene.site.kubectl(['logs', name, '-n', system, '--all-containers', '--tail=-1']),
        );
        return Promise.all(read);
      });
      texts.push(...logs);
      const all = texts.join('\n');
      expect(all).toContain('mallory');
      expect(scene.canaries.size).toBeGreaterThan(4);
      for (const canary of scene.canaries) expect(all.includes(canary)).toBe(false);
    });
  });
}

import { describe, expect, test } from '@jest/globals';
import { waitFor } from '#sites/kube-client.ts';
import { createAuthority } from '#sites/pki.ts';
import { aVerifier } from '../../testing/gateway-client.ts';
import { systemNamespace } from '../../testing/gateway-site.ts';
import { errorOf, type GatewayScene } from './gateway-scene.ts';

/** Ways to log in, and who can not. */
export function loginCases(scene: GatewayScene): void {
  describe('logging in', () => {
    test('by device flow at a real provider, without a browser on the machine, through two replicas', async () => {
      const { principal } = await scene.byDevice(scene.lab, 'lab', 'alice');
      expect(principal).toEqual({ issuer: scene.lab.issuer, subject: 'alice' });
    });

    test('by authorization code with PKCE', async () => {
      const { session, finish } = await scene.byCode(scene.lab, 'lab', 'alice');
      expect(session.principal).toEqual({ issuer: scene.lab.issuer, subject: 'alice' });
      const again = await scene.gateway.call('POST', '/v1/sessions', { body: finish });
      expect([again.status, errorOf(again).code]).toEqual([403, 'LoginRefused']);
    });

    test('by a certificate of the cluster, and by a token of it', async () => {
      expect((await scene.byCluster('ada')).principal).toEqual({ issuer: 'kubernetes:rennes', subject: 'ada' });
      const answer = await scene.gateway.call('POST', '/v1/sessions', {
        body: { method: 'kubernetes' },
        bearer: 'forged',
      });
      expect([answer.status, errorOf(answer).code]).toEqual([401, 'Unauthenticated']);
    });

    test('by a certificate of a provider', async () => {
      const pair = await scene.authority.issue({
        commonName: 'Alice, Ph.D.',
        organizations: ['CERN'],
        usages: ['client'],
      });
      const session = scene.finished(
        await scene.gateway.call('POST', '/v1/sessions', {
          body: { method: 'certificate', provider: 'grid' },
          certificate: pair,
        }),
      );
      expect(session.principal.issuer).toBe('x509:grid');
      expect(session.principal.subject).toContain('Alice\\, Ph.D.');
    });

    test('one subject at two providers is two people (threat 41)', async () => {
      const [a, b] = [
        await scene.byDevice(scene.lab, 'lab', 'mallory'),
        await scene.byDevice(scene.campus, 'campus', 'mallory'),
      ];
      expect(a.principal.subject).toBe(b.principal.subject);
      expect(a.principal.issuer).not.toBe(b.principal.issuer);
    });

    test.each(['system:masters', 'System:Masters', 'system:serviceaccount:kube-system:default'])(
      'nobody is %s, whoever says so (threat 41)',
      async (subject) => {
        const { verifier, challenge } = aVerifier();
        const { body } = await scene.gateway.call('POST', '/v1/sessions', {
          body: { method: 'device', provider: 'lab', challenge },
        });
        await scene.lab.browse(String(body.verificationURIComplete), subject);
        const answer = await scene.gateway.call('POST', '/v1/sessions', {
          body: { method: 'device', handle: body.handle, verifier },
        });
        expect([answer.status, errorOf(answer).code]).toEqual([403, 'LoginRefused']);
      },
    );

    test('a certificate of one authority is none of another (threats 30, 41)', async () => {
      const pair = await scene.authority.issue({
        commonName: 'admin',
        organizations: ['system:masters'],
        usages: ['client'],
      });
      const asCluster = await scene.gateway.call('POST', '/v1/sessions', {
        body: { method: 'kubernetes' },
        certificate: pair,
      });
      expect([asCluster.status, errorOf(asCluster).code]).toEqual([401, 'Unauthenticated']);
      const asGrid = await scene.gateway.call('POST', '/v1/sessions', {
        body: { method: 'certificate', provider: 'grid' },
        certificate: scene.clusterUser('ada'),
      });
      expect([asGrid.status, errorOf(asGrid).code]).toEqual([401, 'Unauthenticated']);
    });

    test.each([
      [
        'of an authority that nobody knows',
        async () => (await createAuthority('unknown')).issue({ commonName: 'x', usages: ['client'] }),
      ],
      ['that is over', async () => scene.authority.issue({ commonName: 'x', usages: ['client'], lifetimeMs: -1000 })],
      ['that is for servers', async () => scene.authority.issue({ commonName: 'x', usages: ['server'] })],
    ])('a certificate %s is refused', async (_, make) => {
      const answer = await scene.gateway.call('POST', '/v1/sessions', {
        body: { method: 'certificate', provider: 'grid' },
        certificate: await make(),
      });
      expect([answer.status, errorOf(answer).code]).toEqual([401, 'Unauthenticated']);
    });

    test('whoever has seen a code or a handle can do nothing with it (threat 38)', async () => {
      const { challenge } = aVerifier();
      const { body } = await scene.gateway.call('POST', '/v1/sessions', {
        body: { method: 'device', provider: 'lab', challenge },
      });
      await scene.lab.browse(String(body.verificationURIComplete), 'victim');
      const stolen = await scene.gateway.call('POST', '/v1/sessions', {
        body: { method: 'device', handle: body.handle, verifier: aVerifier().verifier },
      });
      expect([stolen.status, errorOf(stolen).code]).toEqual([403, 'LoginRefused']);
      const forged = await scene.gateway.call('POST', '/v1/sessions', {
        body: { method: 'device', handle: `xosh_${'A'.repeat(80)}`, verifier: aVerifier().verifier },
      });
      expect([forged.status, errorOf(forged).code]).toEqual([400, 'LoginExpired']);
    });

    test('a token of a pod, or of a pod that is gone, logs nobody in (threat 46)', async () => {
      const accounts = `/api/v1/namespaces/${systemNamespace}/serviceaccounts`;
      await scene.site.client.json('POST', accounts, {
        body: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'pod' } },
      });
      const made = await scene.site.client.json('POST', `${accounts}/pod/token`, { body: { spec: {} } });
      const { token } = made.status as { token: string };
      scene.canaries.add(token);
      const alive = await scene.gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, bearer: token });
      expect([alive.status, errorOf(alive).code]).toEqual([403, 'LoginRefused']);
      await scene.site.client.json('DELETE', `${accounts}/pod`);
      const gone = await waitFor('the token is worthless', async () => {
        const answer = await scene.gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, bearer: token });
        return answer.status === 401 ? answer : undefined;
      }, { limitMs: 30_000 }); // prettier-ignore
      expect(errorOf(gone).code).toBe('Unauthenticated');
    });

    test('the owner of the site can forbid the users of the cluster, at once', async () => {
      await scene.site.patchSite({ kubernetesLogin: false });
      await waitFor('it is refused', async () => {
        const answer = await scene.gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, certificate: scene.clusterUser('ada') });
        return errorOf(answer).policy === 'site/kubernetesLogin';
      }); // prettier-ignore
      await scene.site.patchSite({ kubernetesLogin: true });
      await waitFor('it is allowed again', async () => {
        const answer = await scene.gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, certificate: scene.clusterUser('ada') });
        return answer.status === 201;
      }, { limitMs: 20_000 }); // prettier-ignore
    });
  });
}

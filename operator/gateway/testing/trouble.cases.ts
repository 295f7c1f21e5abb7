import { connect } from 'node:tls';
import { describe, expect, test } from '@jest/globals';
import { waitFor } from '#sites/kube-client.ts';
import { renewCertificate } from '../../testing/cert-manager.ts';
import { aVerifier } from '../../testing/gateway-client.ts';
import { systemNamespace } from '../../testing/gateway-site.ts';
import { errorOf, type GatewayScene } from './gateway-scene.ts';

/** What goes wrong around a gateway: bad requests, providers in trouble, replicas that are killed, certificates that change. */
export function troubleCases(scene: GatewayScene): void {
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
      const answer = await scene.gateway.call('POST', '/v1/sessions', options);
      expect([answer.status, errorOf(answer).code]).toEqual([status, code]);
      expect(errorOf(answer).message?.length).toBeGreaterThan(10);
    });

    test('unknown paths and methods are named', async () => {
      expect((await scene.gateway.call('GET', '/v1/../etc/passwd')).status).toBe(404);
      expect((await scene.gateway.call('GET', '/v1/virtual-organizations/..%2f/state')).status).toBe(404);
      const answer = await scene.gateway.call('PUT', '/v1/sessions');
      expect([answer.status, errorOf(answer).message]).toEqual([405, expect.stringContaining('POST')]);
    });

    test('a connection that says nothing is closed', async () => {
      const socket = connect({ host: '127.0.0.1', port: await scene.first.port(), ca: scene.caBundle });
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
        scene.gateway.callOnce('POST', '/v1/sessions', { body: { method: 'certificate', provider: 'grid' } }),
      );
      const statuses = (await Promise.all(attempts)).map(
        ({ status, headers }) => `${status} ${JSON.stringify(headers['retry-after'])}`,
      );
      expect(statuses.some((each) => /^429 "[0-9]+"$/.test(each))).toBe(true);
      expect((await scene.gateway.call('GET', '/v1/site')).status).toBe(200);
    });
  });

  describe('a provider in trouble (threat 45)', () => {
    /** A login by code that the browser has come back from. */
    const returned = async (): Promise<object> => {
      const { verifier, challenge } = aVerifier();
      const body = { method: 'code', provider: 'lab', challenge, redirectURI: 'http://127.0.0.1:8400/callback' };
      const { handle, authorizationURL } = (await scene.gateway.call('POST', '/v1/sessions', { body })).body;
      const callbackURL = await scene.lab.browse(String(authorizationURL), 'alice');
      return { method: 'code', handle, verifier, callbackURL };
    };

    test.each(['hangs', 'floods', 'fails', 'trickles'] as const)(
      'that %s at the token endpoint is answered in time, and the gateway goes on',
      async (trouble) => {
        const body = await returned();
        const { page } = await scene.startDevice('lab');
        scene.lab.troubles.set('/token', trouble);
        const [before, memory] = [Date.now(), process.memoryUsage().rss];
        const answer = await scene.gateway.call('POST', '/v1/sessions', { body });
        expect(Date.now() - before).toBeLessThan(8000);
        expect([403, 503]).toContain(answer.status);
        expect(process.memoryUsage().rss - memory).toBeLessThan(150 * 1_048_576);
        expect(await scene.lab.browse(page, 'alice')).toMatch(/identity provider (refused|does not answer)/);
        scene.lab.troubles.clear();
        expect((await scene.gateway.call('GET', '/v1/site')).status).toBe(200);
        expect((await scene.byDevice(scene.lab, 'lab', 'alice')).principal.subject).toBe('alice');
      },
    );

    test('whose tokens are signed with ever new keys is asked for keys once in half a minute, and others log in', async () => {
      await scene.byDevice(scene.lab, 'lab', 'alice');
      const fetches = (): number => scene.lab.requests.get('/jwks') ?? 0;
      const [before, begun] = [fetches(), process.hrtime.bigint()];
      scene.lab.troubles.set('/token', 'signs with strange keys');
      for (let index = 0; index < 15; index++) {
        const answer = await scene.gateway.call('POST', '/v1/sessions', { body: await returned() });
        expect([answer.status, errorOf(answer).message]).toEqual([
          403,
          expect.stringContaining('a key that it does not publish'),
        ]);
      }
      expect((await scene.byDevice(scene.campus, 'campus', 'bob')).principal.subject).toBe('bob');
      scene.lab.troubles.clear();
      expect((await scene.byDevice(scene.lab, 'lab', 'alice')).principal.subject).toBe('alice');
      const halfMinutes = Number(process.hrtime.bigint() - begun) / 30e9;
      // Each of the two replicas fetches for itself.
      expect(fetches() - before).toBeLessThanOrEqual(2 * (1 + Math.floor(halfMinutes)));
    });

    test.each(['hangs', 'floods', 'fails'] as const)(
      'whose keys can not be had (%s) is believed by the keys that are known',
      async (trouble) => {
        await scene.byDevice(scene.lab, 'lab', 'alice');
        scene.lab.troubles.set('/jwks', trouble);
        const { principal } = await scene.byDevice(scene.lab, 'lab', 'alice');
        expect(principal.subject).toBe('alice');
        scene.lab.troubles.clear();
      },
    );
  });

  test('takes over a new certificate without closing anything', async () => {
    const port = await scene.first.port();
    const serial = async (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect({ host: '127.0.0.1', port, ca: scene.caBundle }, () => {
          resolve(socket.getPeerCertificate().serialNumber);
          socket.end();
        });
        socket.on('error', reject);
      });
    const before = await serial();
    await renewCertificate(scene.site.client, systemNamespace, 'xtreemos-gateway-tls');
    await waitFor('another certificate is served', async () => (await serial()) !== before, { limitMs: 30_000 });
    expect((await scene.gateway.call('GET', '/v1/site')).status).toBe(200);
  });

  test('a replica that is killed in the middle of a login harms nobody: the next one goes on', async () => {
    const third = scene.site.replica();
    const client = await third.client(scene.caBundle);
    const { verifier, challenge } = aVerifier();
    const { body } = await client.call('POST', '/v1/sessions', {
      body: { method: 'device', provider: 'campus', challenge },
    });
    await third.stop();
    await scene.campus.browse(String(body.verificationURIComplete), 'erin');
    const session = scene.finished(
      await scene.other.call('POST', '/v1/sessions', { body: { method: 'device', handle: body.handle, verifier } }),
    );
    expect(session.principal.subject).toBe('erin');
  });
}

import { randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { sessionAnswer } from '#common/identity/gateway-api.ts';
import { waitFor } from '#sites/kube-client.ts';
import type { GatewayAnswer } from '../../testing/gateway-client.ts';
import { errorOf, type GatewayScene } from './gateway-scene.ts';

/** Sessions and their refresh tokens. */
export function sessionCases(scene: GatewayScene): void {
  describe('sessions', () => {
    const anAttempt = (): string => randomBytes(32).toString('base64url');
    const refresh = async (refreshToken: string, at = scene.gateway, attempt = anAttempt()): Promise<GatewayAnswer> =>
      at.call('POST', '/v1/sessions/refresh', { body: { refreshToken, attempt } });

    test('are refreshed at any replica, and a token before the last one ends them (threat 38)', async () => {
      const session = await scene.byCluster('ada');
      const second = sessionAnswer.parse((await refresh(session.refreshToken, scene.other)).body);
      scene.canaries.add(second.refreshToken).add(second.sessionToken);
      const third = sessionAnswer.parse((await refresh(second.refreshToken)).body);
      scene.canaries.add(third.refreshToken);
      const reused = await refresh(session.refreshToken);
      expect([reused.status, errorOf(reused).code]).toEqual([401, 'SessionEnded']);
      for (const token of [third.refreshToken, second.refreshToken])
        expect((await refresh(token, scene.other)).status).toBe(401);
      expect((await scene.gateway.call('GET', '/v1/whoami', { bearer: third.sessionToken })).status).toBe(401);
      expect(scene.site.output.audit()).toContainEqual(
        expect.objectContaining({ why: 'RefreshTokenReused', outcome: 'Refused' }),
      );
    });

    test('give one attempt the same next token however often it is made, until that is used (threat 38)', async () => {
      const { refreshToken } = await scene.byCluster('ada');
      const attempt = anAttempt();
      const answers = await Promise.all(
        Array.from({ length: 8 }, async (_, index) =>
          refresh(refreshToken, index % 2 === 0 ? scene.gateway : scene.other, attempt),
        ),
      );
      const tokens = new Set(answers.map(({ body }) => body.refreshToken));
      expect(tokens.size).toBe(1);
      const [next] = [...tokens].map(String);
      scene.canaries.add(String(next));
      expect((await refresh(refreshToken, scene.other, attempt)).body.refreshToken).toBe(next);
      const { status, body } = await refresh(String(next));
      expect(status).toBe(200);
      scene.canaries.add(String(body.refreshToken));
      expect(errorOf(await refresh(refreshToken, scene.gateway, attempt)).code).toBe('SessionEnded');
      expect((await refresh(String(body.refreshToken))).status).toBe(401);
    });

    test('end when two attempts are made with one token, at once too (threat 38)', async () => {
      const { refreshToken } = await scene.byCluster('ada');
      const answers = await Promise.all([refresh(refreshToken), refresh(refreshToken, scene.other)]);
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 401]);
      const got = answers.find(({ status }) => status === 200)?.body.refreshToken;
      scene.canaries.add(String(got));
      expect((await refresh(String(got))).status).toBe(401);
    });

    test('end at every replica when one logs out', async () => {
      const session = await scene.byCluster('eve');
      expect((await scene.other.call('GET', '/v1/whoami', { bearer: session.sessionToken })).status).toBe(200);
      expect((await scene.gateway.call('DELETE', '/v1/sessions', { bearer: session.sessionToken })).status).toBe(204);
      await waitFor(
        'the other replica knows',
        async () => (await scene.other.call('GET', '/v1/whoami', { bearer: session.sessionToken })).status === 401,
      );
      expect((await refresh(session.refreshToken, scene.other)).status).toBe(401);
    });

    test('of one person are sixteen at most', async () => {
      for (let i = 0; i < 18; i++) {
        await scene.byCluster('eve');
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
      const tags = (await scene.site.sessions()).map(({ metadata }) => metadata?.labels?.['xtreemos.io/principal']);
      const most = Math.max(...tags.map((tag) => tags.filter((each) => each === tag).length));
      expect(most).toBeLessThanOrEqual(16);
    });

    test('are stored encrypted, and name nobody', async () => {
      await scene.byDevice(scene.lab, 'lab', 'alice');
      const text = JSON.stringify(await scene.site.sessions());
      const decoded = (await scene.site.sessions()).map((each) =>
        Buffer.from(String((each as { data?: { record?: string } }).data?.record), 'base64').toString('latin1'),
      );
      for (const word of ['alice', scene.lab.issuer, 'kubernetes:rennes']) {
        expect(text).not.toContain(word);
        expect(decoded.join()).not.toContain(word);
      }
    });

    test.each(['', 'xoss_', 'xoss_AAAA', `xoss_${'A'.repeat(200)}`, 'eyJhbGciOiJub25lIn0.e30.'])(
      '%p is no session',
      async (bearer) => {
        expect((await scene.gateway.call('GET', '/v1/whoami', { bearer })).status).toBe(401);
      },
    );
  });
}

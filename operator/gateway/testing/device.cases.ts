import { request } from 'node:https';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { waitFor } from '#sites/kube-client.ts';
import { systemNamespace } from '../../testing/gateway-site.ts';
import { errorOf, type GatewayScene } from './gateway-scene.ts';

/** What a page says to whoever reads it. */
function textOf(html: string): string {
  const plain = html.replaceAll(/<style>[^]*?<\/style>/g, '').replaceAll(/<[^>]+>/g, ' ');
  return plain.replaceAll(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code))).replaceAll(/\s+/g, ' ');
}

/** Agreeing to a device login: what the person sees, and who else can do nothing about it. */
export function deviceCases(scene: GatewayScene): void {
  describe('agreeing to a device login (threat 38)', () => {
    const records = async (): Promise<string[]> => {
      const { items } = await scene.site.client.list(`/api/v1/namespaces/${systemNamespace}/secrets`);
      return items.map(({ metadata }) => metadata?.name ?? '').filter((name) => name.startsWith('device-'));
    };
    const poll = async (finish: object) => scene.other.call('POST', '/v1/sessions', { body: finish });
    const seen = async (address: string, answers: Record<string, string>): Promise<string[]> =>
      (await scene.lab.visit(address, answers))
        .filter(({ url }) => url.includes('/device'))
        .map(({ body }) => textOf(body));

    beforeAll(async () => {
      const dora = { issuer: scene.lab.issuer, subject: 'dora' };
      await scene.site.join('physics', 'dora', dora, 1, 1040, { roles: ['member', 'administrator'] });
      await scene.site.join('open', 'dora', dora, 2, 1040, { roles: ['observer'], state: 'Suspended' });
    });

    test('shows who asks, from where, for which organizations, with which rights and until when, before anything is given', async () => {
      const { pending, finish, page } = await scene.startDevice('lab', {}, { 'user-agent': 'xos/1.2.3 <b>' });
      const [asked = '', consent = '', done = ''] = await seen(page, { login: 'dora' });
      for (const text of [asked, consent]) {
        expect(text).toContain(pending.userCode);
        expect(text).toContain('xos/1.2.3 <b> (so it calls itself)');
        expect(text).toContain('127.0.0.1, the address of this browser too');
        expect(text).toMatch(/Has somebody sent you this link/);
      }
      expect(asked).toContain('every virtual organization that you are a member of');
      expect(asked).toContain(scene.lab.issuer);
      expect(consent).toContain(`You are dora of ${scene.lab.issuer}`);
      expect(consent).toContain('At site rennes');
      expect(consent).toMatch(
        /physics member, administrator as u-m1040-\d+: runs jobs and pods, reads and writes data; decides who is a member/,
      );
      expect(consent).toMatch(/open observer nothing now: .*suspended/i);
      expect(consent).toMatch(/Until \d{4}-\d\d-\d\d \d\d:\d\d UTC/);
      expect(consent).toContain('no rights over a site');
      expect(done).toContain('Allowed');
      const session = scene.finished(await poll(finish));
      expect(session.principal).toEqual({ issuer: scene.lab.issuer, subject: 'dora' });
      expect(Date.parse(session.expiresAt) - Date.now()).toBeLessThanOrEqual(7 * 24 * 3_600_000);
    });

    test('gives nothing until somebody allows it, and nothing at all when they refuse', async () => {
      const { finish, page } = await scene.startDevice('lab');
      expect((await poll(finish)).status).toBe(202);
      const pages = await seen(page, { login: 'dora', decision: 'refuse' });
      expect(pages.at(-1)).toContain('The program gets nothing');
      const answer = await poll(finish);
      expect([answer.status, errorOf(answer).code]).toEqual([403, 'LoginRefused']);
      expect((await poll(finish)).status).toBe(400);
      expect(scene.site.output.audit()).toContainEqual(
        expect.objectContaining({
          what: 'device.decide',
          why: 'DeviceRefused',
          who: { issuer: scene.lab.issuer, subject: 'dora' },
          on: expect.objectContaining({ Address: '127.0.0.1' }),
        }),
      );
    });

    test('is for the organizations that were asked for, and the session gives nothing for others', async () => {
      const { finish, page } = await scene.startDevice('lab', { virtualOrganizations: ['physics', 'asking'] });
      const [asked = '', consent = ''] = await seen(page, { login: 'dora' });
      for (const text of [asked, consent]) expect(text).toContain('the virtual organizations physics, asking alone');
      expect(consent).toContain('physics member, administrator');
      expect(consent).toContain('asking none nothing now: you are no member');
      expect(consent).not.toContain('open observer');
      const { sessionToken: bearer, refreshToken } = scene.finished(await poll(finish));
      const body = { audience: 'storage', virtualOrganization: 'physics' };
      expect((await scene.gateway.call('POST', '/v1/token', { body, bearer })).status).toBe(200);
      const who = await scene.gateway.call('GET', '/v1/whoami', { bearer });
      expect(who.body).toMatchObject({
        virtualOrganizations: ['physics', 'asking'],
        memberships: [{ virtualOrganization: 'physics' }],
      });
      const attempt = 'A'.repeat(43);
      const next = await scene.gateway.call('POST', '/v1/sessions/refresh', { body: { refreshToken, attempt } });
      for (const token of [bearer, String(next.body.sessionToken)]) {
        for (const [method, path, more] of [
          ['POST', '/v1/token', { audience: 'storage', virtualOrganization: 'open' }],
          ['POST', '/v1/kubernetes-credential', { virtualOrganization: 'open' }],
          ['POST', '/v1/virtual-organizations/open/requests', {}],
          ['POST', '/v1/virtual-organizations/open/selection', {}],
        ] as const) {
          const refused = await scene.gateway.call(method, path, { body: more, bearer: token });
          expect([path, refused.status, errorOf(refused).policy]).toEqual([path, 403, 'session/virtualOrganizations']);
        }
      }
    });

    test('is narrowed by every other way to log in too', async () => {
      const { session } = await scene.byCode(scene.lab, 'lab', 'dora', { virtualOrganizations: ['open'] });
      const body = { method: 'kubernetes', virtualOrganizations: ['open'] };
      const certificate = scene.clusterUser('ada');
      const cluster = scene.finished(await scene.gateway.call('POST', '/v1/sessions', { body, certificate }));
      for (const bearer of [session.sessionToken, cluster.sessionToken]) {
        const refused = await scene.gateway.call('POST', '/v1/kubernetes-credential', {
          body: { virtualOrganization: 'physics' },
          bearer,
        });
        expect(errorOf(refused).policy).toBe('session/virtualOrganizations');
      }
    });

    test('is possible by typing the code, in small letters and without its hyphen', async () => {
      const { pending, finish } = await scene.startDevice('lab');
      const code = (pending.userCode ?? '').toLowerCase().replace('-', '');
      const pages = await seen(pending.verificationURI ?? '', { login: 'dora', code });
      expect(pages[0]).toContain('The code that the program shows');
      expect(pages.at(-1)).toContain('Allowed');
      scene.finished(await poll(finish));
    });

    test('a provider’s page that was forwarded to somebody leads nowhere: only the browser that typed the code goes on', async () => {
      const { finish, page } = await scene.startDevice('lab');
      // The thief goes as far as the provider, and gives the victim the address of that.
      const way = await scene.lab.visit(page, { login: 'thief' }, scene.lab.issuer);
      const victim = await scene.lab.visit(way.at(-1)?.url ?? '', { login: 'victim' });
      expect(textOf(victim.at(-1)?.body ?? '')).toContain('No login is under way in this browser');
      expect((await poll(finish)).status).toBe(202);
    });

    test('a decision counts once, and its answer is given once', async () => {
      const { finish, page } = await scene.startDevice('lab');
      await scene.lab.browse(page, 'dora');
      expect(textOf(await scene.lab.browse(page, 'mallory'))).toContain('No program waits with this code');
      const answers = await Promise.all([1, 2, 3, 4].map(async () => poll(finish)));
      expect(answers.map(({ status }) => status).sort()).toEqual([201, 400, 400, 400]);
    });

    test.each([
      ['another site', { origin: 'https://evil.example.org' }],
      ['no page at all', {}],
      ['a sandboxed page', { origin: 'null' }],
    ])('a form from %s decides nothing', async (_, headers) => {
      for (const path of ['/device/login', '/device/decision']) {
        const type = { 'content-type': 'application/x-www-form-urlencoded' };
        const answer = await raw('POST', path, { ...type, ...headers }, 'decision=allow&code=BCDFGHJK');
        expect([answer.status, textOf(answer.text)]).toEqual([403, expect.stringContaining('not sent by a page')]);
      }
    });

    test('pages run nothing, are framed by nobody and kept by nobody, and a code that means nothing is told so', async () => {
      const answer = await raw('GET', '/device?code=<script>alert(1)</script>', {});
      expect([answer.status, textOf(answer.text)]).toEqual([400, expect.stringContaining('No program waits')]);
      expect(answer.text).not.toContain('<script');
      expect(answer.headers).toMatchObject({
        'content-security-policy': expect.stringMatching(/default-src 'none'.*frame-ancestors 'none'/),
        'x-frame-options': 'DENY',
        'cache-control': 'no-store',
        'content-type': 'text/html; charset=utf-8',
      });
    });

    test('who asks for too many codes waits, and others are served', async () => {
      const ask = async (): Promise<string | undefined> => {
        const body = { method: 'device', provider: 'lab', challenge: 'A'.repeat(43) };
        const answer = await scene.gateway.callOnce('POST', '/v1/sessions', { body });
        return errorOf(answer).message ?? String(answer.status);
      };
      const full = await waitFor('no more are given', async () => {
        const said = await ask();
        return said?.includes('Too many logins wait') === true ? said : undefined;
      }, { limitMs: 45_000 }); // prettier-ignore
      expect(full).toContain('later');
      expect((await records()).length).toBeLessThan(60);
      expect((await scene.gateway.call('GET', '/v1/site')).status).toBe(200);
      scene.finished(
        await scene.gateway.call('POST', '/v1/sessions', {
          body: { method: 'kubernetes' },
          certificate: scene.clusterUser('ada'),
        }),
      );
      for (const name of await records())
        await scene.site.client.json('DELETE', `/api/v1/namespaces/${systemNamespace}/secrets/${name}`);
      await waitFor('there is room again', async () => (await ask()) === '202');
    });

    interface Shown {
      readonly status: number;
      readonly text: string;
      readonly headers: Readonly<Record<string, unknown>>;
    }
    /** One request as it is written; waits and asks again when told to. */
    const raw = async (method: string, path: string, headers: Record<string, string>, body = ''): Promise<Shown> => {
      const port = await scene.first.port();
      for (;;) {
        const answer = await new Promise<Shown>((resolve, reject) => {
          const options = { host: '127.0.0.1', port, ca: scene.caBundle, method, path, headers, agent: false as const };
          const call = request(options, (response) => {
            let text = '';
            response.on('data', (chunk: Buffer) => (text += chunk.toString()));
            response.on('end', () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
          });
          call.on('error', reject).end(body);
        });
        if (answer.status !== 429) return answer;
        await new Promise((resolve) => setTimeout(resolve, Number(answer.headers['retry-after']) * 1000));
      }
    };
  });
}

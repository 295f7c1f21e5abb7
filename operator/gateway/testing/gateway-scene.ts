import { readFileSync } from 'node:fs';
import { expect, jest } from '@jest/globals';
import YAML from 'yaml';
import { pendingAnswer, type SessionAnswer, sessionAnswer } from '#common/identity/gateway-api.ts';
import { type Authority, createAuthority } from '#sites/pki.ts';
import { aVerifier, type GatewayAnswer, type GatewayClient } from '../../testing/gateway-client.ts';
import { gatewayAddress, type GatewayReplica, GatewaySite, systemNamespace } from '../../testing/gateway-site.ts';
import { TestOpenIDProvider } from '../../testing/openid-provider.ts';

/** A site with two replicas of the gateway, two OpenID providers and an authority of certificates; what cases of several files share. */
export class GatewayScene {
  site!: GatewaySite;
  lab!: TestOpenIDProvider;
  campus!: TestOpenIDProvider;
  authority!: Authority;
  first!: GatewayReplica;
  gateway!: GatewayClient;
  /** The second replica. */
  other!: GatewayClient;
  caBundle!: string;
  /** What must never be seen outside: every secret of these tests is put here. */
  readonly canaries = new Set<string>();

  async start(): Promise<void> {
    // The provider tells at length that it is set up for tests.
    for (const method of ['info', 'warn'] as const) jest.spyOn(console, method).mockImplementation(() => undefined);
    const gateways = [gatewayAddress];
    [this.lab, this.campus] = [
      await TestOpenIDProvider.start({ gateways }),
      await TestOpenIDProvider.start({ gateways }),
    ];
    this.authority = await createAuthority('grid');
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
    this.site = await GatewaySite.start({
      acceptedVirtualOrganizations: [{ name: 'physics' }, { name: 'open' }, { name: 'asking' }],
      identityProviders: [
        openID('lab', this.lab),
        openID('campus', this.campus),
        { name: 'grid', type: 'ClientCertificate', clientCertificate: { caBundle: this.authority.certificate } },
      ],
    });
    for (const [name, provider] of [
      ['lab', this.lab],
      ['campus', this.campus],
    ] as const) {
      this.canaries.add(provider.clientSecret);
      const data = { secret: Buffer.from(provider.clientSecret).toString('base64') };
      const body = { apiVersion: 'v1', kind: 'Secret', metadata: { name: `idp-${name}` }, data };
      await this.site.client.json('POST', `/api/v1/namespaces/${systemNamespace}/secrets`, { body });
    }
    this.first = this.site.replica();
    const second = this.site.replica();
    this.caBundle = await this.site.caBundle();
    [this.gateway, this.other] = [await this.first.client(this.caBundle), await second.client(this.caBundle)];
    const door = { port: await this.first.port(), caBundle: this.caBundle };
    for (const provider of [this.lab, this.campus]) provider.gateways.set(gatewayAddress, door);
    await this.site.form('physics', 1);
    await this.site.form('open', 2, { enrolment: { mode: 'Open', acceptableUse: { text: 'Be kind.' } } });
    await this.site.form('asking', 3, { enrolment: { mode: 'Approval' } });
    await this.site.form('refused', 4, { enrolment: { mode: 'Open' } });
  }

  async stop(): Promise<void> {
    await this.site.stop();
    await Promise.all([this.lab.stop(), this.campus.stop()]);
  }

  /** A device flow that waits for somebody to agree. */
  async startDevice(name: string, more: object = {}, headers: Record<string, string> = {}) {
    const { verifier, challenge } = aVerifier();
    const body = { method: 'device', provider: name, challenge, ...more };
    const started = await this.gateway.call('POST', '/v1/sessions', { body, headers });
    expect(started.status).toBe(202);
    const pending = pendingAnswer.parse(started.body);
    if (pending.method !== 'device') throw new Error('another method was answered');
    this.canaries.add(pending.handle).add(verifier);
    const finish = { method: 'device', handle: pending.handle, verifier };
    return { pending, finish, page: pending.verificationURIComplete ?? '' };
  }

  /** Login by device flow, with the browser driven by hand. */
  async byDevice(provider: TestOpenIDProvider, name: string, login: string): Promise<SessionAnswer> {
    const { finish, page } = await this.startDevice(name);
    expect((await this.gateway.call('POST', '/v1/sessions', { body: finish })).status).toBe(202);
    await provider.browse(page, login);
    return this.finished(await this.other.call('POST', '/v1/sessions', { body: finish }));
  }

  /** Login by code flow. */
  async byCode(provider: TestOpenIDProvider, name: string, login: string, more: object = {}) {
    const { verifier, challenge } = aVerifier();
    const start = { method: 'code', provider: name, challenge, redirectURI: 'http://127.0.0.1:8400/callback', ...more };
    const started = await this.gateway.call('POST', '/v1/sessions', { body: start });
    const pending = pendingAnswer.parse(started.body);
    if (pending.method !== 'code') throw new Error('another method was answered');
    this.canaries.add(pending.handle).add(verifier);
    const callbackURL = await provider.browse(pending.authorizationURL, login);
    this.canaries.add(new URL(callbackURL).searchParams.get('code') ?? '?');
    const finish = { method: 'code', handle: pending.handle, verifier, callbackURL };
    return { finish, session: this.finished(await this.gateway.call('POST', '/v1/sessions', { body: finish })) };
  }

  /** The session that was answered. */
  finished(answer: GatewayAnswer): SessionAnswer {
    expect([answer.status, answer.body.error]).toEqual([201, undefined]);
    const session = sessionAnswer.parse(answer.body);
    this.canaries.add(session.refreshToken).add(session.sessionToken);
    return session;
  }

  /** What kubectl would use as this user. */
  clusterUser(name: string): { certificate: string; key: string } {
    const config = YAML.parse(readFileSync(this.site.plane.kubeconfigPath, 'utf8')) as {
      users: { name: string; user: Record<string, string> }[];
    };
    const user = config.users.find((each) => each.name.startsWith(`${name}@`))?.user ?? {};
    const decode = (key: string): string => Buffer.from(user[key] ?? '', 'base64').toString();
    const pair = { certificate: decode('client-certificate-data'), key: decode('client-key-data') };
    this.canaries.add(pair.key);
    return pair;
  }

  /** Login as a user of the cluster. */
  async byCluster(name: string): Promise<SessionAnswer> {
    const certificate = this.clusterUser(name);
    return this.finished(
      await this.gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, certificate }),
    );
  }
}

/** What was refused, and why. */
export function errorOf({ body }: GatewayAnswer): { code?: string; message?: string; policy?: string } {
  return body.error ?? {};
}

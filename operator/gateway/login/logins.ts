import type { Clock } from '#common/clock.ts';
import type { PendingAnswer, SessionRequest } from '#common/identity/gateway-api.ts';
import type { Principal } from '#common/identity/ids.ts';
import type { Site } from '#crds/site.ts';
import { type ConfigMap, secrets } from '#runtime/builtin.ts';
import type { Client, Lister } from '#runtime/contracts.ts';
import { reviewToken } from '#runtime/token-review.ts';
import { Refusal } from '../refusal.ts';
import type { Sealer } from '../sealing.ts';
import { type ClientCertificate, certificatePrincipal, clusterUserName, isFrom } from './client-certificate.ts';
import type { DeviceLogins } from './device-logins.ts';
import { type CodeHandle, openHandle } from './handles.ts';
import { OpenIDLogin, type OpenIDProvider } from './openid.ts';
import { principalOf } from './principal.ts';

type LocalSite = Extract<Site['spec'], { type: 'Local' }>['local'];

/** ConfigMap of kube-system in which the API server says whose client certificates it takes. */
export const clusterAuthentication = { namespace: 'kube-system', name: 'extension-apiserver-authentication' };
/** A client secret that was changed is read again after so long. */
const secretAgeMaxMs = 60_000;

/** What a request to log in came with. */
export interface LoginContext {
  readonly certificate: () => ClientCertificate | undefined;
  readonly bearer: string | undefined;
  readonly signal: AbortSignal;
  /** Where the request came from. */
  readonly address: string;
  /** What the program calls itself. */
  readonly program: string;
}

/** Somebody has logged in. */
export interface LoggedIn {
  readonly principal: Principal;
  /** The session is for these alone; undefined: for all that they are members of. */
  readonly virtualOrganizations: readonly string[] | undefined;
}

/** What logging in needs. */
export interface LoginParts {
  readonly client: Client;
  readonly sites: Lister<Site>;
  readonly localSite: string;
  readonly clusterAuthentication: Lister<ConfigMap>;
  /** Namespace of the operator, where client secrets lie. */
  readonly namespace: string;
  readonly sealer: () => Promise<Sealer>;
  readonly devices: DeviceLogins;
  readonly clock: Clock;
}

/** Every way to log in that the owner of the site allows, as the local Site says at the moment. */
export class Logins {
  private readonly parts: LoginParts;
  private readonly known = new Map<
    string,
    { readonly key: string; readonly login: OpenIDLogin; readonly atMs: number }
  >();

  constructor(parts: LoginParts) {
    this.parts = parts;
  }

  /** What the local Site says; nobody can log in while there is none. */
  get site(): LocalSite | undefined {
    const site = this.parts.sites.get({ name: this.parts.localSite });
    return site?.spec.type === 'Local' ? site.spec.local : undefined;
  }

  /** PEM of every authority whose client certificates may be good for something. */
  get certificateAuthorities(): string[] {
    const providers = this.site?.identityProviders ?? [];
    const bundles = providers.flatMap((each) =>
      each.type === 'ClientCertificate' ? [each.clientCertificate.caBundle] : [],
    );
    return this.site?.kubernetesLogin === true ? [...bundles, this.clusterAuthority] : bundles;
  }

  /**
   * Takes one step of a login.
   * @returns who it is, or what the user has to do first.
   * @throws {Refusal}
   */
  async step(request: SessionRequest, context: LoginContext): Promise<LoggedIn | PendingAnswer> {
    if ('handle' in request) return this.finish(request, context);
    const { virtualOrganizations } = request;
    switch (request.method) {
      case 'kubernetes':
        return { principal: await this.kubernetes(context), virtualOrganizations };
      case 'certificate':
        return { principal: this.certificate(request.provider, context), virtualOrganizations };
      case 'device': {
        const { provider, challenge } = request;
        await (await this.openID(provider)).ready();
        const { program, address, signal } = context;
        return this.parts.devices.begin({ provider, challenge, program, address, virtualOrganizations }, signal);
      }
      case 'code': {
        const { provider, challenge, redirectURI } = request;
        return (await this.openID(provider)).startCode({ challenge, redirectURI, virtualOrganizations });
      }
    }
  }

  /** Ends a code flow. @throws {Refusal} */
  async finishCode(handle: CodeHandle, callbackURL: string): Promise<Principal> {
    return (await this.openID(handle.provider)).finishCode(handle, callbackURL);
  }

  private get clusterAuthority(): string {
    return this.parts.clusterAuthentication.get(clusterAuthentication)?.data?.['client-ca-file'] ?? '';
  }

  private async finish(
    request: Extract<SessionRequest, { handle: string }>,
    { signal }: LoginContext,
  ): Promise<LoggedIn | PendingAnswer> {
    const { sealer, clock, devices } = this.parts;
    const opened = openHandle(await sealer(), request.handle, request.verifier, clock.now());
    if (opened.method === 'device' && request.method === 'device') return devices.take(opened, signal);
    const isClients = opened.method === 'code' && opened.device === undefined;
    if (!isClients || request.method !== 'code')
      throw new Refusal('InvalidRequest', `The handle is of a login by ${opened.method}.`);
    const principal = await this.finishCode(opened, request.callbackURL);
    return { principal, virtualOrganizations: opened.virtualOrganizations };
  }

  /** The cluster's own users: what they show is what they would show the API server. */
  private async kubernetes({ certificate, bearer, signal }: LoginContext): Promise<Principal> {
    const issuer = `kubernetes:${this.parts.localSite}`;
    if (this.site?.kubernetesLogin !== true) {
      throw new Refusal('LoginRefused', 'The owner of this site does not let users of the cluster log in here.', {
        policy: 'site/kubernetesLogin',
      });
    }
    if (bearer !== undefined) return principalOf(issuer, await this.reviewToken(bearer, signal));
    const shown = certificate();
    if (shown === undefined)
      throw new Refusal('Unauthenticated', 'Give a client certificate or a bearer token of the cluster.');
    if (!isFrom(shown, this.clusterAuthority)) {
      throw new Refusal('Unauthenticated', 'The client certificate is not one of this cluster.', {
        reason: 'CertificateInvalid',
      });
    }
    return principalOf(issuer, clusterUserName(shown));
  }

  private async reviewToken(token: string, signal: AbortSignal): Promise<string> {
    const user = await reviewToken(this.parts.client, token, { signal });
    if (user === undefined) {
      throw new Refusal('Unauthenticated', 'The cluster does not accept the bearer token.', { reason: 'TokenInvalid' });
    }
    return user.username ?? '';
  }

  private certificate(name: string, { certificate }: LoginContext): Principal {
    const provider = this.site?.identityProviders.find((each) => each.name === name);
    if (provider?.type !== 'ClientCertificate') throw unknownProvider(name);
    const shown = certificate();
    if (shown === undefined) throw new Refusal('Unauthenticated', `Give a client certificate of ${name}.`);
    if (!isFrom(shown, provider.clientCertificate.caBundle)) {
      throw new Refusal('Unauthenticated', `The client certificate is not one of ${name}.`, {
        reason: 'CertificateInvalid',
      });
    }
    return certificatePrincipal(name, shown);
  }

  /** The login at a provider. @throws {Refusal} when there is none of this name, or it isn't set up. */
  async openID(name: string): Promise<OpenIDLogin> {
    const configured = this.site?.identityProviders.find((each) => each.name === name);
    if (configured?.type !== 'OpenIDConnect') throw unknownProvider(name);
    const { issuer, clientID, scopes, caBundle, clientSecret } = configured.openIDConnect;
    const key = JSON.stringify(configured.openIDConnect);
    const now = this.parts.clock.monotonic();
    const known = this.known.get(name);
    if (known?.key === key && (clientSecret === undefined || now - known.atMs <= secretAgeMaxMs)) return known.login;
    const secret = clientSecret === undefined ? undefined : await this.readSecret(name, clientSecret);
    const provider: OpenIDProvider = { name, issuer, clientID, clientSecret: secret, scopes, caBundle };
    const isSame = known?.key === key && known.login.provider.clientSecret === secret;
    const login = isSame ? known.login : new OpenIDLogin(provider, this.parts.clock, this.parts.sealer);
    this.known.set(name, { key, login, atMs: now });
    for (const each of this.known.keys()) {
      if (this.site?.identityProviders.some(({ name: kept }) => kept === each) !== true) this.known.delete(each);
    }
    return login;
  }

  private async readSecret(
    provider: string,
    { name, key }: { readonly name: string; readonly key: string },
  ): Promise<string> {
    const found = await this.parts.client.of(secrets).find({ namespace: this.parts.namespace, name });
    const value = found?.data?.[key];
    if (value !== undefined) return Buffer.from(value, 'base64').toString().trim();
    const message = `The identity provider ${provider} is not set up: the owner of the site puts the client secret into Secret ${name}, key ${key}.`;
    throw new Refusal('Unavailable', message, { reason: 'ClientSecretMissing', retryAfterSeconds: 60 });
  }
}

function unknownProvider(name: string): Refusal {
  return new Refusal('NotFound', `There is no identity provider ${name} of that kind here: GET /v1/site lists them.`);
}

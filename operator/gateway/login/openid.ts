import * as oidc from 'openid-client';
import type { Clock } from '#common/clock.ts';
import { systemErrorCode } from '#common/errors.ts';
import type { PendingAnswer } from '#common/identity/gateway-api.ts';
import type { Principal } from '#common/identity/ids.ts';
import { Refusal } from '../refusal.ts';
import type { Sealer } from '../sealing.ts';
import { boundedFetch } from './bounded-fetch.ts';
import { type CodeHandle, sealHandle } from './handles.ts';
import { IssuerKeys } from './issuer-keys.ts';
import { Kept } from './kept.ts';
import { principalOf } from './principal.ts';

/** An OpenID provider as the owner of the site configured it, with its client secret read. */
export interface OpenIDProvider {
  readonly name: string;
  readonly issuer: string;
  readonly clientID: string;
  readonly clientSecret: string | undefined;
  readonly scopes: readonly string[];
  readonly caBundle: string | undefined;
}

/** Users have so long to agree in the browser. */
const codeMs = 10 * 60_000;

/** A code flow: who may end it, where the browser comes back to, and what it is for. */
export type CodeStart = Pick<CodeHandle, 'challenge' | 'redirectURI' | 'device' | 'virtualOrganizations'>;

interface Connection {
  readonly configuration: oidc.Configuration;
  readonly keys: IssuerKeys;
}

/** Logs in at one OpenID provider, by authorization code with PKCE. Nothing is kept between the steps: the user carries it, sealed. */
export class OpenIDLogin {
  readonly provider: OpenIDProvider;
  private readonly clock: Clock;
  private readonly sealer: () => Promise<Sealer>;
  private readonly connection: Kept<Connection>;
  private keys: { readonly url: string; readonly keys: IssuerKeys } | undefined;

  constructor(provider: OpenIDProvider, clock: Clock, sealer: () => Promise<Sealer>) {
    this.provider = provider;
    this.clock = clock;
    this.sealer = sealer;
    this.connection = new Kept(async () => this.discover(), clock);
  }

  /** @throws {Refusal} unless it is known how the provider is reached. */
  async ready(): Promise<void> {
    await this.connect();
  }

  /** Starts a code flow with PKCE (RFC 6749 §4.1, RFC 7636). */
  async startCode(start: CodeStart): Promise<Extract<PendingAnswer, { method: 'code' }>> {
    const { configuration } = await this.connect();
    const codeVerifier = oidc.randomPKCECodeVerifier();
    const [state, nonce] = [oidc.randomState(), oidc.randomNonce()];
    const url = oidc.buildAuthorizationUrl(configuration, {
      redirect_uri: start.redirectURI,
      scope: this.provider.scopes.join(' '),
      code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: 'S256',
      state,
      nonce,
    });
    const endsMs = this.clock.now() + codeMs;
    const content: CodeHandle = {
      ...start,
      method: 'code',
      provider: this.provider.name,
      codeVerifier,
      state,
      nonce,
      endsMs,
    };
    const handle = sealHandle(await this.sealer(), content);
    return { method: 'code', handle, authorizationURL: url.href, expiresAt: new Date(endsMs).toISOString() };
  }

  /** Ends a code flow with what the browser came back with. */
  async finishCode(handle: CodeHandle, callbackURL: string): Promise<Principal> {
    const { configuration } = await this.connect();
    // Where it came back to is what was asked for; only the parameters are the provider's.
    const callback = new URL(handle.redirectURI);
    callback.search = URL.canParse(callbackURL) ? new URL(callbackURL).search : '';
    try {
      const checks = {
        pkceCodeVerifier: handle.codeVerifier,
        expectedState: handle.state,
        expectedNonce: handle.nonce,
        idTokenExpected: true,
      };
      const tokens = await oidc.authorizationCodeGrant(configuration, callback, checks);
      return await this.principalOf(tokens.id_token, handle.nonce);
    } catch (error) {
      throw providerRefusal(
        error,
        'The identity provider refused the login, or the answer of the browser is not the one to this login: log in again.',
      );
    }
  }

  private async principalOf(idToken: string | undefined, nonce?: string): Promise<Principal> {
    if (idToken === undefined)
      throw new Refusal(
        'LoginRefused',
        'The identity provider gave no ID token: the scope openid must be among the scopes.',
      );
    const { issuer, clientID } = this.provider;
    const { keys } = await this.connect();
    const claims = await keys.verify(idToken, issuer, clientID);
    if (nonce !== undefined && claims.nonce !== nonce)
      throw new Refusal('LoginRefused', 'The identity provider answered another login.');
    return principalOf(issuer, claims.sub ?? '');
  }

  /** How the provider is reached. @throws {Refusal} when that isn't known. */
  private async connect(): Promise<Connection> {
    const connection = await this.connection.get();
    if (connection !== undefined) return connection;
    const message = `The identity provider ${this.provider.name} does not answer as it should: try again, or ask the owner of the site.`;
    throw new Refusal('Unavailable', message, {
      reason: 'ProviderUnavailable',
      retryAfterSeconds: 10,
      cause: this.connection.problem,
    });
  }

  private async discover(): Promise<Connection> {
    const { issuer, clientID, clientSecret, caBundle } = this.provider;
    const fetch = boundedFetch(caBundle);
    const authentication = clientSecret === undefined ? oidc.None() : oidc.ClientSecretBasic(clientSecret);
    const metadata = { [oidc.clockTolerance]: 60 };
    const configuration = await oidc.discovery(new URL(issuer), clientID, metadata, authentication, {
      [oidc.customFetch]: async (url, options) => fetch(url, options),
      timeout: 5,
    });
    const { jwks_uri: jwks, issuer: said } = configuration.serverMetadata();
    if (said !== issuer) throw new TypeError('the provider calls itself by another issuer');
    if (jwks === undefined) throw new TypeError('the provider has no keys');
    const fetchJson = async (url: string): Promise<unknown> => {
      const answer = await fetch(url, { headers: { accept: 'application/json' } });
      if (answer.status !== 200) throw new TypeError(`status ${answer.status}`);
      return answer.json();
    };
    if (this.keys?.url !== jwks) this.keys = { url: jwks, keys: new IssuerKeys(jwks, fetchJson, this.clock) };
    return { configuration, keys: this.keys.keys };
  }
}

/** Our own refusals as they are; others without what they quote. */
function providerRefusal(error: unknown, message: string): Refusal {
  if (error instanceof Refusal) return error;
  if (isUnreachable(error)) {
    const message = 'The identity provider does not answer as it should: try again.';
    return new Refusal('Unavailable', message, { reason: 'ProviderUnavailable', retryAfterSeconds: 10, cause: error });
  }
  const said =
    error instanceof oidc.ResponseBodyError || error instanceof oidc.AuthorizationResponseError
      ? ` It said: ${error.error.slice(0, 64)}.`
      : '';
  return new Refusal('LoginRefused', `${message}${said}`, { reason: 'ProviderRefused', cause: error });
}

/** Whether there was no answer that could be read: network, TLS, time, size, or no JSON. */
function isUnreachable(error: unknown): boolean {
  const code = systemErrorCode(error) ?? '';
  const isOfNetwork =
    /^(E[A-Z]+|ABORT_ERR|OAUTH_TIMEOUT|OAUTH_PARSE_ERROR|OAUTH_RESPONSE_IS_NOT_(JSON|CONFORM)|[A-Z_]*CERT[A-Z_]*)$/.test(
      code,
    );
  return isOfNetwork || [TypeError, RangeError].some((type) => error instanceof type);
}

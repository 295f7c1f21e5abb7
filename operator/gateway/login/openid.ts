import { createHash } from 'node:crypto';
import * as oidc from 'openid-client';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { systemErrorCode } from '#common/errors.ts';
import type { PendingAnswer } from '#common/identity/gateway-api.ts';
import type { Principal } from '#common/identity/ids.ts';
import { Refusal } from '../refusal.ts';
import type { Sealer } from '../sealing.ts';
import { boundedFetch } from './bounded-fetch.ts';
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

const deviceGrant = 'urn:ietf:params:oauth:grant-type:device_code';
/** Users have so long to agree in the browser. */
const codeMs = 10 * 60_000;
/** Device codes of providers may live longer; ours don't. */
const deviceMaxMs = 15 * 60_000;
const slowDownSeconds = 5;

const deviceHandle = z.strictObject({
  method: z.literal('device'),
  provider: z.string(),
  deviceCode: z.string(),
  challenge: z.string(),
  intervalSeconds: z.number(),
  endsMs: z.number(),
});
const codeHandle = z.strictObject({
  method: z.literal('code'),
  provider: z.string(),
  codeVerifier: z.string(),
  state: z.string(),
  nonce: z.string(),
  redirectURI: z.string(),
  challenge: z.string(),
  endsMs: z.number(),
});

interface Connection {
  readonly configuration: oidc.Configuration;
  readonly keys: IssuerKeys;
}

/** Logs in at one OpenID provider: authorization code with PKCE, and device flow. Nothing is kept between the steps: the user carries it, sealed. */
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

  /** Starts a device flow (RFC 8628). */
  async startDevice(challenge: string): Promise<PendingAnswer> {
    const { configuration } = await this.connect();
    const answer = await oidc
      .initiateDeviceAuthorization(configuration, { scope: this.provider.scopes.join(' ') })
      .catch((error: unknown) => {
        throw providerRefusal(
          error,
          'The identity provider does not start a device flow; use the code flow, or ask the owner of the site.',
        );
      });
    const intervalSeconds = Math.min(Math.max(answer.interval ?? slowDownSeconds, 1), 60);
    const endsMs = this.clock.now() + Math.min(answer.expires_in * 1000, deviceMaxMs);
    const handle = {
      method: 'device' as const,
      provider: this.provider.name,
      deviceCode: answer.device_code,
      challenge,
      intervalSeconds,
      endsMs,
    };
    return {
      ...(await this.pendingDevice(handle)),
      userCode: answer.user_code,
      verificationURI: answer.verification_uri,
      ...(answer.verification_uri_complete === undefined
        ? {}
        : { verificationURIComplete: answer.verification_uri_complete }),
    };
  }

  /** Asks once whether the user has agreed. */
  async pollDevice(handle: z.infer<typeof deviceHandle>): Promise<Principal | PendingAnswer> {
    const { configuration } = await this.connect();
    try {
      const tokens = await oidc.genericGrantRequest(configuration, deviceGrant, { device_code: handle.deviceCode });
      return await this.principalOf(tokens.id_token);
    } catch (error) {
      const problem = error instanceof oidc.ResponseBodyError ? error.error : undefined;
      if (problem === 'authorization_pending') return this.pendingDevice(handle);
      if (problem === 'slow_down') {
        return this.pendingDevice({ ...handle, intervalSeconds: handle.intervalSeconds + slowDownSeconds });
      }
      if (problem === 'expired_token') throw new Refusal('LoginExpired', 'The code is over: start the login again.');
      throw providerRefusal(error, 'The identity provider refused the login.');
    }
  }

  /** Starts a code flow with PKCE (RFC 6749 §4.1, RFC 7636). */
  async startCode(challenge: string, redirectURI: string): Promise<PendingAnswer> {
    const { configuration } = await this.connect();
    const codeVerifier = oidc.randomPKCECodeVerifier();
    const [state, nonce] = [oidc.randomState(), oidc.randomNonce()];
    const url = oidc.buildAuthorizationUrl(configuration, {
      redirect_uri: redirectURI,
      scope: this.provider.scopes.join(' '),
      code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: 'S256',
      state,
      nonce,
    });
    const endsMs = this.clock.now() + codeMs;
    const content: z.infer<typeof codeHandle> = {
      method: 'code',
      provider: this.provider.name,
      codeVerifier,
      state,
      nonce,
      redirectURI,
      challenge,
      endsMs,
    };
    const handle = `xosh_${(await this.sealer()).seal('login-handle', content)}`;
    return { method: 'code', handle, authorizationURL: url.href, expiresAt: new Date(endsMs).toISOString() };
  }

  /** Ends a code flow with what the browser came back with. */
  async finishCode(handle: z.infer<typeof codeHandle>, callbackURL: string): Promise<Principal> {
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

  private async pendingDevice(
    handle: z.infer<typeof deviceHandle>,
  ): Promise<Extract<PendingAnswer, { method: 'device' }>> {
    const sealed = (await this.sealer()).seal('login-handle', handle);
    return {
      method: 'device',
      handle: `xosh_${sealed}`,
      intervalSeconds: handle.intervalSeconds,
      expiresAt: new Date(handle.endsMs).toISOString(),
    };
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

/** Opens a handle. @throws {Refusal} unless it is ours, in time, and whoever brings it is whoever started the login. */
export function openHandle(
  sealer: Sealer,
  handle: string,
  verifier: string,
  nowMs: number,
): z.infer<typeof deviceHandle> | z.infer<typeof codeHandle> {
  const sealed = handle.startsWith('xosh_') ? sealer.open('login-handle', handle.slice('xosh_'.length)) : undefined;
  const opened = z.discriminatedUnion('method', [deviceHandle, codeHandle]).safeParse(sealed);
  const unknown = 'This is no login that was started here: start again.';
  if (!opened.success) throw new Refusal('LoginExpired', unknown);
  if (createHash('sha256').update(verifier).digest('base64url') !== opened.data.challenge) {
    throw new Refusal('LoginRefused', unknown, { reason: 'VerifierMismatch' });
  }
  if (opened.data.endsMs <= nowMs) throw new Refusal('LoginExpired', 'The login took too long: start again.');
  return opened.data;
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

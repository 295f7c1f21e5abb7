import { createLocalJWKSet, errors, type JWTPayload, jwtVerify } from 'jose';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { Refusal } from '../refusal.ts';

/** Keys are used for so long after they were last fetched when the provider doesn't answer: two days. */
const staleMaxMs = 48 * 3_600_000;
/** Keys are fetched anew after so long. */
const freshMs = 3_600_000;
/** A key that isn't known makes them be fetched anew, but not more often than this: else anyone could order requests to the provider. */
const refetchMinMs = 30_000;
/** A provider has a handful. */
const keysMax = 64;

/** Signatures of providers that are taken: asymmetric ones only, so that no public key is ever a secret. */
export const idTokenAlgorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];
const clockToleranceSeconds = 60;

const keySetSchema = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).max(keysMax) });

/** Fetches a document and reads it as JSON. @throws when it can't be had. */
export type FetchJson = (url: string) => Promise<unknown>;

/** The keys of one provider, kept so that logins go on while it doesn't answer (threat 45). */
export class IssuerKeys {
  private readonly fetchJson: FetchJson;
  private readonly clock: Clock;
  private readonly url: string;
  private known: { readonly find: ReturnType<typeof createLocalJWKSet>; readonly atMs: number } | undefined;
  private triedAtMs = -Infinity;
  private running: Promise<void> | undefined;

  constructor(url: string, fetchJson: FetchJson, clock: Clock) {
    this.url = url;
    this.fetchJson = fetchJson;
    this.clock = clock;
  }

  /**
   * Checks an ID token (OpenID Connect Core §3.1.3.7): signature, issuer, audience, times.
   * @throws {Refusal} when it isn't good, or no key can be had.
   */
  async verify(idToken: string, issuer: string, clientID: string): Promise<JWTPayload> {
    const options = {
      issuer,
      audience: clientID,
      algorithms: idTokenAlgorithms,
      clockTolerance: clockToleranceSeconds,
      currentDate: new Date(this.clock.now()),
      requiredClaims: ['sub', 'exp', 'iat'],
    };
    for (const isRetry of [false, true]) {
      await this.refresh(isRetry);
      if (this.known === undefined)
        throw new Refusal('Unavailable', 'The identity provider does not answer: try again.', {
          reason: 'ProviderUnavailable',
          retryAfterSeconds: 10,
        });
      try {
        const { payload } = await jwtVerify(idToken, this.known.find, options);
        checkAuthorizedParty(payload, clientID);
        checkIssuedAt(payload, this.clock.now());
        return payload;
      } catch (error) {
        if (error instanceof errors.JWKSNoMatchingKey && !isRetry) continue;
        if (error instanceof Refusal) throw error;
        throw refused('The identity provider gave a token that is not valid.', error);
      }
    }
    throw refused('The identity provider signed with a key that it does not publish.');
  }

  /** @param isWanting - a key is missing: fetch although what is known is fresh. */
  private async refresh(isWanting: boolean): Promise<void> {
    const now = this.clock.monotonic();
    const age = now - (this.known?.atMs ?? -Infinity);
    if (age > staleMaxMs) this.known = undefined;
    const isDue = this.known === undefined || age > freshMs || isWanting;
    const pause = this.known === undefined ? 1000 : refetchMinMs;
    if (isDue && this.running === undefined && now - this.triedAtMs >= pause) {
      this.triedAtMs = now;
      this.running = this.fetch().finally(() => (this.running = undefined));
    }
    // Nobody waits for a fetch that only freshens what is there.
    if (this.known === undefined || isWanting) await this.running;
  }

  private async fetch(): Promise<void> {
    try {
      const { keys } = keySetSchema.parse(await this.fetchJson(this.url));
      this.known = { find: createLocalJWKSet({ keys }), atMs: this.clock.monotonic() };
    } catch {
      // What is known stays in use; without it, whoever waits is told that the provider doesn't answer.
    }
  }
}

function checkAuthorizedParty({ aud, azp }: JWTPayload, clientID: string): void {
  const isForSeveral = Array.isArray(aud) && aud.length > 1;
  if ((isForSeveral || azp !== undefined) && azp !== clientID)
    throw refused('The token of the identity provider is for another client.');
}

function checkIssuedAt({ iat = 0 }: JWTPayload, nowMs: number): void {
  if (iat > nowMs / 1000 + clockToleranceSeconds)
    throw refused('The token of the identity provider comes from the future.');
}

function refused(message: string, cause?: unknown): Refusal {
  return new Refusal('LoginRefused', message, { reason: 'TokenInvalid', cause });
}

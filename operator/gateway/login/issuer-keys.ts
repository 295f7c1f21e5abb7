import { createLocalJWKSet, errors, type JWTPayload, jwtVerify } from 'jose';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { Refusal } from '../refusal.ts';
import { Kept } from './kept.ts';

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
  private readonly clock: Clock;
  private readonly keys: Kept<ReturnType<typeof createLocalJWKSet>>;

  constructor(url: string, fetchJson: FetchJson, clock: Clock) {
    this.clock = clock;
    this.keys = new Kept(async () => {
      const { keys } = keySetSchema.parse(await fetchJson(url));
      return createLocalJWKSet({ keys });
    }, clock);
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
      const find = await this.keys.get(isRetry);
      if (find === undefined)
        throw new Refusal('Unavailable', 'The identity provider does not answer: try again.', {
          reason: 'ProviderUnavailable',
          retryAfterSeconds: 10,
          cause: this.keys.problem,
        });
      try {
        const { payload } = await jwtVerify(idToken, find, options);
        checkAuthorizedParty(payload, clientID);
        checkIssuedAt(payload, this.clock.now());
        return payload;
      } catch (error) {
        if (error instanceof errors.JWKSNoMatchingKey) continue;
        if (error instanceof Refusal) throw error;
        throw refused('The identity provider gave a token that is not valid.', error);
      }
    }
    throw refused(
      'The identity provider signed with a key that it does not publish, or has published in this minute: log in again.',
    );
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

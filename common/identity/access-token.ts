/** Access tokens of a virtual organization: minted without a write, verified without a network call. */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { principalSchema } from './gateway-api.ts';
import {
  clockSkewMs,
  CredentialError,
  readPayload,
  signJws,
  type SigningKey,
  type VerificationKey,
  verifyJws,
} from './jws.ts';
import { parseScopes, permits } from './scopes.ts';
import { idBase, sliceSize, type VerifiedState } from './vo-state.ts';

/** `typ` of access tokens (RFC 9068 §2.1). */
export const accessTokenType = 'at+jwt';
/** Longest life, seconds. */
export const accessTokenLifetimeMaxSeconds = 3600;

const tokenLengthMax = 16_384;
const issuedId = z.int().min(idBase).max(2_147_483_647);

const claimsSchema = z.strictObject({
  iss: z.string(),
  /** Name of the user, the same on every site. */
  sub: z.string().min(1).max(32),
  aud: z.string().min(1).max(255),
  exp: z.int(),
  iat: z.int(),
  jti: z.string().min(1).max(64),
  epoch: z.int().min(1),
  principal: principalSchema,
  uid: issuedId,
  gid: issuedId,
  /** Groups with their ids. None implies another (threat 35). */
  groups: z.array(z.strictObject({ name: z.string().min(1).max(128), gid: issuedId })).max(64),
  roles: z.array(z.string().max(32)).max(32),
  caps: z.array(z.string().max(64)).max(64),
  /** When there, the token gives these rights only. */
  scope: z.string().min(1).max(1024).optional(),
});
/** What a token says. */
export type AccessToken = z.infer<typeof claimsSchema>;

/** `iss` of a virtual organization's tokens. @param genesis - digest of its founding document. */
export function issuerOf(genesis: string): string {
  return `urn:xtreemos:vo:${genesis.replace(/^sha256:/, '')}`;
}

/** What a token is made of. */
export type TokenContent = Omit<AccessToken, 'iss' | 'iat' | 'exp' | 'jti' | 'epoch'>;

/**
 * Signs a token.
 * @param lifetimeSeconds - at most {@link accessTokenLifetimeMaxSeconds}.
 */
export async function signAccessToken(
  key: SigningKey,
  state: VerifiedState,
  content: TokenContent,
  nowMs: number,
  lifetimeSeconds: number,
): Promise<{ readonly token: string; readonly expiresAtMs: number; readonly jti: string }> {
  const iat = Math.floor(nowMs / 1000);
  const exp = iat + Math.min(lifetimeSeconds, accessTokenLifetimeMaxSeconds);
  const jti = randomBytes(12).toString('base64url');
  const { genesis, epoch } = state.content;
  const claims: AccessToken = { iss: issuerOf(genesis), iat, exp, jti, epoch, ...content };
  return { token: await signJws(key, accessTokenType, claims), expiresAtMs: exp * 1000, jti };
}

/** What a service asks of a token. */
export interface TokenExpectation {
  /** The newest state that the service has of the virtual organization. */
  readonly state: VerifiedState;
  /** Who the service is; tokens for another one are refused. */
  readonly audience: string;
  readonly nowMs: number;
}

/** @throws {CredentialError} when the token isn't valid here and now. */
export async function verifyAccessToken(token: string, expected: TokenExpectation): Promise<AccessToken> {
  const { state, nowMs } = expected;
  const nowSeconds = nowMs / 1000;
  const skew = clockSkewMs / 1000;
  const { content } = state;
  if (content.state === 'Dissolved') {
    throw new CredentialError('Dissolved', 'the virtual organization is dissolved: none of its tokens holds');
  }
  const trusted = (kid: string): VerificationKey | undefined => {
    const known = state.keys.get(kid);
    return known !== undefined && nowSeconds + skew >= known.nbf && nowSeconds - skew <= known.exp
      ? known.key
      : undefined;
  };
  const { payload } = await verifyJws(token, accessTokenType, trusted, tokenLengthMax);
  const claims = readPayload(claimsSchema, payload);
  if (claims.iss !== issuerOf(content.genesis)) throw new CredentialError('WrongIssuer', 'another issuer made it');
  if (claims.aud !== expected.audience) throw new CredentialError('WrongAudience', 'it is for another service');
  if (claims.iat > nowSeconds + skew) throw new CredentialError('NotYetValid', 'it comes from the future');
  if (claims.exp < nowSeconds - skew) throw new CredentialError('Expired', 'it is over: get a new one');
  if (claims.exp - claims.iat > accessTokenLifetimeMaxSeconds) {
    throw new CredentialError('OutOfRange', 'it would hold for longer than an hour');
  }
  if (claims.epoch < Math.max(content.minEpoch, state.revoked.get(claims.uid) ?? 0)) {
    throw new CredentialError('Revoked', 'it was revoked: log in again');
  }
  const isOwn = (id: number): boolean => content.slices.includes(Math.floor((id - idBase) / sliceSize));
  if (![claims.uid, claims.gid, ...claims.groups.map(({ gid }) => gid)].every(isOwn)) {
    throw new CredentialError('OutOfRange', 'it names an id that does not belong to the virtual organization');
  }
  return claims;
}

/** Whether the token says that its bearer is in this very group. A child doesn't put anyone into its parent, nor the other way round. */
export function isInGroup(token: AccessToken, group: string): boolean {
  return token.groups.some(({ name }) => name === group);
}

/**
 * Whether the token, as far as it is narrowed, gives this right. What the member may do at all is decided elsewhere.
 * @param operation - for example `storage.read` or `compute.create`.
 * @param path - normalized absolute path, for operations on files.
 */
export function allows(token: AccessToken, operation: string, path?: string): boolean {
  return token.scope === undefined || permits(parseScopes(token.scope), operation, path);
}

/**
 * Signed documents: compact JWS (RFC 7515) in the one form that this project takes. Nothing in a document chooses how it is verified: the algorithm
 * is ES256 (RFC 8725 §3.1), the key comes from what the caller trusts, and a header that says anything besides `alg`, `typ` and `kid` is refused, so
 * `jku`, `x5u`, `jwk`, `crit` and whatever comes next have no effect.
 */
import { createHash, createPrivateKey, createPublicKey } from 'node:crypto';
import { calculateJwkThumbprint, CompactSign, compactVerify, type CryptoKey, importJWK } from 'jose';
import { z } from 'zod';

/** Tolerated difference between clocks, milliseconds (threat 32). */
export const clockSkewMs = 60_000;

/** Why a document was not accepted; programs compare these. */
export type CredentialProblem =
  | 'Malformed'
  | 'WrongType'
  | 'UnknownKey'
  | 'BadSignature'
  | 'WrongIssuer'
  | 'WrongAudience'
  | 'Expired'
  | 'NotYetValid'
  | 'Revoked'
  | 'OutOfRange'
  | 'OlderEpoch'
  | 'SameEpochOtherContent'
  | 'Stale'
  | 'Dissolved';

/** A signed document isn't what it has to be. The message never quotes the document. */
export class CredentialError extends Error {
  override readonly name = 'CredentialError';
  readonly problem: CredentialProblem;

  constructor(problem: CredentialProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.problem = problem;
  }
}

/** A public P-256 key (RFC 7517, 7518 §6.2.1) and nothing else: no private part, no `x5u`. */
export const publicKeySchema = z.strictObject({
  kty: z.literal('EC'),
  crv: z.literal('P-256'),
  x: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  y: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
});
/** A public P-256 key. */
export type PublicKey = z.infer<typeof publicKeySchema>;

/** What documents are signed with. */
export interface SigningKey {
  /** RFC 7638 thumbprint of the public part. */
  readonly kid: string;
  readonly publicKey: PublicKey;
  readonly privateKey: CryptoKey;
}

/** A key that signatures are checked with. */
export type VerificationKey = CryptoKey;

const headerSchema = z.strictObject({
  alg: z.literal('ES256'),
  typ: z.string().max(64),
  kid: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
});

/** RFC 7638 thumbprint (SHA-256, base64url). */
export async function thumbprintOf(key: PublicKey): Promise<string> {
  return calculateJwkThumbprint(key, 'sha256');
}

/** Makes a key that {@link verifyJws} takes. @throws {CredentialError} when it is no point of the curve. */
export async function importPublicKey(key: PublicKey): Promise<VerificationKey> {
  const imported = await importJWK(key, 'ES256').catch((error: unknown) => {
    throw new CredentialError('Malformed', 'a key is no point of the curve P-256', { cause: error });
  });
  if (imported instanceof Uint8Array) throw new CredentialError('Malformed', 'a key is a shared secret');
  return imported;
}

/**
 * Reads a private P-256 key, as cert-manager keeps it.
 * @param pem - PKCS #8 or SEC 1.
 * @throws {CredentialError} when it is none.
 */
export async function importSigningKey(pem: string): Promise<SigningKey> {
  try {
    const key = createPrivateKey(pem);
    const { kty, crv, x, y } = createPublicKey(key).export({ format: 'jwk' });
    const publicKey = publicKeySchema.parse({ kty, crv, x, y });
    const privateKey = key.toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']);
    return { kid: await thumbprintOf(publicKey), publicKey, privateKey };
  } catch (error) {
    // The cause may quote what was read.
    throw new CredentialError('Malformed', 'it is no private P-256 key in PEM', { cause: describeKind(error) });
  }
}

function describeKind(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}

/** Signs `payload` as JSON. */
export async function signJws(key: SigningKey, type: string, payload: object): Promise<string> {
  return new CompactSign(new TextEncoder().encode(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'ES256', typ: type, kid: key.kid })
    .sign(key.privateKey);
}

/** A document whose signature holds. */
export interface VerifiedJws {
  readonly payload: unknown;
  readonly kid: string;
  /** `sha256:` and the digest of the payload's bytes: the same for two signatures of one content. */
  readonly digest: string;
}

/**
 * Checks form, type and signature.
 * @param keyOf - the key that is trusted under this id; undefined when there is none.
 * @param lengthMax - longer documents are refused unread.
 * @throws {CredentialError}
 */
export async function verifyJws(
  jws: string,
  type: string,
  keyOf: (kid: string) => VerificationKey | undefined | Promise<VerificationKey | undefined>,
  lengthMax: number,
): Promise<VerifiedJws> {
  if (jws.length > lengthMax) throw new CredentialError('Malformed', `it is longer than ${lengthMax} characters`);
  const parts = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/.exec(jws);
  if (parts === null) throw new CredentialError('Malformed', 'it is no compact JWS');
  const header = headerSchema.safeParse(parseJson(Buffer.from(parts[1] ?? '', 'base64url')));
  if (!header.success) {
    throw new CredentialError(
      'Malformed',
      'its header must hold alg (ES256), typ and kid (a thumbprint), and nothing else',
    );
  }
  if (header.data.typ !== type) throw new CredentialError('WrongType', `its type is not ${type}`);
  const key = await keyOf(header.data.kid);
  if (key === undefined) throw new CredentialError('UnknownKey', 'it is signed with a key that is not trusted now');
  const payload = await checkSignature(jws, key);
  return { payload: parseJson(payload), kid: header.data.kid, digest: digestOf(payload) };
}

async function checkSignature(jws: string, key: VerificationKey): Promise<Uint8Array> {
  try {
    return (await compactVerify(jws, key, { algorithms: ['ES256'] })).payload;
  } catch (error) {
    throw new CredentialError('BadSignature', 'its signature does not hold', { cause: error });
  }
}

/** `sha256:` and the hexadecimal digest. */
export function digestOf(content: string | Uint8Array): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new CredentialError('Malformed', 'it is no JSON', { cause: error });
  }
}

/** Reads a payload with its schema. @throws {CredentialError} naming the field. */
export function readPayload<T>(schema: z.ZodType<T>, payload: unknown): T {
  const result = schema.safeParse(payload);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new CredentialError('Malformed', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'is not valid'}`);
}

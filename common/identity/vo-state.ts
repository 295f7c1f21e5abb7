/** What a virtual organization says of itself, signed: its founding document and its numbered state. Verified without any network call. */
import { z } from 'zod';
import { unverifiedPayload } from './unverified.ts';
import { principalSchema } from './gateway-api.ts';
import {
  clockSkewMs,
  CredentialError,
  importPublicKey,
  publicKeySchema,
  readPayload,
  signJws,
  type SigningKey,
  thumbprintOf,
  type VerificationKey,
  verifyJws,
} from './jws.ts';

/** `typ` of the founding document. */
export const genesisType = 'vo-genesis+jwt';
/** `typ` of a state. */
export const stateType = 'vo-state+jwt';
/** `typ` of the statement that a state is the newest. */
export const freshnessType = 'vo-freshness+jwt';

/** Ids of virtual organizations: `2013265920 + 65536 × slice + local id`. */
export const idBase = 2_013_265_920;
/** How many ids a slice has. */
export const sliceSize = 65_536;

/** 256 groups and 64 slices with long names take a fifth of it. */
const stateLengthMax = 524_288;
const genesisLengthMax = 16_384;
const freshnessLengthMax = 4096;

const seconds = z.int().min(0);
const issuedId = z.int().min(idBase).max(2_147_483_647);
const slice = z.int().min(0).max(2047);
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const voReference = z.strictObject({ name: z.string().min(1).max(60), uid: z.string().min(1).max(64) });

const genesisSchema = z.strictObject({
  vo: voReference,
  slice,
  /** The root key. Whoever holds it is the virtual organization. */
  jwk: publicKeySchema,
  homeSite: z.string().min(1).max(63),
  iat: seconds,
});
/** The founding document: what `status.genesis` is the digest of. */
export type Genesis = z.infer<typeof genesisSchema>;

const stateSchema = z.strictObject({
  vo: voReference,
  genesis: digest,
  epoch: z.int().min(1),
  iat: seconds,
  state: z.enum(['Forming', 'Operational', 'Frozen', 'Dissolved']),
  slices: z.array(slice).max(64),
  groups: z.array(z.strictObject({ name: z.string().min(1).max(128), gid: issuedId })).max(1023),
  roles: z
    .array(z.strictObject({ name: z.string().min(1).max(32), capabilities: z.array(z.string().max(64)).max(32) }))
    .max(35),
  administrators: z.array(principalSchema).max(32),
  /** Keys that sign access tokens. A key that was replaced stays until its last token is over. */
  keys: z.array(z.strictObject({ ...publicKeySchema.shape, nbf: seconds, exp: seconds })).max(16),
  /** Tokens of an earlier epoch are refused, whoever bears them. */
  minEpoch: z.int().min(0),
  /** Members whose tokens of earlier epochs are refused; each entry goes when the last of those is over. */
  revoked: z.array(z.strictObject({ uid: issuedId, minEpoch: z.int().min(1), until: seconds })).max(16_384),
  /** Without a sign that the state is still the newest for so long, nothing new starts. */
  maxStaleSeconds: z.int().min(1),
});
/** The content of a state. Its size doesn't grow with the number of members. */
export type VoState = z.infer<typeof stateSchema>;

const freshnessSchema = z.strictObject({ genesis: digest, epoch: z.int().min(1), digest, iat: seconds });

/** A founding document that was checked. */
export interface VerifiedGenesis {
  readonly content: Genesis;
  /** `sha256:…`: with it a virtual organization is named, never with its name. */
  readonly digest: string;
  readonly rootKid: string;
  readonly rootKey: VerificationKey;
}

/** A state that was checked. */
export interface VerifiedState {
  readonly content: VoState;
  readonly digest: string;
  /** Keys of access tokens by id, with the time that each holds. */
  readonly keys: ReadonlyMap<string, { readonly key: VerificationKey; readonly nbf: number; readonly exp: number }>;
  readonly revoked: ReadonlyMap<number, number>;
}

/** Signs a founding document with the root key that it names. */
export async function signGenesis(root: SigningKey, content: Omit<Genesis, 'jwk'>): Promise<string> {
  return signJws(root, genesisType, { ...content, jwk: root.publicKey } satisfies Genesis);
}

/**
 * Checks a founding document: it is signed by the root key that it names.
 * @param expectedDigest - `status.genesis` of the virtual organization, or whatever else pins it; without it anyone's document passes.
 * @throws {CredentialError}
 */
export async function verifyGenesis(jws: string, expectedDigest?: string): Promise<VerifiedGenesis> {
  const untrusted = readPayload(z.looseObject({ jwk: publicKeySchema }), peek(jws, genesisLengthMax));
  const rootKid = await thumbprintOf(untrusted.jwk);
  const rootKey = await importPublicKey(untrusted.jwk);
  const verified = await verifyJws(
    jws,
    genesisType,
    (kid) => (kid === rootKid ? rootKey : undefined),
    genesisLengthMax,
  );
  if (expectedDigest !== undefined && verified.digest !== expectedDigest) {
    throw new CredentialError('WrongIssuer', 'it is the founding document of another virtual organization');
  }
  return { content: readPayload(genesisSchema, verified.payload), digest: verified.digest, rootKid, rootKey };
}

/** The payload before anything is known of its signature: only to find the key that it names itself. */
function peek(jws: string, lengthMax: number): unknown {
  if (jws.length > lengthMax) throw new CredentialError('Malformed', `it is longer than ${lengthMax} characters`);
  try {
    return unverifiedPayload(jws);
  } catch (error) {
    throw new CredentialError('Malformed', 'it is no compact JWS', { cause: error });
  }
}

/** Signs a state with the root key. @throws {CredentialError} when the content is not what a state may be. */
export async function signState(root: SigningKey, content: VoState): Promise<string> {
  return signJws(root, stateType, readPayload(stateSchema, content));
}

/**
 * Checks a state against the founding document. Whether it is the newest is not known thereby: see {@link StateKeeper}.
 * @throws {CredentialError}
 */
export async function verifyState(jws: string, genesis: VerifiedGenesis): Promise<VerifiedState> {
  const trusted = (kid: string): VerificationKey | undefined => (kid === genesis.rootKid ? genesis.rootKey : undefined);
  const { payload, digest: contentDigest } = await verifyJws(jws, stateType, trusted, stateLengthMax);
  const content = readPayload(stateSchema, payload);
  if (content.genesis !== genesis.digest || content.vo.uid !== genesis.content.vo.uid) {
    throw new CredentialError('WrongIssuer', 'it is the state of another virtual organization');
  }
  const keys = await Promise.all(
    content.keys.map(async ({ nbf, exp, ...jwk }) => {
      return [await thumbprintOf(jwk), { key: await importPublicKey(jwk), nbf, exp }] as const;
    }),
  );
  const revoked = new Map(content.revoked.map(({ uid, minEpoch }) => [uid, minEpoch]));
  return { content, digest: contentDigest, keys: new Map(keys), revoked };
}

/** Says that a state is the newest, with one of its own keys. Made on demand; nothing is written for it. */
export async function signFreshness(key: SigningKey, state: VerifiedState, nowMs: number): Promise<string> {
  const { genesis, epoch } = state.content;
  return signJws(key, freshnessType, { genesis, epoch, digest: state.digest, iat: Math.floor(nowMs / 1000) });
}

/**
 * Checks that a state was said to be the newest not longer ago than it allows.
 * @throws {CredentialError} `Stale` when it is older; then nothing new may start.
 */
export async function verifyFreshness(jws: string, state: VerifiedState, nowMs: number): Promise<void> {
  const { payload } = await verifyJws(jws, freshnessType, (kid) => state.keys.get(kid)?.key, freshnessLengthMax);
  const content = readPayload(freshnessSchema, payload);
  const isOfState = content.epoch === state.content.epoch && content.digest === state.digest;
  if (!isOfState || content.genesis !== state.content.genesis) {
    throw new CredentialError('WrongIssuer', 'it speaks of another state');
  }
  if (content.iat * 1000 > nowMs + clockSkewMs) throw new CredentialError('NotYetValid', 'it comes from the future');
  if (content.iat + state.content.maxStaleSeconds < nowMs / 1000) {
    throw new CredentialError(
      'Stale',
      `nobody has said for ${state.content.maxStaleSeconds} s that the state is the newest`,
    );
  }
}

/** Keeps the newest state of one virtual organization and refuses older ones, and another of the same number (threat 29). */
export class StateKeeper {
  private readonly genesis: VerifiedGenesis;
  private newest: VerifiedState | undefined;

  constructor(genesis: VerifiedGenesis) {
    this.genesis = genesis;
  }

  /** The newest state seen. */
  get state(): VerifiedState | undefined {
    return this.newest;
  }

  /**
   * Takes a state when it is newer than all before.
   * @returns the newest.
   * @throws {CredentialError} `OlderEpoch`; `SameEpochOtherContent`, which is evidence that the key was used twice: keep both documents.
   */
  async accept(jws: string): Promise<VerifiedState> {
    const offered = await verifyState(jws, this.genesis);
    const known = this.newest;
    if (known !== undefined) {
      const [before, now] = [known.content.epoch, offered.content.epoch];
      if (now < before) throw new CredentialError('OlderEpoch', `its epoch is ${now}, and ${before} was seen already`);
      if (now === before && offered.digest !== known.digest) {
        throw new CredentialError('SameEpochOtherContent', `another state with epoch ${now} was seen already`);
      }
      if (now === before) return known;
    }
    this.newest = offered;
    return offered;
  }
}

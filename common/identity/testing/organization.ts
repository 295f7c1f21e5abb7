/** A virtual organization with keys of its own, for tests of what it signs. */
import { generateKeyPairSync } from 'node:crypto';
import { signAccessToken, type TokenContent } from '../access-token.ts';
import { importSigningKey, type SigningKey } from '../jws.ts';
import {
  idBase,
  signGenesis,
  signState,
  type VerifiedGenesis,
  type VerifiedState,
  verifyGenesis,
  verifyState,
  type VoState,
} from '../vo-state.ts';

/** 2026-01-01, which is where virtual clocks start. */
export const startMs = Date.UTC(2026, 0, 1);
const hour = 3600;

/** Makes a P-256 key. */
export async function aKey(): Promise<SigningKey> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return importSigningKey(privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);
}

/** Slice 7 of ids, one signing key, the group `analysis`. */
export class TestOrganization {
  readonly root: SigningKey;
  readonly signing: SigningKey;
  readonly genesisJws: string;
  readonly genesis: VerifiedGenesis;

  private constructor(root: SigningKey, signing: SigningKey, genesisJws: string, genesis: VerifiedGenesis) {
    this.root = root;
    this.signing = signing;
    this.genesisJws = genesisJws;
    this.genesis = genesis;
  }

  /** Founds one. */
  static async found(name = 'physics'): Promise<TestOrganization> {
    const [root, signing] = [await aKey(), await aKey()];
    const vo = { name, uid: `uid-of-${name}` };
    const jws = await signGenesis(root, { vo, slice: 7, homeSite: 'rennes', iat: startMs / 1000 });
    return new TestOrganization(root, signing, jws, await verifyGenesis(jws));
  }

  /** Content of a state, of epoch 1 unless told otherwise. */
  content(changes: Partial<VoState> = {}): VoState {
    return {
      vo: this.genesis.content.vo,
      genesis: this.genesis.digest,
      epoch: 1,
      iat: startMs / 1000,
      state: 'Operational',
      slices: [7],
      groups: [{ name: 'analysis', gid: idBase + 7 * 65_536 + 1 }],
      roles: [],
      administrators: [{ issuer: 'kubernetes:rennes', subject: 'ada' }],
      keys: [{ ...this.signing.publicKey, nbf: startMs / 1000 - hour, exp: startMs / 1000 + 100 * hour }],
      minEpoch: 0,
      revoked: [],
      maxStaleSeconds: 900,
      ...changes,
    };
  }

  /** A signed state. */
  async stateJws(changes: Partial<VoState> = {}): Promise<string> {
    return signState(this.root, this.content(changes));
  }

  /** A state as a service has it. */
  async state(changes: Partial<VoState> = {}): Promise<VerifiedState> {
    return verifyState(await this.stateJws(changes), this.genesis);
  }

  /** What a token of the member with local id 2000 says. */
  member(changes: Partial<TokenContent> = {}): TokenContent {
    const base = idBase + 7 * 65_536;
    return {
      sub: `u-alice-${base + 2000}`,
      aud: 'storage.rennes',
      principal: { issuer: 'https://id.example.org', subject: '42' },
      uid: base + 2000,
      gid: base,
      groups: [{ name: 'analysis', gid: base + 1 }],
      roles: ['member'],
      caps: [],
      ...changes,
    };
  }

  /** A token of that member. */
  async token(state: VerifiedState, changes: Partial<TokenContent> = {}, nowMs = startMs): Promise<string> {
    return (await signAccessToken(this.signing, state, this.member(changes), nowMs, hour)).token;
  }
}

import type { Clock } from '#common/clock.ts';
import { signAccessToken, type TokenContent } from '#common/identity/access-token.ts';
import { signFreshness, type VerifiedState } from '#common/identity/vo-state.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Stored } from '#runtime/types.ts';
import type { StateRecords, Documents } from './state-record.ts';
import type { DatedKey, VoKeys } from './vo-keys.ts';

/** No token can be had now; trying again soon may help. */
export class MintingError extends Error {
  override readonly name = 'MintingError';
}

/** Signs tokens on every replica, from caches alone: no request and no write for each. */
export class TokenMinter {
  private readonly keys: VoKeys;
  private readonly records: StateRecords;
  private readonly clock: Clock;

  constructor(keys: VoKeys, records: StateRecords, clock: Clock) {
    this.keys = keys;
    this.records = records;
    this.clock = clock;
  }

  /** @throws {MintingError} while the organization has no published key, and once it is dissolved. */
  async mint(
    vo: Stored<VirtualOrganization>,
    content: TokenContent,
    lifetimeSeconds: number,
  ): Promise<{ readonly token: string; readonly expiresAtMs: number; readonly jti: string }> {
    const { state } = await this.newest(vo);
    const key = await this.keyFor(vo, state);
    return signAccessToken(key, state, content, this.clock.now(), lifetimeSeconds);
  }

  /** Signs something else with the key that tokens are signed with, for example the acceptance of a use. @throws {MintingError} */
  async signingKey(vo: Stored<VirtualOrganization>): Promise<DatedKey> {
    return this.keyFor(vo, (await this.newest(vo)).state);
  }

  /** The signed documents, and a fresh statement that they are the newest; none for a final state, which never grows stale. */
  async documents(vo: Stored<VirtualOrganization>): Promise<Documents & { readonly freshness?: string }> {
    const { documents, state } = await this.newest(vo);
    if (state.content.state === 'Dissolved') return documents;
    return { ...documents, freshness: await signFreshness(await this.keyFor(vo, state), state, this.clock.now()) };
  }

  private async newest(vo: Stored<VirtualOrganization>): Promise<{ documents: Documents; state: VerifiedState }> {
    const genesis = vo.status?.genesis;
    const found = genesis === undefined ? undefined : await this.records.newest(vo.metadata.uid, genesis);
    if (found === undefined) throw new MintingError(`nothing is signed for ${vo.metadata.name} yet`);
    return found;
  }

  /**
   * A key that verifiers know: the newest that was published for as long as they may go without news; while none is that old, the oldest.
   */
  private async keyFor(vo: Stored<VirtualOrganization>, state: VerifiedState): Promise<DatedKey> {
    const now = this.clock.now() / 1000;
    const signing = await this.keys.signing(vo.metadata.uid);
    const usable = signing
      .map((key) => ({ key, nbf: state.keys.get(key.kid)?.nbf ?? Infinity }))
      .filter(({ key, nbf }) => nbf <= now && key.notAfter > now)
      .sort((a, b) => a.nbf - b.nbf);
    const chosen = usable.findLast(({ nbf }) => nbf + state.content.maxStaleSeconds <= now) ?? usable[0];
    if (chosen === undefined) throw new MintingError(`no key of ${vo.metadata.name} is published`);
    return chosen.key;
  }
}

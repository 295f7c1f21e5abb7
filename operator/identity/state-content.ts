/** What the next signed state of a virtual organization says: pure. */
import { accessTokenLifetimeMaxSeconds } from '#common/identity/access-token.ts';
import { clockSkewMs } from '#common/identity/jws.ts';
import type { VoState } from '#common/identity/vo-state.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { DatedKey } from './vo-keys.ts';

/** After a member is cut, tokens of theirs may still be accepted somewhere for so long, seconds. */
export const revocationSeconds = accessTokenLifetimeMaxSeconds + (2 * clockSkewMs) / 1000;

/** Without word from the home for so long nothing new starts elsewhere, seconds. */
const maxStaleSeconds = 900;
/** More members than this cut within an hour are cut by one number for everybody. */
const revokedMax = 4096;

/** A member who was cut, and until when tokens from before may live. */
export interface Revocation {
  readonly uid: number;
  /** Seconds since the Unix epoch. */
  readonly until: number;
}

/** Everything that a state is made of. */
export interface StateScope {
  readonly vo: VirtualOrganization & { readonly metadata: { readonly uid: string } };
  readonly genesis: string;
  readonly signing: readonly Pick<DatedKey, 'publicKey' | 'notAfter'>[];
  readonly revocations: readonly Revocation[];
  /** The state before; undefined for the first. */
  readonly before: VoState | undefined;
  /** Number that the state gets if it differs from the one before. */
  readonly epoch: number;
  /** Seconds since the Unix epoch. */
  readonly now: number;
}

/** The next state. Compare it with the one before by {@link isSameContent}. */
export function nextState(scope: StateScope): VoState {
  const { vo, genesis, epoch, now, before } = scope;
  const { spec, status, metadata } = vo;
  const revoked = nextRevoked(scope);
  const isOverfull = revoked.length > revokedMax;
  return {
    vo: { name: metadata.name, uid: metadata.uid },
    genesis,
    epoch,
    iat: now,
    // That a state is the last one is for the dissolution to say: until its final state, it is frozen.
    state: spec.state === 'Dissolved' ? 'Frozen' : spec.state,
    slices: [...(status?.slices ?? [])].sort((a, b) => a - b),
    groups: (status?.groups ?? []).map(({ name, gid }) => ({ name, gid })).sort((a, b) => (a.name < b.name ? -1 : 1)),
    roles: spec.roles
      .map(({ name, capabilities }) => ({ name, capabilities: [...capabilities].sort() }))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    administrators: spec.administrators
      .map(({ issuer, subject }) => ({ issuer, subject }))
      .sort((a, b) => (`${a.issuer} ${a.subject}` < `${b.issuer} ${b.subject}` ? -1 : 1)),
    keys: nextKeys(scope),
    minEpoch: isOverfull ? epoch : (before?.minEpoch ?? 0),
    revoked: isOverfull ? [] : revoked,
    maxStaleSeconds,
  };
}

/** The last state: no token of any epoch holds, and no key signs any more. */
export function finalState(scope: StateScope): VoState {
  return { ...nextState(scope), state: 'Dissolved', keys: [], revoked: [], minEpoch: scope.epoch };
}

/** Keys in use stay for as long as their certificate; replaced ones until their last token is over. */
function nextKeys({ before, signing, now }: StateScope): VoState['keys'] {
  const known = before?.keys ?? [];
  const current = signing.map(({ publicKey, notAfter }) => {
    const nbf = known.find(({ x, y }) => x === publicKey.x && y === publicKey.y)?.nbf ?? now;
    return { ...publicKey, nbf, exp: notAfter };
  });
  const lastToken = now + revocationSeconds;
  const replaced = known
    .filter(({ x }) => !current.some((key) => key.x === x))
    .map((key) => ({ ...key, exp: Math.min(key.exp, lastToken) }))
    .filter(({ exp }) => exp > now);
  return [...current, ...replaced].sort((a, b) => a.nbf - b.nbf || (a.x < b.x ? -1 : 1));
}

/** Entries stay with the number that they came with, and go when the last token that they are about is over. */
function nextRevoked({ before, revocations, epoch, now }: StateScope): VoState['revoked'] {
  const entries = new Map(before?.revoked.filter(({ until }) => until > now).map((entry) => [entry.uid, entry]));
  for (const { uid, until } of revocations) {
    const known = entries.get(uid);
    if (until > now && until > (known?.until ?? 0)) entries.set(uid, { uid, minEpoch: epoch, until });
  }
  return [...entries.values()].sort((a, b) => a.uid - b.uid);
}

/** Whether two states say the same but for their number and date. */
export function isSameContent(a: VoState, b: VoState): boolean {
  return JSON.stringify({ ...a, epoch: 0, iat: 0 }) === JSON.stringify({ ...b, epoch: 0, iat: 0 });
}

/** When the state changes by the passing of time alone, seconds since the Unix epoch. */
export function nextChange({ keys, revoked }: VoState): number {
  return Math.min(...keys.map(({ exp }) => exp), ...revoked.map(({ until }) => until));
}

import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import { CredentialError, signJws } from '#common/identity/jws.ts';
import {
  type Genesis,
  signGenesis,
  signState,
  type VerifiedGenesis,
  type VerifiedState,
  verifyGenesis,
  verifyState,
} from '#common/identity/vo-state.ts';
import type { statePublished, VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Stored } from '#runtime/types.ts';
import type { Published } from './published-state.ts';
import type { Revocations } from './revocations.ts';
import { finalState, isSameContent, nextChange, nextState, type StateScope } from './state-content.ts';
import type { Documents, Reminder, StateRecords, StoredDocuments } from './state-record.ts';
import type { FinalState, ReceiptClaims, VoAuthority } from './vo-authority.ts';
import type { DatedKey, VoKeys } from './vo-keys.ts';

/** `typ` of receipts. */
const receiptType = 'vo-receipt+jwt';

/** However little happens, the published copy is looked at so often, milliseconds. */
const lookAgainMs = 60_000;

/** What the authority works with. */
export interface AuthorityParts {
  readonly keys: VoKeys;
  readonly records: StateRecords;
  readonly published: Published;
  readonly revocations: Revocations;
  readonly audit: AuditLog;
  readonly clock: Clock;
  /** Site that founds: the home of organizations that name none. */
  readonly localSite: string;
}

/** Something that should never have been found: an older state, or another one of the same number. */
export interface Irregularity {
  readonly reason: 'OlderEpoch' | 'SameEpochOtherContent' | 'NotSigned';
  readonly message: string;
  /** Whether it is in the record, so that only a state with a number above all others mends it. */
  readonly isInRecord: boolean;
}

/** Where the signed state stands. */
export type Publication =
  | {
      readonly isSigned: true;
      readonly genesis: VerifiedGenesis;
      readonly state: VerifiedState;
      /** When it changes by the passing of time alone, milliseconds from now. */
      readonly changesAfterMs: number;
      readonly irregularities: readonly Irregularity[];
      /** Why it was frozen, when a backup was restored. */
      readonly restored: string | undefined;
    }
  | {
      readonly isSigned: false;
      readonly reason: keyof Pick<
        typeof statePublished.reasons,
        'AwaitingSlice' | 'AwaitingKeys' | 'RootKeyChanged' | 'Restored'
      >;
      readonly message: string;
    };

/** Signs for virtual organizations: founding document, numbered states, receipts. Safe to call at any time, by any leader, after any crash. */
export class Authority implements VoAuthority {
  private readonly parts: AuthorityParts;

  constructor(parts: AuthorityParts) {
    this.parts = parts;
  }

  /** Brings the signed state up to date: makes keys and founding document, signs a new state when something changed, publishes it. */
  async publish(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<Publication> {
    return this.advance(vo, nextState, signal);
  }

  /**
   * Publishes the final state: no credential of the virtual organization holds any longer, and none is given out.
   * @returns undefined when it has no key here, so that nothing was ever signed and nothing can be.
   */
  async revoke(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<FinalState | undefined> {
    const recorded = await this.parts.records.read(vo.metadata.uid, signal);
    if (recorded === undefined && (await this.parts.keys.root(vo.metadata.uid)) === undefined) return undefined;
    const publication = await this.advance(vo, finalState, signal);
    if (!publication.isSigned) return undefined;
    return { epoch: publication.state.content.epoch, stateDigest: publication.state.digest };
  }

  /**
   * Signs a receipt with the root key, as a compact JWS of type `vo-receipt+jwt` that names the founding document, in which the public key stands.
   * @throws when the keys are gone.
   */
  async signReceipt(vo: Stored<VirtualOrganization>, claims: ReceiptClaims, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    const root = await this.parts.keys.root(vo.metadata.uid);
    if (root === undefined) throw new Error(`the root key of ${vo.metadata.name} is gone: no receipt can be signed`);
    return signJws(root, receiptType, {
      ...claims,
      iat: Math.floor(this.parts.clock.now() / 1000),
      jwk: root.publicKey,
    });
  }

  /** Destroys the keys. The final state stays for as long as the object, for whoever has not heard of it. */
  async forget(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<void> {
    await this.parts.keys.forget(vo.metadata.uid, signal);
  }

  /** Destroys what is kept for organizations of this name, which is gone, except that of `uid`. */
  async sweep(name: string, uid: string | undefined, signal: AbortSignal): Promise<void> {
    for (const orphan of this.parts.keys.uidsOf(name).filter((each) => each !== uid)) {
      await this.parts.keys.forget(orphan, signal);
      await this.parts.records.remove(orphan, signal);
    }
  }

  private async advance(
    vo: Stored<VirtualOrganization>,
    compute: typeof nextState,
    signal: AbortSignal,
  ): Promise<Publication> {
    const { keys, records, published, revocations, clock } = this.parts;
    const { name, uid } = vo.metadata;
    if ((vo.status?.slices ?? []).length === 0) {
      return {
        isSigned: false,
        reason: 'AwaitingSlice',
        message: 'It waits for its slice of ids: see IdentityAllocated.',
      };
    }
    const recorded = await records.read(uid, signal);
    const before = await readRecorded(recorded, vo.status?.genesis);
    // After the end there are no keys any more, and there is nothing to sign.
    if (before?.state.content.state === 'Dissolved') {
      await published.write(vo, before.documents, signal);
      return this.standing(before.genesis, before.state, [], undefined);
    }
    await keys.ensure(vo, signal);
    const [root, signing] = [await keys.root(uid), await keys.signing(uid)];
    if (root === undefined || signing.length === 0) {
      return { isSigned: false, reason: 'AwaitingKeys', message: 'It waits for cert-manager to make its keys.' };
    }
    const founding = await this.found(vo, root, before?.genesis);
    if (founding === undefined) {
      const message =
        'Its root key is another one than it was founded with, so that nothing can be signed in its name: restore the Secret, or form it anew under another name.';
      return { isSigned: false, reason: 'RootKeyChanged', message };
    }
    const reminder = await readReminder(recorded?.reminder, founding.genesis);
    const restored = reminder === undefined ? undefined : wasRestored(vo, reminder);
    const isForgotten = reminder !== undefined && isUnknown(reminder.state, before?.state);
    // Nobody has looked yet at who came back with the backup. What is signed from now on says that it is frozen.
    if (isForgotten && restored !== undefined && vo.spec.state === 'Operational') {
      return { isSigned: false, reason: 'Restored', message: restored };
    }
    const { irregularities, highest } = await this.inspect(vo, founding.genesis, before, reminder?.state, signal);
    const noted = revocations.of(name);
    const scope: StateScope = {
      vo,
      genesis: founding.genesis.digest,
      signing,
      revocations: noted,
      before: before?.state.content,
      epoch: highest + 1,
      now: Math.floor(clock.now() / 1000),
    };
    const content = compute(scope);
    const isCurrent = before !== undefined && !isForgotten && !irregularities.some(({ isInRecord }) => isInRecord);
    let documents = before?.documents;
    let state = before?.state;
    if (!isCurrent || state === undefined || documents === undefined || !isSameContent(state.content, content)) {
      documents = { genesis: founding.jws, state: await signState(root, content) };
      const kept = vo.spec.state === 'Operational' ? undefined : recorded?.reminder;
      await records.write(vo, documents, recorded?.version, kept, signal);
      state = await verifyState(documents.state, founding.genesis);
    }
    await published.write(vo, documents, signal);
    revocations.settle(name, noted, state.content);
    return this.standing(founding.genesis, state, irregularities, restored);
  }

  private standing(
    genesis: VerifiedGenesis,
    state: VerifiedState,
    irregularities: readonly Irregularity[],
    restored: string | undefined,
  ): Publication {
    const untilMs = nextChange(state.content) * 1000 - this.parts.clock.now() + 1000;
    const changesAfterMs = Math.min(Math.max(untilMs, 1000), lookAgainMs);
    return { isSigned: true, genesis, state, changesAfterMs, irregularities, restored };
  }

  /** The founding document. All that it says is fixed, so that it can be signed again with the same digest. */
  private async found(
    vo: Stored<VirtualOrganization>,
    root: DatedKey,
    recorded: VerifiedGenesis | undefined,
  ): Promise<{ readonly jws: string; readonly genesis: VerifiedGenesis } | undefined> {
    const [slice = 0] = vo.status?.slices ?? [];
    const content: Omit<Genesis, 'jwk'> = {
      vo: { name: vo.metadata.name, uid: vo.metadata.uid },
      slice: recorded?.content.slice ?? slice,
      homeSite: recorded?.content.homeSite ?? vo.spec.homeSite ?? this.parts.localSite,
      iat: Math.floor(Date.parse(vo.metadata.creationTimestamp) / 1000),
    };
    const jws = await signGenesis(root, content);
    const genesis = await verifyGenesis(jws);
    const expected = vo.status?.genesis ?? recorded?.digest;
    return expected === undefined || expected === genesis.digest ? { jws, genesis } : undefined;
  }

  /** Compares what is recorded with everything that was told to others, and finds the highest number that was ever used. */
  private async inspect(
    vo: Stored<VirtualOrganization>,
    genesis: VerifiedGenesis,
    before: { readonly state: VerifiedState } | undefined,
    reminder: VerifiedState | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly irregularities: Irregularity[]; readonly highest: number }> {
    const mine = before?.state;
    const epoch = mine?.content.epoch ?? 0;
    const told = vo.status?.epoch ?? 0;
    const irregularities: Irregularity[] = [];
    let highest = Math.max(epoch, told, reminder?.content.epoch ?? 0);
    if (told > epoch) irregularities.push(olderRecord(epoch, told));
    else if (told === epoch && mine !== undefined && vo.status?.stateDigest !== mine.digest) {
      irregularities.push(twice(epoch, 'the status'));
    }
    const outside = await this.parts.published.read(vo, signal);
    if (outside !== undefined) {
      const read = await verifyState(outside, genesis).catch((error: unknown) => {
        if (error instanceof CredentialError) return undefined;
        throw error;
      });
      irregularities.push(...compare(read, mine, told));
      highest = Math.max(highest, read?.content.epoch ?? 0);
    }
    for (const { reason, message } of irregularities) {
      const on = { VirtualOrganization: vo.metadata.name };
      this.parts.audit.record({ who: 'operator', what: 'state.publish', on, outcome: 'Refused', why: reason, message });
    }
    return { irregularities, highest };
  }
}

/** What is wrong with the copy that members read, as far as it could be read. */
function compare(outside: VerifiedState | undefined, mine: VerifiedState | undefined, told: number): Irregularity[] {
  if (outside === undefined) {
    const message = 'ConfigMap vo-state held something that its root key did not sign; it was replaced.';
    return [{ reason: 'NotSigned', message, isInRecord: false }];
  }
  const own = mine?.content.epoch ?? 0;
  const { epoch } = outside.content;
  if (epoch > own && mine !== undefined) return [olderRecord(own, epoch)];
  if (epoch === own && mine !== undefined && outside.digest !== mine.digest)
    return [twice(epoch, 'ConfigMap vo-state')];
  // Right after a crash the copy may lag behind the record, but never behind what the status has told.
  if (epoch < told) {
    const message = `ConfigMap vo-state held epoch ${epoch} after ${told} had been published: an older one was restored; it was replaced.`;
    return [{ reason: 'OlderEpoch', message, isInRecord: false }];
  }
  return [];
}

interface ReadReminder {
  readonly site: string;
  readonly state: VerifiedState;
}

/** What a site reminded of, checked; undefined when there is nothing, or nothing that the founder signed. */
async function readReminder(
  reminder: Reminder | undefined,
  genesis: VerifiedGenesis,
): Promise<ReadReminder | undefined> {
  if (reminder === undefined) return undefined;
  try {
    return { site: reminder.site, state: await verifyState(reminder.state, genesis) };
  } catch (error) {
    if (error instanceof CredentialError) return undefined;
    throw error;
  }
}

/** Whether a state that was signed here is not known here: its number is above that of the newest, or another one bears it. */
export function isUnknown(signed: VerifiedState, newest: VerifiedState | undefined): boolean {
  if (newest === undefined) return true;
  const [own, other] = [newest.content.epoch, signed.content.epoch];
  return other > own || (other === own && signed.digest !== newest.digest);
}

function wasRestored({ metadata: { name } }: Stored<VirtualOrganization>, { site, state }: ReadReminder): string {
  return (
    `Site ${site} holds epoch ${state.content.epoch}, which was signed here and is not known here any more: a backup was restored, and with it may be back who was ` +
    `suspended or removed since. It is frozen: look through its members (kubectl get vomemberships -n vo-${name}), then set its spec.state to Operational.`
  );
}

function olderRecord(own: number, told: number): Irregularity {
  const message = `The record says epoch ${own}, but ${told} was published: an older record was restored, or it was lost. A state with a higher number replaces it.`;
  return { reason: 'OlderEpoch', message, isInRecord: true };
}

function twice(epoch: number, where: string): Irregularity {
  const message = `Two states bear epoch ${epoch}: ${where} tells of another one than the record. A state with a higher number replaces both.`;
  return { reason: 'SameEpochOtherContent', message, isInRecord: true };
}

/** What is recorded, checked; undefined when there is nothing, or nothing that the founder signed. */
async function readRecorded(
  recorded: StoredDocuments | undefined,
  genesisDigest: string | undefined,
): Promise<
  { readonly documents: Documents; readonly genesis: VerifiedGenesis; readonly state: VerifiedState } | undefined
> {
  if (recorded === undefined) return undefined;
  try {
    const genesis = await verifyGenesis(recorded.genesis, genesisDigest);
    return { documents: recorded, genesis, state: await verifyState(recorded.state, genesis) };
  } catch (error) {
    if (error instanceof CredentialError) return undefined;
    throw error;
  }
}

/** The home of a virtual organization is reminded of what it signed and, since a backup was restored, does not know any more (threat 64). */
import { sliceIdOf } from '#common/identity/ids.ts';
import { CredentialError } from '#common/identity/jws.ts';
import { verifyGenesis, verifyState, type VerifiedState } from '#common/identity/vo-state.ts';
import { answering, PeerError, type PeerMethod } from '#operator/gateway/peers/contract.ts';
import { isUnknown } from '#operator/identity/authority.ts';
import type { IdIssuer } from '#operator/identity/id-issuer.ts';
import type { StateRecords } from '#operator/identity/state-record.ts';
import { peerMethods } from '#proto/site/schema.ts';
import { ConflictError } from '#runtime/errors.ts';
import { type HomeParts, permitted } from './home.ts';

/** What being reminded takes. */
export interface ReminderParts extends Pick<HomeParts, 'organizations' | 'localSite'> {
  readonly records: StateRecords;
  readonly issuer: IdIssuer;
}

/** Takes reminders of sites that a virtual organization names. The authority acts on what is recorded. */
export function remindMethod({ organizations, localSite, records, issuer }: ReminderParts): PeerMethod {
  return answering(peerMethods.Remind, async ({ virtualOrganization: name, state, ids }, caller) => {
    caller.charge(name);
    const { site, signal } = caller;
    const vo = permitted({ organizations, localSite }, name, site);
    const { uid } = vo.metadata;
    const recorded = await records.read(uid, signal);
    if (recorded === undefined) throw new PeerError('Busy', `${name} has no signed state yet: ask again.`);
    const [newest, signed, known] = await verified(async () => {
      const genesis = await verifyGenesis(recorded.genesis, vo.status?.genesis);
      const { reminder } = recorded;
      return Promise.all([
        verifyState(recorded.state, genesis),
        verifyState(state, genesis),
        reminder === undefined ? undefined : verifyState(reminder.state, genesis),
      ]);
    });
    if (!isUnknown(signed, newest)) return {};
    // First, so that whoever is approved once the organization goes on gets the id of nobody who was lost.
    const carried = ids.flatMap((id) => sliceIdOf(id) ?? []);
    await issuer.confirmUserIds({ name, uid }, carried, { signal });
    if (known !== undefined && known.content.epoch >= signed.content.epoch) return {};
    try {
      await records.write(vo, recorded, recorded.version, { site, state }, signal);
    } catch (error) {
      if (error instanceof ConflictError) throw new PeerError('Busy', `${name} is being changed: remind again.`);
      throw error;
    }
    return {};
  });
}

async function verified(
  read: () => Promise<[VerifiedState, VerifiedState, VerifiedState | undefined]>,
): ReturnType<typeof read> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof CredentialError)
      throw new PeerError('Invalid', `That is no state of this virtual organization: ${error.message}.`);
    throw error;
  }
}

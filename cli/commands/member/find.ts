import type { VOMembership } from '#crds/vo-membership.ts';
import type { Stored } from '#runtime/types.ts';
import { getOrExplain, type Objects } from '../../api/organizations.ts';

/** A member by the name of the membership, or by user name. @throws {CommandError} naming those there are. */
export async function findMember(
  memberships: Objects<VOMembership>,
  namespace: string,
  name: string,
  signal: AbortSignal,
): Promise<Stored<VOMembership>> {
  if (/^u-[a-z0-9]+-\d+$/.test(name)) {
    const { items } = await memberships.list({ namespace, signal });
    const found = items.find(({ status }) => status?.userName === name);
    if (found !== undefined) return found;
  }
  return getOrExplain(memberships, { namespace, name }, `member of ${namespace.replace(/^vo-/, '')}`, signal);
}

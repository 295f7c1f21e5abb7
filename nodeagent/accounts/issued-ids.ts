import {
  globalId,
  groupRange,
  isUserLocalId,
  organizationLocalId,
  parseUserName,
  sliceIdOf,
} from '#common/identity/ids.ts';
import type { IdentitySlice } from '#crds/identity-slice.ts';
import { organizationNamespace, organizationOfNamespace } from '#crds/organization.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Stored } from '#runtime/types.ts';

/** What is known of the organizations of this site. */
export interface IdentityRecords {
  readonly organizations: readonly Stored<VirtualOrganization>[];
  readonly memberships: readonly Stored<VOMembership>[];
  readonly slices: readonly Stored<IdentitySlice>[];
}

/** Lines of passwd(5) and group(5): the ids that organizations issued, and no others. */
export interface IssuedIds {
  readonly users: string;
  readonly groups: string;
}

/**
 * The ids that mean somebody in files, with their names: those of members and groups of organizations, each in a slice that
 * the record gives to that organization. A membership that claims an id of another's slice, or a name that does not hold its own
 * id, is left out. Organizations whose pods see other numbers than were issued (`uidMode` Local) have none here.
 */
export function issuedIds({ organizations, memberships, slices }: IdentityRecords): IssuedIds {
  const owners = new Map(slices.map(({ spec }) => [spec.number, spec.virtualOrganization.uid]));
  const known = new Map(
    organizations
      .filter(({ spec, status }) => spec.identity.uidMode === 'Global' && status?.state !== 'Dissolved')
      .map((organization) => [organization.metadata.name, organization]),
  );
  const isOf = (organization: Stored<VirtualOrganization>, id: number): boolean => {
    const place = sliceIdOf(id);
    return place !== undefined && owners.get(place.slice) === organization.metadata.uid;
  };
  const users = memberships.flatMap(({ metadata, status }) => {
    const organization = known.get(organizationOfNamespace(metadata.namespace) ?? '');
    const { userName, uid, gid } = status ?? {};
    if (organization === undefined || userName === undefined || uid === undefined || gid === undefined) return [];
    const isSound = isOf(organization, uid) && isUserLocalId(sliceIdOf(uid)?.localId ?? -1);
    return isSound && parseUserName(userName)?.uid === uid ? [`${userName}:x:${uid}:${gid}:::`] : [];
  });
  const groups = [...known.values()].flatMap((organization) => {
    const { slices: own = [], groups: listed = [] } = organization.status ?? {};
    const name = organizationNamespace(organization.metadata.name);
    const [first] = own;
    const primary =
      first === undefined ? [] : [{ name, gid: globalId({ slice: first, localId: organizationLocalId }) }];
    const inside = listed
      .filter(({ gid }) => {
        const localId = sliceIdOf(gid)?.localId ?? -1;
        return localId >= groupRange.first && localId <= groupRange.last;
      })
      .map((each) => ({ name: `${name}/${each.name}`, gid: each.gid }));
    return [...primary, ...inside]
      .filter(({ gid }) => isOf(organization, gid))
      .map((each) => `${each.name}:x:${each.gid}:`);
  });
  return { users: lines(users), groups: lines(groups) };
}

function lines(list: readonly string[]): string {
  return [...list]
    .sort()
    .map((line) => `${line}\n`)
    .join('');
}

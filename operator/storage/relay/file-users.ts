import type { Clock } from '#common/clock.ts';
import { organizationNamespace } from '#crds/organization.ts';
import type { MemberAccess } from '#operator/gateway/member-access.ts';
import type { MembershipIndex } from '#operator/identity/membership-index.ts';

/** Names and groups of members in files. */
export interface FileUsers {
  /** Groups that a member who may act bears in files; undefined for everybody else. */
  groupsOf(virtualOrganization: string, userName: string): readonly string[] | undefined;
}

/** An answer is good for so long, milliseconds: it is asked for with every request. */
const keptMs = 1_000;
const keptMax = 4_096;

/** {@link FileUsers} by the memberships of this site: who is suspended is nobody a second later. */
export class MemberUsers implements FileUsers {
  private readonly index: MembershipIndex;
  private readonly access: MemberAccess;
  private readonly clock: Clock;
  private readonly kept = new Map<string, { readonly until: number; readonly groups: readonly string[] | undefined }>();

  constructor(index: MembershipIndex, access: MemberAccess, clock: Clock) {
    this.index = index;
    this.access = access;
    this.clock = clock;
  }

  groupsOf(virtualOrganization: string, userName: string): readonly string[] | undefined {
    const key = `${virtualOrganization} ${userName}`;
    const now = this.clock.monotonic();
    const known = this.kept.get(key);
    if (known !== undefined && known.until > now) return known.groups;
    const groups = this.look(virtualOrganization, userName);
    if (this.kept.size >= keptMax) this.kept.clear();
    this.kept.set(key, { until: now + keptMs, groups });
    return groups;
  }

  private look(virtualOrganization: string, userName: string): readonly string[] | undefined {
    const namespace = organizationNamespace(virtualOrganization);
    const membership = this.index.ofUserName(namespace, userName);
    if (membership === undefined) return undefined;
    const { issuer, subject } = membership.spec.principal;
    if (this.access.refusal(virtualOrganization, { issuer, subject }) !== undefined) return undefined;
    const isInForce = (end: string | undefined): boolean => end === undefined || Date.parse(end) > this.clock.now();
    const groups = membership.spec.groups.filter(({ expirationTime }) => isInForce(expirationTime));
    return [namespace, ...groups.map(({ name }) => `${namespace}/${name}`)];
  }
}

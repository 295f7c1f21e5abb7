import { digestOf } from '#common/identity/jws.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { membershipReady, VOMembership } from '#crds/vo-membership.ts';
import type { ConditionUpdate } from '#runtime/conditions.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';

/** The state in force. */
export type MemberState = NonNullable<NonNullable<VOMembership['status']>['state']>;

/** What the standing of a member follows from. */
export interface StandingScope {
  readonly membership: Stored<VOMembership>;
  readonly organization: Stored<VirtualOrganization> | undefined;
  /** Whether this site accepts the virtual organization. */
  readonly isAccepted: boolean;
  /** Name of an older membership of the same principal, or of one that has an id. */
  readonly duplicateOf: string | undefined;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
}

/** How a member stands right now. */
export interface Standing {
  readonly state: MemberState;
  readonly ready: Omit<ConditionUpdate, 'type' | 'observedGeneration'>;
  /** Whether the request is granted without anyone's doing (enrolment Open). */
  readonly isSelfApproved: boolean;
  /** Whether a user id is due. */
  readonly mayHaveId: boolean;
  /** Whether the member may act: have an account and log in. */
  readonly mayAct: boolean;
  /** Whether the member's pods have to end. */
  readonly endsPods: boolean;
  /** Groups in force, by path. */
  readonly groups: readonly string[];
  /** When the next of it ends by itself, milliseconds since the epoch. */
  readonly changesAtMs: number | undefined;
}

type Reason = keyof typeof membershipReady.reasons;

/** SHA-256 of an acceptable use, as `spec.acceptedUse` holds it. */
export function useDigest(text: string): string {
  return digestOf(text);
}

/** Tells how a member stands. Pure; the same on every replica. */
export function standingOf(scope: StandingScope): Standing {
  const { membership, organization, nowMs } = scope;
  const { state, reason, message } = decide(scope);
  const isActive = state === 'Active';
  const mayAct = isActive && !blocking.has(reason);
  const groups = groupsInForce(membership, organization, nowMs);
  const ends = [membership.spec.expirationTime, ...groups.ends].flatMap((time) => momentOf(time) ?? []);
  return {
    state,
    ready: { status: reason === 'Active' ? 'True' : 'False', reason, message },
    isSelfApproved: reason === 'Requested' && organization?.spec.enrolment.mode === 'Open',
    mayHaveId: isActive && reason !== 'OrganizationMissing' && reason !== 'OrganizationDissolved',
    mayAct,
    endsPods: endingStates.has(state) || endingReasons.has(reason) || isDeleting(membership),
    groups: mayAct ? groups.paths : [],
    changesAtMs: ends.filter((moment) => moment > nowMs).sort((a, b) => a - b)[0],
  };
}

/** Reasons for which someone Active still can't act here. */
const blocking = new Set<Reason>(['OrganizationMissing', 'OrganizationDissolved', 'OrganizationNotAccepted']);
/** Without an account nothing new starts; what runs goes on until it ends, unless one of these holds. */
const endingStates = new Set<MemberState>(['Suspended', 'Expired', 'Banned']);
const endingReasons = new Set<Reason>(['OrganizationMissing', 'OrganizationDissolved', 'OrganizationNotAccepted']);

interface Decision {
  readonly state: MemberState;
  readonly reason: Reason;
  readonly message: string;
}

/** The first that holds, from what nobody can mend to what needs nothing. */
function decide(scope: StandingScope): Decision {
  const { membership, organization, duplicateOf, nowMs } = scope;
  const { spec } = membership;
  if (spec.state === 'Banned')
    return of('Banned', 'Banned', 'The member is banned; an administrator can lift that to Suspended.');
  if (spec.state === 'Suspended') {
    return of('Suspended', 'Suspended', 'The member is suspended; an administrator can set spec.state to Active.');
  }
  const end = momentOf(spec.expirationTime);
  if (end !== undefined && end <= nowMs) {
    return of(
      'Expired',
      'Expired',
      `The membership ended at ${spec.expirationTime ?? ''}; an administrator can move spec.expirationTime.`,
    );
  }
  if (duplicateOf !== undefined) {
    return of(
      'Requested',
      'DuplicatePrincipal',
      `The principal is a member already, as ${duplicateOf}; delete one of the two.`,
    );
  }
  if (spec.state === 'Requested') {
    return of('Requested', 'Requested', 'An administrator has to approve: set spec.state to Active.');
  }
  const use = organization?.spec.enrolment.acceptableUse?.text;
  if (use !== undefined && spec.acceptedUse !== useDigest(use)) {
    return of(
      'Requested',
      'AcceptanceMissing',
      'The member has to accept the acceptable use that is in force, with xos vo accept.',
    );
  }
  return whereTheOrganizationStands(scope);
}

function whereTheOrganizationStands({ membership, organization, isAccepted }: StandingScope): Decision {
  const active = (reason: Reason, message: string): Decision => of('Active', reason, message);
  if (organization === undefined) {
    return active(
      'OrganizationMissing',
      `No VirtualOrganization has the namespace ${membership.metadata.namespace ?? ''}; it is vo- and the name of one.`,
    );
  }
  const { name } = organization.metadata;
  if (organization.spec.state === 'Dissolved' || isDeleting(organization)) {
    return active('OrganizationDissolved', `The virtual organization ${name} is dissolved.`);
  }
  if (!isAccepted) {
    return active(
      'OrganizationNotAccepted',
      `This site does not accept ${name}; its owner can add it to acceptedVirtualOrganizations of the Site.`,
    );
  }
  if (organization.spec.state === 'Forming') {
    return active(
      'OrganizationForming',
      `The virtual organization ${name} is Forming; an administrator can set its spec.state to Operational.`,
    );
  }
  if (organization.spec.state === 'Frozen') {
    return active(
      'OrganizationFrozen',
      `The virtual organization ${name} is Frozen: nothing new starts until its spec.state is Operational again.`,
    );
  }
  return active('Active', 'The member can log in and work.');
}

function of(state: MemberState, reason: Reason, message: string): Decision {
  return { state, reason, message };
}

/** Groups that exist and have not ended, for the member and as such; and when those end. */
function groupsInForce(
  { spec }: VOMembership,
  organization: VirtualOrganization | undefined,
  nowMs: number,
): { readonly paths: string[]; readonly ends: (string | undefined)[] } {
  const known = new Map(organization?.spec.groups.map((group) => [group.name, group.expirationTime]));
  const isOver = (time: string | undefined): boolean => (momentOf(time) ?? Infinity) <= nowMs;
  const inForce = spec.groups.filter(
    ({ name, expirationTime }) => known.has(name) && !isOver(expirationTime) && !isOver(known.get(name)),
  );
  return {
    paths: inForce.map(({ name }) => name),
    ends: inForce.flatMap(({ name, expirationTime }) => [expirationTime, known.get(name)]),
  };
}

function momentOf(time: string | undefined): number | undefined {
  return time === undefined ? undefined : Date.parse(time);
}

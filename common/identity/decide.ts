/**
 * Whether a member of a virtual organization may do something at a site. Pure: the same views give the same answer, and nothing is looked up.
 * Three parties are asked, the member's own record, the virtual organization and the site. All must agree; the site is asked last and always,
 * so that nothing the others say can turn its no into a yes (threat 53).
 */

/** What the owner of a site says. */
export interface SiteView {
  readonly name: string;
  /** Names of the virtual organizations that may use the site. */
  readonly accepted: readonly string[];
}

/** What a virtual organization says. */
export interface OrganizationView {
  readonly name: string;
  readonly state: 'Forming' | 'Operational' | 'Frozen' | 'Dissolved';
  /** Roles besides those that always exist. */
  readonly roles: readonly { readonly name: string; readonly capabilities: readonly string[] }[];
}

/** What the record of a member says. */
export interface MemberView {
  readonly state: 'Requested' | 'Active' | 'Suspended' | 'Expired' | 'Banned';
  /** Whether a user id was issued. */
  readonly hasId: boolean;
  readonly expiresAtMs?: number | undefined;
  readonly roles: readonly string[];
  readonly capabilities: readonly string[];
}

/** What shall be done. */
export interface Action {
  /** Area, dot and verb, for example `kubernetes.use`. */
  readonly name: string;
  /** Capability that it takes; absent when every member may do it. */
  readonly capability?: string | undefined;
  readonly nowMs: number;
}

/** The answer. */
export interface Decision {
  readonly allowed: boolean;
  /** CamelCase, for programs. */
  readonly reason: string;
  /** One sentence, for people, that says what to do. */
  readonly message: string;
  /** Rule that decided, led by the party: `member/…`, `vo/…`, `site/…`. */
  readonly policy: string;
}

/** Every capability: who administers a virtual organization may do whatever it may do. */
const administrator = 'administrator';

/** Asks all three. The site's refusal is the one that is told, then that of the virtual organization. */
export function decide(site: SiteView, vo: OrganizationView, member: MemberView, action: Action): Decision {
  const asked = [askMember(member, action), askOrganization(vo, member, action), askSite(site, vo)];
  const refusal = asked.findLast(({ allowed }) => !allowed);
  return (
    refusal ?? {
      allowed: true,
      reason: 'Allowed',
      message: 'Site, virtual organization and membership agree.',
      policy: 'site',
    }
  );
}

const yes: Decision = { allowed: true, reason: 'Allowed', message: '', policy: '' };

function no(policy: string, reason: string, message: string): Decision {
  return { allowed: false, reason, message, policy };
}

function askMember(member: MemberView, action: Action): Decision {
  if (member.state === 'Requested') {
    return no(
      'member/state',
      'MemberRequested',
      'The membership waits for an administrator, or for you to accept the use: see xos whoami.',
    );
  }
  const expired = no(
    'member/expirationTime',
    'MemberExpired',
    'The membership is over: ask an administrator to extend it.',
  );
  if (member.state === 'Expired') return expired;
  if (member.state !== 'Active') {
    return no('member/state', `Member${member.state}`, `The membership is ${member.state}: ask an administrator.`);
  }
  if (member.expiresAtMs !== undefined && member.expiresAtMs <= action.nowMs) return expired;
  return member.hasId ? yes : no('member/identity', 'NoId', 'No user id is issued yet: try again in a moment.');
}

function askOrganization(vo: OrganizationView, member: MemberView, action: Action): Decision {
  if (vo.state !== 'Operational') {
    return no(
      'vo/state',
      `Organization${vo.state}`,
      `The virtual organization is ${vo.state}: its administrators decide when it is Operational.`,
    );
  }
  if (action.capability === undefined) return yes;
  const { capability } = action;
  const isHeld =
    member.roles.includes(administrator) ||
    member.capabilities.includes(capability) ||
    vo.roles.some(({ name, capabilities }) => member.roles.includes(name) && capabilities.includes(capability));
  if (isHeld) return yes;
  return no(
    'vo/capabilities',
    'CapabilityMissing',
    `It takes the capability ${action.capability}: ask an administrator.`,
  );
}

function askSite(site: SiteView, vo: OrganizationView): Decision {
  if (site.accepted.includes(vo.name)) return yes;
  return no(
    'site/acceptedVirtualOrganizations',
    'SiteRefuses',
    `Site ${site.name} does not accept ${vo.name}: ask the owner of the site.`,
  );
}

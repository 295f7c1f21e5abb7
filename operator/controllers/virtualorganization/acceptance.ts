/** The word of the site's owner on a virtual organization: pure. */
import { networkIsolated, type Site } from '#crds/site.ts';
import { accepted } from '#crds/tenancy.ts';
import { homeElsewhere, type IsolationLevel } from '#crds/organization.ts';
import { statePublished, type VirtualOrganization } from '#crds/virtual-organization.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { SiteLimits } from './quota.ts';

/** What the owner of this site says. */
export interface Acceptance {
  readonly isAccepted: boolean;
  readonly reason: keyof typeof accepted.reasons;
  readonly message: string;
  readonly limits: SiteLimits | undefined;
  /** Levels of isolation that the site offers. */
  readonly isolation: readonly IsolationLevel[];
  readonly sandboxRuntimeClass: string | undefined;
  readonly network: NetworkWord;
}

/**
 * How the network of the site stands to NetworkPolicy:
 * - `Closed`: it enforces it, or nothing else is known.
 * - `Open`: it does not, and the owner of the site says so.
 * - `Broken`: it was found not to, though it should.
 */
export type NetworkWord = 'Closed' | 'Open' | 'Broken';

const reasons = accepted.reasons;
const noOffer = { limits: undefined, isolation: [], sandboxRuntimeClass: undefined, network: 'Closed' } as const;

/**
 * Reads what the local Site says of a virtual organization. Without a local Site nothing is accepted.
 * @param localName - name of the local Site.
 * @param wasAccepted - whether it has a namespace here already: then it was accepted before, and is cut now.
 */
export function readAcceptance(
  vo: VirtualOrganization,
  site: Site | undefined,
  localName: string,
  wasAccepted: boolean,
): Acceptance {
  const nothing = { ...noOffer, isAccepted: false };
  if (site?.spec.type !== 'Local') {
    const message = `There is no Site ${localName} of type Local: the operator makes it; see its log when it does not.`;
    return { ...nothing, reason: reasons.NoLocalSite, message };
  }
  const { name } = vo.metadata;
  const { acceptedVirtualOrganizations, isolation, sandboxRuntimeClass } = site.spec.local;
  const entry = acceptedVirtualOrganizations.find((each) => each.name === name);
  if (entry === undefined) {
    const remedy = `its owner adds {name: ${name}} to spec.local.acceptedVirtualOrganizations of Site ${localName}`;
    return wasAccepted
      ? {
          ...nothing,
          reason: reasons.Cut,
          message: `The site no longer accepts it: nothing runs here; ids and data are kept. To bring it back, ${remedy}.`,
        }
      : { ...nothing, reason: reasons.NotAccepted, message: `The site does not accept it yet: ${remedy}.` };
  }
  const home = homeElsewhere(vo, localName);
  if (entry.home !== home) {
    const message = `Its home is ${home ?? 'this site'}, and the owner accepts one of this name from ${entry.home ?? 'this site'}: correct home in acceptedVirtualOrganizations of Site ${localName}.`;
    return { ...nothing, reason: reasons.HomeElsewhere, message };
  }
  if (home !== undefined && !isFollowed(vo)) {
    const message = `Nothing of it comes from its home, ${home}, yet: see StatePublished.`;
    return { ...nothing, reason: reasons.HomeElsewhere, message };
  }
  return {
    isAccepted: true,
    reason: reasons.AcceptedBySite,
    message: 'The owner of the site accepts it.',
    limits: entry.limits,
    isolation,
    sandboxRuntimeClass,
    network: networkOf(site),
  };
}

/** What is said and known of the network of a Site. */
export function networkOf({ spec, status }: Site): NetworkWord {
  if (spec.type === 'Local' && spec.local.networkIsolation === 'NotOffered') return 'Open';
  const reason = findCondition(status?.conditions, networkIsolated.type)?.reason;
  return reason === networkIsolated.reasons.NotEnforced ? 'Broken' : 'Closed';
}

/** Whether what its home tells was verified here once; only the operator writes that. */
export function isFollowed({ status }: VirtualOrganization): boolean {
  const reason = findCondition(status?.conditions, statePublished.type)?.reason;
  return reason === statePublished.reasons.Followed || reason === statePublished.reasons.HomeAway;
}

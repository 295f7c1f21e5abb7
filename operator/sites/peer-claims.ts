import { describeError } from '#common/errors.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { type ClaimObject, claims } from '#crds/claim.ts';
import { homeLeaseTerms } from '#crds/home-lease.ts';
import { organizationNamespace, organizationOfNamespace } from '#crds/organization.ts';
import { answering, type PeerCaller, type PeerMethod } from '#operator/gateway/peers/contract.ts';
import { type ClaimsRequest, type ClaimsResponse, workMethods } from '#proto/site/schema.ts';
import type { Client, Informer } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';
import type { SharedOrganizations } from './shared.ts';

/** What nodes of this site have promised to reservations of peers. */
export interface PeerClaims {
  /** Whether a Claim was made for a peer. */
  isOf(site: string, virtualOrganization: string, claim: string): boolean;
}

/** What a {@link HostedClaims} works with. */
export interface HostedClaimsParts {
  readonly claims: Informer<ClaimObject>;
  readonly client: Client;
  readonly shared: SharedOrganizations;
  readonly nodeExists: (name: string) => boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

const byHolder = 'claim/holder';

/** As whom a peer is known to the nodes here. */
export const holderOf = (site: string): string => `peer:${site}`;

/** {@link PeerClaims} in the API server of this site, where the selectors of its nodes write them. What the peer has no record of is deleted. */
export class HostedClaims implements PeerClaims {
  private readonly parts: HostedClaimsParts;

  constructor(parts: HostedClaimsParts) {
    this.parts = parts;
    parts.claims.addIndex(byHolder, ({ spec }) => (spec.mode === 'Reservation' ? [spec.owner] : []));
  }

  /** What peers may call. */
  methods(): PeerMethod[] {
    return [answering(workMethods.Claims, async (request, caller) => this.compare(request, caller))];
  }

  isOf(site: string, virtualOrganization: string, name: string): boolean {
    const found = this.parts.claims.get({ namespace: organizationNamespace(virtualOrganization), name });
    return found?.spec.owner === holderOf(site) && found.spec.mode === 'Reservation' && !isDeleting(found);
  }

  private async compare({ ids, heardMs }: ClaimsRequest, { site, signal }: PeerCaller): Promise<ClaimsResponse> {
    const { claims: cache, shared, nodeExists, clock } = this.parts;
    const nowMs = clock.now();
    const wanted = new Set(ids);
    const there: string[] = [];
    for (const claim of cache.byIndex(byHolder, holderOf(site))) {
      const { name, namespace, creationTimestamp } = claim.metadata;
      if (isDeleting(claim)) continue;
      const isShared = shared.has(site, organizationOfNamespace(namespace) ?? '');
      // It may have come after the list was made.
      const isNew = Date.parse(creationTimestamp) > heardMs - homeLeaseTerms.skewMaxMs;
      if (!isShared || (!wanted.has(name) && !isNew)) await this.giveBack(claim.metadata, site, signal);
      else if (wanted.has(name) && nodeExists(claim.spec.nodeName)) there.push(name);
    }
    return { ids: there, nowMs };
  }

  /** What fails is done at the next call. */
  private async giveBack(
    { namespace, name, uid }: Stored<ClaimObject>['metadata'],
    home: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { client, log } = this.parts;
    log.info('Giving back what was reserved by a peer that does not want it any more', { Claim: name, home });
    const options = { preconditions: { uid }, signal };
    await ignoreNotFound(client.of(claims).delete({ namespace, name }, options)).catch((error: unknown) =>
      log.warn('A Claim of a peer was not deleted', { Claim: name, problem: describeError(error) }),
    );
  }
}

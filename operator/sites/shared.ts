import type { Site } from '#crds/site.ts';
import type { Lister } from '#runtime/contracts.ts';

/** Which virtual organizations this site shares with which peers. */
export interface SharedOrganizations {
  /** Whether a virtual organization is shared with a peer. */
  has(site: string, virtualOrganization: string): boolean;
}

/** {@link SharedOrganizations} as the owner of this site wrote them into the Sites of peers. */
export class SitesShared implements SharedOrganizations {
  private readonly sites: Lister<Site>;

  constructor(sites: Lister<Site>) {
    this.sites = sites;
  }

  has(site: string, virtualOrganization: string): boolean {
    const spec = this.sites.get({ name: site })?.spec;
    return spec?.type === 'Peer' && spec.peer.virtualOrganizations.includes(virtualOrganization);
  }
}

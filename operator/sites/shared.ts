import type { Site } from '#crds/site.ts';
import type { Lister } from '#runtime/contracts.ts';

/** Which virtual organizations this site shares with which peers, as its owner wrote it into their Sites. */
export class SharedOrganizations {
  private readonly sites: Lister<Site>;

  constructor(sites: Lister<Site>) {
    this.sites = sites;
  }

  /** Whether a virtual organization is shared with a peer. */
  has(site: string, virtualOrganization: string): boolean {
    const spec = this.sites.get({ name: site })?.spec;
    return spec?.type === 'Peer' && spec.peer.virtualOrganizations.includes(virtualOrganization);
  }
}

import type { Site } from '#crds/site.ts';
import type { Informer } from '#runtime/contracts.ts';

/** What is known of a peer from its Site object. */
export interface Peer {
  /** Name of its Site object. */
  readonly site: string;
  /** `host:port` of its gateway. */
  readonly address: string;
  readonly trustDomain: string;
  /** Its roots, PEM. */
  readonly trustBundle: string;
  /** Whether the owner of this site cut it off. */
  readonly isCut: boolean;
}

/** What is read of the cache of Sites. */
export type SiteCache = Pick<Informer<Site>, 'get' | 'list' | 'onEvent'>;

/** The peers that the owner of this site named, as the cache of Site objects has them. */
export class PeerDirectory {
  private readonly sites: SiteCache;
  private readonly localSite: string;

  constructor(sites: SiteCache, localSite: string) {
    this.sites = sites;
    this.localSite = localSite;
  }

  /** All peers, those that are cut off too, by name. */
  list(): Peer[] {
    return this.sites
      .list()
      .flatMap((site) => this.peerOf(site) ?? [])
      .sort((a, b) => (a.site < b.site ? -1 : 1));
  }

  find(site: string): Peer | undefined {
    const found = this.sites.get({ name: site });
    return found === undefined ? undefined : this.peerOf(found);
  }

  /** The only peer of a trust domain; where two objects claim one, neither is believed. */
  ofTrustDomain(trustDomain: string): Peer | undefined {
    const claimants = this.list().filter((peer) => peer.trustDomain === trustDomain);
    return claimants.length === 1 ? claimants[0] : undefined;
  }

  /** Called after anything in the spec of a Site changed. @returns a function that ends it. */
  onChange(listener: () => void): () => void {
    return this.sites.onEvent((event) => {
      if (event.type !== 'updated' || event.object.metadata.generation !== event.old.metadata.generation) listener();
    });
  }

  private peerOf({ metadata, spec }: Site): Peer | undefined {
    if (spec.type !== 'Peer' || metadata.name === this.localSite || metadata.deletionTimestamp !== undefined)
      return undefined;
    const { address, trustDomain, trustBundle, connection } = spec.peer;
    return { site: metadata.name, address, trustDomain, trustBundle, isCut: connection === 'Cut' };
  }
}

/** Why a site can't become a peer under a trust domain, as a sentence; undefined when it can. */
export function trustDomainProblem(
  known: readonly Site[],
  { site, trustDomain }: { readonly site: string; readonly trustDomain: string },
  ownTrustDomain: string,
): string | undefined {
  if (trustDomain === ownTrustDomain) return `Trust domain ${trustDomain} is that of this site: give yours another.`;
  const holder = known.find(
    ({ metadata, spec }) => metadata.name !== site && spec.type === 'Peer' && spec.peer.trustDomain === trustDomain,
  );
  return holder === undefined ? undefined : `Trust domain ${trustDomain} is that of Site ${holder.metadata.name}.`;
}

import { homeElsewhere, organizationOfNamespace } from '#crds/organization.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { provisionedLabel, type Volume } from '#crds/volume.ts';
import type { Lister } from '#runtime/contracts.ts';

/** Volumes that the same task finds at every site of its virtual organization. */
export interface SharedVolumes {
  /** What tells a Volume from others of its name, the same at every site that has it; undefined for what one site alone has. */
  identityOf(namespace: string, name: string): string | undefined;
  /** Sites where all of these are to be had. */
  sitesWith(namespace: string, names: readonly string[]): readonly string[];
}

/**
 * {@link SharedVolumes} by the objects of this site: Volumes that the home of a virtual organization keeps stand for themselves there and are mirrored
 * at the others. What lies elsewhere, and claims of other drivers, is to be had at its own site alone.
 */
export class MirroredVolumes implements SharedVolumes {
  private readonly volumes: Lister<Volume>;
  private readonly organizations: Lister<VirtualOrganization>;
  private readonly localSite: string;

  constructor(volumes: Lister<Volume>, organizations: Lister<VirtualOrganization>, localSite: string) {
    this.volumes = volumes;
    this.organizations = organizations;
    this.localSite = localSite;
  }

  identityOf(namespace: string, name: string): string | undefined {
    const volume = this.volumes.get({ namespace, name });
    const organization = this.organizationOf(namespace);
    if (volume === undefined || organization === undefined || volume.metadata.deletionTimestamp !== undefined)
      return undefined;
    const { remote } = volume.spec;
    const home = homeElsewhere(organization, this.localSite);
    if (remote !== undefined) return remote.site === home ? remote.volumeUID : undefined;
    const isTold = home === undefined && volume.metadata.labels?.[provisionedLabel] === undefined;
    return isTold ? volume.metadata.uid : undefined;
  }

  sitesWith(namespace: string, names: readonly string[]): readonly string[] {
    const organization = this.organizationOf(namespace);
    const isShared = names.every((name) => this.identityOf(namespace, name) !== undefined);
    if (organization === undefined || !isShared) return [this.localSite];
    const { homeSite = this.localSite, sites } = organization.spec;
    return [...new Set([this.localSite, homeSite, ...sites])];
  }

  private organizationOf(namespace: string): VirtualOrganization | undefined {
    const name = organizationOfNamespace(namespace);
    return name === undefined ? undefined : this.organizations.get({ name });
  }
}

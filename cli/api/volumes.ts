/** Volumes as commands need them: a narrow port, so that tests bring their own. */
import type { Volume } from '#crds/volume.ts';
import type { Context } from '../frame/context.ts';
import { withCluster } from './cluster.ts';
import { chooseOrganization, namespaceOf, type Objects, type OrganizationInput } from './organizations.ts';

/** The Volumes of one virtual organization, as the caller sees them. */
export interface VolumeApi {
  /** The virtual organization. */
  readonly vo: string;
  readonly namespace: string;
  readonly volumes: Objects<Volume>;
}

/** Runs `use` with the Volumes of the chosen virtual organization. */
export async function withVolumes<T>(
  context: Context,
  input: OrganizationInput,
  use: (api: VolumeApi) => Promise<T>,
): Promise<T> {
  const { volumes } = await import('#crds/volume.ts');
  return withCluster(context, input, async ({ client, namespace: contextNamespace }) => {
    const vo = chooseOrganization(input, contextNamespace);
    return use({ vo, namespace: namespaceOf(vo), volumes: client.of(volumes) });
  });
}

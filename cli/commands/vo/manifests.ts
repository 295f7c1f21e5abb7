import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { exportable, importDocuments, organizationKinds, readDocuments, toYaml } from '../../api/manifests.ts';
import { getOrExplain, namespaceOf, withOrganizations } from '../../api/organizations.ts';
import type { Context } from '../../frame/context.ts';

/** `xos vo export`. */
export async function exportOrganization(
  context: Context,
  input: ClusterInput & { readonly name: string; readonly members: boolean },
): Promise<void> {
  const { signal, terminal } = context;
  return withOrganizations(context, input, async ({ organizations, memberships }) => {
    const { name } = input;
    const vo: VirtualOrganization = await getOrExplain(organizations, { name }, 'virtual organization', signal);
    const members = input.members ? (await memberships.list({ namespace: namespaceOf(name), signal })).items : [];
    terminal.print(await toYaml([vo, ...members].map(exportable)));
  });
}

/** `xos vo import`. */
export async function importOrganizations(
  context: Context,
  input: ClusterInput & { readonly file: string; readonly dryRun: boolean },
): Promise<void> {
  const documents = await readDocuments(input.file, 'FILE', organizationKinds);
  return withOrganizations(context, input, async (api) => importDocuments(context, api, documents, input));
}

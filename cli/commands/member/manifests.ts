import { InvalidInputError } from '#common/errors.ts';
import { exportable, importDocuments, organizationKinds, readDocuments, toYaml } from '../../api/manifests.ts';
import {
  chooseOrganization,
  namespaceOf,
  organizationIn,
  type OrganizationInput,
  withOrganizations,
} from '../../api/organizations.ts';
import type { Context } from '../../frame/context.ts';
import { findMember } from './find.ts';

/** `xos member export`. */
export async function exportMembers(
  context: Context,
  input: OrganizationInput & { readonly members: readonly string[] },
): Promise<void> {
  const { signal, terminal } = context;
  return withOrganizations(context, input, async ({ memberships, namespace: contextNamespace }) => {
    const namespace = namespaceOf(chooseOrganization(input, contextNamespace));
    const found =
      input.members.length === 0
        ? (await memberships.list({ namespace, signal })).items
        : await Promise.all(input.members.map(async (name) => findMember(memberships, namespace, name, signal)));
    if (found.length > 0) terminal.print(await toYaml(found.map(exportable)));
  });
}

/** `xos member import`. */
export async function importMembers(
  context: Context,
  input: OrganizationInput & { readonly file: string | undefined; readonly dryRun: boolean },
): Promise<void> {
  const file = input.file ?? '-';
  const documents = await readDocuments(file, 'FILE', organizationKinds);
  const stranger = documents.find(({ kind }) => kind !== 'VOMembership');
  if (stranger !== undefined) {
    throw new InvalidInputError('FILE', `${file} holds a ${stranger.kind}: use xos vo import`);
  }
  return withOrganizations(context, input, async (api) => {
    const isChosen = input.vo !== undefined || input.namespace !== undefined;
    const namespaced = documents.map((document) => {
      const isOwn = organizationIn(document.namespace ?? '') !== undefined && !isChosen;
      return isOwn ? document : { ...document, namespace: namespaceOf(chooseOrganization(input, api.namespace)) };
    });
    return importDocuments(context, api, namespaced, input);
  });
}

import { isSamePrincipal, type Principal } from '#common/identity/ids.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { changeSpec, getOrExplain, type Organizations, withOrganizations } from '../../api/organizations.ts';
import { formatPrincipal, parsePrincipal } from '../../api/principals.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { type FieldInput, specOf } from './fields.ts';
import { report } from './report.ts';

interface ChangeInput extends ClusterInput {
  readonly name: string;
  readonly output: OutputFormat;
  readonly dryRun: boolean;
}

interface EditInput extends ChangeInput, FieldInput {
  readonly addAdministrator: readonly string[];
  readonly removeAdministrator: readonly string[];
}

/** `xos vo edit`. */
export async function edit(context: Context, input: EditInput): Promise<void> {
  const fields = await specOf(input);
  const added = input.addAdministrator.map((text) => parsePrincipal(text, '--add-administrator'));
  const removed = input.removeAdministrator.map((text) => parsePrincipal(text, '--remove-administrator'));
  if (Object.keys(fields).length + added.length + removed.length === 0) {
    throw new InvalidInputError('vo edit', `nothing to change: give an option, or use kubectl edit vo ${input.name}`);
  }
  return withOrganizations(context, input, async (api) => {
    const me = removed.length === 0 ? '' : await api.whoAmI();
    return changeOrganization(context, api, input, (vo) => {
      if (added.length + removed.length === 0) return fields;
      return { ...fields, administrators: administratorsAfter(vo, added, removed, me) };
    });
  });
}

/**
 * Owners after a change. Where governance protects them, a removal is asked for, or approved when another one asked.
 * @throws {InvalidInputError} when someone to remove is none, or nobody would be left.
 */
export function administratorsAfter(
  { spec }: VirtualOrganization,
  added: readonly Principal[],
  removed: readonly Principal[],
  me: string,
): VirtualOrganization['spec']['administrators'] {
  const { secondAdministrator, delaySeconds } = spec.governance;
  const isProtected = secondAdministrator || delaySeconds > 0;
  const fresh = added.filter((one) => !spec.administrators.some((old) => isSamePrincipal(old, one)));
  const all = [...spec.administrators, ...fresh];
  for (const one of removed) {
    if (!all.some((each) => isSamePrincipal(each, one))) {
      const known = all.map(formatPrincipal).join(', ');
      throw new InvalidInputError('--remove-administrator', `${formatPrincipal(one)} is none; there are: ${known}`);
    }
  }
  const isRemoved = (one: Principal): boolean => removed.some((each) => isSamePrincipal(each, one));
  if (all.every(isRemoved)) {
    throw new InvalidInputError(
      '--remove-administrator',
      'nobody would be left: name another with --add-administrator',
    );
  }
  if (!isProtected) return all.filter((one) => !isRemoved(one));
  return all.map((one) => {
    if (!isRemoved(one)) return one;
    const asked = 'removal' in one ? (one.removal as { readonly requestedBy?: string } | undefined) : undefined;
    const isApproval = asked?.requestedBy !== undefined && asked.requestedBy !== me;
    return { ...one, removal: isApproval ? { ...asked, approvedBy: me } : { requestedBy: me } };
  });
}

/** Changes the spec of one virtual organization and tells about it. */
export async function changeOrganization(
  context: Context,
  api: Organizations,
  input: ChangeInput,
  decide: (vo: VirtualOrganization) => object | undefined,
): Promise<void> {
  const { signal } = context;
  const { name, dryRun } = input;
  const { object, isChanged } = await changeSpec(
    api.organizations,
    async () => getOrExplain(api.organizations, { name }, 'virtual organization', signal),
    decide,
    { dryRun, signal },
  );
  const did = isChanged ? `Virtual organization ${name} is changed` : `Virtual organization ${name} is so already`;
  return report(context, api, object, { ...input, wait: false, timeout: 0 }, { did, wanted: object.spec.state });
}

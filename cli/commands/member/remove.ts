import { chooseOrganization, namespaceOf, type Organizations, withOrganizations } from '../../api/organizations.ts';
import { waitUntil } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import type { ChangeInput } from './change.ts';
import { findMember } from './find.ts';
import { dryRunNote } from '../../output/print.ts';

interface RemoveInput extends ChangeInput {
  readonly members: readonly string[];
}

/** `xos member remove`. */
export async function remove(context: Context, input: RemoveInput): Promise<void> {
  return withOrganizations(context, input, async (api) => removeMembers(context, input, api));
}

/** Deletes each membership in turn. */
export async function removeMembers(
  context: Context,
  input: RemoveInput,
  api: Pick<Organizations, 'memberships' | 'namespace'>,
): Promise<void> {
  const { signal, terminal } = context;
  const { dryRun } = input;
  const vo = chooseOrganization(input, api.namespace);
  const namespace = namespaceOf(vo);
  for (const given of input.members) {
    const { metadata } = await findMember(api.memberships, namespace, given, signal);
    const { name, uid } = metadata;
    // Only this one: a membership that took the name meanwhile stays.
    await api.memberships.delete({ name, namespace }, { dryRun, signal, preconditions: { uid } });
    if (input.wait && !dryRun) {
      await waitUntil(
        context,
        api.memberships,
        { name, namespace },
        {
          what: `${name} to be gone`,
          timeoutMs: input.timeout,
          isDone: (member) => member?.metadata.uid !== uid,
          why: () => 'its pods are being ended',
        },
      );
    }
    terminal.print(`Member ${name} of ${vo} is removed${dryRunNote(dryRun)}`);
  }
}

/** What commands that change members share. */
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Stored } from '#runtime/types.ts';
import {
  changeSpec,
  chooseOrganization,
  namespaceOf,
  type OrganizationInput,
  type Organizations,
} from '../../api/organizations.ts';
import { explain, isObserved, waitUntil } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import { findMember } from './find.ts';
import { nextSteps } from './show.ts';
import { dryRunNote } from '../../output/print.ts';

/** Options that every change takes. */
export interface ChangeInput extends OrganizationInput {
  readonly dryRun: boolean;
  readonly wait: boolean;
  readonly timeout: number;
}

/** One change of one member. */
export interface MemberChange {
  /** For the message, for example `is to be Suspended`. */
  readonly did: string;
  /** The same once it is in force, for example `is Suspended`; where it is left out, `did` says that too. */
  readonly isNow?: string;
  /** A merge patch of the spec; undefined when it is so already. */
  decide(member: VOMembership): object | undefined;
  /** True once the change is in force; the status is about the spec by then. */
  isInForce(member: VOMembership): boolean;
}

/** Changes each member in turn; the first failure ends it, and what was changed before stays and has been told. */
export async function changeMembers(
  context: Context,
  input: ChangeInput,
  names: readonly string[],
  change: MemberChange,
  api: Pick<Organizations, 'memberships' | 'namespace'>,
): Promise<void> {
  const { signal, terminal, program } = context;
  const vo = chooseOrganization(input, api.namespace);
  for (const name of names) {
    const read = async (): Promise<Stored<VOMembership>> => findMember(api.memberships, namespaceOf(vo), name, signal);
    const { object, isChanged } = await changeSpec(api.memberships, read, (member) => change.decide(member), {
      dryRun: input.dryRun,
      signal,
    });
    const note = `${isChanged ? '' : ' already'}${dryRunNote(input.dryRun)}`;
    const isAwaited = input.wait && !input.dryRun;
    const current = isAwaited ? await waitForMember(context, api, object, input, change) : object;
    const said = isAwaited ? (change.isNow ?? change.did) : change.did;
    terminal.print(`Member ${object.metadata.name} of ${vo} ${said}${note}`);
    if (input.wait) for (const step of nextSteps(current, vo, program)) terminal.hint(step);
  }
}

/** Waits until the operator has done its part. */
export async function waitForMember(
  context: Context,
  api: Pick<Organizations, 'memberships'>,
  member: Stored<VOMembership>,
  { timeout }: Pick<ChangeInput, 'timeout'>,
  { isInForce, did }: Pick<MemberChange, 'isInForce' | 'did'>,
): Promise<Stored<VOMembership>> {
  const { name, namespace } = member.metadata;
  const found = await waitUntil(
    context,
    api.memberships,
    { name, namespace },
    {
      what: `that ${name} ${did}`,
      timeoutMs: timeout,
      isDone: (seen) => seen !== undefined && isObserved(seen) && isInForce(seen),
      why: (seen) => (seen === undefined ? 'it is gone' : explain(seen, 'Ready')),
    },
  );
  return found ?? member;
}

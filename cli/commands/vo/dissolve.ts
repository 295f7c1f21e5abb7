import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { Stored } from '#runtime/types.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { changeSpec, getOrExplain, type Organizations, withOrganizations } from '../../api/organizations.ts';
import { confirm } from '../../api/question.ts';
import { conditionOf, explain, waitUntil } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { report, type ReportInput } from './report.ts';

interface DissolveInput extends ClusterInput, ReportInput {
  readonly name: string;
  readonly data: 'Erase' | 'Export' | undefined;
  readonly yes: boolean;
  readonly approve: boolean;
  readonly withdraw: boolean;
}

/** `xos vo dissolve`. */
export async function dissolve(context: Context, input: DissolveInput): Promise<void> {
  if (input.approve && input.withdraw) {
    throw new InvalidInputError('--approve', 'and --withdraw exclude each other: give one');
  }
  if (input.data === undefined && !input.approve && !input.withdraw) {
    throw new InvalidInputError(
      '--data',
      'is needed: Erase, or Export to set the data aside for the owner of the site',
    );
  }
  return withOrganizations(context, input, async (api) => dissolveOrganization(context, input, api));
}

/** Asks for, approves or withdraws a dissolution and tells about it. */
export async function dissolveOrganization(
  context: Context,
  input: DissolveInput,
  api: Pick<Organizations, 'organizations' | 'whoAmI'>,
): Promise<void> {
  const { signal } = context;
  const { name, dryRun } = input;
  const read = async (): Promise<Stored<VirtualOrganization>> =>
    getOrExplain(api.organizations, { name }, 'virtual organization', signal);
  const me = await api.whoAmI();
  if (!input.withdraw && !dryRun && !input.yes) {
    const question = `${name} will be dissolved for good; its ${(await read()).status?.members?.active ?? 0} members lose it.`;
    if (!(await confirm(context, `${question} Go on?`, '--yes'))) {
      throw new CommandError('interrupted', 'Nothing was changed');
    }
  }
  const { object } = await changeSpec(api.organizations, read, (vo) => dissolutionAfter(vo, input, me), {
    dryRun,
    signal,
  });
  const done = input.withdraw ? 'is withdrawn' : input.approve ? 'is approved' : 'is asked for';
  let current = object;
  if (input.wait && !dryRun && !input.withdraw) current = await waitForEnd(context, api, object, input.timeout);
  const did = isOver(current) ? `Virtual organization ${name} is dissolved` : `The dissolution of ${name} ${done}`;
  await report(context, api, current, { ...input, wait: false }, { did, wanted: current.spec.state });
  if (isOver(current)) {
    context.terminal.hint(`What is gone stands in its receipt: ${context.program} vo show ${name}`);
  }
}

/** What to write. @throws {CommandError} when nobody asked, or the same person would approve. */
export function dissolutionAfter(
  { metadata, spec }: VirtualOrganization,
  input: Pick<DissolveInput, 'approve' | 'withdraw' | 'data'>,
  me: string,
): object | undefined {
  const { dissolution } = spec;
  if (input.withdraw) {
    return dissolution === undefined ? undefined : { dissolution: null };
  }
  if (!input.approve) {
    if (dissolution?.data === input.data && dissolution?.requestedBy !== undefined) return undefined;
    // A request made anew needs a new approval.
    return { dissolution: { data: input.data, requestedBy: me, approvedBy: null } };
  }
  if (dissolution === undefined) {
    const remedy = `Ask for it first: xos vo dissolve ${metadata.name} --data Erase`;
    throw new CommandError('failure', `Nobody asked to dissolve ${metadata.name}`, remedy);
  }
  if (dissolution.requestedBy === me) {
    throw new CommandError('forbidden', `You asked for it yourself (${me}): another administrator has to approve`);
  }
  return { dissolution: { approvedBy: me } };
}

const isOver = (vo: VirtualOrganization | undefined): boolean =>
  vo === undefined || conditionOf(vo, 'Dissolved')?.status === 'True';

async function waitForEnd(
  context: Context,
  api: Pick<Organizations, 'organizations'>,
  vo: Stored<VirtualOrganization>,
  timeoutMs: number,
): Promise<Stored<VirtualOrganization>> {
  const { name } = vo.metadata;
  const found = await waitUntil(
    context,
    api.organizations,
    { name },
    {
      what: `${name} to be dissolved`,
      timeoutMs,
      isDone: isOver,
      why: (current) => explain(current, 'Dissolved'),
    },
  );
  return found ?? vo;
}

import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { changeSpec, getOrExplain, type Organizations, withOrganizations } from '../../api/organizations.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { report, type ReportInput } from './report.ts';

interface LifecycleInput extends ClusterInput, ReportInput {
  readonly name: string;
}

type State = VirtualOrganization['spec']['state'];

interface Move {
  readonly to: State;
  readonly from: readonly State[];
  /** Said when the state is another one. */
  readonly elsewhere: string;
}

/** `xos vo activate`. */
export async function activate(context: Context, input: LifecycleInput): Promise<void> {
  return move(context, input, { to: 'Operational', from: ['Forming'], elsewhere: 'only one that is Forming begins' });
}

/** `xos vo freeze`. */
export async function freeze(context: Context, input: LifecycleInput): Promise<void> {
  return move(context, input, {
    to: 'Frozen',
    from: ['Operational'],
    elsewhere: 'only one that is Operational can be frozen',
  });
}

/** `xos vo resume`. */
export async function resume(context: Context, input: LifecycleInput): Promise<void> {
  return move(context, input, {
    to: 'Operational',
    from: ['Frozen'],
    elsewhere: 'only one that is Frozen goes on; see vo activate',
  });
}

async function move(context: Context, input: LifecycleInput, target: Move): Promise<void> {
  return withOrganizations(context, input, async (api) => moveOrganization(context, input, target, api));
}

/** Moves one virtual organization to another state and tells about it. */
export async function moveOrganization(
  context: Context,
  input: LifecycleInput,
  { to, from, elsewhere }: Move,
  api: Pick<Organizations, 'organizations'>,
): Promise<void> {
  const { signal } = context;
  const { name, dryRun } = input;
  const { object, isChanged } = await changeSpec(
    api.organizations,
    async () => getOrExplain(api.organizations, { name }, 'virtual organization', signal),
    ({ spec }) => {
      if (spec.state === to) return undefined;
      if (from.includes(spec.state)) return { state: to };
      throw new CommandError('failure', `${name} is ${spec.state}: ${elsewhere}`);
    },
    { dryRun, signal },
  );
  const said = input.wait && !dryRun ? `is ${to}` : `is to be ${to}`;
  const did = `Virtual organization ${name} ${said}${isChanged ? '' : ' already'}`;
  return report(context, api, object, input, { did, wanted: to });
}

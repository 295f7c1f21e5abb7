import type { VOMembership } from '#crds/vo-membership.ts';
import { withOrganizations } from '../../api/organizations.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { type ChangeInput, changeMembers, type MemberChange } from './change.ts';

interface StateInput extends ChangeInput {
  readonly members: readonly string[];
}

type State = VOMembership['spec']['state'];

/** `xos member approve`. */
export async function approve(context: Context, input: StateInput): Promise<void> {
  return move(context, input, stateChange('Active', ['Requested'], 'only who asked can be approved'));
}

/** `xos member suspend`. Also lifts a ban. */
export async function suspend(context: Context, input: StateInput): Promise<void> {
  return move(context, input, stateChange('Suspended', ['Requested', 'Active', 'Banned'], ''));
}

/** `xos member resume`. */
export async function resume(context: Context, input: StateInput): Promise<void> {
  return move(context, input, stateChange('Active', ['Suspended'], 'only who is suspended goes on'));
}

/** `xos member ban`. */
export async function ban(context: Context, input: StateInput): Promise<void> {
  return move(context, input, stateChange('Banned', ['Requested', 'Active', 'Suspended'], ''));
}

async function move(context: Context, input: StateInput, change: MemberChange): Promise<void> {
  return withOrganizations(context, input, async (api) => changeMembers(context, input, input.members, change, api));
}

/** The change to a state, from the states that lead there. */
export function stateChange(to: State, from: readonly State[], elsewhere: string): MemberChange {
  return {
    did: `is to be ${to}`,
    isNow: `is ${to}`,
    decide: ({ metadata, spec }) => {
      if (spec.state === to) return undefined;
      if (from.includes(spec.state)) return { state: to };
      throw new CommandError('failure', `${metadata.name} is ${spec.state}: ${elsewhere}`, remedyFor(spec.state));
    },
    isInForce: ({ status }) => status?.state === to,
  };
}

function remedyFor(state: State): string | undefined {
  if (state === 'Banned') return 'Lift the ban first: xos member suspend';
  if (state === 'Suspended') return 'Let them go on: xos member resume';
  return undefined;
}

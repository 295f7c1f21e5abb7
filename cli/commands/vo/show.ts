import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { getOrExplain, isForbidden, withOrganizations } from '../../api/organizations.ts';
import { formatPrincipal } from '../../api/principals.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { conditionFacts } from '../../output/conditions.ts';
import { printList, printObject } from '../../output/print.ts';
import { formatFacts } from '../../output/table.ts';
import { nextSteps } from './next.ts';
import { receiptText } from './receipt.ts';
import { stateText, voPrinting } from './printing.ts';

interface ListInput extends ClusterInput {
  readonly output: OutputFormat;
}

/** `xos vo list`. */
export async function list(context: Context, input: ListInput): Promise<void> {
  const { terminal, signal, clock, program } = context;
  return withOrganizations(context, input, async ({ organizations }) => {
    const { items } = await organizations.list({ signal }).catch((error: unknown) => {
      if (!isForbidden(error)) throw error;
      const remedy = `Yours are in ${program} whoami; see one with ${program} vo show NAME.`;
      throw new CommandError('forbidden', 'You may not list all virtual organizations of this cluster', remedy);
    });
    await printList(terminal, input.output, items, voPrinting(clock.now()));
    if (items.length === 0) terminal.hint(`There is none here. Form one: ${program} vo create NAME`);
  });
}

/** `xos vo show`. */
export async function show(context: Context, input: ListInput & { readonly name: string }): Promise<void> {
  const { terminal, signal, clock, program } = context;
  return withOrganizations(context, input, async ({ organizations }) => {
    const vo = await getOrExplain(organizations, { name: input.name }, 'virtual organization', signal);
    if (input.output !== 'table') return printObject(terminal, input.output, vo, voPrinting(clock.now()));
    terminal.print(formatFacts(factsOf(vo)));
    for (const step of nextSteps(vo, program)) terminal.hint(step);
  });
}

function factsOf(vo: VirtualOrganization): [string, string | undefined][] {
  const { spec, status, metadata } = vo;
  const gids = new Map(status?.groups?.map(({ name, gid }) => [name, gid]));
  const { members } = status ?? {};
  return [
    ['Name', metadata.name],
    ['Description', spec.description],
    ['State', stateText(vo)],
    ...conditionFacts(vo),
    ['Administrators', spec.administrators.map(formatPrincipal).join('\n')],
    ['Enrolment', spec.enrolment.mode + (spec.enrolment.acceptableUse === undefined ? '' : ', with acceptable use')],
    ['Members', members === undefined ? undefined : countsOf(members)],
    [
      'Groups',
      spec.groups.map(({ name }) => `${name}${gids.has(name) ? ` (gid ${gids.get(name) ?? ''})` : ''}`).join('\n'),
    ],
    ['Roles', spec.roles.map(({ name, capabilities }) => `${name}: ${capabilities.join(', ')}`).join('\n')],
    [
      'User ids',
      `${spec.identity.uidMode}${status?.slices === undefined ? '' : `, slice ${status.slices.join(', ')}`}`,
    ],
    ['Isolation', `at least ${spec.isolation.minimum}`],
    [
      'Quota',
      Object.entries(spec.quota)
        .map(([resource, amount]) => `${resource} ${amount}`)
        .join(', '),
    ],
    ['Governance', governanceOf(spec.governance)],
    ['Home site', spec.homeSite],
    ['Genesis', status?.genesis],
    ['Epoch', status?.epoch?.toString()],
    ['Sites', status?.sites?.map(siteText).join('\n')],
  ];
}

function countsOf(members: Readonly<Record<string, number>>): string {
  const counted = Object.entries(members).filter(([state, count]) => count > 0 || state === 'active');
  return counted.map(([state, count]) => `${count} ${state}`).join(', ');
}

function governanceOf({
  secondAdministrator,
  delaySeconds,
}: VirtualOrganization['spec']['governance']): string | undefined {
  const rules = [
    ...(secondAdministrator ? ['destructive acts need a second administrator'] : []),
    ...(delaySeconds > 0 ? [`they can be withdrawn for ${delaySeconds} s`] : []),
  ];
  return rules.length === 0 ? undefined : rules.join('; ');
}

function siteText({
  name,
  accepted,
  receipt,
}: NonNullable<NonNullable<VirtualOrganization['status']>['sites']>[number]): string {
  if (receipt !== undefined) return `${name}: ${receiptText(receipt)}`;
  return `${name}: ${accepted ? 'accepted' : 'not accepted'}`;
}

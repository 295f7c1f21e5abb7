import type { VOMembership } from '#crds/vo-membership.ts';
import { chooseOrganization, namespaceOf, type OrganizationInput, withOrganizations } from '../../api/organizations.ts';
import { conditionOf } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { conditionFacts } from '../../output/conditions.ts';
import { printList, printObject } from '../../output/print.ts';
import { formatFacts } from '../../output/table.ts';
import { findMember } from './find.ts';
import { memberPrinting, stateText } from './printing.ts';

interface ListInput extends OrganizationInput {
  readonly allNamespaces: boolean;
  readonly state: VOMembership['spec']['state'] | 'Expired' | undefined;
  readonly group: string | undefined;
  readonly output: OutputFormat;
}

/** `xos member list`. */
export async function list(context: Context, input: ListInput): Promise<void> {
  const { terminal, signal, clock, program } = context;
  return withOrganizations(context, input, async (api) => {
    const vo = input.allNamespaces ? undefined : chooseOrganization(input, api.namespace);
    const namespace = vo === undefined ? undefined : namespaceOf(vo);
    const { items } = await api.memberships.list({ namespace, signal });
    const fitting = items.filter((member) => isWanted(member, input));
    await printList(terminal, input.output, fitting, memberPrinting(clock.now(), input.allNamespaces));
    if (items.length === 0 && vo !== undefined) {
      terminal.hint(
        `${vo} has no members. Invite one: ${program} member invite NAME --vo ${vo} --principal ISSUER#SUBJECT`,
      );
    } else if (fitting.length === 0) terminal.hint('None of them fits');
  });
}

function isWanted({ spec, status }: VOMembership, { state, group }: ListInput): boolean {
  const isInState = state === undefined || (status?.state ?? spec.state) === state;
  return isInState && (group === undefined || spec.groups.some(({ name }) => name === group));
}

/** `xos member show`. */
export async function show(
  context: Context,
  input: OrganizationInput & { readonly member: string; readonly output: OutputFormat },
): Promise<void> {
  const { terminal, signal, clock } = context;
  return withOrganizations(context, input, async (api) => {
    const vo = chooseOrganization(input, api.namespace);
    const member = await findMember(api.memberships, namespaceOf(vo), input.member, signal);
    if (input.output !== 'table') return printObject(terminal, input.output, member, memberPrinting(clock.now()));
    terminal.print(formatFacts(factsOf(member, vo)));
    for (const step of nextSteps(member, vo, context.program)) terminal.hint(step);
  });
}

function factsOf(member: VOMembership, vo: string): [string, string | undefined][] {
  const { metadata, spec, status } = member;
  const gids = new Map(status?.gids?.map(({ group, gid }) => [group, gid]));
  const groupText = ({ name, expirationTime }: VOMembership['spec']['groups'][number]): string => {
    const gid = gids.get(name);
    return `${name}${gid === undefined ? '' : ` (gid ${gid})`}${expirationTime === undefined ? '' : ` until ${expirationTime}`}`;
  };
  return [
    ['Name', metadata.name],
    ['Organization', vo],
    ['Issuer', spec.principal.issuer],
    ['Subject', spec.principal.subject],
    ['State', stateText(member)],
    ...conditionFacts(member),
    ['User name', status?.userName],
    ['Uid', status?.uid?.toString()],
    ['Gid', status?.gid?.toString()],
    ['Groups', spec.groups.map(groupText).join('\n')],
    ['Roles', spec.roles.join(', ')],
    ['Capabilities', spec.capabilities.join(', ')],
    ['Expires', spec.expirationTime ?? 'never'],
    ['Accepted use', spec.acceptedUse],
  ];
}

/** What to do next, each a sentence with a line to type. Pure. */
export function nextSteps(member: VOMembership, vo: string, program: string): string[] {
  const { name } = member.metadata;
  switch (conditionOf(member, 'Ready')?.reason) {
    case 'Requested':
      return [`Let them in: ${program} member approve ${name} --vo ${vo}`];
    case 'AcceptanceMissing':
      return [`They accept the acceptable use by: ${program} vo join ${vo}`];
    case 'Suspended':
      return [`Let them go on: ${program} member resume ${name} --vo ${vo}`];
    case 'Banned':
      return [`A ban is lifted to Suspended: ${program} member suspend ${name} --vo ${vo}`];
    case 'Expired':
      return [`Prolong it: ${program} member expire ${name} 90d --vo ${vo}`];
    case 'DuplicatePrincipal':
      return [`Remove one of the two: ${program} member remove ${name} --vo ${vo}`];
    case 'OrganizationForming':
      return [`Begin: ${program} vo activate ${vo}`];
    case 'OrganizationFrozen':
      return [`Go on: ${program} vo resume ${vo}`];
    default:
      return [];
  }
}

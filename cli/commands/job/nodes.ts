import { selectionAnswer, type SelectionAnswer } from '#common/identity/gateway-api.ts';
import { withCluster } from '../../api/cluster.ts';
import { parseAnswer } from '../../api/gateway.ts';
import { chooseOrganization, type OrganizationInput } from '../../api/organizations.ts';
import { sendAsSession } from '../../api/session.ts';
import { chooseSite, sessionPorts } from '../../api/session-ports.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { escapeControls } from '../../output/escape.ts';
import { serialize } from '../../output/print.ts';
import { type Column, formatTable } from '../../output/table.ts';
import { needsOf, type NeedsInput, resourcesOf } from './draft.ts';

type Node = SelectionAnswer['nodes'][number];
type Refused = SelectionAnswer['refusals'][number];

interface NodesInput extends OrganizationInput, Omit<NeedsInput, 'rank' | 'spread'> {
  readonly at: string | undefined;
  readonly limit: number;
  readonly output: OutputFormat;
}

const gibi = 1024 ** 3;

const nodeColumns: readonly Column<Node>[] = [
  { name: 'node', value: ({ node }) => node },
  { name: 'site', value: ({ site }) => site },
  { name: 'fits', value: ({ fits }) => fits },
  { name: 'free cpu', value: ({ free }) => ((free.cpu ?? 0) / 1000).toFixed(1) },
  { name: 'free memory', value: ({ free }) => `${((free.memory ?? 0) / gibi).toFixed(1)}Gi` },
  { name: 'load', value: ({ live }) => live.load1?.toFixed(2) },
  { name: 'arch', value: ({ attributes }) => attributes.arch },
  {
    name: 'attributes',
    isWide: true,
    value: ({ attributes }) =>
      Object.entries(attributes)
        .map(([name, value]) => `${name}=${value}`)
        .sort()
        .join(' '),
  },
];
const refusedColumns: readonly Column<Refused>[] = [
  { name: 'nodes', value: ({ nodes }) => nodes },
  { name: 'why they would not', value: ({ reason }) => reason },
];

/** `xos nodes`. */
export async function nodes(context: Context, input: NodesInput): Promise<void> {
  const vo = await withCluster(context, input, async ({ namespace }) => chooseOrganization(input, namespace));
  const ports = sessionPorts(context);
  const site = await chooseSite(ports.store, input.at);
  const { requirements, placement } = needsOf({ ...input, rank: undefined, spread: false });
  const body = { requirements, placement, resources: resourcesOf(input), wanted: input.limit };
  const path = `/v1/virtual-organizations/${encodeURIComponent(vo)}/selection`;
  const answer = parseAnswer(selectionAnswer, await sendAsSession(site, ports, { method: 'POST', path, body }));
  await printNodes(context, input.output, answer);
}

/** Prints nodes by site and name, then why others would not take the work. */
export async function printNodes({ terminal }: Context, output: OutputFormat, answer: SelectionAnswer): Promise<void> {
  const found = answer.nodes.toSorted((a, b) => compare(a.site, b.site) || compare(a.node, b.node));
  if (output === 'json' || output === 'yaml') {
    terminal.print(await serialize(output, { ...answer, nodes: found }));
    return;
  }
  if (output === 'name') {
    if (found.length > 0) terminal.print(found.map(({ site, node }) => escapeControls(`${site}/${node}`)).join('\n'));
    return;
  }
  const heading = (text: string): string => terminal.heading(text);
  const isWide = output === 'wide';
  if (found.length > 0) terminal.print(formatTable(found, nodeColumns, { isWide, heading }));
  if (answer.refusals.length > 0) {
    const gap = found.length > 0 ? '\n' : '';
    terminal.print(`${gap}${formatTable(answer.refusals, refusedColumns, { isWide: true, heading })}`);
  }
  if (!answer.isWhole) terminal.hint('There may be more: not every node was asked, see --limit');
  if (found.length + answer.refusals.length === 0) terminal.hint('No node is like that: ask for less with --require');
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

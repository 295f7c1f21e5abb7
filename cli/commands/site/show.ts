import type { Site } from '#crds/site.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { getOrExplain } from '../../api/organizations.ts';
import { fingerprintOf, type OwnSite, withSites } from '../../api/sites.ts';
import { conditionOf } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { conditionFacts } from '../../output/conditions.ts';
import { printList, printObject, type Printing } from '../../output/print.ts';
import { formatFacts } from '../../output/table.ts';
import { formatAge } from '../../output/times.ts';

/** How sites are printed; the columns are those of `kubectl get sites`. */
function sitePrinting(nowMs: number): Printing<Site> {
  return {
    resource: 'site.xtreemos.io',
    columns: [
      { name: 'name', value: ({ metadata }) => metadata.name },
      { name: 'type', value: ({ spec }) => spec.type },
      { name: 'ready', value: (site) => conditionOf(site, 'Ready')?.status },
      { name: 'reason', value: (site) => conditionOf(site, 'Ready')?.reason },
      { name: 'nodes', value: ({ status }) => status?.nodes?.count },
      { name: 'available', value: ({ status }) => status?.nodes?.ready },
      { name: 'seen', value: ({ status }) => formatAge(status?.lastSeenTime, nowMs) },
      { name: 'address', isWide: true, value: ({ spec }) => (spec.type === 'Peer' ? spec.peer.address : undefined) },
      { name: 'age', value: ({ metadata }) => formatAge(metadata.creationTimestamp, nowMs) },
    ],
  };
}

/** `xos site list`. */
export async function list(context: Context, input: ClusterInput & { readonly output: OutputFormat }): Promise<void> {
  const { terminal, signal, clock } = context;
  return withSites(context, input, async ({ sites }) => {
    const { items } = await sites.list({ signal });
    await printList(terminal, input.output, items, sitePrinting(clock.now()));
  });
}

/** `xos site show`. */
export async function show(
  context: Context,
  input: ClusterInput & { readonly site: string | undefined; readonly output: OutputFormat },
): Promise<void> {
  const { terminal, signal, clock } = context;
  return withSites(context, input, async ({ sites, own }) => {
    const local = input.site === undefined ? await own() : undefined;
    const site = await getOrExplain(sites, { name: input.site ?? local?.site ?? '' }, 'Site', signal);
    if (input.output !== 'table') return printObject(terminal, input.output, site, sitePrinting(clock.now()));
    terminal.print(formatFacts(factsOf(site, site.spec.type === 'Local' ? (local ?? (await own())) : undefined)));
    for (const step of nextSteps(site, context.program)) terminal.hint(step);
  });
}

function factsOf(site: Site, own: OwnSite | undefined): [string, string | undefined][] {
  const { metadata, spec, status } = site;
  const peer = spec.type === 'Peer' ? spec.peer : undefined;
  const bundle = peer?.trustBundle ?? own?.caBundle;
  return [
    ['Name', metadata.name],
    ['Type', spec.type],
    ...conditionFacts(site),
    ['Address', peer?.address ?? own?.address],
    ['Trust domain', peer?.trustDomain ?? own?.trustDomain],
    ['Fingerprint', bundle === undefined ? undefined : fingerprintOf(bundle)],
    ['Nodes', status?.nodes === undefined ? undefined : `${status.nodes.ready} of ${status.nodes.count} available`],
    ['Version', status?.xtreemosVersion],
    ['Last seen', status?.lastSeenTime],
  ];
}

/** What to do next, each a sentence with a line to type. Pure. */
export function nextSteps(site: Site, program: string): string[] {
  const { name } = site.metadata;
  switch (conditionOf(site, 'Ready')?.reason) {
    case 'Cut':
      return [`Speak to it again: ${program} site open ${name}`];
    case 'Refused':
      return [`Its owner sees why: ${program} site list there`];
    default:
      return [];
  }
}

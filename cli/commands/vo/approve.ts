import { homeElsewhere } from '#crds/organization.ts';
import type { Site } from '#crds/site.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Stored } from '#runtime/types.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { findVisible, type Organizations, withOrganizations } from '../../api/organizations.ts';
import { conditionOf, explain, isObserved, waitUntil } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { dryRunNote } from '../../output/print.ts';

interface ApproveInput extends ClusterInput {
  readonly name: string;
  readonly cpu: string | undefined;
  readonly memory: string | undefined;
  readonly storage: string | undefined;
  readonly home: string | undefined;
  readonly withdraw: boolean;
  readonly dryRun: boolean;
  readonly wait: boolean;
  readonly timeout: number;
}

/** `xos vo approve`. */
export async function approve(context: Context, input: ApproveInput): Promise<void> {
  return withOrganizations(context, input, async (api) => approveAtSite(context, input, api));
}

const attemptsMax = 5;

/** Lets a virtual organization use the local site, or cuts it. */
export async function approveAtSite(context: Context, input: ApproveInput, api: Organizations): Promise<void> {
  const { signal, terminal } = context;
  const { name, dryRun, withdraw } = input;
  for (let attempt = 1; ; attempt++) {
    const site = await localSite(api, signal);
    const known = await findVisible(api.organizations, { name }, signal);
    assertHome(site, input, known);
    const accepted = acceptedAfter(site, input);
    const { resourceVersion } = site.metadata;
    const body = { metadata: { resourceVersion }, spec: { local: { acceptedVirtualOrganizations: accepted } } };
    try {
      await api.sites.patch({ name: site.metadata.name }, { type: 'merge', body }, { dryRun, signal });
    } catch (error) {
      if (!(error instanceof Error && error.name === 'ConflictError') || attempt >= attemptsMax) throw error;
      continue;
    }
    const did = withdraw
      ? `Site ${site.metadata.name} no longer accepts ${name}`
      : `Site ${site.metadata.name} accepts ${name}`;
    if (input.wait && !dryRun) await waitForWord(context, input, api);
    terminal.print(`${did}${dryRunNote(dryRun)}`);
    if (known === undefined && !withdraw) terminal.hint(nextWithout(site, input));
    else if (known?.spec.state === 'Forming' && !withdraw) {
      terminal.hint(`Its administrators begin with: ${context.program} vo activate ${name}`);
    }
    return;
  }
}

/** The accepted organizations after the change. Limits and the home stay when they are not named. */
export function acceptedAfter(site: Site, input: ApproveInput): object[] {
  const before = site.spec.type === 'Local' ? site.spec.local.acceptedVirtualOrganizations : [];
  const others = before.filter(({ name }) => name !== input.name);
  if (input.withdraw) return others;
  const { cpu, memory, storage } = input;
  const given = Object.entries({ cpu, memory, storage }).filter(([, amount]) => amount !== undefined);
  const known = before.find(({ name }) => name === input.name);
  const limits = { ...known?.limits, ...Object.fromEntries(given) };
  const home = homeAfter(site, input);
  return [
    ...others,
    {
      name: input.name,
      ...(home === undefined ? {} : { home }),
      ...(Object.keys(limits).length === 0 ? {} : { limits }),
    },
  ];
}

/** Name of the peer that the site accepts it from; undefined when that is the site itself. */
function homeAfter({ metadata, spec }: Site, { name, home }: ApproveInput): string | undefined {
  const before = spec.type === 'Local' ? spec.local.acceptedVirtualOrganizations : [];
  const wanted = home ?? before.find((each) => each.name === name)?.home;
  return wanted === metadata.name ? undefined : wanted;
}

/** The owner says where it comes from: what stands in an object that anybody may have made is not their word. */
function assertHome(site: Stored<Site>, input: ApproveInput, vo: VirtualOrganization | undefined): void {
  if (input.withdraw || vo === undefined) return;
  const said = homeElsewhere(vo, site.metadata.name);
  const accepted = homeAfter(site, input);
  if (said === accepted) return;
  const here = site.metadata.name;
  throw new CommandError(
    'failure',
    `${input.name} says that its home is ${said ?? `this site, ${here}`}, and you would accept one from ${accepted ?? `this site, ${here}`}`,
    `If that is the one that you mean: --home ${said ?? here}`,
  );
}

function nextWithout(site: Stored<Site>, input: ApproveInput): string {
  const home = homeAfter(site, input);
  if (home === undefined) return `You see no virtual organization ${input.name} here yet: it may be formed now.`;
  return `It appears here once its home, ${home}, tells of it; its administrators name this site in spec.sites there.`;
}

async function localSite(api: Organizations, signal: AbortSignal): Promise<Stored<Site>> {
  const { items } = await api.sites.list({ signal });
  const local = items.find(({ spec }) => spec.type === 'Local');
  if (local !== undefined) return local;
  throw new CommandError(
    'notFound',
    'This cluster has no Site of its own yet',
    'The operator makes it: is it running?',
  );
}

async function waitForWord(
  context: Context,
  { name, withdraw, timeout }: ApproveInput,
  api: Organizations,
): Promise<void> {
  await waitUntil(
    context,
    api.organizations,
    { name },
    {
      what: withdraw ? `${name} to be cut` : `${name} to be let in`,
      timeoutMs: timeout,
      isDone: (vo) => {
        const word = vo === undefined ? undefined : conditionOf(vo, 'Accepted');
        return vo !== undefined && isObserved(vo) && word?.status === (withdraw ? 'False' : 'True');
      },
      why: (vo) => (vo === undefined ? 'it is not formed yet' : explain(vo, 'Accepted')),
    },
  );
}

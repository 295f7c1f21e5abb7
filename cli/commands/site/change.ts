import type { Site } from '#crds/site.ts';
import { changeSpec, getOrExplain } from '../../api/organizations.ts';
import type { ClusterInput } from '../../api/cluster.ts';
import { type Sites, withSites } from '../../api/sites.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import type { Stored } from '#runtime/types.ts';
import { dryRunNote } from '../../output/print.ts';

interface ChangeInput extends ClusterInput {
  readonly site: string;
  readonly dryRun: boolean;
}

/** `xos site cut`. */
export async function cut(context: Context, input: ChangeInput): Promise<void> {
  return withSites(context, input, async (api) => setConnection(context, input, 'Cut', api));
}

/** `xos site open`. */
export async function open(context: Context, input: ChangeInput): Promise<void> {
  return withSites(context, input, async (api) => setConnection(context, input, 'Open', api));
}

/** `xos site leave`. */
export async function leave(context: Context, input: ChangeInput): Promise<void> {
  return withSites(context, input, async (api) => leaveSite(context, input, api));
}

/** Says of a peer whether it is spoken to. */
export async function setConnection(
  context: Context,
  { site: name, dryRun }: Pick<ChangeInput, 'site' | 'dryRun'>,
  connection: 'Open' | 'Cut',
  { sites }: Pick<Sites, 'sites'>,
): Promise<void> {
  const { signal, terminal, program } = context;
  const read = async (): Promise<Stored<Site>> => findPeer(sites, name, signal);
  const decide = ({ spec }: Site): object | undefined =>
    spec.type === 'Peer' && spec.peer.connection === connection ? undefined : { peer: { connection } };
  const { isChanged } = await changeSpec(sites, read, decide, { dryRun, signal });
  terminal.print(
    `Site ${name} is ${connection === 'Cut' ? 'cut off' : 'open'}${isChanged ? '' : ' already'}${dryRunNote(dryRun)}`,
  );
  if (connection === 'Cut') terminal.hint(`Speak to it again: ${program} site open ${name}`);
}

/** Deletes the Site of a peer. */
export async function leaveSite(
  { signal, terminal }: Context,
  { site: name, dryRun }: Pick<ChangeInput, 'site' | 'dryRun'>,
  { sites }: Pick<Sites, 'sites'>,
): Promise<void> {
  const { metadata } = await findPeer(sites, name, signal);
  await sites.delete({ name }, { dryRun, signal, preconditions: { uid: metadata.uid } });
  terminal.print(`Site ${name} is no peer any more${dryRunNote(dryRun)}`);
  terminal.hint('Its owner should do the same there: until then it finds this site refusing');
}

async function findPeer(sites: Sites['sites'], name: string, signal: AbortSignal): Promise<Stored<Site>> {
  const site = await getOrExplain(sites, { name }, 'Site', signal);
  if (site.spec.type === 'Peer') return site;
  throw new CommandError('failure', `Site ${name} is this cluster itself, no peer`);
}

import type { Volume } from '#crds/volume.ts';
import { getOrExplain, type OrganizationInput } from '../../api/organizations.ts';
import { withVolumes } from '../../api/volumes.ts';
import { conditionOf } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { conditionFacts } from '../../output/conditions.ts';
import { printList, printObject } from '../../output/print.ts';
import { formatFacts } from '../../output/table.ts';
import { grantsOf, replicationOf, usedOf, volumePrinting } from './printing.ts';

/** `xos volume list`. */
export async function list(
  context: Context,
  input: OrganizationInput & { readonly output: OutputFormat },
): Promise<void> {
  const { terminal, signal, clock, program } = context;
  return withVolumes(context, input, async ({ volumes, namespace, vo }) => {
    const { items } = await volumes.list({ namespace, signal });
    await printList(terminal, input.output, items, volumePrinting(clock.now()));
    if (items.length === 0) terminal.hint(`${vo} has no volumes. Make one: ${program} volume create NAME --size 10Gi`);
  });
}

/** `xos volume show`. */
export async function show(
  context: Context,
  input: OrganizationInput & { readonly volume: string; readonly output: OutputFormat },
): Promise<void> {
  const { terminal, signal, clock, program } = context;
  return withVolumes(context, input, async ({ volumes, namespace }) => {
    const volume = await getOrExplain(volumes, { name: input.volume, namespace }, 'volume', signal);
    if (input.output !== 'table') return printObject(terminal, input.output, volume, volumePrinting(clock.now()));
    terminal.print(formatFacts(factsOf(volume)));
    if (conditionOf(volume, 'Ready')?.status === 'True') {
      terminal.hint(`Use it: ${program} run --volume ${input.volume}:/data IMAGE -- ls -l /data`);
    }
  });
}

/** What `xos volume show` tells. Pure. */
export function factsOf(volume: Volume): [string, string | undefined][] {
  const { metadata, spec, status } = volume;
  const { width, stripeSizeKiB } = spec.striping;
  const { fileSystem } = spec;
  return [
    ['Volume', metadata.name],
    ['Owner', spec.owner],
    ['Group', spec.group],
    ['Mode', spec.mode],
    ['Size', String(spec.size)],
    ['Used', usedOf(volume)],
    ['Files', status?.files?.toString()],
    ['File system', fileSystem === undefined ? undefined : `${fileSystem.namespace}/${fileSystem.name}`],
    ['Striping', `${width} x ${stripeSizeKiB} KiB`],
    ['Replication', replicationOf(volume)],
    ['Granted to', grantsOf(volume)],
    ['Claim', status?.claimName],
    ['Name at the MRC', status?.volumeName],
    ['When deleted', spec.reclaimPolicy === 'Delete' ? 'its files are erased' : 'its files stay'],
    ...conditionFacts(volume),
  ];
}

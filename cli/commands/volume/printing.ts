import { wholeUnits } from '#crds/quantity.ts';
import type { Volume } from '#crds/volume.ts';
import { conditionOf } from '../../api/waiting.ts';
import type { Printing } from '../../output/print.ts';
import type { Column } from '../../output/table.ts';
import { formatAge } from '../../output/times.ts';

/** How Volumes are printed; the columns are those of `kubectl get gvol`. */
export function volumePrinting(nowMs: number): Printing<Volume> {
  const columns: Column<Volume>[] = [
    { name: 'volume', value: ({ metadata }) => metadata.name },
    { name: 'owner', value: ({ spec }) => spec.owner },
    { name: 'ready', value: (volume) => conditionOf(volume, 'Ready')?.status ?? 'Unknown' },
    { name: 'reason', value: (volume) => conditionOf(volume, 'Ready')?.reason },
    { name: 'size', value: ({ spec }) => spec.size },
    { name: 'used', value: usedOf },
    { name: 'files', isWide: true, value: ({ status }) => status?.files },
    { name: 'file system', isWide: true, value: ({ spec }) => spec.fileSystem?.name },
    { name: 'replication', isWide: true, value: replicationOf },
    { name: 'granted to', isWide: true, value: grantsOf },
    { name: 'when deleted', isWide: true, value: ({ spec }) => spec.reclaimPolicy },
    { name: 'age', value: ({ metadata }) => formatAge(metadata.creationTimestamp, nowMs) },
  ];
  return { resource: 'volume.xtreemos.io', columns };
}

const units = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'];

/** Bytes for people: `1.5Gi`. */
export function formatBytes(bytes: number): string {
  const step = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  return step === 0 ? String(bytes) : `${(bytes / 1024 ** step).toFixed(1)}${units[step] ?? ''}`;
}

/** Space in use, with its share of the size. */
export function usedOf({ spec, status }: Volume): string | undefined {
  if (status?.usedBytes === undefined) return undefined;
  const sizeBytes = status.sizeBytes ?? wholeUnits(spec.size, 1, 'down');
  const share = sizeBytes === 0 ? '' : ` (${Math.round((status.usedBytes / sizeBytes) * 100)}%)`;
  return `${formatBytes(status.usedBytes)}${share}`;
}

/** How copies are kept. */
export function replicationOf({ spec: { replication } }: Volume): string {
  return replication.policy === 'None' ? 'None' : `${replication.policy} x${replication.replicas}`;
}

/** Who may use it too. */
export function grantsOf({ spec }: Volume): string | undefined {
  const texts = spec.grants.map(({ virtualOrganization, access }) => `${virtualOrganization} (${access})`);
  return texts.length === 0 ? undefined : texts.join(', ');
}

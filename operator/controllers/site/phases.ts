/** What a Site is and what the cluster looks like: pure views of what was gathered. */
import { sumQuantities } from '#crds/quantity.ts';
import type { Site } from '#crds/site.ts';
import type { Node } from '#runtime/builtin.ts';

/**
 * How a Site object stands to this cluster: it is the local site; it is a peer; it claims to be local under another name; it is a peer under
 * the name of the local site.
 */
export type SiteRole = 'local' | 'peer' | 'foreign' | 'nameTaken';

/** Tells the role of a Site by its type and name. @param localName - what the operator was given as `--site-name`. */
export function roleOf(site: Site, localName: string): SiteRole {
  const isNamedLocal = site.metadata.name === localName;
  if (site.spec.type === 'Local') return isNamedLocal ? 'local' : 'foreign';
  return isNamedLocal ? 'nameTaken' : 'peer';
}

/** The nodes of a cluster, summed up. */
export interface NodeSummary {
  readonly count: number;
  /** Ready and schedulable. */
  readonly ready: number;
  /** Names of those that are not, sorted. */
  readonly unavailable: readonly string[];
  /** Sum over all nodes, by resource name. */
  readonly capacity: Readonly<Record<string, string>>;
  /** Sum over nodes that are ready and schedulable, by resource name. */
  readonly allocatable: Readonly<Record<string, string>>;
}

/** Whether a node takes new work: ready, not cordoned, not being deleted. */
export function isAvailable(node: Node): boolean {
  const ready = node.status?.conditions?.find((condition) => condition.type === 'Ready');
  return ready?.status === 'True' && node.spec?.unschedulable !== true && node.metadata.deletionTimestamp === undefined;
}

/** Most resource names that a Site reports; the alphabetically first are kept. */
const resourcesMax = 64;

/** Sums up the nodes; the order of `nodes` doesn't matter. */
export function summarizeNodes(nodes: readonly Node[]): NodeSummary {
  const available = nodes.filter(isAvailable);
  const unavailable = nodes.filter((node) => !isAvailable(node)).map((node) => node.metadata.name);
  return {
    count: nodes.length,
    ready: available.length,
    unavailable: unavailable.sort(),
    capacity: sumResources(nodes.map((node) => node.status?.capacity ?? {})),
    allocatable: sumResources(available.map((node) => node.status?.allocatable ?? {})),
  };
}

function sumResources(parts: readonly Readonly<Record<string, string>>[]): Record<string, string> {
  const names = [...new Set(parts.flatMap((part) => Object.keys(part)))].sort().slice(0, resourcesMax);
  const sumOf = (name: string): string => sumQuantities(parts.flatMap((part) => part[name] ?? []));
  return Object.fromEntries(names.map((name) => [name, sumOf(name)]));
}

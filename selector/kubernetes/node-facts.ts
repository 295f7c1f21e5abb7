/** What a selector tells of its node, from the Node object, the machine and the Site. Pure. */
import { wholeUnits } from '#crds/quantity.ts';
import type { Site } from '#crds/site.ts';
import { attributeLimits, checkAttributes, type Attributes, type AttributeValue } from '#proto/selector/attributes.ts';
import type { Resources } from '#proto/selector/resources.ts';
import type { Node } from '#runtime/builtin.ts';

/** Labels of a Node that its site's owner gives to selection: `attributes.xtreemos.io/rack: r12` is attribute `rack`. */
export const attributeLabelPrefix = 'attributes.xtreemos.io/';

/** Attributes of the Site begin with this: `site.country`. */
const sitePrefix = 'site.';
const topologyLabels = { 'topology.kubernetes.io/region': 'region', 'topology.kubernetes.io/zone': 'zone' } as const;
const plainResources = ['cpu', 'memory', 'ephemeral-storage', 'pods'];
/** A ledger counts so many resources. */
const resourcesMax = 16;

/** What only the machine itself tells. */
export interface MachineFacts {
  readonly cpuModel: string;
  /** Size of the disk that containers write to, bytes. */
  readonly diskBytes: number;
}

/** Millicores of `cpu`, units of everything else; what is asked for is rounded up, what there is rounded down. */
export function amountOf(name: string, quantity: string | number, rounding: 'up' | 'down'): number {
  return wholeUnits(quantity, name === 'cpu' ? 1000 : 1, rounding);
}

/** What the node has to give in all: `status.allocatable`, at most 16 resources, the usual ones first. */
export function allocatableOf(node: Node | undefined): Resources {
  const there = Object.entries(node?.status?.allocatable ?? {})
    .map(([name, quantity]) => [name, amountOf(name, quantity, 'down')] as const)
    .filter(([name, amount]) => amount > 0 || plainResources.includes(name))
    .sort(([a], [b]) => rank(a) - rank(b) || a.localeCompare(b));
  return Object.fromEntries(there.slice(0, resourcesMax));
}

function rank(name: string): number {
  const index = plainResources.indexOf(name);
  return index < 0 ? plainResources.length : index;
}

/**
 * Static attributes of a node. The machine's and the Node's own come first, then labels of the site's owner, then the
 * Site's: where there are more than 32, the last are left out. A label can not replace what the machine says.
 * @returns the attributes and the names of those left out, for the log.
 */
export function attributesOf(
  node: Node,
  machine: MachineFacts,
  site: Site | undefined,
): { readonly attributes: Attributes; readonly leftOut: readonly string[] } {
  const attributes: Record<string, AttributeValue> = {};
  const leftOut: string[] = [];
  for (const [name, value] of [
    ...machineAttributes(node, machine),
    ...labelAttributes(node),
    ...siteAttributes(site),
  ]) {
    const isTaken = Object.hasOwn(attributes, name) || Object.keys(attributes).length >= attributeLimits.count;
    if (isTaken || !isValid(name, value)) leftOut.push(name);
    else attributes[name] = value;
  }
  return { attributes, leftOut };
}

function machineAttributes(node: Node, machine: MachineFacts): [string, AttributeValue][] {
  const { nodeInfo, capacity = {} } = node.status ?? {};
  const kernel = nodeInfo?.kernelVersion ?? '';
  const disk = capacity['ephemeral-storage'];
  const attributes: [string, AttributeValue][] = [
    ['arch', nodeInfo?.architecture ?? ''],
    ['os', nodeInfo?.operatingSystem ?? ''],
    ['kernel', kernel],
    ['kernel.versionCode', kernelVersionCode(kernel)],
    ['cpu.model', machine.cpuModel],
    ['cpu.count', amountOf('cpu', capacity.cpu ?? '0', 'down') / 1_000],
    ['memory', amountOf('memory', capacity.memory ?? '0', 'down')],
    ['disk', disk === undefined ? machine.diskBytes : amountOf('ephemeral-storage', disk, 'down')],
  ];
  // Accelerators and other devices are extended resources: their names are qualified by a domain.
  for (const [name, quantity] of Object.entries(capacity)) {
    if (name.includes('/') && !name.startsWith('attachable-'))
      attributes.push([name, amountOf(name, quantity, 'down')]);
  }
  return attributes.filter(([, value]) => value !== '');
}

function labelAttributes(node: Node): [string, AttributeValue][] {
  const labels = node.metadata.labels ?? {};
  const topology = Object.entries(topologyLabels).flatMap(([label, name]): [string, AttributeValue][] => {
    const value = labels[label];
    return value === undefined ? [] : [[name, value]];
  });
  const own = Object.entries(labels).filter(([label]) => label.startsWith(attributeLabelPrefix));
  own.sort(([a], [b]) => a.localeCompare(b));
  return [
    ...topology,
    ...own.map(([label, value]): [string, AttributeValue] => [
      label.slice(attributeLabelPrefix.length),
      valueOf(value),
    ]),
  ];
}

function siteAttributes(site: Site | undefined): [string, AttributeValue][] {
  if (site?.spec.type !== 'Local') return [];
  const entries = Object.entries(site.spec.local.attributes).sort(([a], [b]) => a.localeCompare(b));
  return entries.map(([name, value]) => [`${sitePrefix}${name}`, valueOf(value)]);
}

/** Ranges need numbers: a value that is written as one is one. */
function valueOf(text: string): AttributeValue {
  return /^-?[0-9]{1,15}(\.[0-9]{1,9})?$/.test(text) ? Number(text) : text;
}

function isValid(name: string, value: AttributeValue): boolean {
  try {
    checkAttributes({ [name]: value });
    return true;
  } catch {
    return false;
  }
}

/** The kernel's own LINUX_VERSION_CODE, so that versions can be compared: major · 65536 + minor · 256 + patch (at most 255). */
function kernelVersionCode(release: string): AttributeValue {
  const [, major, minor, patch = '0'] = /^([0-9]+)\.([0-9]+)(?:\.([0-9]+))?/.exec(release) ?? [];
  if (major === undefined || minor === undefined) return '';
  return Number(major) * 65_536 + Number(minor) * 256 + Math.min(255, Number(patch));
}

/** Why the node takes no new work, as a sentence; undefined when it does. */
export function reasonAgainstNode(node: Node | undefined): string | undefined {
  if (node === undefined) return 'The node is not known to its cluster';
  if (node.metadata.deletionTimestamp !== undefined) return 'The node is being removed';
  if (node.spec?.unschedulable === true) return 'The node is cordoned';
  const ready = node.status?.conditions?.find(({ type }) => type === 'Ready');
  if (ready?.status !== 'True') return 'The node is not ready';
  const taint = node.spec?.taints?.find(({ effect }) => effect === 'NoSchedule' || effect === 'NoExecute');
  return taint === undefined ? undefined : `The node is tainted: ${taint.key}`;
}

/** Conditions of the Node as live values: 1 while there is pressure. */
export function pressureOf(node: Node | undefined): Record<string, number> {
  const conditions = node?.status?.conditions ?? [];
  const isTrue = (type: string): number =>
    conditions.some((one) => one.type === type && one.status === 'True') ? 1 : 0;
  return {
    memoryPressure: isTrue('MemoryPressure'),
    diskPressure: isTrue('DiskPressure'),
    pidPressure: isTrue('PIDPressure'),
  };
}

/** Virtual organizations that the local site accepts; none while the Site is not known. */
export function acceptedBy(site: Site | undefined): readonly string[] {
  if (site?.spec.type !== 'Local') return [];
  return site.spec.local.acceptedVirtualOrganizations.map(({ name }) => name);
}

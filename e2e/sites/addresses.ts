/**
 * Which addresses an instance uses. Instances have numbers, so that those that run side by side never meet:
 *
 * | range | use |
 * | --- | --- |
 * | 10.(160+i).s.0/24 | machines of site s of instance i: .1 router, .10 control plane, .11… nodes |
 * | 10.(160+i).255.0/30 | between this machine and the instance's router |
 * | 10.(176+i).(16s).0/20 | pods of site s, a /24 per node |
 * | 10.(192+i).(16s).0/20 | services of site s; .1 is the API server, .10 DNS |
 */
import { InvalidInputError } from '#common/errors.ts';

/** Most instances, sites per instance and nodes per site that the plan has room for. */
export const limits = { instances: 16, sites: 15, nodes: 15 } as const;

/** Addresses of one node. */
export interface NodePlan {
  readonly name: string;
  readonly address: string;
  readonly podCidr: string;
  /** Name of its cable at the router; at most 15 characters. */
  readonly port: string;
}

/** Addresses of one site. */
export interface SitePlan {
  readonly name: string;
  /** Letter of the site: a, b, … */
  readonly letter: string;
  readonly bridge: string;
  readonly subnet: string;
  readonly router: string;
  readonly controlPlane: string;
  readonly podCidr: string;
  readonly serviceCidr: string;
  readonly kubernetesService: string;
  readonly dnsService: string;
  readonly nodes: readonly NodePlan[];
}

/** Addresses of one instance. */
export interface InstancePlan {
  readonly name: string;
  readonly index: number;
  /** All machines of all sites; what may be routed between sites. */
  readonly machines: string;
  /** Interface on this machine. */
  readonly hostInterface: string;
  readonly hostAddress: string;
  readonly routerAddress: string;
  readonly sites: readonly SitePlan[];
}

/** @throws {InvalidInputError} for a name or number that doesn't fit the plan. */
export function planInstance(name: string, index: number, sites: number, nodes: number): InstancePlan {
  if (!/^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$/.test(name)) {
    throw new InvalidInputError(
      'NAME',
      `must be 1 to 20 of a-z, 0-9 and "-", starting with a letter, not ${JSON.stringify(name)}`,
    );
  }
  checkCount('SITES', sites, limits.sites);
  checkCount('NODES', nodes, limits.nodes);
  const machines = 160 + index;
  return {
    name,
    index,
    machines: `10.${machines}.0.0/16`,
    hostInterface: `xs${index}-host`,
    hostAddress: `10.${machines}.255.1`,
    routerAddress: `10.${machines}.255.2`,
    sites: Array.from({ length: sites }, (_, site) => planSite(name, index, site, nodes)),
  };
}

function checkCount(field: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 1 || value > max) {
    throw new InvalidInputError(field, `must be a whole number from 1 to ${max}, not ${value}`);
  }
}

function planSite(instance: string, index: number, site: number, nodes: number): SitePlan {
  const letter = String.fromCharCode('a'.charCodeAt(0) + site);
  const machine = (last: number): string => `10.${160 + index}.${site}.${last}`;
  const block = 16 * site;
  return {
    name: `${instance}-${letter}`,
    letter,
    bridge: `br-${letter}`,
    subnet: `${machine(0)}/24`,
    router: machine(1),
    controlPlane: machine(10),
    podCidr: `10.${176 + index}.${block}.0/20`,
    serviceCidr: `10.${192 + index}.${block}.0/20`,
    kubernetesService: `10.${192 + index}.${block}.1`,
    dnsService: `10.${192 + index}.${block}.10`,
    nodes: Array.from({ length: nodes }, (_, node) => ({
      name: `${instance}-${letter}-${node + 1}`,
      address: machine(11 + node),
      podCidr: `10.${176 + index}.${block + node}.0/24`,
      port: `${letter}-${node + 1}`,
    })),
  };
}

/** The three /16 networks of an instance number. */
export function networksOf(index: number): string[] {
  return [160, 176, 192].map((base) => `10.${base + index}.0.0/16`);
}

/**
 * The lowest free instance number.
 * @param taken - numbers of other instances.
 * @param routes - destinations this machine already routes, in CIDR notation; `default` is passed over.
 * @throws when every number is taken or meets a route.
 */
export function chooseIndex(taken: ReadonlySet<number>, routes: readonly string[]): number {
  for (let index = 0; index < limits.instances; index++) {
    if (taken.has(index)) continue;
    const networks = networksOf(index);
    if (!routes.some((route) => networks.some((network) => overlaps(network, route)))) return index;
  }
  throw new Error(
    `no free addresses: ${taken.size} instances exist and routes of this machine cover the rest of 10.160.0.0–10.207.255.255. ` +
      'Take an instance down (make sites-down NAME=…) or remove the route (ip route).',
  );
}

/** Whether two IPv4 networks in CIDR notation share an address. */
export function overlaps(a: string, b: string): boolean {
  const [first, second] = [parseCidr(a), parseCidr(b)];
  if (first === undefined || second === undefined) return false;
  const bits = Math.min(first.bits, second.bits);
  return bits === 0 || first.address >>> (32 - bits) === second.address >>> (32 - bits);
}

function parseCidr(text: string): { address: number; bits: number } | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)(?:\/(\d+))?$/.exec(text);
  if (match === null) return undefined;
  const [a = 0, b = 0, c = 0, d = 0] = match.slice(1, 5).map(Number);
  return {
    address: ((a << 24) | (b << 16) | (c << 8) | d) >>> 0,
    bits: match[5] === undefined ? 32 : Number(match[5]),
  };
}

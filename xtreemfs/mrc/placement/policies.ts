import { shuffle } from '#common/random.ts';
import type { VivaldiCoordinates } from '#proto/generated/xtreemfs/global-types.ts';
import type { Osd } from './osd-catalogue.ts';
import type { PolicyContext } from './placement.ts';

/** Keeps, groups or sorts OSDs. Must not change its input. */
export type Policy = (osds: readonly Osd[], context: PolicyContext) => Osd[];

/** Limits of policy 1000 when the volume sets none (protocol reference, section 9.3). */
const offlineAfterSDefault = 300;
/** Documented default; upstream's overflows and limits nothing. */
const freeCapacityBytesDefault = 2 * 1024 ** 3;

const health = { passed: 0, warning: 1, failed: 2 } as const;

/** 1000: drops OSDs that are offline, full, unhealthy or to be removed, or whose attributes don't match. */
function filterDefault(osds: readonly Osd[], context: PolicyContext): Osd[] {
  const offlineAfterS = numberOr(context.attribute('offline_time_secs'), offlineAfterSDefault);
  const freeBytes = numberOr(context.attribute('free_capacity_bytes'), freeCapacityBytesDefault);
  const worstHealth = context.attribute('osd_health_check') === 'warning' ? health.passed : health.warning;
  const own = new Set(['offline_time_secs', 'free_capacity_bytes', 'osd_health_check']);
  const wanted = [...context.attributes].filter(([key]) => !own.has(key) && !key.includes('.'));
  const unwanted = [...context.attributes].filter(([key]) => key.startsWith('not.'));
  return osds.filter((osd) => {
    const isOnline = osd.lastUpdatedS > 0 && context.nowMs / 1000 - osd.lastUpdatedS <= offlineAfterS;
    const isHealthy = osd.health === 3 || osd.health <= worstHealth;
    return (
      isOnline &&
      isHealthy &&
      osd.status === 0 &&
      osd.usableBytes >= freeBytes &&
      wanted.every(([key, value]) => !knownToAny(osds, key) || osd.config.get(key) === value) &&
      unwanted.every(([key, value]) => osd.config.get(key.slice('not.'.length)) !== value)
    );
  });
}

/** An attribute that no OSD has belongs to another policy of the chain (`domains`, `uuids` …), not to this filter. */
function knownToAny(osds: readonly Osd[], key: string): boolean {
  return osds.some((osd) => osd.config.has(key));
}

/** 1001: keeps OSDs in the given domains (`*.example.org` or a full name). */
function filterFqdn(osds: readonly Osd[], context: PolicyContext): Osd[] {
  const domains = listOf(context.attribute('domains'));
  if (domains.length === 0) return [...osds];
  return osds.filter((osd) => domains.some((domain) => isInDomain(osd.address, domain)));
}

function isInDomain(host: string, domain: string): boolean {
  if (domain === '*') return true;
  const suffix = domain.startsWith('*.') ? domain.slice(1) : domain;
  return host === domain || host.endsWith(suffix.startsWith('.') ? suffix : `.${suffix}`);
}

/** 1002: keeps the OSDs with the given uuids; `*` keeps all. */
function filterUuid(osds: readonly Osd[], context: PolicyContext): Osd[] {
  const uuids = new Set(listOf(context.attribute('uuids')));
  return uuids.size === 0 || uuids.has('*') ? [...osds] : osds.filter((osd) => uuids.has(osd.uuid));
}

/** 1003: the preferred OSD first, the others by chance. */
function preferUuid(osds: readonly Osd[], context: PolicyContext): Osd[] {
  const preferred = context.attribute('preferredUUID') ?? context.attribute('uuid');
  const others = shuffle(
    context.random,
    osds.filter((osd) => osd.uuid !== preferred),
  );
  return [...osds.filter((osd) => osd.uuid === preferred), ...others];
}

/**
 * 1004: files below a prefix go to the OSDs named for it. The attribute `filenamePrefix` holds `prefix uuid[ uuid …]` items
 * separated by `;` (the longest matching prefix counts); a path without one may go anywhere.
 */
function filterByPrefix(osds: readonly Osd[], context: PolicyContext): Osd[] {
  const path = `/${context.request.path.replace(/^\/+/, '')}`;
  const rules = (context.attribute('filenamePrefix') ?? '')
    .split(';')
    .map((rule) => rule.trim().split(/\s+/))
    .filter(([prefix]) => prefix !== undefined && prefix !== '' && path.startsWith(prefix))
    .sort(([a = ''], [b = '']) => b.length - a.length);
  const [, ...uuids] = rules[0] ?? [];
  return uuids.length === 0 ? [...osds] : osds.filter((osd) => uuids.includes(osd.uuid));
}

/** 2000: one datacenter that has enough OSDs, the nearest to the client; all when none has. */
function groupByDatacenter(osds: readonly Osd[], context: PolicyContext): Osd[] {
  return pickGroup(
    osds,
    context,
    (osd) => context.datacenters.datacenterOf(osd.address) ?? '',
    (osd) => context.datacenters.distance(context.request.client, osd.address),
  );
}

/** 2001: one domain that has enough OSDs, the one sharing most with the client's name; all when none has. */
function groupByFqdn(osds: readonly Osd[], context: PolicyContext): Osd[] {
  return pickGroup(
    osds,
    context,
    (osd) => osd.address.split('.').slice(1).join('.'),
    (osd) => -commonSuffix(osd.address, context.request.client),
  );
}

function pickGroup(
  osds: readonly Osd[],
  context: PolicyContext,
  groupOf: (osd: Osd) => string,
  distanceOf: (osd: Osd) => number,
): Osd[] {
  const groups = new Map<string, Osd[]>();
  for (const osd of osds) groups.set(groupOf(osd), [...(groups.get(groupOf(osd)) ?? []), osd]);
  const nearest = (group: readonly Osd[]): number => Math.min(...group.map(distanceOf));
  const enough = [...groups.values()].filter((group) => group.length >= context.request.count);
  return enough.sort((a, b) => compare(nearest(a), nearest(b)))[0] ?? [...osds];
}

/** 3000: nearest datacenter first. */
const sortByDatacenter: Policy = (osds, context) =>
  sorted(osds, (osd) => context.datacenters.distance(context.request.client, osd.address));

/** 3001: longest common domain with the client first. */
const sortByFqdn: Policy = (osds, context) => sorted(osds, (osd) => -commonSuffix(osd.address, context.request.client));

/** 3003: nearest by network coordinates first; OSDs or clients without any keep their order. */
const sortByVivaldi: Policy = (osds, context) => {
  const client = context.request.coordinates;
  if (client === undefined) return [...osds];
  return sorted(osds, (osd) => (osd.coordinates === undefined ? Infinity : vivaldiDistance(client, osd.coordinates)));
};

/** 3004: takes hosts in turn, so that a stripe or a replica set spans as many hosts as there are. */
function sortHostRoundRobin(osds: readonly Osd[], context: PolicyContext): Osd[] {
  const hosts = new Map<string, Osd[]>();
  for (const osd of shuffle(context.random, [...osds]))
    hosts.set(osd.address, [...(hosts.get(osd.address) ?? []), osd]);
  const queues = [...hosts.values()];
  const turns: Osd[] = [];
  for (let turn = 0; turns.length < osds.length; turn++) {
    for (const queue of queues) {
      const osd = queue[turn];
      if (osd !== undefined) turns.push(osd);
    }
  }
  return turns;
}

function vivaldiDistance(a: VivaldiCoordinates, b: VivaldiCoordinates): number {
  return Math.hypot(a.xCoordinate - b.xCoordinate, a.yCoordinate - b.yCoordinate);
}

/** Labels that two host names share, counted from the end. */
function commonSuffix(a: string, b: string): number {
  const [left, right] = [a.split('.').reverse(), b.split('.').reverse()];
  let count = 0;
  while (count < left.length && left[count] === right[count]) count++;
  return count;
}

/** Sorts by a distance; equal distances keep their order. */
function sorted(osds: readonly Osd[], distanceOf: (osd: Osd) => number): Osd[] {
  const distances = new Map(osds.map((osd) => [osd, distanceOf(osd)]));
  return [...osds].sort((a, b) => compare(distances.get(a) ?? Infinity, distances.get(b) ?? Infinity));
}

/** Also right for two infinite distances, whose difference is not a number. */
function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function listOf(text: string | undefined): string[] {
  return (text ?? '').split(/[\s,]+/).filter((part) => part !== '');
}

function numberOr(text: string | undefined, otherwise: number): number {
  const value = Number(text ?? otherwise);
  return Number.isFinite(value) ? value : otherwise;
}

/** OSDSelectionPolicyType → what it does. */
export const policyById: ReadonlyMap<number, Policy> = new Map<number, Policy>([
  [1000, filterDefault],
  [1001, filterFqdn],
  [1002, filterUuid],
  [1003, preferUuid],
  [1004, filterByPrefix],
  [2000, groupByDatacenter],
  [2001, groupByFqdn],
  [3000, sortByDatacenter],
  [3001, sortByFqdn],
  [3002, (osds, context) => shuffle(context.random, [...osds])],
  [3003, sortByVivaldi],
  [3004, sortHostRoundRobin],
  [3005, (osds) => sorted(osds, (osd) => -osd.lastUpdatedS)],
  [3998, (osds) => [...osds].sort((a, b) => (a.uuid < b.uuid ? -1 : 1))],
  [3999, (osds) => [...osds].reverse()],
]);

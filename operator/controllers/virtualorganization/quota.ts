/** How much a virtual organization may use of this site: pure. */
import { formatQuantity, parseQuantity } from '#crds/quantity.ts';
import type { Site } from '#crds/site.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { LimitRange } from '#runtime/builtin.ts';

type Limits = VirtualOrganization['spec']['quota'];
type LimitItem = NonNullable<LimitRange['spec']>['limits'][number];
type LocalSite = Extract<Site['spec'], { type: 'Local' }>['local'];

/** What an owner of a site sets for one virtual organization. */
export type SiteLimits = NonNullable<LocalSite['acceptedVirtualOrganizations'][number]['limits']>;

/** Objects of a namespace that a flood could fill the API server with; none of these is a limit that honest work meets. Written as
 * Kubernetes writes them back. */
const countsMax = {
  pods: '5k',
  'count/jobs.batch': '5k',
  'count/configmaps': '30k',
  'count/services': '500',
  'count/deployments.apps': '500',
  'count/statefulsets.apps': '500',
  'count/cronjobs.batch': '500',
  'count/persistentvolumeclaims': '5k',
  'count/volumesnapshots.snapshot.storage.k8s.io': '500',
};

/** What opens a door to the outside has no place in the namespace of a virtual organization. */
const never = { 'services.loadbalancers': '0', 'services.nodeports': '0' };

/** What a container gets that states nothing. */
const defaults = { requestCpu: '100m', requestMemory: '128Mi', limitMemory: '512Mi' };

/** The smaller of what the virtual organization gives itself and what the site grants; undefined when neither says anything. */
function smaller(a: string | number | undefined, b: string | number | undefined): string | undefined {
  const parsed = [a, b].filter((each) => each !== undefined).map(parseQuantity);
  const [first, second] = parsed;
  if (first === undefined) return undefined;
  return formatQuantity(second === undefined || first.nano <= second.nano ? first : second);
}

/** `spec.hard` while nothing new may start; what runs is not touched by it. */
export const closedQuota: Readonly<Record<string, string>> = {
  ...countsMax,
  ...never,
  ...Object.fromEntries(
    ['pods', 'requests.cpu', 'requests.memory', 'limits.memory', 'requests.storage', 'count/jobs.batch'].map((name) => [
      name,
      '0',
    ]),
  ),
};

/** `spec.hard` while it works: of what it gives itself and what the site grants, the smaller. */
export function planQuota(own: Limits, site: SiteLimits | undefined): Record<string, string> {
  const memory = smaller(own.memory, site?.memory);
  const amounts = {
    'requests.cpu': smaller(own.cpu, site?.cpu),
    'requests.memory': memory,
    // Without it a pod could request little and take what others were promised.
    'limits.memory': memory,
    'requests.storage': smaller(own.storage, site?.storage),
    'count/jobs.batch': smaller(own.jobs, site?.jobs),
  };
  const given = Object.entries(amounts).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...countsMax, ...never, ...Object.fromEntries(given) };
}

/** `spec.limits` of the LimitRange: what a container gets that states nothing, and the most that one may ask for. */
export function planLimitRange(own: Limits, site: SiteLimits | undefined): LimitItem[] {
  const cpu = smaller(own.cpu, site?.cpu);
  const memory = smaller(own.memory, site?.memory);
  const max = { ...(cpu === undefined ? {} : { cpu }), ...(memory === undefined ? {} : { memory }) };
  const capped = (preset: string, limit: string | undefined): string => smaller(preset, limit) ?? preset;
  return [
    {
      type: 'Container',
      default: { memory: capped(defaults.limitMemory, memory), ...(cpu === undefined ? {} : { cpu }) },
      defaultRequest: { cpu: capped(defaults.requestCpu, cpu), memory: capped(defaults.requestMemory, memory) },
      ...(Object.keys(max).length === 0 ? {} : { max }),
    },
  ];
}

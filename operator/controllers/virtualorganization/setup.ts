import { isSamePrincipal } from '#common/identity/ids.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Registry } from '#common/metrics.ts';
import { identitySlices } from '#crds/identity-slice.ts';
import { sites } from '#crds/site.ts';
import { type VirtualOrganization, virtualOrganizations } from '#crds/virtual-organization.ts';
import { voMemberships } from '#crds/vo-membership.ts';
import type { MembershipIndex } from '#operator/identity/membership-index.ts';
import type { VoAuthority } from '#operator/identity/vo-authority.ts';
import { type Node, nodes } from '#runtime/builtin.ts';
import type { Informer, Manager, Source } from '#runtime/contracts.ts';
import { mapped } from '#runtime/sources.ts';
import { keyOf, type KubeObject, type ObjectKey, type Stored } from '#runtime/types.ts';
import { isFollowed, networkOf } from './acceptance.ts';
import { Administrators } from './administrators.ts';
import type { Decisions } from '../decisions.ts';
import { ClusterFacts } from './cluster-facts.ts';
import { VirtualOrganizationReconciler } from './controller.ts';
import { OrganizationDecisions } from './decisions.ts';
import { Dissolution, type PatchSpec, sliceOwnerIndex } from './dissolution.ts';
import { dedicatedLabel } from './isolation.ts';
import { VirtualOrganizationMetrics } from './metrics.ts';
import { SiteWord } from './site-word.ts';
import type { GatewayPods } from './network.ts';
import { organizationLabel } from './tenancy.ts';
import { TenancyCache, TenancyWriter } from './tenancy-writer.ts';
import { Workload } from './workload.ts';

/** What the controller takes from the process it runs in. */
export interface VirtualOrganizationSetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  readonly decisions: Decisions;
  readonly authority: VoAuthority;
  readonly members: MembershipIndex;
  /** Name of the local Site. */
  readonly localSite: string;
  /** Address ranges that nothing which is declared leads to, besides those that nodes tell. */
  readonly reservedRanges: readonly string[];
  readonly gateway: GatewayPods;
}

/** Adds the controller of VirtualOrganizations to a manager. */
export function addVirtualOrganizationController(manager: Manager, setup: VirtualOrganizationSetup): void {
  const { clock, log, registry, decisions, authority, localSite, reservedRanges, gateway } = setup;
  const { client, events } = manager;
  const organizations = manager.informer(virtualOrganizations);
  const siteInformer = manager.informer(sites);
  const nodeInformer = manager.informer(nodes);
  const memberships = manager.informer(voMemberships);
  const slices = manager.informer(identitySlices);
  slices.addIndex(sliceOwnerIndex, ({ spec }) => [spec.virtualOrganization.uid]);
  const patchSpec: PatchSpec = async (vo, spec, signal) => {
    const { uid, resourceVersion } = vo.metadata;
    const body = { metadata: { uid, resourceVersion }, spec };
    const after = await client.of(virtualOrganizations).patch(keyOf(vo), { type: 'merge', body }, { signal });
    decisions.noteOwnChange(vo, after);
  };
  const word = new SiteWord();
  siteInformer.onEvent((event) => {
    if (event.object.metadata.name === localSite) word.note(event);
  });
  const cache = new TenancyCache(manager);
  const writer = new TenancyWriter(cache, client);
  const workload = new Workload(client);
  const all = (): readonly ObjectKey[] => organizations.list().map(keyOf);
  manager.addController({
    name: 'virtualorganization',
    primary: organizations,
    changed: isWorthALook,
    reconciler: new VirtualOrganizationReconciler({
      organizations,
      sites: siteInformer,
      nodes: nodeInformer,
      administrators: new Administrators(setup.members, localSite),
      facts: new ClusterFacts(client, clock),
      writer,
      workload,
      dissolution: new Dissolution({ client, slices, writer, workload, authority, localSite, patchSpec }),
      client,
      events,
      patchSpec,
      decisions: new OrganizationDecisions(decisions, word),
      metrics: new VirtualOrganizationMetrics(registry),
      clock,
      log,
      localSite,
      reservedRanges,
      gateway,
    }),
    sources: [
      // Heartbeats change neither.
      mappedWhenDifferent(
        siteInformer,
        (site) => [site.spec, networkOf(site)],
        (site) => (site.metadata.name === localSite ? all() : []),
      ),
      mappedWhenDifferent(nodeInformer, factsOfNode, all),
      mapped(memberships, ({ metadata, spec }) => {
        const vo = organizations.get({ name: (metadata.namespace ?? '').replace(/^vo-/, '') });
        const isOwner = vo?.spec.administrators.some((each) => isSamePrincipal(each, spec.principal)) === true;
        return isOwner ? [keyOf(vo)] : [];
      }),
      ...[cache.namespaces, ...cache.kept].map((informer) => mapped(informer, organizationOf)),
    ],
  });
}

/** Changes of status, which other controllers write often, need no look here; but that its home was heard of first makes it acceptable. */
function isWorthALook(object: Stored<VirtualOrganization>, old: Stored<VirtualOrganization>): boolean {
  return (
    object.metadata.generation !== old.metadata.generation ||
    object.metadata.finalizers?.length !== old.metadata.finalizers?.length ||
    isFollowed(object) !== isFollowed(old)
  );
}

/** The virtual organization that an object of ours belongs to, by its own label or by its namespace. */
function organizationOf({ metadata }: KubeObject): readonly ObjectKey[] {
  const name = metadata.labels?.[organizationLabel] ?? /^vo-(.+)$/.exec(metadata.namespace ?? '')?.[1];
  return name === undefined ? [] : [{ name }];
}

/** What of a node matters: where it and its pods are, and what isolation it has. */
function factsOfNode({ metadata, spec, status }: Node): unknown {
  return [
    status?.addresses,
    spec?.podCIDRs,
    status?.runtimeHandlers,
    metadata.labels?.[dedicatedLabel],
    spec?.taints?.filter(({ key }) => key === dedicatedLabel),
  ];
}

/** As `mapped`, for changes after which the part that matters is another than before. */
function mappedWhenDifferent<T extends KubeObject>(
  informer: Informer<T>,
  part: (object: Stored<T>) => unknown,
  map: (object: Stored<T>) => readonly ObjectKey[],
): Source {
  return {
    name: informer.kind.plural,
    synced: async (signal) => informer.synced(signal),
    attach: (enqueue) =>
      informer.onEvent((event) => {
        if (event.type === 'updated' && JSON.stringify(part(event.old)) === JSON.stringify(part(event.object))) return;
        for (const key of map(event.object)) enqueue(key, event.type === 'added' && event.initial);
      }),
  };
}

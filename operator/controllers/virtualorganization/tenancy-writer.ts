/** Makes the objects of a virtual organization what they must be, writing only what differs. */
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import {
  clusterRoleBindings,
  clusterRoles,
  limitRanges,
  type Namespace,
  namespaces,
  networkPolicies,
  resourceQuotas,
  roleBindings,
  serviceAccounts,
} from '#runtime/builtin.ts';
import type { Client, Informer, Lister, Manager } from '#runtime/contracts.ts';
import { AlreadyExistsError, ignoreNotFound } from '#runtime/errors.ts';
import type { Kind } from '#runtime/kind.ts';
import { isDeleting, keyOf, type KubeObject, type Stored } from '#runtime/types.ts';
import { closedQuota } from './quota.ts';
import {
  type DesiredObject,
  desiredNamespace,
  desiredObjects,
  desiredQuota,
  isOwnedBy,
  matches,
  namespaceOf,
  organizationLabel,
  ownerRoleName,
  tenancyLabel,
  type TenancyPlan,
} from './tenancy.ts';

/** Kinds of what the operator keeps, besides the namespace. */
const keptKinds = [
  networkPolicies,
  resourceQuotas,
  limitRanges,
  serviceAccounts,
  clusterRoles,
  clusterRoleBindings,
  roleBindings,
] as readonly Kind[];

/** How a virtual organization stands to the namespace that bears its name. */
export type NamespaceState = 'absent' | 'own' | 'terminating' | 'foreign';

/** Caches of what the operator keeps for virtual organizations: only objects that bear its labels, whatever else the cluster holds. */
export class TenancyCache {
  readonly namespaces: Informer<Namespace>;
  readonly kept: readonly Informer<KubeObject>[];

  constructor(manager: Manager) {
    this.namespaces = manager.informer(namespaces, { labelSelector: organizationLabel });
    this.kept = keptKinds.map((kind) => manager.informer(kind, { labelSelector: `${tenancyLabel}=true` }));
  }

  listerOf(kind: Kind): Lister<KubeObject> {
    const found = this.kept.find((each) => each.kind.plural === kind.plural && each.kind.group === kind.group);
    if (found === undefined) throw new TypeError(`${kind.plural} are not cached`);
    return found;
  }
}

/** Writes tenancy. Safe at any time, any number of times; what is as it must be costs no request. */
export class TenancyWriter {
  private readonly cache: TenancyCache;
  private readonly client: Client;

  constructor(cache: TenancyCache, client: Client) {
    this.cache = cache;
    this.client = client;
  }

  /** How things stand, from the caches; a namespace without our label is not among them and is found by asking. */
  async stateOf(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<NamespaceState> {
    const key = { name: namespaceOf(vo.metadata.name) };
    const found = this.cache.namespaces.get(key) ?? (await this.client.of(namespaces).find(key, { signal }));
    return found === undefined ? 'absent' : judge(found, vo);
  }

  /**
   * Makes everything that is planned. The namespace is created, never adopted: whoever made one of that name before keeps it.
   * @returns how the namespace stands afterwards; unless `own`, nothing was written into it.
   */
  async write(plan: TenancyPlan, before: NamespaceState, signal: AbortSignal): Promise<NamespaceState> {
    const state = before === 'absent' ? await this.create(plan, signal) : before;
    if (state !== 'own') return state;
    const desired = [desiredNamespace(plan), ...desiredObjects(plan)];
    for (const each of desired) await this.apply(each, signal);
    await this.removeOthers(plan, desired, signal);
    return state;
  }

  /** Lets nothing new start, whatever else stands; does nothing where there is no namespace of ours. */
  async close(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<void> {
    if ((await this.stateOf(vo, signal)) === 'own') await this.apply(desiredQuota(vo, closedQuota), signal);
  }

  private async create(plan: TenancyPlan, signal: AbortSignal): Promise<NamespaceState> {
    const { object } = desiredNamespace(plan);
    try {
      await this.client.of(namespaces).create(object, { signal });
      return 'own';
    } catch (error) {
      if (!(error instanceof AlreadyExistsError)) throw error;
      const found = await this.client.of(namespaces).get(keyOf(object), { signal });
      return judge(found, plan.vo);
    }
  }

  private async apply({ kind, object }: DesiredObject, signal: AbortSignal): Promise<void> {
    const key = keyOf(object);
    const isNamespace = kind.plural === namespaces.plural;
    const cached = isNamespace ? this.cache.namespaces.get(key) : this.cache.listerOf(kind).get(key);
    if (cached !== undefined && matches(cached, object)) return;
    const client = this.client.of(kind);
    if (cached !== undefined && isRebound(cached, object)) {
      // The role of a binding can't change: the API server wants it made anew.
      await ignoreNotFound(client.delete(key, { signal, preconditions: { uid: cached.metadata.uid } }));
    }
    // With the uid, so that a namespace that was replaced meanwhile isn't written to.
    const metadata =
      isNamespace && cached !== undefined ? { ...object.metadata, uid: cached.metadata.uid } : object.metadata;
    await client.apply({ ...object, metadata }, { signal });
  }

  /** Removes policies that are no longer wanted. */
  private async removeOthers(
    { vo }: TenancyPlan,
    desired: readonly DesiredObject[],
    signal: AbortSignal,
  ): Promise<void> {
    const names = new Set(
      desired.filter(({ kind }) => kind.plural === networkPolicies.plural).map(({ object }) => object.metadata.name),
    );
    const present = this.cache.listerOf(networkPolicies).list(namespaceOf(vo.metadata.name));
    for (const each of present.filter(({ metadata }) => !names.has(metadata.name))) {
      await ignoreNotFound(this.client.of(networkPolicies).delete(keyOf(each), { signal }));
    }
  }

  /**
   * Removes everything: rights first, then the namespace with all that is in it.
   * @returns undefined once nothing is left; otherwise a sentence on what is in the way.
   */
  async remove(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<string | undefined> {
    const key = { name: ownerRoleName(vo.metadata.name) };
    for (const kind of [clusterRoleBindings, clusterRoles] as readonly Kind[]) {
      const client = this.client.of(kind);
      const found = await client.find(key, { signal });
      const isOurs = found !== undefined && isOwnedBy(found, vo);
      if (isOurs) await ignoreNotFound(client.delete(key, { signal, preconditions: { uid: found.metadata.uid } }));
    }
    const client = this.client.of(namespaces);
    const found = await client.find({ name: namespaceOf(vo.metadata.name) }, { signal });
    if (found === undefined || !isOwnedBy(found, vo)) return undefined;
    if (!isDeleting(found)) {
      await ignoreNotFound(client.delete(keyOf(found), { signal, preconditions: { uid: found.metadata.uid } }));
    }
    return obstacleOf(found);
  }
}

function judge(namespace: Stored<Namespace>, vo: Stored<VirtualOrganization>): NamespaceState {
  if (isDeleting(namespace)) return 'terminating';
  return isOwnedBy(namespace, vo) ? 'own' : 'foreign';
}

function isRebound(actual: KubeObject, desired: KubeObject & Readonly<Record<string, unknown>>): boolean {
  return desired.roleRef !== undefined && !matches((actual as { roleRef?: unknown }).roleRef, desired.roleRef);
}

/** What the namespace itself says is in the way of its deletion (its conditions), or that it takes a moment. */
function obstacleOf(namespace: Namespace): string {
  const obstacles = ['NamespaceFinalizersRemaining', 'NamespaceContentRemaining', 'NamespaceDeletionContentFailure'];
  const found = (namespace.status?.conditions ?? []).find(
    ({ type, status }) => status === 'True' && obstacles.includes(type),
  );
  const { name } = namespace.metadata;
  return found === undefined
    ? `Namespace ${name} is being deleted.`
    : `Namespace ${name}: ${found.message ?? found.type}`;
}

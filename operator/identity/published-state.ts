import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { configMaps, type Namespace, namespaces, roleBindings } from '#runtime/builtin.ts';
import { whoAmI } from '#runtime/self-review.ts';
import type { Client, Informer, Manager } from '#runtime/contracts.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';
import { nameLabel, uidLabel } from './cert-manager.ts';
import type { Documents } from './state-record.ts';

/** ConfigMap in the namespace of an organization that holds the founding document and the newest state. */
export const publishedName = 'vo-state';
/** ClusterRole that the operator is given in namespaces of organizations and nowhere else; the chart brings it. */
export const authorityRole = 'xtreemos-vo-authority';
/** Marks what only the operator may write in such a namespace. */
const tenancyLabel = 'xtreemos.io/tenancy';
const rbacGroup = 'rbac.authorization.k8s.io';

/** The copy of the signed state that members of an organization can read, and the rights that it takes to write it. */
export class Published {
  /** Namespaces of organizations; wakes when one was made. */
  readonly namespaces: Informer<Namespace>;
  private readonly client: Client;
  private user: Promise<string> | undefined;
  /** By uid of the namespace: what lies there, as far as it is known. */
  private readonly seen = new Map<string, Documents>();
  private readonly bound = new Set<string>();

  constructor(manager: Pick<Manager, 'informer' | 'client'>) {
    this.client = manager.client;
    this.namespaces = manager.informer(namespaces, { labelSelector: nameLabel });
  }

  /** The state that lies in the namespace of the organization; undefined when there is no namespace, or nothing in it. */
  async read(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<string | undefined> {
    const namespace = this.namespaceOf(vo);
    if (namespace === undefined) return undefined;
    await this.bind(namespace, signal);
    const key = { namespace: namespace.metadata.name, name: publishedName };
    const { genesis = '', state = '' } = (await this.client.of(configMaps).find(key, { signal }))?.data ?? {};
    this.seen.set(namespace.metadata.uid, { genesis, state });
    return genesis === '' && state === '' ? undefined : state;
  }

  /** Puts documents there unless they are there already. Does nothing while there is no namespace. */
  async write(vo: Stored<VirtualOrganization>, { genesis, state }: Documents, signal: AbortSignal): Promise<void> {
    const namespace = this.namespaceOf(vo);
    if (namespace === undefined) return;
    const seen = this.seen.get(namespace.metadata.uid);
    if (seen?.state === state) return;
    await this.bind(namespace, signal);
    const metadata = { namespace: namespace.metadata.name, name: publishedName, labels: { [tenancyLabel]: 'true' } };
    await this.client.of(configMaps).apply({ metadata, data: { genesis, state } }, { signal });
    this.seen.set(namespace.metadata.uid, { genesis, state });
  }

  private namespaceOf(vo: Stored<VirtualOrganization>): Stored<Namespace> | undefined {
    const found = this.namespaces.get({ name: `vo-${vo.metadata.name}` });
    const isOwn = found?.metadata.labels?.[uidLabel] === vo.metadata.uid;
    return found !== undefined && isOwn && !isDeleting(found) ? found : undefined;
  }

  /** Gives the operator the right to publish and to make tokens here, once for each process and namespace. */
  private async bind({ metadata }: Stored<Namespace>, signal: AbortSignal): Promise<void> {
    if (this.bound.has(metadata.uid)) return;
    this.user ??= whoAmI(this.client, signal);
    const name = await this.user;
    await this.client.of(roleBindings).apply(
      {
        metadata: { name: authorityRole, namespace: metadata.name, labels: { [tenancyLabel]: 'true' } },
        roleRef: { apiGroup: rbacGroup, kind: 'ClusterRole', name: authorityRole },
        subjects: [{ apiGroup: rbacGroup, kind: 'User', name }],
      },
      { signal },
    );
    this.bound.add(metadata.uid);
  }
}

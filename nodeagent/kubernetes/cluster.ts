import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import { fileSystems, type FileSystem } from '#crds/file-system.ts';
import { identitySlices, type IdentitySlice } from '#crds/identity-slice.ts';
import { virtualOrganizations, type VirtualOrganization } from '#crds/virtual-organization.ts';
import { voMemberships, type VOMembership } from '#crds/vo-membership.ts';
import { volumes, type Volume } from '#crds/volume.ts';
import { namespaces, pods, type Namespace, type Pod } from '#runtime/builtin.ts';
import { createClient } from '#runtime/client.ts';
import type { Client } from '#runtime/contracts.ts';
import { createInformer, type SharedInformer } from '#runtime/informer.ts';
import type { Kind } from '#runtime/kind.ts';
import type { RuntimeMetrics } from '#runtime/metrics.ts';
import type { Transport } from '#runtime/transport.ts';
import type { KubeObject, Stored } from '#runtime/types.ts';
import { issuedIds, type IssuedIds } from '../accounts/issued-ids.ts';
import type { AccessView } from './access.ts';

/** What a {@link Cluster} stands on. */
export interface ClusterParts {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: RuntimeMetrics;
  /** See {@link AccessView.relay}. */
  readonly relay: string;
}

const byUid = 'uid';
/** Changes of organizations come in bursts. */
const settleMs = 100;

/** The node agent's eye on its cluster: Volumes, FileSystems, and who the members of organizations are. Each is one watch. */
export class Cluster implements AccessView {
  readonly client: Client;
  readonly relay: string;
  private readonly node: string;
  private readonly parts: ClusterParts;
  private readonly volumes: SharedInformer<Volume>;
  private readonly fileSystems: SharedInformer<FileSystem>;
  private readonly organizations: SharedInformer<VirtualOrganization>;
  private readonly memberships: SharedInformer<VOMembership>;
  private readonly slices: SharedInformer<IdentitySlice>;

  constructor(node: string, parts: ClusterParts) {
    this.node = node;
    this.relay = parts.relay;
    this.parts = parts;
    this.client = createClient(parts.transport, { fieldManager: 'xtreemos-node-agent' });
    this.volumes = this.informer(volumes);
    this.fileSystems = this.informer(fileSystems);
    this.organizations = this.informer(virtualOrganizations);
    this.memberships = this.informer(voMemberships);
    this.slices = this.informer(identitySlices);
    this.volumes.addIndex(byUid, ({ metadata }) => [metadata.uid]);
    this.fileSystems.addIndex(byUid, ({ metadata }) => [metadata.uid]);
  }

  /** Fills the caches and keeps them true until the signal aborts. @returns once everything has been read. */
  async start(signal: AbortSignal): Promise<void> {
    const informers = [this.volumes, this.fileSystems, this.organizations, this.memberships, this.slices];
    for (const informer of informers) {
      informer.run(signal).catch((error: unknown) => this.parts.logger.error('A watch ended', { err: error }));
    }
    await Promise.all(informers.map(async (informer) => informer.synced(signal)));
  }

  /** Calls back with the ids that organizations issued, now and after each change. */
  followIds(listener: (ids: IssuedIds) => void): void {
    const tell = (): void =>
      listener(
        issuedIds({
          organizations: this.organizations.list(),
          memberships: this.memberships.list(),
          slices: this.slices.list(),
        }),
      );
    let isWaiting = false;
    const soon = (): void => {
      if (isWaiting) return;
      isWaiting = true;
      this.parts.clock.after(settleMs, () => {
        isWaiting = false;
        tell();
      });
    };
    tell();
    this.organizations.onEvent(soon);
    this.memberships.onEvent(soon);
    this.slices.onEvent(soon);
  }

  volume(uid: string): Stored<Volume> | undefined {
    return this.volumes.byIndex(byUid, uid)[0];
  }

  fileSystem(uid: string): Stored<FileSystem> | undefined {
    return this.fileSystems.byIndex(byUid, uid)[0];
  }

  organization(name: string): Stored<VirtualOrganization> | undefined {
    return this.organizations.get({ name });
  }

  /** Asked each time: a mount is rare, and what a cache had a moment ago is no proof. */
  async pod(namespace: string, name: string, uid: string): Promise<Stored<Pod> | undefined> {
    const pod = await this.client.of(pods).find({ namespace, name });
    return pod?.metadata.uid === uid && pod.spec?.nodeName === this.node ? pod : undefined;
  }

  async namespace(name: string): Promise<Stored<Namespace> | undefined> {
    return this.client.of(namespaces).find({ name });
  }

  private informer<T extends KubeObject>(kind: Kind<T>): SharedInformer<T> {
    return createInformer(this.parts.transport, kind, {}, this.parts);
  }
}

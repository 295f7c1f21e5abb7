import { statfsSync } from 'node:fs';
import { cpus } from 'node:os';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import { describeError } from '#common/errors.ts';
import { chosenToGiveWay, claims, type ClaimObject, wasChosenToGiveWay } from '#crds/claim.ts';
import { sites, type Site } from '#crds/site.ts';
import { nodes, pods, type Node, type Pod } from '#runtime/builtin.ts';
import { createClient } from '#runtime/client.ts';
import type { Client, InformerEvent, InformerOptions } from '#runtime/contracts.ts';
import { ConflictError, ignoreNotFound } from '#runtime/errors.ts';
import { createInformer, type SharedInformer } from '#runtime/informer.ts';
import type { Kind } from '#runtime/kind.ts';
import type { RuntimeMetrics } from '#runtime/metrics.ts';
import type { Transport } from '#runtime/transport.ts';
import { isDeleting, type KubeObject, type Stored } from '#runtime/types.ts';
import type { LiveValues } from '#selector/ads/live.ts';
import type { NodeView } from '#selector/agent.ts';
import { boundPodOf, isOccupying } from './bound-pods.ts';
import { KubernetesClaimStore, type NodeClaims } from './claim-store.ts';
import {
  acceptedBy,
  allocatableOf,
  attributesOf,
  pressureOf,
  reasonAgainstNode,
  type MachineFacts,
} from './node-facts.ts';

/** What a {@link Cluster} stands on. */
export interface ClusterParts {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: RuntimeMetrics;
  readonly machine: MachineFacts;
}

/** Whose account is kept by this process: that of one node, or of every node with these labels. */
export type ClusterScope = { readonly node: string } | { readonly nodeLabels: string };

const byNode = 'node';

/** What the machine that this runs on says of itself. */
export function readMachineFacts(): MachineFacts {
  const { blocks, bsize } = statfsSync('/');
  return { cpuModel: cpus()[0]?.model.trim() ?? '', diskBytes: blocks * bsize };
}

/**
 * A selector's eye on its cluster: Nodes, the pods bound to them whoever made them, Claims, and the local Site. Each is
 * one watch; for one node the API server is asked for that node's objects only.
 */
export class Cluster {
  readonly client: Client;
  readonly parts: ClusterParts;
  private readonly siteName: string;
  private readonly nodes: SharedInformer<Node>;
  private readonly pods: SharedInformer<Pod>;
  private readonly claims: SharedInformer<ClaimObject>;
  private readonly sites: SharedInformer<Site>;
  private readonly changed = new Set<string>();
  private readonly claimListeners = new Map<string, (event: InformerEvent<ClaimObject>) => void>();

  constructor(siteName: string, scope: ClusterScope, parts: ClusterParts) {
    this.siteName = siteName;
    this.parts = parts;
    // Pods that have ended occupy nothing; there may be thousands.
    const running = 'status.phase!=Succeeded,status.phase!=Failed';
    const ofNode = 'node' in scope ? { fieldSelector: `spec.nodeName=${scope.node}` } : {};
    const bound = 'node' in scope ? `spec.nodeName=${scope.node}` : 'spec.nodeName!=';
    this.nodes = this.informer(
      nodes,
      'node' in scope ? { fieldSelector: `metadata.name=${scope.node}` } : { labelSelector: scope.nodeLabels },
    );
    this.pods = this.informer(pods, { fieldSelector: `${bound},${running}` });
    this.claims = this.informer(claims, ofNode);
    this.sites = this.informer(sites, { fieldSelector: `metadata.name=${siteName}` });
    this.pods.addIndex(byNode, (pod) => (pod.spec?.nodeName === undefined ? [] : [pod.spec.nodeName]));
    this.claims.addIndex(byNode, (claim) => (isHere(claim) ? [claim.spec.nodeName] : []));
    this.client = createClient(parts.transport, { fieldManager: 'xtreemos-selector' });
  }

  /** Fills the caches and keeps them true until the signal aborts. @returns once everything has been read. */
  async start(signal: AbortSignal): Promise<void> {
    const informers = [this.nodes, this.pods, this.claims, this.sites];
    for (const informer of informers) {
      informer.run(signal).catch((error: unknown) => this.parts.logger.error('A watch ended', { err: error }));
    }
    await Promise.all(informers.map(async (informer) => informer.synced(signal)));
    this.claims.onEvent((event) => {
      if (isHere(event.object)) this.claimListeners.get(event.object.spec.nodeName)?.(event);
    });
  }

  /** Names of the nodes whose account is kept. */
  get nodeNames(): readonly string[] {
    return this.nodes.list().map(({ metadata }) => metadata.name);
  }

  /** Whether there is a Node of this name in scope. */
  has(nodeName: string): boolean {
    return this.nodes.get({ name: nodeName }) !== undefined;
  }

  /** Calls back with the nodes of which something changed, once for all changes of one turn of the event loop. */
  onChange(listener: (nodeNames: readonly string[]) => void): void {
    const note = (names: readonly string[]): void => {
      if (this.changed.size === 0) {
        queueMicrotask(() => {
          const changed = [...this.changed];
          this.changed.clear();
          listener(changed);
        });
      }
      for (const name of names) this.changed.add(name);
    };
    this.nodes.onEvent(({ object }) => note([object.metadata.name]));
    this.pods.onEvent(({ object }) => note([object.spec?.nodeName ?? '']));
    this.sites.onEvent(() => note(this.nodeNames));
  }

  /** One node with its account. */
  node(name: string): ClusterNode {
    return new ClusterNode(name, this);
  }

  /** Reads, for {@link ClusterNode}. */
  read(nodeName: string): { node: Stored<Node> | undefined; pods: Stored<Pod>[]; site: Site | undefined } {
    return {
      node: this.nodes.get({ name: nodeName }),
      pods: this.pods.byIndex(byNode, nodeName),
      site: this.sites.get({ name: this.siteName }),
    };
  }

  /** Every pod that is bound to a node in scope and has not ended. */
  boundPods(): readonly Stored<Pod>[] {
    return this.pods.list();
  }

  /** The Claims of one node. */
  claimsOf(nodeName: string): NodeClaims {
    return {
      list: () => this.claims.byIndex(byNode, nodeName),
      follow: (listener) => {
        this.claimListeners.set(nodeName, listener);
        for (const object of this.claims.byIndex(byNode, nodeName)) listener({ type: 'added', object, initial: true });
      },
    };
  }

  private informer<T extends KubeObject>(kind: Kind<T>, options: InformerOptions): SharedInformer<T> {
    return createInformer(this.parts.transport, kind, options, this.parts);
  }
}

/** Not a record of what a node of another site has promised, which may bear the name of one here. */
const isHere = ({ spec }: ClaimObject): boolean => spec.site === undefined;

/** One node as its cluster has it, and the store of its claims. */
export class ClusterNode {
  readonly store: KubernetesClaimStore;
  private readonly name: string;
  private readonly cluster: Cluster;
  private leftOut = '';

  constructor(name: string, cluster: Cluster) {
    this.name = name;
    this.cluster = cluster;
    const { client, parts } = cluster;
    this.store = new KubernetesClaimStore({
      ...{ client, claims: cluster.claimsOf(name), nodeName: name, clock: parts.clock },
    });
  }

  /** The node as it is now. */
  view(): NodeView {
    const { node, pods: bound, site } = this.cluster.read(this.name);
    return {
      attributes: node === undefined ? {} : this.attributes(node, site),
      allocatable: allocatableOf(node),
      pods: bound.filter(isOccupying).map(boundPodOf),
      virtualOrganizations: acceptedBy(site),
      refusal: reasonAgainstNode(node),
    };
  }

  /** Asks a pod of the node to end, as everybody's pods are: with its own time to do so. The pod says why, for whoever looks after it. */
  async endPod(uid: string): Promise<void> {
    const pod = this.cluster.read(this.name).pods.find(({ metadata }) => metadata.uid === uid);
    if (pod === undefined) return;
    const { namespace, name } = pod.metadata;
    await this.sayWhy(pod);
    try {
      await ignoreNotFound(this.cluster.client.of(pods).delete({ namespace, name }, { preconditions: { uid } }));
    } catch (error) {
      // Another pod of that name: ours is gone.
      if (!(error instanceof ConflictError)) throw error;
    }
  }

  /** A pod that can not be marked is ended all the same: the reservation begins on time. */
  private async sayWhy(pod: Stored<Pod>): Promise<void> {
    if (isDeleting(pod) || wasChosenToGiveWay(pod)) return;
    const { namespace, name, uid } = pod.metadata;
    const { client, parts } = this.cluster;
    const why = 'A reservation of the node begins that needs its place.';
    const body = chosenToGiveWay(uid, 'reservation', why, parts.clock.now());
    await client
      .of(pods)
      .status.patch({ namespace, name }, { type: 'strategic', body })
      .catch((error: unknown) => {
        parts.logger.debug('A pod was not marked before it is ended', { Pod: name, problem: describeError(error) });
      });
  }

  /** Live values that the cluster knows, beside the machine's own. */
  live(): LiveValues {
    const { node, pods: bound } = this.cluster.read(this.name);
    return { ...pressureOf(node), runningPods: bound.length };
  }

  private attributes(node: Node, site: Site | undefined): NodeView['attributes'] {
    const { machine, logger } = this.cluster.parts;
    const { attributes, leftOut } = attributesOf(node, machine, site);
    const text = leftOut.join(', ');
    if (text !== this.leftOut) logger.warn('Attributes are left out', { Node: this.name, names: text });
    this.leftOut = text;
    return attributes;
  }
}

import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { apiVersionOf } from '#crds/kind.ts';
import { networkIsolated, nodesReady, type Site, siteDefinition, sites, type SiteStatus } from '#crds/site.ts';
import type { Node } from '#runtime/builtin.ts';
import {
  type Client,
  done,
  type EventRecorder,
  type Lister,
  type Reconciler,
  type Result,
} from '#runtime/contracts.ts';
import { findCondition } from '#runtime/conditions.ts';
import { AlreadyExistsError, NotFoundError } from '#runtime/errors.ts';
import { isDeleting, type ObjectKey, type Stored } from '#runtime/types.ts';
import { conditionChanged } from '../events.ts';
import { created, nodesRecovered, nodesUnavailable, readinessChanged } from './events.ts';
import type { PeerStates } from '#operator/gateway/peers/peer-states.ts';
import type { SiteMetrics } from './metrics.ts';
import type { NetworkFindings } from './network/network-watch.ts';
import { roleOf, summarizeNodes } from './phases.ts';
import {
  computeStatus,
  heartbeatRemainingMs,
  isStatusChanged,
  networkCondition,
  readyCondition,
  type SiteScope,
} from './status.ts';

/** What the operator was told about the local site. */
export interface LocalSite {
  /** Name of the Site object of this cluster. */
  readonly name: string;
  /** Attributes that the object gets when it is made. */
  readonly attributes: Readonly<Record<string, string>>;
  /** How often `lastSeenTime` is refreshed, milliseconds. */
  readonly heartbeatMs: number;
}

/** What the reconciler of Sites works with. */
export interface SiteParts {
  readonly sites: Lister<Site>;
  readonly nodes: Lister<Node>;
  readonly client: Client;
  readonly events: EventRecorder;
  readonly metrics: SiteMetrics;
  readonly clock: Clock;
  readonly log: Logger;
  readonly local: LocalSite;
  readonly peers: Pick<PeerStates, 'get'>;
  /** What is found out about the network. */
  readonly network: Pick<NetworkFindings, 'get'>;
  readonly xtreemosVersion: string;
}

/** The version of an API server changes only when it is restarted; asking seldom is enough. */
const versionAgeMaxMs = 5 * 60_000;

/**
 * Keeps the status of every Site true, and makes the Site that stands for this cluster when it is missing. What its owner writes into `spec` is
 * never touched. Level-based: safe at any time, any number of times.
 */
export class SiteReconciler implements Reconciler {
  private readonly parts: SiteParts;
  private version: { readonly text: string; readonly at: number } | undefined;

  constructor(parts: SiteParts) {
    this.parts = parts;
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const site = this.parts.sites.get(key);
    if (site === undefined) {
      // Ours is made; what was deleted on purpose elsewhere needs nothing.
      if (key.name === this.parts.local.name) await this.create(signal);
      return done;
    }
    if (isDeleting(site)) return done;
    const scope = await this.gather(site, signal);
    const status = computeStatus(scope);
    if (scope.role === 'local') this.parts.metrics.observe(scope.nodes, networkCondition(status)?.status ?? 'Unknown');
    if (isStatusChanged(site.status, status)) await this.write(site, status, signal);
    if (scope.role !== 'local' && scope.peer?.state !== 'Connected') return done;
    return { requeueAfterMs: Math.max(1000, heartbeatRemainingMs(status, scope)) };
  }

  /** Every read, once. */
  private async gather(site: Stored<Site>, signal: AbortSignal): Promise<SiteScope> {
    const { local, clock, nodes, xtreemosVersion } = this.parts;
    return {
      site,
      role: roleOf(site, local.name),
      nodes: summarizeNodes(nodes.list()),
      kubernetesVersion: await this.kubernetesVersion(signal),
      network: this.parts.network.get(),
      xtreemosVersion,
      peer: this.parts.peers.get(site.metadata.name),
      localName: local.name,
      now: clock.now(),
      heartbeatMs: local.heartbeatMs,
    };
  }

  private async kubernetesVersion(signal: AbortSignal): Promise<string> {
    const at = this.parts.clock.monotonic();
    if (this.version === undefined || at - this.version.at > versionAgeMaxMs) {
      const answer = await this.parts.client.raw('GET', '/version', undefined, { signal });
      const text = (answer as { gitVersion?: unknown }).gitVersion;
      this.version = { text: typeof text === 'string' ? text.slice(0, 64) : 'unknown', at };
    }
    return this.version.text;
  }

  /** One write, under our field manager; an object that was deleted meanwhile needs none. */
  private async write(site: Stored<Site>, status: SiteStatus, signal: AbortSignal): Promise<void> {
    const { name, uid } = site.metadata;
    try {
      await this.parts.client.of(sites).status.apply({ metadata: { name, uid }, status }, { signal });
    } catch (error) {
      if (error instanceof NotFoundError) return;
      throw error;
    }
    this.tell(site, status);
  }

  private tell(site: Stored<Site>, status: SiteStatus): void {
    const { events, log } = this.parts;
    const ready = readyCondition(status);
    const before = readyCondition(site.status);
    this.tellNetwork(site, status);
    const nodes = findCondition(status.conditions, nodesReady.type);
    const nodesBefore = findCondition(site.status?.conditions, nodesReady.type);
    if (ready !== undefined && (ready.status !== before?.status || ready.reason !== before.reason)) {
      log.info('Site readiness changed', { Site: site.metadata.name, status: ready.status, reason: ready.reason });
      events.publish(readinessChanged(site, ready));
    }
    if (nodes === undefined || nodes.status === 'Unknown' || nodesBefore === undefined) return;
    if (nodes.reason === nodesBefore.reason && nodes.message === nodesBefore.message) return;
    events.publish(nodes.status === 'True' ? nodesRecovered(site, nodes) : nodesUnavailable(site, nodes));
  }

  private tellNetwork(site: Stored<Site>, status: SiteStatus): void {
    const { events, log } = this.parts;
    const network = networkCondition(status);
    const before = networkCondition(site.status);
    if (network === undefined || (network.reason === before?.reason && network.message === before.message)) return;
    const { reason, message } = network;
    if (reason === networkIsolated.reasons.NotTested) return;
    const isGood = network.status === 'True';
    if (isGood) log.info('NetworkPolicy is enforced', { Site: site.metadata.name });
    else log.warn('Networks are not known to be closed', { Site: site.metadata.name, reason, problem: message });
    events.publish(conditionChanged(sites, site, network, isGood));
  }

  private async create(signal: AbortSignal): Promise<void> {
    const { local, client, events, log } = this.parts;
    log.info('Creating Site', { Site: local.name });
    try {
      const site = await client.of(sites).create(
        {
          apiVersion: apiVersionOf(siteDefinition),
          kind: siteDefinition.kind,
          metadata: { name: local.name },
          spec: siteDefinition.spec.parse({ type: 'Local', local: { attributes: { ...local.attributes } } }),
        },
        { signal },
      );
      events.publish(created(site));
    } catch (error) {
      if (!(error instanceof AlreadyExistsError)) throw error;
    }
  }
}

import type { Logger } from '#common/logger.ts';
import { describeError } from '#common/errors.ts';
import { pick, type Random } from '#common/random.ts';
import { machineSource, type LiveSource } from '#selector/ads/live.ts';
import type { SelectorAgent } from '#selector/agent.ts';
import type { OverlaySettings } from '#selector/overlay/settings.ts';
import type { Signer, Verifier } from '#selector/overlay/trust.ts';
import type { SelectorProcess } from '#selector/process.ts';
import type { Cluster } from './cluster.ts';

/** What the members of a {@link ClusterMembers} have in common. */
export interface MemberSettings {
  readonly site: string;
  /** Where to listen and be reached, `host:port`; port 0 gives each a port of its own. */
  readonly listen: string;
  readonly advertise: string;
  readonly overlay: Partial<OverlaySettings>;
  /** Whether this process runs on the node whose account it keeps, and so knows its load. */
  readonly isOnNode: boolean;
}

/** What a {@link ClusterMembers} stands on. */
export interface MembersParts {
  readonly process: SelectorProcess;
  readonly cluster: Cluster;
  readonly signer: Signer;
  readonly verifier: Verifier;
  readonly random: Random;
  readonly logger: Logger;
}

/** Peers here through which a further member joins; the overlay leads on. */
const introducers = 3;

/**
 * The selectors of a process whose nodes come from a cluster: one for its own node, or one for each of the nodes that it
 * hosts, as they come and go.
 */
export class ClusterMembers {
  private readonly members = new Map<string, SelectorAgent>();
  private readonly settings: MemberSettings;
  private readonly parts: MembersParts;
  private peers: readonly string[];
  /** Members are added and removed one after the other. */
  private work: Promise<void> = Promise.resolve();

  constructor(settings: MemberSettings, parts: MembersParts, peers: readonly string[]) {
    this.settings = settings;
    this.parts = parts;
    this.peers = peers;
  }

  /** Adds a member for each node. The cluster's caches have to be filled. @returns the port of the last. */
  async start(nodeNames: readonly string[]): Promise<number> {
    let port = 0;
    for (const name of nodeNames) port = await this.add(name);
    this.parts.cluster.onChange((changed) => {
      for (const name of changed) this.refresh(name);
    });
    return port;
  }

  /** Any member, for the status page. */
  get first(): SelectorAgent | undefined {
    const [first] = this.members.values();
    return first;
  }

  /** Sets through whom to join again when everybody known is lost. */
  setPeers(peers: readonly string[]): void {
    this.peers = peers;
    for (const member of this.members.values()) member.setPeers(peers);
  }

  private async add(name: string): Promise<number> {
    const { process, cluster, signer, verifier, random } = this.parts;
    const { site, listen, advertise, overlay, isOnNode } = this.settings;
    const node = cluster.node(name);
    const live: LiveSource = isOnNode ? () => ({ ...machineSource(), ...node.live() }) : () => node.live();
    const here = process.addresses;
    const near = here.length === 0 ? [] : Array.from({ length: introducers }, () => pick(random, here));
    const { agent, port } = await process.add(
      {
        components: {
          ...{ random, signer, verifier, store: node.store, liveSource: live },
          endPod: async (uid) => node.endPod(uid),
        },
        settings: { site, node: name, isOffering: true, overlay },
        ...{ view: node.view(), listen, advertise },
      },
      [...this.peers, ...near],
    );
    this.members.set(name, agent);
    node.store.follow({
      appeared: (claim) => agent.ledger.adopt(claim),
      vanished: (id) => agent.ledger.lose(id),
    });
    return port;
  }

  private refresh(name: string): void {
    const { cluster, process, logger } = this.parts;
    const member = this.members.get(name);
    const isThere = this.settings.isOnNode || cluster.has(name);
    if (member !== undefined && isThere) {
      member.update(cluster.node(name).view());
    } else if (member !== undefined) {
      this.members.delete(name);
      process.remove(member);
    } else if (isThere && !this.settings.isOnNode) {
      this.work = this.work
        .then(async () => {
          if (!this.members.has(name) && cluster.has(name)) await this.add(name);
        })
        .catch((error: unknown) => logger.error('Adding a node failed', { Node: name, reason: describeError(error) }));
    }
  }
}

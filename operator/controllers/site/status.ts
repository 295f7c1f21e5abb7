/** The status of a Site, computed in one pure place. */
import type { ConditionDefinition } from '#crds/conditions.ts';
import { networkIsolated, nodesReady, type Site, siteReady, type SiteStatus } from '#crds/site.ts';
import { type ConditionUpdate, findCondition, formatTime, updateConditions } from '#runtime/conditions.ts';
import type { Condition } from '#runtime/types.ts';
import type { PeerView } from '#operator/gateway/peers/peer-states.ts';
import type { NodeSummary, SiteRole } from './phases.ts';
import { isSame } from '../status-change.ts';
import type { Part } from './network/objects.ts';
import type { NetworkVerdict } from './network/progress.ts';

/** Everything that the status of a Site is computed from. */
export interface SiteScope {
  readonly site: Site;
  readonly role: SiteRole;
  readonly nodes: NodeSummary;
  /** Version of the API server, such as `v1.36.3`. */
  readonly kubernetesVersion: string;
  readonly xtreemosVersion: string;
  /** What the last test of the network came to; undefined before there was one. */
  readonly network: NetworkVerdict | undefined;
  /** What was last heard of a peer. */
  readonly peer: PeerView | undefined;
  /** What the local site is called. */
  readonly localName: string;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  /** `lastSeenTime` is refreshed when it is this old, milliseconds. */
  readonly heartbeatMs: number;
}

/** A condition before it is compared with the last one. */
type Finding = Omit<ConditionUpdate, 'observedGeneration'>;

/** Names of nodes that a message lists at most. */
const namesMax = 5;

/** What the status should be. Equal to the one before unless something changed or the heartbeat is due. */
export function computeStatus(scope: SiteScope): SiteStatus {
  const { site, role, nodes, xtreemosVersion } = scope;
  const before = site.status;
  const findings = findingsOf(scope);
  const common: SiteStatus = {
    ...(site.metadata.generation === undefined ? {} : { observedGeneration: site.metadata.generation }),
    conditions: updatedConditions(findings, scope),
    xtreemosVersion: role === 'peer' ? before?.xtreemosVersion : xtreemosVersion,
  };
  if (role === 'peer') return { ...common, ...peerFacts(scope) };
  if (role !== 'local') return common;
  const last = heartbeatRemainingMs(before, scope) > 0 ? before?.lastSeenTime : undefined;
  return {
    ...common,
    nodes: { count: nodes.count, ready: nodes.ready },
    capacity: nodes.capacity,
    allocatable: nodes.allocatable,
    kubernetesVersion: scope.kubernetesVersion,
    lastSeenTime: last ?? formatTime(scope.now),
  };
}

/** Milliseconds until `lastSeenTime` has to be refreshed; 0 when it is due or was never set, or lies in the future (a clock was set back). */
export function heartbeatRemainingMs(
  before: SiteStatus | undefined,
  { now, heartbeatMs }: Pick<SiteScope, 'now' | 'heartbeatMs'>,
): number {
  const last = Date.parse(before?.lastSeenTime ?? '');
  const age = now - last;
  return Number.isNaN(last) || age < -1000 || age >= heartbeatMs ? 0 : Math.min(heartbeatMs, heartbeatMs - age);
}

/** Whether there is anything to write. */
export function isStatusChanged(before: SiteStatus | undefined, after: SiteStatus): boolean {
  return !isSame(before, after);
}

/** The Ready condition of a status. */
export function readyCondition(status: SiteStatus | undefined): Condition | undefined {
  return findCondition(status?.conditions, siteReady.type);
}

/** What a status says of the network. */
export function networkCondition(status: SiteStatus | undefined): Condition | undefined {
  return findCondition(status?.conditions, networkIsolated.type);
}

function finding<R extends string>(
  definition: ConditionDefinition<string, R>,
  status: Finding['status'],
  reason: R,
  message: string,
): Finding {
  return { type: definition.type, status, reason, message };
}

function localFindings(nodes: NodeSummary): Finding[] {
  const { AllNodesReady, NoNodes, NoNodesReady, SomeNodesNotReady } = nodesReady.reasons;
  const { NodesAvailable, NoNodesAvailable } = siteReady.reasons;
  const ready =
    nodes.ready > 0
      ? finding(siteReady, 'True', NodesAvailable, 'The site can run work.')
      : finding(siteReady, 'False', NoNodesAvailable, 'No node can run work: each must be Ready and not cordoned.');
  if (nodes.count === 0) {
    return [ready, finding(nodesReady, 'False', NoNodes, 'The cluster has no node: add one.')];
  }
  if (nodes.unavailable.length === 0) {
    return [ready, finding(nodesReady, 'True', AllNodesReady, 'Every node is ready and schedulable.')];
  }
  const reason = nodes.ready > 0 ? SomeNodesNotReady : NoNodesReady;
  const message = `Not ready or not schedulable: ${listNames(nodes.unavailable)}.`;
  return [ready, finding(nodesReady, 'False', reason, message)];
}

/** What was found out about the network, or is still held true from before. */
function networkFinding({ site, network }: SiteScope): Finding {
  const { Enforced, Inconclusive, NotEnforced, NotOffered, NotTested } = networkIsolated.reasons;
  if (site.spec.type === 'Local' && site.spec.local.networkIsolation === 'NotOffered') {
    const message =
      'The owner of the site offers no closed networks: pods reach pods of others, nodes and the API server.';
    return finding(networkIsolated, 'False', NotOffered, message);
  }
  const before = networkCondition(site.status);
  const isKnown = before !== undefined && before.reason !== NotOffered;
  // Only a test that says otherwise ends a refusal: whoever could hinder tests could end it as well.
  const isHeld =
    isKnown && (network === undefined || (network.kind === 'Inconclusive' && before.reason === NotEnforced));
  if (isHeld) return { type: before.type, status: before.status, reason: before.reason, message: before.message };
  switch (network?.kind) {
    case undefined:
      return finding(networkIsolated, 'Unknown', NotTested, 'Whether NetworkPolicy is enforced was not tested yet.');
    case 'Inconclusive':
      return finding(networkIsolated, 'Unknown', Inconclusive, `NetworkPolicy could not be tested. ${network.message}`);
    case 'Enforced':
      return finding(networkIsolated, 'True', Enforced, 'NetworkPolicy is enforced.');
    case 'NotEnforced':
      return finding(networkIsolated, 'False', NotEnforced, notEnforced[network.denied]);
  }
}

const remedy =
  'Nothing new of virtual organizations starts. Install a network plug-in that enforces NetworkPolicy; it is tested again within the hour, and at once when the operator starts again. Or accept it as it is: spec.local.networkIsolation: NotOffered.';
const notEnforced: Readonly<Record<Part, string>> = {
  listener: `NetworkPolicy is not enforced: a pod to which every way is denied was reached. ${remedy}`,
  caller: `NetworkPolicy is not enforced: a pod from which every way is denied reached another one. ${remedy}`,
};

function listNames(names: readonly string[]): string {
  return names.length > namesMax ? `${names.slice(0, namesMax).join(', ')} and more` : names.join(', ');
}

function findingsOf(scope: SiteScope): Finding[] {
  switch (scope.role) {
    case 'local':
      return [...localFindings(scope.nodes), networkFinding(scope)];
    case 'peer':
      return peerFindings(scope);
    default:
      return strayFindings(scope);
  }
}

/** Of a Site that stands for nothing here. */
function strayFindings({ role, localName, site }: SiteScope): Finding[] {
  const unknown = finding(nodesReady, 'Unknown', nodesReady.reasons.NotThisSite, 'Its nodes are not known here.');
  if (role === 'foreign') {
    const message = `The local site of this cluster is ${JSON.stringify(localName)}: delete this Site, or use type Peer.`;
    return [finding(siteReady, 'False', siteReady.reasons.NotThisSite, message), unknown];
  }
  const message = `The local site is to be called ${site.metadata.name}: delete this peer and give it another name.`;
  return [finding(siteReady, 'False', siteReady.reasons.NameTaken, message), unknown];
}

function peerFindings({ site: { spec }, peer }: SiteScope): Finding[] {
  const { Connected, Connecting, Cut, Refused, Unreachable } = siteReady.reasons;
  const away = finding(nodesReady, 'Unknown', nodesReady.reasons.PeerAway, 'Its nodes are not known.');
  if (spec.type === 'Peer' && spec.peer.connection === 'Cut')
    return [finding(siteReady, 'False', Cut, 'The peer is cut off: set connection to Open to let it back.'), away];
  if (peer === undefined) return [finding(siteReady, 'Unknown', Connecting, 'The peer was not greeted yet.'), away];
  if (peer.state === 'Refused') return [finding(siteReady, 'False', Refused, peer.message), away];
  if (peer.state === 'Unreachable') return [finding(siteReady, 'False', Unreachable, peer.message), away];
  return [finding(siteReady, 'True', Connected, 'The peer answers.'), peerNodes(peer)];
}

/** As the peer tells of them. */
function peerNodes({ nodes, nodesReady: ready }: PeerView): Finding {
  const { AllNodesReady, NoNodes, NoNodesReady, SomeNodesNotReady } = nodesReady.reasons;
  if (nodes === 0) return finding(nodesReady, 'False', NoNodes, 'The peer has no node.');
  if (ready === nodes) return finding(nodesReady, 'True', AllNodesReady, 'Every node is ready and schedulable.');
  return finding(nodesReady, 'False', ready > 0 ? SomeNodesNotReady : NoNodesReady, 'The peer says that not all are.');
}

function peerFacts(scope: SiteScope): Partial<SiteStatus> {
  const { peer, site } = scope;
  const before = site.status;
  if (peer?.seenMs === undefined)
    return before?.lastSeenTime === undefined ? {} : { lastSeenTime: before.lastSeenTime };
  const isOld = heartbeatRemainingMs(before, scope) === 0;
  const lastSeenTime = isOld || before?.lastSeenTime === undefined ? formatTime(peer.seenMs) : before.lastSeenTime;
  const nodes = peer.state === 'Connected' ? { nodes: { count: peer.nodes, ready: peer.nodesReady } } : {};
  return { lastSeenTime, ...nodes, ...(peer.version === '' ? {} : { xtreemosVersion: peer.version }) };
}

/** The findings as conditions; the time of each moves only with its `status`. Conditions that we don't know are dropped. */
function updatedConditions(findings: readonly Finding[], { site, now }: SiteScope): Condition[] {
  const observedGeneration = site.metadata.generation;
  const updates = findings.map((found) => ({ ...found, observedGeneration }));
  return updateConditions(site.status?.conditions, updates, now);
}

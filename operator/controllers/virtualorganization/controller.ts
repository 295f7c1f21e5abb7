import type { Clock } from '#common/clock.ts';
import { isSamePrincipal } from '#common/identity/ids.ts';
import type { Logger } from '#common/logger.ts';
import type { Site } from '#crds/site.ts';
import { dissolved, tenancyReady } from '#crds/tenancy.ts';
import { type VirtualOrganization, virtualOrganizations } from '#crds/virtual-organization.ts';
import type { Node } from '#runtime/builtin.ts';
import { findCondition } from '#runtime/conditions.ts';
import {
  type Client,
  done,
  type EventRecorder,
  type Lister,
  type Reconciler,
  type Result,
} from '#runtime/contracts.ts';
import { NotFoundError } from '#runtime/errors.ts';
import { Finalizers } from '#runtime/finalizers.ts';
import { isDeleting, type ObjectKey, type Stored } from '#runtime/types.ts';
import { changedConditions } from '../status-change.ts';
import { type Acceptance, readAcceptance } from './acceptance.ts';
import type { Administrators } from './administrators.ts';
import type { ClusterFacts } from './cluster-facts.ts';
import type { OrganizationDecisions } from './decisions.ts';
import type { Dissolution, PatchSpec } from './dissolution.ts';
import { administratorRemoved, deletionNoted, organizationConditionChanged, removalNoted } from './events.ts';
import { decideRequest, type GovernanceFacts, type Verdict } from './governance.ts';
import { type IsolationPlan, isolationFactsOf, planIsolation } from './isolation.ts';
import type { VirtualOrganizationMetrics } from './metrics.ts';
import { type GatewayPods, type NetworkPlan, planNetwork, reservedRanges } from './network.ts';
import { planLimitRange, planQuota, closedQuota } from './quota.ts';
import { computeStatus, type Finding, isStatusChanged, type StatusScope, type TenancyStatus } from './status.ts';
import { namespaceOf } from './tenancy.ts';
import type { NamespaceState, TenancyWriter } from './tenancy-writer.ts';
import type { Workload } from './workload.ts';

/** Keeps a VirtualOrganization until it is dissolved. */
export const dissolutionFinalizer = 'xtreemos.io/dissolution';
/** Owner of the fields of the status that this controller writes; other controllers own the others. */
export const tenancyFieldManager = 'xtreemos-operator/tenancy';

/** What is not watched is looked at again after this time: namespaces of strangers, RuntimeClasses; milliseconds. */
const pollMs = 15_000;
/** Pods that are being ended are looked at again after this time, milliseconds. */
const drainPollMs = 2_000;

/** What the reconciler of VirtualOrganizations works with. */
export interface VirtualOrganizationParts {
  readonly organizations: Lister<VirtualOrganization>;
  readonly sites: Lister<Site>;
  readonly nodes: Lister<Node>;
  readonly administrators: Administrators;
  readonly facts: ClusterFacts;
  readonly writer: TenancyWriter;
  readonly workload: Workload;
  readonly dissolution: Dissolution;
  readonly client: Client;
  readonly events: EventRecorder;
  readonly decisions: OrganizationDecisions;
  readonly patchSpec: PatchSpec;
  readonly metrics: VirtualOrganizationMetrics;
  readonly clock: Clock;
  readonly log: Logger;
  /** Name of the local Site. */
  readonly localSite: string;
  /** Address ranges that nothing which is declared leads to, besides those that nodes tell. */
  readonly reservedRanges: readonly string[];
  readonly gateway: GatewayPods;
}

/** Everything that was read, once. */
interface Scope {
  readonly vo: Stored<VirtualOrganization>;
  readonly acceptance: Acceptance;
  readonly isolation: IsolationPlan;
  readonly network: NetworkPlan;
  readonly namespace: NamespaceState;
  readonly governance: GovernanceFacts;
}

/** What came of it. */
interface Outcome extends Pick<StatusScope, 'tenancy' | 'dissolution' | 'progress' | 'receipt'> {
  readonly requeueAfterMs?: number | undefined;
}

/**
 * Keeps the tenancy of every VirtualOrganization on this site: namespace, limits, network and rights while it lives and the site accepts it;
 * its orderly end. The cost of a change doesn't depend on the number of members. Level-based: safe at any time, any number of times.
 */
export class VirtualOrganizationReconciler implements Reconciler {
  private readonly parts: VirtualOrganizationParts;
  private readonly finalizers: Finalizers<VirtualOrganization>;

  constructor(parts: VirtualOrganizationParts) {
    this.parts = parts;
    this.finalizers = new Finalizers(parts.client.of(virtualOrganizations), dissolutionFinalizer);
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const vo = this.parts.organizations.get(key);
    this.parts.metrics.observe(this.parts.organizations.list());
    if (vo === undefined || (isDeleting(vo) && !this.finalizers.has(vo))) return done;
    if (await this.finalizers.ensure(vo, signal)) return done;
    this.parts.decisions.onSpec(vo);
    const scope = await this.gather(vo, signal);
    const outcome = await this.act(scope, signal);
    const status = this.statusOf(scope, outcome);
    if (isStatusChanged(vo, status, this.parts.localSite)) await this.writeStatus(vo, status, signal);
    if (isDeleting(vo) && outcome.dissolution.reason === dissolved.reasons.Complete) {
      this.parts.log.info('Letting VirtualOrganization go, it is dissolved', { VirtualOrganization: key.name });
      await this.finalizers.remove(vo, signal);
      return done;
    }
    return outcome.requeueAfterMs === undefined ? done : { requeueAfterMs: Math.max(1, outcome.requeueAfterMs) };
  }

  /** Every read, once. */
  private async gather(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<Scope> {
    const { sites, localSite, facts, writer, clock, administrators } = this.parts;
    const nodes = this.parts.nodes.list();
    const namespace = await writer.stateOf(vo, signal);
    const site = sites.get({ name: localSite });
    const acceptance = readAcceptance(vo, site, localSite, namespace === 'own');
    const hasRuntimeClass = await facts.hasRuntimeClass(acceptance.sandboxRuntimeClass, signal);
    const now = clock.now();
    const isSeen = vo.status?.observedGeneration === vo.metadata.generation;
    const since = isSeen ? Date.parse(vo.status?.generationTime ?? '') : now;
    return {
      vo,
      acceptance,
      isolation: planIsolation(vo, acceptance, isolationFactsOf(nodes, vo.metadata.name, hasRuntimeClass)),
      network: planNetwork(
        vo,
        reservedRanges(nodes, [...(await facts.apiServerAddresses(signal)), ...this.parts.reservedRanges]),
        this.parts.gateway,
      ),
      namespace,
      governance: {
        resolve: (userName) => administrators.resolve(vo, userName),
        since: Number.isNaN(since) ? now : since,
        now,
      },
    };
  }

  /** Dissolves what is to be dissolved, and keeps the rest. */
  private async act(scope: Scope, signal: AbortSignal): Promise<Outcome> {
    const { vo } = scope;
    if (vo.status?.dissolution !== undefined || isDeleting(vo)) return this.dissolve(scope, signal);
    const { spec } = vo;
    const isAsked = spec.dissolution !== undefined || spec.state === 'Dissolved';
    const verdict = isAsked ? decideRequest(vo, spec.dissolution ?? {}, scope.governance) : undefined;
    if (verdict?.kind === 'granted') return this.dissolve(scope, signal);
    const removalDueMs = await this.removeAdministrators(scope, signal);
    const kept = await this.keep(scope, signal);
    const due = [kept.requeueAfterMs, removalDueMs, verdict?.kind === 'waiting' ? verdict.remainingMs : undefined];
    return {
      ...kept,
      dissolution: requestFinding(verdict),
      progress: undefined,
      receipt: undefined,
      requeueAfterMs: soonest(due),
    };
  }

  private async dissolve({ vo, governance }: Scope, signal: AbortSignal): Promise<Outcome> {
    if (vo.status?.dissolution === undefined && isDeleting(vo)) this.parts.events.publish(deletionNoted(vo));
    const before = vo.status?.sites?.find(({ name }) => name === this.parts.localSite)?.receipt;
    const report = await this.parts.dissolution.advance(vo, before, governance.now, signal);
    const { reason, message, progress } = report;
    const isComplete = reason === dissolved.reasons.Complete;
    const wasComplete = findCondition(vo.status?.conditions, dissolved.type)?.status === 'True';
    if (isComplete && !wasComplete) this.parts.metrics.countDissolution();
    return {
      tenancy: {
        status: 'False',
        reason: report.isComplete ? tenancyReady.reasons.Removed : tenancyReady.reasons.Closed,
        message: report.isComplete ? 'It is dissolved.' : 'It is being dissolved: nothing new starts.',
      },
      dissolution: { status: isComplete ? 'True' : 'False', reason, message },
      progress,
      receipt: report.receipt ?? before,
      requeueAfterMs: report.requeueAfterMs,
    };
  }

  /** Everything that the virtual organization has here while it lives. */
  private async keep(scope: Scope, signal: AbortSignal): Promise<Pick<Outcome, 'tenancy' | 'requeueAfterMs'>> {
    const { vo, acceptance, isolation, network, namespace } = scope;
    const { reasons } = tenancyReady;
    if (!acceptance.isAccepted) return this.shut(scope, signal);
    if (!isolation.isPossible) {
      await this.parts.writer.close(vo, signal);
      return { tenancy: no(isolation.reason, isolation.message), requeueAfterMs: pollMs };
    }
    const isOpen = vo.spec.state === 'Operational';
    const plan = {
      vo,
      isolation,
      policies: network.policies,
      quota: isOpen ? planQuota(vo.spec.quota, acceptance.limits) : closedQuota,
      limits: planLimitRange(vo.spec.quota, acceptance.limits),
      owners: this.parts.administrators.subjects(vo),
    };
    const after = await this.parts.writer.write(plan, namespace, signal);
    const name = namespaceOf(vo.metadata.name);
    if (after === 'foreign') {
      const message = `Namespace ${name} was not made for this virtual organization and is left alone: whoever owns it removes it, or form one under another name.`;
      return { tenancy: no(reasons.NamespaceTaken, message), requeueAfterMs: pollMs };
    }
    if (after !== 'own') {
      const message = `Namespace ${name} is being deleted; a new one is made once it is gone.`;
      return { tenancy: no(reasons.NamespaceTerminating, message), requeueAfterMs: drainPollMs };
    }
    if (acceptance.network === 'Open') {
      const message = `Namespace ${name} is set up, but this site offers no closed network (spec.local.networkIsolation of its Site): pods of others reach its pods, and its pods nodes and others.`;
      return { tenancy: { status: 'True', reason: reasons.NetworkOpen, message } };
    }
    if (network.refused.length > 0) {
      const message = `Namespace ${name} is set up, but ${network.refused.join(', ')} of network.egress lie within addresses of the site itself and stay closed.`;
      return { tenancy: { status: 'True', reason: reasons.EgressRefused, message } };
    }
    return { tenancy: { status: 'True', reason: reasons.SetUp, message: `Namespace ${name} is set up.` } };
  }

  /** The site doesn't accept it: what it has stays, nothing runs. */
  private async shut(
    { vo, namespace, acceptance }: Scope,
    signal: AbortSignal,
  ): Promise<Pick<Outcome, 'tenancy' | 'requeueAfterMs'>> {
    const { reasons } = tenancyReady;
    if (namespace !== 'own')
      return { tenancy: no(reasons.NotAccepted, `Nothing is made for it. ${acceptance.message}`) };
    await this.parts.writer.close(vo, signal);
    await this.parts.workload.removeAccounts(vo, signal);
    const running = await this.parts.workload.endPods(vo, signal);
    if (running.length === 0) return { tenancy: no(reasons.Closed, 'Nothing of it runs here; ids and data are kept.') };
    return {
      tenancy: no(reasons.Closed, 'What runs is being ended; ids and data are kept.'),
      requeueAfterMs: drainPollMs,
    };
  }

  /** Drops administrators whose removal was asked for and granted. @returns milliseconds until another may be due. */
  private async removeAdministrators({ vo, governance }: Scope, signal: AbortSignal): Promise<number | undefined> {
    const { administrators } = vo.spec;
    let dueMs: number | undefined;
    for (const administrator of administrators) {
      if (administrator.removal === undefined) continue;
      const verdict = decideRequest(vo, administrator.removal, governance);
      if (verdict.kind !== 'granted' || administrators.length === 1) {
        const message =
          verdict.kind === 'granted' ? 'It is the last administrator: name another one first.' : verdict.message;
        this.parts.decisions.onRemoval(vo, administrator, message);
        this.parts.events.publish(removalNoted(vo, administrator, message));
        if (verdict.kind === 'waiting') dueMs = soonest([dueMs, verdict.remainingMs]);
        continue;
      }
      this.parts.decisions.onRemoval(vo, administrator, undefined);
      const rest = administrators.filter((each) => !isSamePrincipal(each, administrator));
      await this.parts.patchSpec(vo, { administrators: rest }, signal);
      this.parts.events.publish(administratorRemoved(vo, administrator));
      // One at a time: the write wakes us with what is left.
      return dueMs;
    }
    return dueMs;
  }

  private statusOf({ vo, acceptance, governance }: Scope, outcome: Outcome): TenancyStatus {
    const { since, now } = governance;
    return computeStatus({ vo, localSite: this.parts.localSite, acceptance, since, now, ...outcome });
  }

  /** One write of our own fields; an object that was deleted meanwhile needs none. */
  private async writeStatus(
    vo: Stored<VirtualOrganization>,
    status: TenancyStatus,
    signal: AbortSignal,
  ): Promise<void> {
    const { name, uid, resourceVersion } = vo.metadata;
    const { client, events, log, decisions } = this.parts;
    decisions.onStatus(vo, status);
    // There is one receipt: a second one, signed on an object that is older than the first, is refused by the API server.
    const isSigned = status.dissolution?.completedTime !== undefined;
    const isFirst = isSigned && vo.status?.dissolution?.completedTime === undefined;
    const metadata = isFirst ? { name, uid, resourceVersion } : { name, uid };
    try {
      const options = { signal, fieldManager: tenancyFieldManager };
      await client.of(virtualOrganizations).status.apply({ metadata, status }, options);
    } catch (error) {
      if (error instanceof NotFoundError) return;
      throw error;
    }
    for (const condition of changedConditions(vo.status, status)) {
      const { type, reason } = condition;
      log.info('VirtualOrganization changed', { VirtualOrganization: name, type, status: condition.status, reason });
      events.publish(organizationConditionChanged(vo, condition));
    }
  }
}

function no<R extends string>(reason: R, message: string): Finding<R> {
  return { status: 'False', reason, message };
}

function requestFinding(verdict: Verdict | undefined): Finding<keyof typeof dissolved.reasons> {
  const { reasons } = dissolved;
  if (verdict === undefined) return no(reasons.NotRequested, 'Nobody has asked for it.');
  if (verdict.kind === 'refused') return no(reasons.AwaitingApproval, verdict.message);
  return no(reasons.Delayed, verdict.kind === 'waiting' ? verdict.message : '');
}

function soonest(moments: readonly (number | undefined)[]): number | undefined {
  const known = moments.filter((moment) => moment !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

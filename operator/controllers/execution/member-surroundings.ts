import type { Clock } from '#common/clock.ts';
import type { Execution } from '#crds/execution.ts';
import type { jobAccepted } from '#crds/grid-job.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import { askForAccount, untilAnnotation } from '#operator/identity/accounts.ts';
import type { MemberFacts } from '#operator/identity/member-view.ts';
import type { Identities } from '#operator/identity/setup.ts';
import type { Namespace, Node, ServiceAccount } from '#runtime/builtin.ts';
import type { Client, Lister } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import type { TaskGateway } from './pod.ts';
import type { Homes } from './homes.ts';
import type { Surroundings, SurroundingsAnswer } from './surroundings.ts';

/** What the answers are read from. */
export interface MemberSurroundingsParts {
  readonly identities: Identities;
  /** ServiceAccounts of members. */
  readonly accounts: Lister<ServiceAccount>;
  /** Namespaces of virtual organizations. */
  readonly namespaces: Lister<Namespace>;
  readonly nodes: Lister<Node>;
  readonly homes: Homes;
  /** Where pods reach the gateway; undefined while it has no certificate. */
  readonly gateway: () => TaskGateway | undefined;
  readonly client: Client;
  readonly clock: Clock;
}

/** Why a member may not run something now. */
export interface MemberRefusal {
  readonly reason: keyof typeof jobAccepted.reasons;
  readonly message: string;
}

/** From the first pod on, pods keep the account; until then it is asked to stay this long. */
const accountNeededMs = 10 * 60_000;
/** Labels and annotations of the namespace of a virtual organization; the controller of VirtualOrganizations sets them. */
const namespaceKeys = {
  isolation: 'xtreemos.io/isolation',
  runtimeClass: 'xtreemos.io/runtime-class',
} as const;

/** The site's word on members and their jobs, from caches: who may run something, as whom, and in which surroundings. */
export class MemberSurroundings implements Surroundings {
  private readonly parts: MemberSurroundingsParts;

  constructor(parts: MemberSurroundingsParts) {
    this.parts = parts;
  }

  nodeExists(name: string): boolean {
    return this.parts.nodes.get({ name }) !== undefined;
  }

  /** Why the member may not run anything in this namespace now; undefined when they may. */
  refusalOf(namespace: string, userName: string | undefined): MemberRefusal | undefined {
    const facts = this.factsOf(namespace, userName);
    if (facts === undefined) {
      const message = `No membership here has the user name ${userName ?? '(none)'}: submit the job as a member.`;
      return { reason: 'MemberNotActive', message };
    }
    const { organization, standing } = facts;
    if (!standing.mayAct || standing.endsPods) return { reason: 'MemberNotActive', message: standing.ready.message };
    if (organization?.spec.state === 'Operational') return undefined;
    const state = organization?.spec.state ?? 'gone';
    const message = `The virtual organization is ${state}: an administrator sets its state to Operational.`;
    return { reason: 'VirtualOrganizationNotOperational', message };
  }

  /** Whether a member, who may act now, is in one of these groups. */
  isInGroup(namespace: string, userName: string | undefined, groups: readonly string[]): boolean {
    const mine = this.factsOf(namespace, userName)?.standing.groups ?? [];
    return mine.some((group) => groups.includes(group));
  }

  async of(execution: Stored<Execution>, signal: AbortSignal): Promise<SurroundingsAnswer> {
    const { namespace = '' } = execution.metadata;
    const { owner } = execution.spec;
    const refusal = this.refusalOf(namespace, owner);
    if (refusal !== undefined) return { status: 'refused', reason: refusal.message };
    const facts = this.factsOf(namespace, owner);
    if (facts?.identity === undefined || facts.organization === undefined) return { status: 'waiting' };
    if (!(await this.hasAccount(facts, namespace, owner, signal))) return { status: 'waiting' };
    const home = this.parts.namespaces.get({ name: namespace })?.metadata;
    const organization = organizationOfNamespace(namespace);
    const homed = await this.parts.homes.of(facts.membership, facts.organization, execution.spec, signal);
    if (homed.status !== 'ready') return homed;
    const gateway = execution.spec.gridAccess ? this.parts.gateway() : undefined;
    if (execution.spec.gridAccess && gateway === undefined) {
      return {
        status: 'refused',
        reason: 'The gateway of this site has no certificate yet, which tasks with gridAccess need.',
      };
    }
    // An annotation that is taken back may stay behind empty.
    const runtimeClass = home?.annotations?.[namespaceKeys.runtimeClass] ?? '';
    const isDedicated = home?.labels?.[namespaceKeys.isolation] === 'DedicatedNode';
    return {
      status: 'ready',
      surroundings: {
        site: this.parts.identities.localSite,
        uidMode: facts.organization.spec.identity.uidMode,
        runtimeClassName: runtimeClass === '' ? undefined : runtimeClass,
        dedicatedTo: isDedicated ? organization : undefined,
        gids: facts.identity.gids.map(({ gid }) => gid),
        home: homed.home,
        gateway,
      },
    };
  }

  /** Whether the account is there for long enough; asks for it when it isn't. */
  private async hasAccount(
    { membership }: MemberFacts,
    namespace: string,
    name: string,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { accounts, client, clock } = this.parts;
    const until = accounts.get({ namespace, name })?.metadata.annotations?.[untilAnnotation];
    if (until !== undefined && Date.parse(until) >= clock.now()) return true;
    await askForAccount(client, membership, clock.now() + accountNeededMs, signal);
    return false;
  }

  private factsOf(namespace: string, userName: string | undefined): MemberFacts | undefined {
    if (userName === undefined) return undefined;
    const membership = this.parts.identities.index.ofUserName(namespace, userName);
    return membership === undefined ? undefined : this.parts.identities.view.of(membership);
  }
}

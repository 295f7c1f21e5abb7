/** Who asks from within a task. The token says which pod it was made for; everything else is read from the API server, by uid. */
import type { Clock } from '#common/clock.ts';
import { type Execution, executionDefinition, executions } from '#crds/execution.ts';
import { gridAccessLabel, taskTokenAudience } from '#crds/grid-access.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import { type Pod, pods } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { type ReviewedUser, reviewToken } from '#runtime/token-review.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';
import type { Members } from '../members.ts';
import { Refusal } from '../refusal.ts';
import type { RequestContext } from '../server.ts';

/** A task that asks, as far as it matters: its job. */
export interface TaskCaller {
  readonly namespace: string;
  readonly job: Stored<GridJob>;
}

/** What callers are known by. */
export interface TaskCallersParts {
  /** Reads past every cache: what is gone has no say. */
  readonly client: Client;
  readonly members: Members;
  readonly clock: Clock;
}

/** A pod as a token names it. */
interface PodClaim {
  readonly namespace: string;
  readonly account: string;
  readonly name: string;
  readonly uid: string;
  /** Absent in tokens of older API servers. */
  readonly node: string | undefined;
}

/** What API servers say in a TokenReview of the pod that a token is bound to. */
const said = 'authentication.kubernetes.io';

/** Tells whose job asks. */
export class TaskCallers {
  private readonly parts: TaskCallersParts;

  constructor(parts: TaskCallersParts) {
    this.parts = parts;
  }

  /**
   * The job of the task that asks, when its pod runs, the job has `gridAccess`, and its member may do this.
   * @throws {Refusal} in all other cases.
   */
  async identify(context: RequestContext, action: string): Promise<TaskCaller> {
    const { client, members, clock } = this.parts;
    const { bearer, signal } = context;
    if (bearer === undefined) {
      throw new Refusal(
        'Unauthenticated',
        'Give the token of the task: Authorization: Bearer …; XTREEMOS_GATEWAY_TOKEN_FILE names its file.',
      );
    }
    const user = await reviewToken(client, bearer, { audience: taskTokenAudience, signal });
    if (user === undefined) {
      throw new Refusal(
        'Unauthenticated',
        'The token is not one of a task that runs: read it from its file anew, for it changes.',
        { reason: 'TokenInvalid' },
      );
    }
    const claim = claimOf(user);
    const member = members.ofUserName(claim.namespace, claim.account);
    if (member === undefined) throw notATask();
    const { issuer, subject } = member.membership.spec.principal;
    context.identify({ issuer, subject });
    const job = await this.jobOf(claim, signal);
    context.concern('ParentJob', job.metadata.name);
    members.demand(member, { name: action, nowMs: clock.now() });
    return { namespace: claim.namespace, job };
  }

  /** From the pod over its Execution to its job: each by name, and compared by uid with what names it. */
  private async jobOf(claim: PodClaim, signal: AbortSignal): Promise<Stored<GridJob>> {
    const { client } = this.parts;
    const { namespace, account } = claim;
    const pod = await client.of(pods).find({ namespace, name: claim.name }, { signal });
    if (pod === undefined || !isRunningAs(pod, claim)) throw podGone();
    const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller === true);
    if (owner?.kind !== executionDefinition.kind || pod.metadata.labels?.[gridAccessLabel] !== 'true') throw notATask();
    const execution = await client.of(executions).find({ namespace, name: owner.name }, { signal });
    if (execution?.metadata.uid !== owner.uid || execution.spec.owner !== account) throw podGone();
    return this.jobOfExecution(execution, claim, signal);
  }

  private async jobOfExecution(
    { spec }: Stored<Execution>,
    { namespace, account }: PodClaim,
    signal: AbortSignal,
  ): Promise<Stored<GridJob>> {
    const job = await this.parts.client.of(gridJobs).find({ namespace, name: spec.gridJob.name }, { signal });
    if (job?.metadata.uid !== spec.gridJob.uid || job.spec.owner !== account || isDeleting(job)) throw podGone();
    if (job.spec.gridAccess && spec.gridAccess) return job;
    throw new Refusal('Forbidden', `The job ${job.metadata.name} may not submit jobs: set spec.gridAccess in it.`, {
      reason: 'NoGridAccess',
    });
  }
}

function claimOf({ username = '', extra = {} }: ReviewedUser): PodClaim {
  const [, namespace, account] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(username) ?? [];
  const [name] = extra[`${said}/pod-name`] ?? [];
  const [uid] = extra[`${said}/pod-uid`] ?? [];
  if (namespace === undefined || account === undefined || name === undefined || uid === undefined) throw notATask();
  return { namespace, account, name, uid, node: extra[`${said}/node-name`]?.[0] };
}

/** A task may ask before its kubelet has told that it runs. */
const livePhases = new Set<string | undefined>(['Pending', 'Running']);

/** API servers believe a token for a while after its pod was deleted, and answers about it are kept: the pod itself is asked for. */
function isRunningAs(pod: Stored<Pod>, { uid, account, node }: PodClaim): boolean {
  const { spec, status } = pod;
  return (
    pod.metadata.uid === uid &&
    !isDeleting(pod) &&
    livePhases.has(status?.phase) &&
    spec?.serviceAccountName === account &&
    (node === undefined || spec.nodeName === node)
  );
}

function notATask(): Refusal {
  return new Refusal('Unauthenticated', 'The token is not bound to the pod of a task with access to the grid.', {
    reason: 'NotATask',
  });
}

function podGone(): Refusal {
  return new Refusal('Unauthenticated', 'The task that the token was made for does not run any more.', {
    reason: 'PodGone',
  });
}

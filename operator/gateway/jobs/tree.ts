/** Jobs that were submitted from within jobs: pure. */
import type { JobAnswer } from '#common/identity/gateway-api.ts';
import { jobTreeBounds, jobTreeLabel } from '#crds/grid-access.ts';
import type { GridJob } from '#crds/grid-job.ts';
import { below } from '#operator/controllers/gridjob/gates.ts';
import type { Stored } from '#runtime/types.ts';
import { Refusal } from '../refusal.ts';

/** Of a condition's message. */
const messageMax = 512;

/** The tree that a job is in, by the uid of the first of it. Nobody but the gateway writes the label (crds/src/policies/jobs.ts). */
export function treeOf({ metadata, spec }: Stored<GridJob>): string {
  return spec.parent === undefined ? metadata.uid : (metadata.labels?.[jobTreeLabel] ?? metadata.uid);
}

/** The jobs below one. @param tree - all that bear the label of its tree. */
export function belowIn(tree: readonly Stored<GridJob>[], job: Stored<GridJob>): Stored<GridJob>[] {
  const children = Map.groupBy(
    tree.filter(({ spec }) => spec.owner === job.spec.owner),
    ({ spec }) => spec.parent?.uid,
  );
  return below(job, ({ metadata }) => children.get(metadata.uid) ?? []);
}

/**
 * Checks that one more job may be made below another.
 * @param tree - all jobs that bear the label of its tree.
 * @param coming - jobs that are about to be made in it.
 * @throws {Refusal} when the tree is too deep or too large.
 */
export function checkRoom(tree: readonly Stored<GridJob>[], job: Stored<GridJob>, coming = 0): void {
  const { depthMax, jobsMax } = jobTreeBounds;
  const byUid = new Map(tree.map((each) => [each.metadata.uid, each]));
  let depth = 1;
  for (let { parent } = job.spec; parent !== undefined && depth <= depthMax; depth++) {
    ({ parent } = byUid.get(parent.uid)?.spec ?? {});
  }
  if (depth > depthMax) {
    throw new Refusal('Forbidden', `There are ${depthMax} jobs above this one already: submit it from a higher one.`, {
      reason: 'TreeTooDeep',
    });
  }
  if (tree.length + coming < jobsMax) return;
  throw new Refusal(
    'Forbidden',
    `There are ${jobsMax} jobs in this tree: wait for some, and have those that ended deleted (spec.ttlSecondsAfterFinished).`,
    { reason: 'TreeTooLarge' },
  );
}

/** What a task is told of a job. */
export function answerOf({ metadata, spec, status }: Stored<GridJob>): JobAnswer {
  const { name, uid, creationTimestamp } = metadata;
  const { owner = '', parent, signal, suspend, template, tasks, gridAccess } = spec;
  const { state, exitCode, startTime, completionTime, conditions = [] } = status ?? {};
  return {
    metadata: { name, uid, creationTimestamp },
    spec: {
      ...{ owner, parent, tasks: { count: tasks.count }, template: { image: template.image } },
      ...{ gridAccess, suspend, signal },
    },
    ...(status === undefined
      ? {}
      : {
          status: {
            ...{ state, exitCode, startTime, completionTime, tasks: countsOf(status) },
            conditions: conditions.map(({ type, status: is, reason, message, lastTransitionTime }) => ({
              ...{ type, status: is, reason, message: message.slice(0, messageMax), lastTransitionTime },
            })),
          },
        }),
  };
}

function countsOf({ tasks }: NonNullable<GridJob['status']>): NonNullable<JobAnswer['status']>['tasks'] {
  if (tasks === undefined) return undefined;
  const { waiting, starting, running, succeeded, failed } = tasks;
  return { waiting, starting, running, succeeded, failed };
}

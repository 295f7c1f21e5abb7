/** A part of a job that one site has another carry out: what is told of it, and what it is called there. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Principal } from '#common/identity/ids.ts';
import { type Execution, executionDefinition, type ExecutionSpec } from '#crds/execution.ts';
import { apiVersionOf } from '#crds/kind.ts';
import { keyOfRun } from '#operator/controllers/execution/observe.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import type { Stored } from '#runtime/types.ts';

/** How long ago a home may have heard of the site at most when it has something carried out. */
export const putAgeMaxMs = 15_000;

/** What is told of a part. The rest of an Execution is the business of the site where it runs. */
const told = z.looseObject({
  gridJob: z.looseObject({ name: z.string(), uid: z.string() }),
  owner: z.strictObject({ issuer: z.string(), subject: z.string() }),
  placements: z
    .array(z.looseObject({ run: z.string(), node: z.string(), tasks: z.string(), hold: z.string() }))
    .max(2048),
  isClosed: z.boolean(),
  volumes: z
    .array(z.looseObject({ volume: z.string(), mountPath: z.string() }))
    .max(64)
    .default([]),
  /** Of each volume by its name: what it has to be. */
  volumeIdentities: z.record(z.string(), z.string()).default({}),
  signal: z.object({ name: z.string(), sequence: z.int() }).optional(),
});

/** Why a home gives a run up that may still be there. */
const givenUpFor = ['SiteLost', 'SiteRefused', 'PodDeleted'];

/**
 * The part of an Execution that a site is to carry out, as JSON.
 * @param identityOf - what tells a Volume of a name from others; empty for one that the site can not have.
 * @param isGivenUp - whether the home has given a run of a task up: it may be elsewhere by now.
 */
export function partOf(
  { spec, status }: Execution,
  site: string,
  owner: Principal,
  identityOf: (volume: string) => string,
  isGivenUp: (run: string, index: number) => boolean,
): string {
  const written = new Set(
    (status?.tasks?.rows ?? [])
      .filter(({ state, reason = '' }) => state === 'Failed' && givenUpFor.includes(reason))
      .map(({ run = '', index }) => keyOfRun(run, index)),
  );
  const going = (run: string, tasks: string): string =>
    IndexSet.of(
      [...IndexSet.parse(tasks)].filter((index) => !written.has(keyOfRun(run, index)) && !isGivenUp(run, index)),
    ).toString();
  const { gridJob, taskCount, template, volumes, stdin, stdout, stderr, keepLogs, interactive, preemptible } = spec;
  const { signal, isClosed } = spec;
  const placements = spec.placements
    .filter((placement) => placement.site === site && placement.isEnding !== true)
    .map(({ tasks, run, node, hold, reservation, until }) => ({
      ...{ run, node, tasks: going(run, tasks), hold, reservation, until },
    }))
    .filter(({ tasks }) => tasks !== '');
  return JSON.stringify({
    ...{ gridJob: { name: gridJob.name, uid: gridJob.uid }, owner, taskCount, template, stdin, stdout, stderr },
    ...{ keepLogs, interactive, preemptible, signal, isClosed, placements, volumes },
    volumeIdentities: Object.fromEntries(volumes.map(({ volume }) => [volume, identityOf(volume)])),
  });
}

/** Who has the part carried out, and what it is there. */
export interface PartName {
  readonly home: string;
  readonly part: string;
  readonly job: string;
  readonly namespace: string;
  readonly revision: number;
}

/** A part as its home tells it. */
export type ToldPart = z.infer<typeof told>;

/** Reads what {@link partOf} wrote. @throws {z.ZodError} */
export function readPart(text: string): ToldPart {
  return told.parse(JSON.parse(text));
}

/**
 * The Execution that a site makes of a part. The API server checks every field against the schema of Executions.
 * @param owner - what the member is called here.
 */
export function hostedSpec(part: ToldPart, { home, part: id, revision }: PartName, owner: string): ExecutionSpec {
  const read = part as unknown as ExecutionSpec;
  const { taskCount, template, stdin, stdout, stderr, keepLogs, interactive, preemptible, signal } = read;
  const { isClosed, placements, volumes } = read;
  return {
    gridJob: { name: read.gridJob.name, uid: read.gridJob.uid, site: home },
    ...{ owner, taskCount, template, keepLogs, interactive, preemptible, isClosed, part: id, revision },
    // Children of a job are submitted at its home.
    ...{ volumes, failures: [], gridAccess: false },
    placements: placements.map(({ run, node, tasks, hold, reservation, until }) => ({
      ...{ run, node, tasks },
      ...(hold === undefined ? {} : { hold }),
      ...(reservation === undefined ? {} : { reservation }),
      ...(until === undefined ? {} : { until }),
    })),
    ...(stdin === undefined ? {} : { stdin }),
    ...(stdout === undefined ? {} : { stdout }),
    ...(stderr === undefined ? {} : { stderr }),
    ...(signal === undefined ? {} : { signal }),
  };
}

/** Name of the Execution of a part at the site that carries it out. */
export function hostedName({ home, part, job }: Pick<PartName, 'home' | 'part' | 'job'>): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([home, part]))
    .digest('hex')
    .slice(0, 10);
  return `${job.slice(0, 52)}-${hash}`;
}

/** A new Execution for a part. */
export function hostedExecution(name: PartName, spec: ExecutionSpec): Execution {
  return {
    apiVersion: apiVersionOf(executionDefinition),
    kind: executionDefinition.kind,
    metadata: { name: hostedName(name), namespace: name.namespace },
    spec,
  };
}

/** Whether an Execution is carried out for another site. */
export function isHosted(execution: Stored<Execution>): boolean {
  return execution.spec.part !== undefined;
}

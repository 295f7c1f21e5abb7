import { z } from 'zod';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import { conditions, defineCondition } from './conditions.ts';
import { gridJobDefinition, ownerName, taskSummary, tasksMax } from './grid-job.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import { taskTemplate, volumeFile, volumes } from './task-template.ts';
import { dnsLabel, flag, generation, integer, listMap, object, text, timestamp } from './vocabulary.ts';

/** Nodes that one Execution may place tasks on at the same time; a job with more goes on when some are done. */
export const placementsMax = 2_048;

/** Name of the only container in the pods of tasks. */
export const taskContainerName = 'task';

/** Labels of the pods of tasks. */
export const podLabels = {
  execution: 'xtreemos.io/execution',
  job: 'xtreemos.io/job',
  owner: 'xtreemos.io/owner',
  index: 'xtreemos.io/task-index',
  run: 'xtreemos.io/run',
  /** Read by the selector of the node: the hold that the pod runs under. */
  claim: 'xtreemos.io/claim',
} as const;

/** Whether the pods of the tasks are there. */
export const executionPlaced = defineCondition('Placed', 'Every task that was placed here has its pod.', {
  PodsCreated: 'Surfaces when every task placed here has its pod.',
  CreatingPods: 'Surfaces while pods are being made.',
  Refused: 'Surfaces when this site refuses a task or all; the message says why and what to change.',
  Fenced: 'Surfaces when the home site has not renewed the lease: the tasks were ended here.',
});

/** The summary of an Execution. */
export const executionSucceeded = defineCondition(
  'Succeeded',
  'Summary: every task of this part has succeeded. False when it has ended otherwise.',
  {
    AllTasksSucceeded: 'Surfaces when the part was closed and every task had succeeded.',
    InProgress: 'Surfaces as Unknown while the part has not ended.',
    TaskFailed: 'Surfaces when the part was closed and a task had failed.',
    Killed: 'Surfaces when the part was ended by its job.',
  },
);

const indices = text('Their indices as ranges, for example `0-4,7`.', {
  minLength: 1,
  maxLength: 65_536,
  pattern: /^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$/,
  patternMeans: 'use ranges such as 0-4,7',
});

const placement = object('Tasks on one node, under one hold of it.', {
  run: text('Name of this run of these tasks, unique in the Execution: part of the names of their pods.', {
    minLength: 1,
    maxLength: 8,
    pattern: /^[a-z0-9]+$/,
    patternMeans: 'use lower-case letters and digits',
  }),
  site: dnsLabel('Site of the node; this one when left out.').optional(),
  isEnding: z
    .boolean()
    .meta({ description: 'Whether the run at that site is to end; it stays here until that site says that it has.' })
    .optional(),
  node: text('Name of the node.', { minLength: 1, maxLength: 253 }),
  tasks: indices,
  hold: dnsLabel('Id of the hold of the node that the tasks run under.').optional(),
  reservation: dnsLabel('Name of the Claim with mode Reservation that the tasks draw from.').optional(),
  until: timestamp('When the tasks are over at the latest; the node has promised the place no longer.').optional(),
});

const failures = object('Tasks that failed equally often.', {
  count: integer('How often they failed.', { min: 1, max: 1_000 }),
  tasks: indices,
});

const spec = object(
  'The part of a GridJob that is placed on this site. Written by the job manager, or by the gateway for a job of a peer.',
  {
    gridJob: object('The job.', {
      name: dnsLabel('Its name.'),
      uid: text('Its uid.', { minLength: 1, maxLength: 64 }),
      site: dnsLabel('Its home site.'),
    }),
    owner: ownerName('The member who submitted the job.'),
    taskCount: integer('Number of tasks of the whole job.', { min: 1, max: tasksMax }),
    template: taskTemplate,
    volumes: volumes.default([]),
    stdin: volumeFile('File that tasks read as standard input.').optional(),
    stdout: volumeFile('File that standard output goes to, besides the log.').optional(),
    stderr: volumeFile('File that standard error goes to, besides the log.').optional(),
    keepLogs: flag('Whether the end of what each task writes is kept when its pod is gone.').default(true),
    interactive: z
      .boolean()
      .meta({ description: 'Whether tasks have a terminal and an open standard input.' })
      .default(false),
    preemptible: flag('Whether its tasks give way to reservations of their node.').default(false),
    gridAccess: flag('Whether its tasks get a token for the gateway.').default(false),
    placements: listMap(
      'Which tasks run on which node. A task that ended stays until it is placed again, or the job needs the room.',
      placement,
      { maxItems: placementsMax, keys: ['run'] },
    ).default([]),
    failures: listMap('How often tasks failed by themselves so far; a lost node does not count.', failures, {
      maxItems: 128,
      keys: ['count'],
    }).default([]),
    signal: object('A signal for the running tasks, sent once per sequence.', {
      name: text('Which one, for example `USR1`.', { minLength: 1, maxLength: 8 }),
      sequence: integer('Counts the signals.', { min: 1, max: 1_000_000 }),
    }).optional(),
    part: text('Identity of the part at the home site, where that is another one: uid of the Execution there.', {
      minLength: 1,
      maxLength: 64,
    }).optional(),
    revision: integer('Which change of it at the home site this is.', { min: 0, max: 2_147_483_647 }).optional(),
    fencedTime: timestamp('When the part was ended here because its home site had not renewed the lease.').optional(),
    isClosed: z
      .boolean()
      .meta({ description: 'Whether nothing of this part may run any more: what runs is ended.' })
      .default(false),
  },
);

const status = object('What this site observes.', {
  observedGeneration: generation('The `metadata.generation` that this status is about.').optional(),
  conditions: conditions.optional(),
  tasks: taskSummary.optional(),
  startTime: timestamp('When the first task started here.').optional(),
});

/** The part of a job on one site. */
export const executionDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'Execution',
  plural: 'executions',
  singular: 'execution',
  shortNames: ['gx'],
  categories: ['xtreemos'],
  namespaced: true,
  about: `An Execution is the part of a ${gridJobDefinition.kind} that is placed on one site. That site makes the pods, under its own rules. Members do not write it.`,
  spec,
  status,
  rules: [],
  columns: [
    { name: 'Job', type: 'string', jsonPath: '.spec.gridJob.name', description: 'The job.' },
    { name: 'Home', type: 'string', jsonPath: '.spec.gridJob.site', description: 'Its home site.' },
    { name: 'Owner', type: 'string', jsonPath: '.spec.owner', description: 'Who submitted it.' },
    { name: 'Running', type: 'integer', jsonPath: '.status.tasks.running', description: 'Tasks that run here.' },
    { name: 'Done', type: 'integer', jsonPath: '.status.tasks.succeeded', description: 'Tasks that succeeded here.' },
    { name: 'Failed', type: 'integer', jsonPath: '.status.tasks.failed', description: 'Tasks that failed here.' },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When it was made.' },
  ],
  conditions: [executionPlaced, executionSucceeded],
});

/** The desired state of an Execution. */
export type ExecutionSpec = z.infer<typeof spec>;
/** The observed state of an Execution. */
export type ExecutionStatus = z.infer<typeof status>;

/** An Execution object. */
export interface Execution extends KubeObject {
  spec: ExecutionSpec;
  status?: ExecutionStatus | undefined;
}

/** The kind Execution, for the runtime. */
export const executions: Kind<Execution> = runtimeKind<Execution>(executionDefinition);

import { z } from 'zod';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import { conditions, defineCondition } from './conditions.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import { jobPriorityLimit } from './organization.ts';
import { placement, rank, requirements } from './requirements.ts';
import { taskTemplate, volumeFile, volumes } from './task-template.ts';
import {
  choice,
  dnsLabel,
  flag,
  generation,
  integer,
  listAtomic,
  listMap,
  object,
  text,
  timestamp,
} from './vocabulary.ts';

/** Tasks of one job. */
export const tasksMax = 10_000;
/** Rows of the table of tasks in a status; larger jobs are summed up in ranges. */
export const taskRowsMax = 128;
/** Reasons why a job waits that a status lists. */
export const waitingReasonsMax = 32;
/** Tasks that give way end in this time; nodes reckon with it (noticeMs in selector/ledger/ledger.ts). */
const preemptibleGraceSecondsMax = 120;
/** Ranges of task indices as text: 10,000 single indices with commas take less. */
const indexRangesMaxLength = 65_536;
const userNameMaxLength = 32;

/** Signals that a job can be sent, and what they do. */
export const jobSignals = {
  TERM: 'the tasks are asked to end, and killed when they have not ended in `terminationGraceSeconds`; the job has ended.',
  KILL: 'the tasks are killed; the job has ended.',
};

/** Whether the job is well formed and its member and virtual organization may run it. */
export const jobAccepted = defineCondition(
  'Accepted',
  'The job may run: its member, virtual organization and site agree.',
  {
    Accepted: 'Surfaces when the member, the virtual organization and this site let the job run.',
    MemberNotActive: 'Surfaces when the member who submitted the job is suspended, expired or banned.',
    VirtualOrganizationNotOperational: 'Surfaces when the virtual organization is not Operational here.',
    JobLimitReached: 'Surfaces when as many jobs run or wait here as the site allows the virtual organization.',
    InvalidExpression:
      'Surfaces when an expression in `requirements.dynamic` or `rank` can not be evaluated; the message names it.',
    ReservationNotShared: 'Surfaces when the reservation is not shared with the member who submitted the job.',
    DependencyCycle: 'Surfaces when jobs depend on each other in a circle.',
  },
);

/** Whether nodes were found. */
export const jobMatched = defineCondition('Matched', 'Nodes were found for every task that is to run now.', {
  NodesFound: 'Surfaces when every task that is to run now has a node that offered itself.',
  Waiting:
    'Surfaces while the overlay has too few nodes that match and have room; `status.waiting` says why each refused.',
  NothingMatches: 'Surfaces when no node matches the static requirements at all: change them, or wait for other nodes.',
  WaitingForDependencies: 'Surfaces while a job in `dependsOn` has not come as far as was asked.',
  DependencyFailed: 'Surfaces when a job in `dependsOn` can no longer come as far as was asked.',
  WaitingForReservation: 'Surfaces while the reservation of the job does not exist, is not held, or has not begun.',
  WaitingForVolumes: 'Surfaces while a volume of the job is missing or not ready.',
  Suspended: 'Surfaces while `spec.suspend` is set.',
});

/** Whether the nodes hold resources for the tasks. */
export const jobClaimed = defineCondition('Claimed', 'The nodes hold resources for every task that is to run now.', {
  Claimed: 'Surfaces when each chosen node holds resources for its tasks.',
  NotClaimed: 'Surfaces while no node holds resources, or some refused and others are tried.',
});

/** Whether something runs. */
export const jobRunning = defineCondition('Running', 'At least one task runs.', {
  TasksRunning: 'Surfaces when at least one task runs.',
  NoTaskRunning: 'Surfaces when no task runs now.',
});

/** The summary of a job. */
export const jobSucceeded = defineCondition(
  'Succeeded',
  'Summary: every task has succeeded. False when the job has failed for good.',
  {
    AllTasksSucceeded: 'Surfaces when every task has ended with exit status 0.',
    InProgress: 'Surfaces as Unknown while the job has not ended.',
    TaskFailed: 'Surfaces when a task failed more often than `retries` allows, or a rule says that the job fails.',
    DeadlineExceeded: 'Surfaces when the job did not end within `deadlineSeconds`.',
    DependencyFailed: 'Surfaces when a job in `dependsOn` can no longer come as far as was asked.',
    ReservationOver: 'Surfaces when the last window of its reservation ended before the job.',
    Killed:
      'Surfaces when the job was ended by `xos kill`, by the end of its parent, or with its virtual organization.',
  },
);

/** Name of the member's account, as issued by the virtual organization. */
export const ownerName = (about: string): z.ZodString =>
  text(about, {
    minLength: 1,
    maxLength: userNameMaxLength,
    pattern: /^u-[a-z0-9]{1,16}-[0-9]{1,10}$/,
    patternMeans: 'use the user name of a member, such as u-alice-2013300123',
  });

const dependency = object('Another job and how far it must have come.', {
  job: dnsLabel('Name of the GridJob, in the same virtual organization.'),
  when: choice('How far it must have come.', {
    Succeeded: 'all its tasks have succeeded.',
    Failed: 'it has failed.',
    Started: 'a task of it has started.',
    Ended: 'it has ended, one way or the other.',
  }).default('Succeeded'),
  perIndex: z
    .boolean()
    .meta({ description: 'Whether each task waits for the task of the same index only, instead of the whole job.' })
    .default(false),
});

const failureRule = object('What follows from certain exit statuses.', {
  exitCodes: listAtomic('Exit statuses that the rule is for.', integer('One exit status.', { min: 1, max: 255 }), {
    maxItems: 64,
  }),
  action: choice('What happens.', {
    FailJob: 'the job fails at once.',
    FailTask: 'the task has failed and is not tried again.',
    Retry: 'the task is tried again, and it does not count against `limit`.',
  }),
});

const retries = object(
  'What happens when a task fails. A task whose node is lost is always started again, and it does not count.',
  {
    limit: integer('How often a task is tried again.', { min: 0, max: 100 }).default(0),
    backoffSeconds: integer('Wait before the first further try; it doubles each time, up to ten minutes.', {
      min: 0,
      max: 600,
    }).default(10),
    rules: listAtomic('Rules for exit statuses; the first that fits counts.', failureRule, { maxItems: 16 }).default(
      [],
    ),
  },
);

const tasks = object(
  'How many tasks there are and how they belong together.',
  {
    count: integer('Number of tasks. Each has its index, from 0.', { min: 1, max: tasksMax }).default(1),
    parallelism: integer('How many may run at the same time. All of them by default.', {
      min: 1,
      max: tasksMax,
    }).optional(),
    gangMinimum: integer(
      'Start only when so many tasks can run at the same time, over however many nodes; 0 starts each task as soon as it can.',
      { min: 0, max: tasksMax },
    ).default(0),
  },
  {
    rules: [
      {
        rule: 'self.gangMinimum <= self.count',
        message: 'gangMinimum must not be above count',
        fieldPath: '.gangMinimum',
      },
      {
        rule: '!has(self.parallelism) || self.gangMinimum <= self.parallelism',
        message: 'gangMinimum must not be above parallelism',
        fieldPath: '.gangMinimum',
      },
    ],
  },
);

const unchangeable = (field: string, isAlwaysThere = false): { rule: string; message: string; fieldPath: string } => ({
  // Each look-up of a field costs the API server time, at every write of a status too.
  rule: isAlwaysThere
    ? `self.${field} == oldSelf.${field}`
    : `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`,
  message: `${field} can not change: submit another job`,
  fieldPath: `.${field}`,
});

const spec = object(
  'What to run, and what it needs; never where.',
  {
    owner: ownerName(
      'Who submitted the job. Filled in on submission from the identity of the request; any other value is refused.',
    ).optional(),
    parent: object(
      'The job that this one was submitted from: it ends when that one is killed or deleted, and is suspended with it. Written by the gateway alone.',
      {
        job: dnsLabel('Name of the GridJob.'),
        uid: text('Its uid.', { minLength: 1, maxLength: 64 }),
      },
    ).optional(),
    tasks: tasks.default({ count: 1, gangMinimum: 0 }),
    template: taskTemplate,
    requirements: requirements.default({ static: [], dynamic: [] }),
    rank: rank.optional(),
    placement: placement.default({ spread: 'Pack' }),
    volumes: volumes.default([]),
    stdin: volumeFile('File that tasks read as standard input.').optional(),
    stdout: volumeFile('File that standard output goes to, besides the log.').optional(),
    stderr: volumeFile('File that standard error goes to, besides the log.').optional(),
    dependsOn: listMap('Jobs that must have come so far before this one starts.', dependency, {
      maxItems: 32,
      keys: ['job'],
    }).default([]),
    reservation: dnsLabel(
      'Name of a Reservation of the same virtual organization whose slots the tasks run in, while its window is open. Its requirements are those of the job.',
    ).optional(),
    preemptible: flag(
      'Whether its tasks give way: to reservations, for they may run where something is reserved for later, and to jobs of higher priority of the same virtual organization that have no room. They are ended, start again elsewhere, and that is no failure.',
    ).default(false),
    priority: integer(
      'Jobs of higher priority go first among those of the same virtual organization, and what is `preemptible` there and of lower priority gives way to them. Waiting adds to it, so that none waits for ever. Members may give at most what `jobs.priorityMax` of their virtual organization says.',
      { min: -jobPriorityLimit, max: jobPriorityLimit },
    ).default(0),
    suspend: z
      .boolean()
      .meta({ description: 'While set, nothing of the job runs: running tasks are ended and start again later.' })
      .default(false),
    signal: object('Ends the job. Raising `sequence` sends the signal again.', {
      name: choice('Which one.', jobSignals),
      sequence: integer('Counts the signals sent to this job.', { min: 1, max: 1_000_000 }),
    }).optional(),
    retries: retries.default({ limit: 0, backoffSeconds: 10, rules: [] }),
    deadlineSeconds: integer('The job fails when it has not ended so long after its first task started.', {
      min: 1,
      max: 31_536_000,
    }).optional(),
    ttlSecondsAfterFinished: integer('The job is deleted so long after its end. Without it, it stays.', {
      min: 0,
      max: 31_536_000,
    }).optional(),
    gridAccess: flag(
      'Whether its tasks may submit jobs below this one at the gateway, and list and control those. They get a token for that, and run at this site.',
    ).default(false),
    keepLogs: flag(
      'Whether the end of what each task writes is kept when its pod is gone, for as long as the job is there. Turn it off where output is a secret.',
    ).default(true),
    interactive: z
      .boolean()
      .meta({ description: 'Whether tasks have a terminal and an open standard input, for `xos attach`.' })
      .default(false),
  },
  {
    rules: [
      ...['owner', 'parent', 'rank', 'stdin', 'stdout', 'stderr', 'reservation'].map((field) => unchangeable(field)),
      ...['template', 'requirements', 'placement', 'volumes', 'dependsOn', 'retries', 'interactive']
        .concat('preemptible', 'keepLogs', 'gridAccess')
        .map((field) => unchangeable(field, true)),
      {
        rule: '!has(self.reservation) || (self.requirements.static.size() == 0 && self.requirements.dynamic.size() == 0 && !has(self.rank))',
        message: 'the nodes are those of the reservation: leave requirements and rank out',
        fieldPath: '.reservation',
      },
      {
        rule: '!has(self.reservation) || !self.preemptible',
        message: 'what runs in a reservation does not give way: leave preemptible out',
        fieldPath: '.preemptible',
      },
      {
        rule: `!self.preemptible || self.template.terminationGraceSeconds <= ${preemptibleGraceSecondsMax}`,
        message: `what gives way has to end soon: template.terminationGraceSeconds must be at most ${preemptibleGraceSecondsMax}`,
        fieldPath: '.template.terminationGraceSeconds',
      },
      {
        rule: 'self.tasks.count == oldSelf.tasks.count && self.tasks.gangMinimum == oldSelf.tasks.gangMinimum',
        message: 'tasks.count and tasks.gangMinimum can not change: submit another job',
        fieldPath: '.tasks',
      },
      {
        rule: '!has(self.signal) || !has(oldSelf.signal) || self.signal.sequence >= oldSelf.signal.sequence',
        message: 'signal.sequence can only grow',
        fieldPath: '.signal',
      },
      {
        rule: '!(has(self.stdin) || has(self.stdout) || has(self.stderr)) || self.template.command.size() > 0',
        message:
          'stdin, stdout and stderr need template.command: a shell of the image (/bin/sh) opens the files and becomes that program',
        fieldPath: '.template.command',
      },
      ...['stdin', 'stdout', 'stderr'].map((field) => ({
        rule: `!has(self.${field}) || self.volumes.exists(mounted, mounted.volume == self.${field}.volume)`,
        message: `${field}.volume must be one of the volumes of the job`,
        fieldPath: `.${field}`,
      })),
    ],
  },
);

const indexRanges = (about: string): z.ZodString =>
  text(`${about} As ranges, for example \`0-4,7\`.`, {
    maxLength: indexRangesMaxLength,
    pattern: /^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$/,
  });

const counter = (about: string): z.ZodInt => integer(about, { min: 0, max: tasksMax });

/** States of a task, as `xos ps` shows them. */
export const taskState = choice('Where the task stands.', {
  Waiting: 'it has no node yet.',
  Starting: 'it has a node, and its container is being made.',
  Running: 'it runs.',
  Succeeded: 'it ended with exit status 0.',
  Failed: 'it failed for good.',
  Killed: 'it was ended from outside for good.',
});

const taskRow = object('One task.', {
  index: counter('Its index.'),
  state: taskState,
  site: dnsLabel('Site it runs, or last ran, at.').optional(),
  node: text('Node it runs, or last ran, on.', { maxLength: 253 }).optional(),
  pod: text('Name of its pod.', { maxLength: 253 }).optional(),
  run: text('Which of its runs this is about, as `placements` of the Execution call it.', { maxLength: 8 }).optional(),
  exitCode: integer('Exit status of its last run.', { min: 0, max: 255 }).optional(),
  reason: text('Why it is in this state, as one word.', { maxLength: 128 }).optional(),
  message: text('Why, as a sentence.', { maxLength: 1_024 }).optional(),
  startTime: timestamp('When its last run started.').optional(),
  endTime: timestamp('When its last run ended.').optional(),
});

/** `status.tasks` of a job: numbers, ranges and, as far as there is room, rows. */
export const taskSummary = object('Where the tasks stand.', {
  waiting: counter('Tasks without a node.'),
  starting: counter('Tasks with a node that do not run yet.'),
  running: counter('Tasks that run.'),
  succeeded: counter('Tasks that ended with exit status 0.'),
  failed: counter('Tasks that failed for good.'),
  succeededIndexes: indexRanges('Tasks that succeeded.').optional(),
  failedIndexes: indexRanges('Tasks that failed for good.').optional(),
  rows: listMap(`Single tasks: those that run or failed first, at most ${taskRowsMax}.`, taskRow, {
    maxItems: taskRowsMax,
    keys: ['index'],
  }).default([]),
});

const refusal = object('Nodes that refused for one reason.', {
  site: dnsLabel('Their site.'),
  reason: text('Why, as a sentence of the nodes themselves.', { minLength: 1, maxLength: 256 }),
  nodes: integer('How many they are.', { min: 1, max: 1_000_000 }),
  remedy: text('What would help.', { maxLength: 512 }).optional(),
});

/** `status.waiting` of jobs and reservations. */
export const waitingReasons = (about: string): z.ZodArray<typeof refusal> =>
  listMap(about, refusal, { maxItems: waitingReasonsMax, keys: ['site', 'reason'] });

const status = object('What the operator observes. Only the operator writes it.', {
  observedGeneration: generation('The `metadata.generation` that this status is about.').optional(),
  conditions: conditions.optional(),
  state: choice('The state in one word, for lists.', {
    Waiting: 'nothing runs yet, or no more for now.',
    Running: 'at least one task runs or starts.',
    Suspended: 'it is suspended.',
    Succeeded: 'it has succeeded.',
    Failed: 'it has failed.',
    Killed: 'it was ended from outside.',
  }).optional(),
  tasks: taskSummary.optional(),
  waiting: waitingReasons('Why tasks wait, from the nodes that refused.').optional(),
  expectedStartTime: timestamp(
    'When tasks that wait are expected to start, where the window of a reservation or the deadline of what runs tells.',
  ).optional(),
  executions: listMap(
    'The parts of the job, one per site.',
    object('One part.', {
      site: dnsLabel('The site.'),
      name: dnsLabel('Name of the Execution there.'),
      tasks: counter('Tasks placed there now.'),
    }),
    { maxItems: 64, keys: ['site'] },
  ).optional(),
  exitCode: integer('Exit status of the job: of its only task, or the first that is not 0.', {
    min: 0,
    max: 255,
  }).optional(),
  startTime: timestamp('When its first task started.').optional(),
  completionTime: timestamp('When it ended.').optional(),
});

/** A job. */
export const gridJobDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'GridJob',
  plural: 'gridjobs',
  singular: 'gridjob',
  shortNames: ['gj'],
  categories: ['xtreemos', 'all'],
  namespaced: true,
  about:
    'A GridJob says what to run and what it needs, never where. It places itself: it asks the overlay of selectors for nodes that match, and the nodes themselves promise it resources. It belongs to the member who submits it, and runs as that member.',
  spec,
  status,
  rules: [
    {
      rule: 'self.metadata.name.size() <= 52',
      message: 'a GridJob is named in the names of its pods, so its name must have at most 52 characters',
    },
  ],
  columns: [
    { name: 'Owner', type: 'string', jsonPath: '.spec.owner', description: 'Who submitted it.' },
    { name: 'State', type: 'string', jsonPath: '.status.state', description: 'Where it stands.' },
    { name: 'Tasks', type: 'integer', jsonPath: '.spec.tasks.count', description: 'How many tasks it has.' },
    { name: 'Running', type: 'integer', jsonPath: '.status.tasks.running', description: 'Tasks that run.' },
    { name: 'Done', type: 'integer', jsonPath: '.status.tasks.succeeded', description: 'Tasks that succeeded.' },
    {
      name: 'Failed',
      type: 'integer',
      jsonPath: '.status.tasks.failed',
      description: 'Tasks that failed.',
      priority: 1,
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Matched")].reason',
      description: 'Why it waits, or that it does not.',
      priority: 1,
    },
    { name: 'Exit', type: 'integer', jsonPath: '.status.exitCode', description: 'Exit status.' },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When it was submitted.' },
  ],
  conditions: [jobAccepted, jobMatched, jobClaimed, jobRunning, jobSucceeded],
});

/** The desired state of a GridJob. */
export type GridJobSpec = z.infer<typeof spec>;
/** The observed state of a GridJob. */
export type GridJobStatus = z.infer<typeof status>;
/** One row of the table of tasks. */
export type TaskRow = z.infer<typeof taskRow>;

/** A GridJob object. */
export interface GridJob extends KubeObject {
  spec: GridJobSpec;
  status?: GridJobStatus | undefined;
}

/** The kind GridJob, for the runtime. */
export const gridJobs: Kind<GridJob> = runtimeKind<GridJob>(gridJobDefinition);

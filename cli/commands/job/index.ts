/** Declarations of the commands for jobs, which are called like those of Unix and batch systems. */
import { type Area, defineCommand } from '../../frame/command.ts';
import {
  choice,
  dryRunOption,
  duration,
  flag,
  optional,
  organizationOptions,
  outputOption,
  required,
  seconds,
  several,
  texts,
  waitOptions,
  whole,
  word,
  words,
} from '../../frame/options.ts';

const jobArgument = { job: required('Name of the job', 'job') };
const jobsArgument = { jobs: several('Names of jobs', 'job') };
const tasksMax = 10_000;

/** Which nodes, and what is taken of them. */
const wishes = {
  cpu: word('CPU of each, for example 2 or 500m', 'QUANTITY'),
  memory: word('Memory of each, for example 4Gi', 'QUANTITY'),
  device: words('Devices of each, for example example.org/gpu=1', 'RESOURCE[=COUNT]'),
  require: texts('What an attribute of the node must be, for example arch=amd64 or memory>=16Gi', 'REQUIREMENT'),
  where: texts('What must hold on the node at the moment: CEL over free, live and node', 'EXPRESSION'),
  site: words('Only at these sites', 'SITE'),
};
const needs = {
  ...wishes,
  rank: word('Which nodes are better: CEL that is a number, higher is better', 'EXPRESSION'),
  spread: flag('Over many nodes instead of few'),
};

/** What `xos run` and `xos sub` share. */
const draft = {
  file: word('Manifest with a GridJob instead of IMAGE; - reads stdin', 'FILE', { short: 'f', complete: 'file' }),
  name: word('Name of the job; default: that of the program and random letters', 'NAME'),
  tasks: whole('How many tasks; each has its index in XTREEMOS_TASK_INDEX', { min: 1, max: tasksMax }, 1),
  parallelism: whole('How many may run at the same time', { min: 1, max: tasksMax }, undefined),
  gang: whole('Start only when so many can run at the same time', { min: 1, max: tasksMax }, undefined),
  ...needs,
  env: texts('Variable of the tasks', 'NAME=VALUE'),
  workingDir: word('Folder that the program starts in', 'PATH'),
  volume: words('Volume and where tasks see it', 'VOLUME[/FOLDER]:/PATH[:ro]'),
  stdin: word('File in a volume to read from', 'VOLUME:PATH'),
  stdout: word('File in a volume for the output; %t becomes the index of the task', 'VOLUME:PATH'),
  stderr: word('File in a volume for the error output', 'VOLUME:PATH'),
  after: words('Wait for another job, to be Succeeded if nothing else is said', 'JOB[:WHEN]'),
  reservation: word('Run in a reservation', 'NAME'),
  preemptible: flag(
    "Give way to reservations and to your organization's jobs of higher priority, and start again elsewhere",
  ),
  priority: whole('Goes before your jobs with less', { min: -1000, max: 1000 }, undefined),
  retries: whole('How often a task that fails is tried again', { min: 0, max: 100 }, undefined),
  deadline: seconds('Fail when it has not ended so long after its start'),
  ttl: seconds('Delete it so long after its end'),
  grace: seconds('How long a task has to end after SIGTERM; default: 30s'),
  interactive: flag('Give tasks a terminal, for xos attach', { short: 'i' }),
  gridAccess: flag('Let tasks submit jobs below it, by xos or the gateway'),
  ...organizationOptions,
};
const program = {
  image: optional('Image of the container'),
  command: { ...several('Program and arguments, after --'), isRequired: false },
};

const run = defineCommand({
  path: 'run',
  about: 'Run a job and follow it: its output is shown, its exit status passed on',
  details: `The job places itself on a node that has room, at any site that takes part. Ctrl-C ends it; xos sub submits without waiting.

With several tasks, each line begins with the index of its task.`,
  args: program,
  options: draft,
  examples: [
    { does: 'one command', line: "run busybox:1 -- sh -c 'id; hostname'" },
    {
      does: 'ten tasks on machines of one kind',
      line: "run --tasks 10 --require arch=amd64 busybox:1 -- sh -c 'echo $XTREEMOS_TASK_INDEX'",
    },
    { does: 'from a manifest', line: 'run --file job.yaml' },
  ],
  load: async () => (await import('./submit.ts')).run,
});

const sub = defineCommand({
  path: 'sub',
  about: 'Submit jobs and print their names',
  args: program,
  options: { ...draft, ...dryRunOption, ...outputOption },
  examples: [
    { does: 'keep the name', line: 'sub --cpu 2 --memory 4Gi busybox:1 -- sleep 60' },
    { does: 'when another has succeeded', line: 'sub --after calibration busybox:1 -- true' },
    { does: 'see what the server makes of a manifest', line: 'sub --file job.yaml --dry-run -o yaml' },
  ],
  load: async () => (await import('./submit.ts')).sub,
});

const ps = defineCommand({
  path: 'ps',
  about: 'List jobs as a tree, your own if nothing else is said',
  args: {},
  options: {
    everyone: flag('Of all members', { short: 'e' }),
    all: flag('Also those that ended', { short: 'a' }),
    full: flag('With what they run', { short: 'f' }),
    user: word('Of this member: alice, or the whole user name', 'USER', { short: 'u' }),
    watch: flag('Go on showing changes', { short: 'w' }),
    ...outputOption,
    ...organizationOptions,
  },
  examples: [
    { does: 'your jobs', line: 'ps' },
    { does: 'those of everyone with their commands', line: 'ps -ef' },
    { does: 'names for a script', line: 'ps -o name' },
  ],
  load: async () => (await import('./show.ts')).ps,
});

const top = defineCommand({
  path: 'top',
  about: 'Show what running tasks use of CPU and memory, and go on doing so on a terminal',
  details:
    'The figures are read in each container by its own /bin/sh, as its owner: of the tasks of others you see that they run.',
  args: { jobs: { ...several('Names of jobs; default: all your own', 'job'), isRequired: false } },
  options: {
    everyone: flag('Of all members', { short: 'e' }),
    ...outputOption,
    ...organizationOptions,
  },
  examples: [
    { does: 'your tasks, the hungriest first', line: 'top' },
    { does: 'once, for a script', line: 'top analysis -o json' },
  ],
  load: async () => (await import('./top.ts')).top,
});

const explain = defineCommand({
  path: 'explain',
  about: 'Show where a job stands, why it waits and what would help',
  args: jobArgument,
  options: { ...outputOption, ...organizationOptions },
  examples: [{ does: 'why it does not start', line: 'explain analysis' }],
  load: async () => (await import('./show.ts')).explainJob,
});

const logs = defineCommand({
  path: 'logs',
  about: 'Show what tasks have said',
  args: {
    job: jobArgument.job,
    tasks: { ...several('Indices of tasks, such as 3 or 0-9; default: all'), isRequired: false },
  },
  options: {
    follow: flag('Go on until the job ends', { short: 'f' }),
    tail: whole('Only so many last lines of each', { min: 0, max: 1_000_000 }, undefined),
    timestamps: flag('With the time of each line'),
    ...organizationOptions,
  },
  examples: [
    { does: 'all of it', line: 'logs analysis' },
    { does: 'the third task, as it goes on', line: 'logs -f analysis 2' },
  ],
  load: async () => (await import('./logs.ts')).logs,
});

const wait = defineCommand({
  path: 'wait',
  about: 'Wait for jobs; the exit status is the first of theirs that is not 0',
  details:
    'A job whose tasks may submit others has ended when those have ended too; their exit statuses are its own affair.',
  args: jobsArgument,
  options: {
    for: choice('How far they must have come', 'WHEN', ['Started', 'Ended'], 'Ended'),
    timeout: duration('How long to wait at most', '365d'),
    ...organizationOptions,
  },
  examples: [{ does: 'submit and wait', line: 'wait $(xos sub busybox:1 -- sleep 5)' }],
  load: async () => (await import('./wait.ts')).wait,
});

const control = { ...waitOptions, ...organizationOptions };

const kill = defineCommand({
  path: 'kill',
  about: 'Send jobs a signal, TERM if no other is named',
  details:
    'TERM and KILL end the job, and those that were submitted from within it, also after its own end. HUP, INT, QUIT, USR1 and USR2 are handed to the first process of each running task, by /bin/sh of its image; what the process does not handle is dropped.',
  args: jobsArgument,
  options: {
    signal: {
      ...word('TERM, KILL, HUP, INT, QUIT, USR1 or USR2; also as -TERM, -9', 'SIGNAL', { short: 's' }),
      fallback: 'TERM',
    },
    ...control,
  },
  // The flags of the command itself stay what they are.
  rewrite: (given) =>
    given.flatMap((one) =>
      /^-(?:[0-9]{1,2}|(?:SIG)?[A-Z][A-Z0-9]{2,})$/.test(one) ? ['--signal', one.slice(1)] : [one],
    ),
  examples: [
    { does: 'ask it to end', line: 'kill analysis' },
    { does: 'end it at once', line: 'kill -9 analysis' },
    { does: 'tell its tasks to read their settings again', line: 'kill -HUP analysis' },
  ],
  load: async () => (await import('./signals.ts')).kill,
});

const suspend = defineCommand({
  path: 'suspend',
  about: 'Stop jobs for now: running tasks end and start again later',
  args: jobsArgument,
  options: control,
  examples: [{ does: 'make room', line: 'suspend analysis --wait' }],
  load: async () => (await import('./signals.ts')).suspend,
});

const resume = defineCommand({
  path: 'resume',
  about: 'Let suspended jobs go on',
  args: jobsArgument,
  options: control,
  examples: [{ does: 'go on', line: 'resume analysis' }],
  load: async () => (await import('./signals.ts')).resume,
});

const taskOption = {
  task: whole('Index of the task; default: the only one that runs', { min: 0, max: tasksMax - 1 }, undefined),
};

const exec = defineCommand({
  path: 'exec',
  about: 'Run a command beside a running task, in its container',
  args: { job: jobArgument.job, command: several('Program and arguments, after --') },
  options: {
    ...taskOption,
    stdin: flag('Pass standard input on', { short: 'i' }),
    tty: flag('With a terminal', { short: 't' }),
    ...organizationOptions,
  },
  examples: [
    { does: 'a shell', line: 'exec -it analysis -- sh' },
    { does: 'look into one of many tasks', line: 'exec analysis --task 3 -- ls /tmp' },
  ],
  load: async () => (await import('./connect.ts')).exec,
});

const attach = defineCommand({
  path: 'attach',
  about: 'Connect your terminal to a running task',
  details: 'What you type reaches tasks of jobs that were submitted with --interactive.',
  args: jobArgument,
  options: { ...taskOption, ...organizationOptions },
  examples: [{ does: 'type to a shell that runs as a job', line: 'attach shell' }],
  load: async () => (await import('./connect.ts')).attach,
});

const nodes = defineCommand({
  path: 'nodes',
  about: 'Show which nodes would take some work now, and why others would not',
  details:
    'The gateway asks the overlay of selectors as a job would, and nothing is held. It needs a session: xos login. With -o wide, each node shows its attributes, which --require can name.',
  args: {},
  options: {
    ...wishes,
    limit: whole('How many nodes are enough', { min: 1, max: 200 }, 50),
    at: word('Ask the gateway of this site; default: the only one you are logged in at', 'SITE'),
    ...outputOption,
    ...organizationOptions,
  },
  examples: [
    { does: 'what there is, with attributes', line: 'nodes -o wide' },
    { does: 'before submitting', line: 'nodes --cpu 2 --memory 8Gi --require arch=amd64 --where "live.load1 < 4.0"' },
  ],
  load: async () => (await import('./nodes.ts')).nodes,
});

const reserve = defineCommand({
  path: 'reserve',
  about: 'Keep slots on nodes for a window of time: all of them or none',
  details: 'CPU, memory and devices are those of each slot. A job runs in it with --reservation NAME.',
  args: { name: required('Name of the reservation') },
  options: {
    slots: whole('How many slots', { min: 1, max: tasksMax }, 1),
    start: word('When it begins: a time, or a duration from now; default: at once', 'WHEN'),
    end: word('When it ends', 'WHEN'),
    for: seconds('How long it lasts, instead of --end'),
    every: choice('Again and again', 'PERIOD', ['Day', 'Week'], undefined),
    until: word('No window begins after this', 'WHEN'),
    atStart: choice('What becomes of work that gives way', 'MODE', ['Preempt', 'Drain'], undefined),
    group: words('Share it with these groups', 'GROUP', { complete: 'group' }),
    member: words('Share it with these members, by user name', 'USER'),
    ...needs,
    ...dryRunOption,
    ...waitOptions,
    ...outputOption,
    ...organizationOptions,
  },
  examples: [
    {
      does: 'four slots tomorrow',
      line: 'reserve beamtime --slots 4 --cpu 2 --memory 4Gi --start 24h --for 2h --wait',
    },
    {
      does: 'every night',
      line: 'reserve nightly --cpu 1 --start 2026-12-01T22:00:00Z --for 6h --every day --until 2026-12-31',
    },
  ],
  load: async () => (await import('./reserve.ts')).reserve,
});

/** Jobs and reservations. */
export const jobArea: Area = {
  title: 'Jobs and reservations',
  commands: [run, sub, ps, top, explain, logs, wait, kill, suspend, resume, exec, attach, nodes, reserve],
};

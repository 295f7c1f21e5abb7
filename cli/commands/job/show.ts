import type { GridJob } from '#crds/grid-job.ts';
import type { JobApi } from '../../api/job-api.ts';
import { withJobs } from '../../api/jobs.ts';
import type { OrganizationInput } from '../../api/organizations.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { conditionFacts } from '../../output/conditions.ts';
import { printList, printObject } from '../../output/print.ts';
import { type Column, formatFacts, formatTable } from '../../output/table.ts';
import { findJob } from './find.ts';
import { commandOf, jobPrinting, treeOf, type TreeRow } from './printing.ts';
import { hasEnded, stateLine } from './state.ts';

const watchMs = 1000;

interface PsInput extends OrganizationInput {
  readonly everyone: boolean;
  readonly all: boolean;
  readonly full: boolean;
  readonly user: string | undefined;
  readonly watch: boolean;
  readonly output: OutputFormat;
}

/** `xos ps`. */
export async function ps(context: Context, input: PsInput): Promise<void> {
  const { terminal, clock, signal } = context;
  return withJobs(context, input, async (api) => {
    const owner = await ownerOf(api, input);
    if (!input.watch) return printJobs(context, api, input, owner);
    for (let last = ''; ;) {
      const { text } = await psTable(context, api, input, owner);
      if (text !== last && terminal.isInteractive) terminal.redraw(text);
      else if (text !== last) terminal.print(text);
      last = text;
      await clock.sleep(watchMs, signal);
    }
  });
}

/** Whose jobs are meant: undefined for everyone's. Who is no member has none, and sees all. */
export async function ownerOf(
  api: JobApi,
  { everyone, user }: { readonly everyone: boolean; readonly user?: string | undefined },
): Promise<string | undefined> {
  if (everyone) return undefined;
  return user ?? api.userName();
}

/** Prints the jobs of `owner`, or of everyone. */
export async function printJobs(
  context: Context,
  api: JobApi,
  input: PsInput,
  owner: string | undefined,
): Promise<void> {
  const { terminal, clock, program } = context;
  const { shown, text, hidden } = await psTable(context, api, input, owner);
  if (input.output === 'table' || input.output === 'wide') {
    if (shown.length > 0) terminal.print(text);
  } else await printList(terminal, input.output, shown, jobPrinting(clock.now()));
  if (hidden > 0) terminal.hint(`${hidden} that ended ${hidden === 1 ? 'is' : 'are'} not shown: ${program} ps --all`);
  else if (shown.length === 0) terminal.hint(`No jobs. Run one: ${program} run IMAGE -- COMMAND`);
}

interface Shown {
  readonly shown: readonly GridJob[];
  readonly hidden: number;
  readonly text: string;
}

async function psTable(
  { terminal, clock, signal }: Context,
  { jobs, namespace }: JobApi,
  input: PsInput,
  owner: string | undefined,
): Promise<Shown> {
  const { items } = await jobs.list({ namespace, signal });
  const wanted = items.filter(({ spec }) => owner === undefined || spec.owner === owner || isOf(spec.owner, owner));
  const shown = input.all ? wanted : wanted.filter((job) => !hasEnded(job));
  const { columns } = jobPrinting(clock.now(), input.full);
  const rows = columns.map((column, index): Column<TreeRow> => ({
    name: column.name,
    isWide: column.isWide ?? false,
    value: ({ job, depth }) => `${index === 0 ? branchOf(depth) : ''}${column.value(job) ?? '-'}`,
  }));
  const heading = (line: string): string => terminal.heading(line);
  const tree = treeOf(shown);
  const text = formatTable(tree, rows, { isWide: input.output === 'wide', heading });
  return { shown: tree.map(({ job }) => job), hidden: wanted.length - shown.length, text };
}

function branchOf(depth: number): string {
  return depth === 0 ? '' : `${'  '.repeat(depth - 1)}└ `;
}

/** `-u alice` means `u-alice-2013300123`. */
function isOf(owner: string | undefined, user: string): boolean {
  return owner?.replace(/^u-/, '').replace(/-[0-9]+$/, '') === user;
}

/** `xos explain`. */
export async function explainJob(
  context: Context,
  input: OrganizationInput & { readonly job: string; readonly output: OutputFormat },
): Promise<void> {
  const { terminal, signal, clock } = context;
  return withJobs(context, input, async (api) => {
    const job = await findJob(api, input.job, signal);
    if (input.output !== 'table') return printObject(terminal, input.output, job, jobPrinting(clock.now()));
    terminal.print(formatFacts(factsOf(job)));
    const heading = (text: string): string => terminal.heading(text);
    const waiting = job.status?.waiting ?? [];
    if (waiting.length > 0) terminal.print(`\n${formatTable(waiting, waitingColumns, { isWide: true, heading })}`);
    const rows = job.status?.tasks?.rows ?? [];
    if (rows.length > 0) terminal.print(`\n${formatTable(rows, taskColumns, { isWide: true, heading })}`);
    for (const step of nextSteps(job, context.program)) terminal.hint(step);
  });
}

type Waiting = NonNullable<NonNullable<GridJob['status']>['waiting']>[number];
type Row = NonNullable<NonNullable<GridJob['status']>['tasks']>['rows'][number];

const waitingColumns: readonly Column<Waiting>[] = [
  { name: 'site', value: ({ site }) => site },
  { name: 'nodes', value: ({ nodes }) => nodes },
  { name: 'why they refused', value: ({ reason }) => reason },
  { name: 'what would help', value: ({ remedy }) => remedy },
];

const taskColumns: readonly Column<Row>[] = [
  { name: 'task', value: ({ index }) => index },
  { name: 'state', value: ({ state }) => state },
  { name: 'site', value: ({ site }) => site },
  { name: 'node', value: ({ node }) => node },
  { name: 'exit', value: ({ exitCode }) => exitCode },
  { name: 'message', value: ({ message, reason }) => message ?? reason },
];

function factsOf(job: GridJob): [string, string | undefined][] {
  const { metadata, spec, status } = job;
  const { tasks } = status ?? {};
  return [
    ['Job', metadata.name],
    ['Owner', spec.owner],
    ['Parent', spec.parent?.job],
    ['Command', commandOf(job)],
    ['State', stateLine(job)],
    ['Tasks', tasks === undefined ? String(spec.tasks.count) : tasksText(spec.tasks.count, tasks)],
    ['Expected start', status?.expectedStartTime],
    ['Started', status?.startTime],
    ['Ended', status?.completionTime],
    ['Exit status', status?.exitCode?.toString()],
    ['Sites', status?.executions?.map(({ site, tasks: placed }) => `${site} (${placed})`).join(', ')],
    ...conditionFacts(job),
  ];
}

function tasksText(count: number, tasks: NonNullable<NonNullable<GridJob['status']>['tasks']>): string {
  const parts = (['waiting', 'starting', 'running', 'succeeded', 'failed'] as const)
    .filter((state) => tasks[state] > 0)
    .map((state) => `${tasks[state]} ${state}`);
  return parts.length === 0 ? String(count) : `${count}: ${parts.join(', ')}`;
}

/** What to do next, each a sentence with a line to type. Pure. */
export function nextSteps(job: GridJob, program: string): string[] {
  const { name } = job.metadata;
  switch (job.status?.state) {
    case 'Suspended':
      return [`Let it go on: ${program} resume ${name}`];
    case 'Failed':
      return [`See what it said: ${program} logs ${name}`];
    case 'Running':
      return [`See what it says: ${program} logs -f ${name}`];
    case 'Waiting':
      return (job.status.waiting ?? []).length === 0
        ? []
        : [`It starts by itself when a node has room. Give it up: ${program} kill ${name}`];
    default:
      return [];
  }
}

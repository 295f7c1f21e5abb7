import { InvalidInputError } from '#common/errors.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { Stored } from '#runtime/types.ts';
import { type JobApi, notFromTask } from '../../api/job-api.ts';
import { withJobs } from '../../api/jobs.ts';
import { type ImportDocument, readDocuments } from '../../api/manifests.ts';
import { organizationIn, type OrganizationInput } from '../../api/organizations.ts';
import { exitStatuses } from '../../frame/exit.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { printList } from '../../output/print.ts';
import { type DraftInput, draftJob } from './draft.ts';
import { Follower } from './follow.ts';
import { jobPrinting } from './printing.ts';
import { changeSignal } from './signals.ts';
import { endLine, exitStatusOf } from './state.ts';

interface SubmitInput extends OrganizationInput, DraftInput {
  readonly file: string | undefined;
}

interface SubInput extends SubmitInput {
  readonly dryRun: boolean;
  readonly output: OutputFormat;
}

type Draft = Pick<GridJob, 'metadata' | 'spec'>;

/** `xos sub`. */
export async function sub(context: Context, input: SubInput): Promise<void> {
  const { terminal, clock, program } = context;
  const documents = await documentsOf(input);
  return withJobs(context, organizationOf(input, documents), async (api) => {
    const submitted = await submit(context, api, draftsOf(input, documents), input.dryRun);
    if (input.output === 'table') terminal.print(submitted.map(({ metadata }) => metadata.name).join('\n'));
    else await printList(terminal, input.output, submitted, jobPrinting(clock.now()));
    const [first] = submitted;
    if (first === undefined) return;
    if (input.dryRun) terminal.hint('Nothing was submitted: this was a dry run');
    else terminal.hint(`See how it goes: ${program} ps; ${program} logs -f ${first.metadata.name}`);
  });
}

/** `xos run`. @returns the exit status of the job. */
export async function run(context: Context, input: SubmitInput): Promise<number> {
  const documents = await documentsOf(input);
  if (documents.length > 1) {
    throw new InvalidInputError(
      '--file',
      `${input.file ?? ''} holds ${documents.length} jobs: run follows one; use xos sub`,
    );
  }
  return withJobs(context, organizationOf(input, documents), async (api) => {
    // It could be submitted, but not followed.
    if (api.isWithinTask) throw notFromTask();
    const [job] = await submit(context, api, draftsOf(input, documents), false);
    return job === undefined ? exitStatuses.usage.code : followToEnd(context, api, job.metadata.name);
  });
}

/** Follows a job that was submitted for it; Ctrl-C ends the job, as it ends any program. */
export async function followToEnd(context: Context, api: JobApi, name: string): Promise<number> {
  const { signal, terminal } = context;
  try {
    const follower = new Follower(context, api, { tasks: undefined, timestamps: false });
    const ended = await follower.untilEnd(name);
    const why = endLine(ended);
    if (why !== '') terminal.say(why);
    return exitStatusOf(ended);
  } catch (error) {
    if (!signal.aborted) throw error;
    await changeSignal({ ...context, signal: new AbortController().signal }, api, name, 'TERM');
    terminal.say(`${name} is being ended. (xos sub submits without waiting.)`);
    throw error;
  }
}

/** The jobs of the manifest, if one is given. @throws {InvalidInputError} when it and the words contradict each other. */
export async function documentsOf({ file, image, command }: SubmitInput): Promise<ImportDocument<'GridJob'>[]> {
  if (file === undefined) {
    if (image !== undefined) return [];
    throw new InvalidInputError('IMAGE', 'is missing: name an image and a command, or a manifest with --file FILE');
  }
  if (image !== undefined) {
    const words = [image, ...command].join(' ');
    throw new InvalidInputError('--file', `and ${JSON.stringify(words)} both say what to run: give one of them`);
  }
  const documents = await readDocuments(file, '--file', ['GridJob']);
  if (documents.length === 0) throw new InvalidInputError('--file', `${file} holds no GridJob`);
  return documents;
}

/** A manifest may say which virtual organization is meant; what the command line says must not differ from it. */
export function organizationOf(input: SubmitInput, documents: readonly ImportDocument<'GridJob'>[]): OrganizationInput {
  const namespaces = [...new Set(documents.flatMap(({ namespace }) => namespace ?? []))];
  const [namespace] = namespaces;
  if (namespace === undefined) return input;
  if (namespaces.length > 1) {
    throw new InvalidInputError(
      '--file',
      `holds jobs for several namespaces (${namespaces.join(', ')}): submit them one by one`,
    );
  }
  const asked = input.vo ?? organizationIn(input.namespace ?? '');
  if (asked !== undefined && asked !== organizationIn(namespace)) {
    throw new InvalidInputError(
      'metadata.namespace',
      `is ${namespace}, but ${asked} was asked for: change one of them`,
    );
  }
  return { ...input, namespace };
}

/** The jobs to submit. */
export function draftsOf(input: SubmitInput, documents: readonly ImportDocument<'GridJob'>[]): Draft[] {
  if (input.image !== undefined) return [draftJob(input, input.image)];
  return documents.map(({ name, labels, spec }) => ({
    metadata: { name: input.name ?? name, labels },
    spec: spec as unknown as GridJob['spec'],
  }));
}

/** Submits them one by one. */
export async function submit(
  { signal, terminal }: Context,
  { jobs, namespace }: JobApi,
  drafts: readonly Draft[],
  dryRun: boolean,
): Promise<Stored<GridJob>[]> {
  const submitted: Stored<GridJob>[] = [];
  for (const { metadata, spec } of drafts) {
    if (drafts.length > 1)
      terminal.progress(`Submitting ${submitted.length + 1} of ${drafts.length}: ${metadata.name}`);
    submitted.push(await jobs.create({ metadata: { ...metadata, namespace }, spec }, { dryRun, signal }));
  }
  return submitted;
}

/** Jobs as a task sees them: those below its own, through the gateway. A task has no credential for the API server. */
import { readFile } from 'node:fs/promises';
import { describeError, InvalidInputError } from '#common/errors.ts';
import { type JobAnswer, jobAnswer, type JobControl, jobsAnswer } from '#common/identity/gateway-api.ts';
import { gatewayVariables } from '#crds/grid-access.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { Patch, RequestOptions, WriteOptions } from '#runtime/contracts.ts';
import type { ObjectKey, Stored } from '#runtime/types.ts';
import type { Context } from '../frame/context.ts';
import { CommandError } from '../frame/exit.ts';
import { type Gateway, gatewayAt, GatewayError, parseAnswer } from './gateway.ts';
import { type JobApi, notFromTask } from './job-api.ts';
import { chooseOrganization, namespaceOf, type Objects, type OrganizationInput } from './organizations.ts';

/** Between two looks at the same gateway: all tasks of a member share what it allows them. */
const readPauseMs = 1_000;
/** Looks until one gets through, the pause growing by one each time: many tasks of a member may wait for something at once. */
const busyMax = 10;

/** The jobs below that of the task, and its own. @throws {CommandError} for what a task has no way to. */
export async function taskJobs(context: Context, input: OrganizationInput): Promise<JobApi> {
  const { env } = context.surroundings;
  const own = env[gatewayVariables.virtualOrganization] ?? '';
  const vo = chooseOrganization(input, namespaceOf(own));
  if (vo !== own) {
    throw new InvalidInputError('--vo', `is ${vo}, but this task is of ${own} and reaches jobs below its own alone`);
  }
  const namespace = namespaceOf(vo);
  const caBundle = await readGiven(env, gatewayVariables.caFile);
  const address = env[gatewayVariables.address] ?? '';
  const gateway = gatewayAt({ address, caBundle }, `xos/${context.version}`, context.clock, context.signal);
  const elsewhere = async (): Promise<never> => Promise.reject(notFromTask());
  return {
    ...{ vo, namespace, isWithinTask: true },
    jobs: new TaskJobs(context, gateway, namespace),
    reservations: { find: elsewhere, list: elsewhere, create: elsewhere, patch: elsewhere, delete: elsewhere },
    ...{ podsOf: elsewhere, keptLogsOf: elsewhere, readLog: elsewhere, connect: elsewhere },
    userName: async () => Promise.resolve(env.USER),
  };
}

async function readGiven(env: Context['surroundings']['env'], variable: string): Promise<string> {
  const file = env[variable] ?? '';
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    const message = `${variable} names ${JSON.stringify(file)}, which can not be read: ${describeError(error)}`;
    throw new CommandError('credentials', message, 'Leave the variable as the task was given it.');
  }
}

class TaskJobs implements Objects<GridJob> {
  private readonly context: Context;
  private readonly gateway: Gateway;
  private readonly namespace: string;
  private readAtMs = -Infinity;

  constructor(context: Context, gateway: Gateway, namespace: string) {
    this.context = context;
    this.gateway = gateway;
    this.namespace = namespace;
  }

  async find({ name }: ObjectKey, _options?: RequestOptions): Promise<Stored<GridJob> | undefined> {
    try {
      return this.jobOf(parseAnswer(jobAnswer, await this.read(`/v1/jobs/${encodeURIComponent(name)}`)));
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'NotFound') return undefined;
      throw error;
    }
  }

  async list(): Promise<{ items: Stored<GridJob>[]; resourceVersion: string }> {
    const { jobs } = parseAnswer(jobsAnswer, await this.read('/v1/jobs'));
    return { items: jobs.map((job) => this.jobOf(job)), resourceVersion: '' };
  }

  async create({ metadata, spec }: GridJob, options?: WriteOptions): Promise<Stored<GridJob>> {
    if (options?.dryRun === true) throw new InvalidInputError('--dry-run', 'is not possible from within a task');
    if (Object.keys(metadata.labels ?? {}).length > 0) {
      throw new InvalidInputError('metadata.labels', 'can not be given from within a task: leave them out');
    }
    return this.write('/v1/jobs', { name: metadata.name, spec });
  }

  async patch({ name }: ObjectKey, { body }: Patch): Promise<Stored<GridJob>> {
    const { signal, suspend } = (body as { spec?: Pick<Partial<GridJob['spec']>, 'signal' | 'suspend'> }).spec ?? {};
    if (signal === undefined && suspend === undefined) throw notFromTask();
    const control: JobControl = signal === undefined ? { suspend: suspend === true } : { signal: signal.name };
    return this.write(`/v1/jobs/${encodeURIComponent(name)}/control`, control);
  }

  async delete(): Promise<never> {
    return Promise.reject(notFromTask());
  }

  private async write(path: string, body: object): Promise<Stored<GridJob>> {
    const answer = await this.gateway.send('POST', path, body, { bearer: await this.token() });
    return this.jobOf(parseAnswer(jobAnswer, answer));
  }

  private async read(path: string): ReturnType<Gateway['send']> {
    const { clock, signal } = this.context;
    const pauseMs = this.readAtMs + readPauseMs - clock.monotonic();
    if (pauseMs > 0) await clock.sleep(pauseMs, signal);
    for (let attempt = 1; ; attempt++) {
      this.readAtMs = clock.monotonic();
      try {
        return await this.gateway.send('GET', path, undefined, { bearer: await this.token() });
      } catch (error) {
        const isBusy = error instanceof GatewayError && error.code === 'TooManyRequests';
        if (!isBusy || attempt === busyMax) throw error;
        await clock.sleep(readPauseMs * attempt, signal);
      }
    }
  }

  /** The kubelet writes another one every few minutes. */
  private async token(): Promise<string> {
    return readGiven(this.context.surroundings.env, gatewayVariables.tokenFile);
  }

  /** As far as it is told, a GridJob. */
  private jobOf({ metadata, spec, status }: JobAnswer): Stored<GridJob> {
    const tasks = status?.tasks === undefined ? undefined : { ...status.tasks, rows: [] };
    return {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'GridJob',
      metadata: { ...metadata, namespace: this.namespace, resourceVersion: '' },
      spec: { ...spec, template: { ...spec.template, command: [], args: [] } },
      ...(status === undefined ? {} : { status: { ...status, tasks } }),
    } as unknown as Stored<GridJob>;
  }
}

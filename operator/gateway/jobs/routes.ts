/** Routes for tasks of jobs with `gridAccess`: a job is the shell of those that are submitted from within it. */
import { childRequest, jobControlRequest } from '#common/identity/gateway-api.ts';
import { jobTreeLabel } from '#crds/grid-access.ts';
import { type GridJob, gridJobDefinition, gridJobs } from '#crds/grid-job.ts';
import { apiVersionOf } from '#crds/kind.ts';
import { stageOf } from '#operator/controllers/gridjob/gates.ts';
import type { Client } from '#runtime/contracts.ts';
import {
  AlreadyExistsError,
  ConflictError,
  ForbiddenError,
  InvalidError,
  NotFoundError,
  withoutRequest,
} from '#runtime/errors.ts';
import { collectionPath } from '#runtime/kind.ts';
import type { Stored } from '#runtime/types.ts';
import { Refusal } from '../refusal.ts';
import { readBody } from '../request-body.ts';
import type { RouteAnswer } from '../exchange.ts';
import type { RequestContext, Route } from '../server.ts';
import { type TaskCaller, TaskCallers, type TaskCallersParts } from './task-callers.ts';
import { answerOf, belowIn, treeOf } from './tree.ts';
import { TreeRooms } from './tree-room.ts';

/** The routes; common/identity/gateway-api.ts tells what each takes and gives. */
export function jobRoutes(parts: TaskCallersParts): Route[] {
  const jobs = new TaskJobs(parts);
  const plain = { isLogin: false };
  return [
    {
      ...{ ...plain, name: 'jobs.submit', method: 'POST', path: '/v1/jobs', isAudited: true },
      handle: async (context) => jobs.submit(context),
    },
    {
      ...{ ...plain, name: 'jobs.list', method: 'GET', path: '/v1/jobs', isAudited: false },
      handle: async (context) => jobs.list(context),
    },
    {
      ...{ ...plain, name: 'jobs.read', method: 'GET', path: '/v1/jobs/{name}', isAudited: false },
      handle: async (context) => jobs.read(context),
    },
    {
      ...{ ...plain, name: 'jobs.control', method: 'POST', path: '/v1/jobs/{name}/control', isAudited: true },
      handle: async (context) => jobs.control(context),
    },
  ];
}

class TaskJobs {
  private readonly client: Client;
  private readonly callers: TaskCallers;
  private readonly rooms: TreeRooms;

  constructor(parts: TaskCallersParts) {
    this.client = parts.client;
    this.callers = new TaskCallers(parts);
    this.rooms = new TreeRooms(parts.client, parts.clock);
  }

  /** The gateway submits, as nobody else may name a parent; whose job it is follows from the task that asks. */
  async submit(context: RequestContext): Promise<RouteAnswer> {
    const caller = await this.callers.identify(context, 'jobs.submit');
    const { name, spec } = readBody(childRequest, context.body);
    context.concern('GridJob', name);
    const { namespace, job } = caller;
    if (stageOf(job).ended || job.spec.signal !== undefined) {
      throw new Refusal('Conflict', `The job ${job.metadata.name} is being ended: what it submits would end with it.`, {
        reason: 'ParentEnded',
      });
    }
    const child = {
      apiVersion: apiVersionOf(gridJobDefinition),
      kind: gridJobDefinition.kind,
      metadata: { namespace, name, labels: { [jobTreeLabel]: treeOf(job) } },
      spec: { ...spec, owner: job.spec.owner, parent: { job: job.metadata.name, uid: job.metadata.uid } },
    };
    // A field that nobody knows is refused rather than dropped.
    const path = `${collectionPath(gridJobs, namespace)}?fieldValidation=Strict&fieldManager=xtreemos-gateway`;
    const { signal } = context;
    const room = await this.rooms.take(caller, name, signal);
    const stored = (await this.client.raw('POST', path, child, { signal }).catch(async (error: unknown) => {
      // Whatever else went wrong, the job may come to be.
      if (isRefusal(error)) await room.giveBack();
      return refused(error);
    })) as Stored<GridJob>;
    await room.giveBack();
    return { status: 201, body: answerOf(stored), why: 'Submitted' };
  }

  async list(context: RequestContext): Promise<RouteAnswer> {
    const caller = await this.callers.identify(context, 'jobs.list');
    const jobs = [caller.job, ...belowIn(await this.rooms.treeOf(caller, context.signal), caller.job)];
    return { status: 200, body: { jobs: jobs.map(answerOf) } };
  }

  async read(context: RequestContext): Promise<RouteAnswer> {
    const caller = await this.callers.identify(context, 'jobs.read');
    const tree = await this.rooms.treeOf(caller, context.signal);
    return { status: 200, body: answerOf(named(context, caller, tree)) };
  }

  async control(context: RequestContext): Promise<RouteAnswer> {
    const caller = await this.callers.identify(context, 'jobs.control');
    const control = readBody(jobControlRequest, context.body);
    const { namespace } = caller;
    const tree = await this.rooms.treeOf(caller, context.signal);
    const job = named(context, caller, tree);
    const { name, uid } = job.metadata;
    context.concern('GridJob', name);
    if (uid === caller.job.metadata.uid) {
      throw new Refusal('Forbidden', `${name} is the job that asks: a task ends itself by its exit.`, {
        reason: 'OwnJob',
      });
    }
    // What is below a job that has ended follows its word still.
    if ([job, ...belowIn(tree, job)].every((each) => stageOf(each).ended)) {
      return { status: 200, body: answerOf(job), why: 'EndedAlready' };
    }
    const spec =
      'signal' in control
        ? { signal: { name: control.signal, sequence: (job.spec.signal?.sequence ?? 0) + 1 } }
        : { suspend: control.suspend };
    const patch = { type: 'merge' as const, body: { metadata: { uid }, spec } };
    const { signal } = context;
    const after = await this.client.of(gridJobs).patch({ namespace, name }, patch, { signal }).catch(refused);
    return { status: 200, body: answerOf(after), why: 'signal' in control ? `SIG${control.signal}` : 'Suspension' };
  }
}

/** The job that the request names, if it is that of the task or below it. */
function named(
  { parameters: { name = '' } }: RequestContext,
  { job }: TaskCaller,
  tree: readonly Stored<GridJob>[],
): Stored<GridJob> {
  const found = [job, ...belowIn(tree, job)].find(({ metadata }) => metadata.name === name);
  if (found !== undefined) return found;
  throw new Refusal('NotFound', `No job below ${job.metadata.name} is called ${name}: GET /v1/jobs lists them.`);
}

/** Whether the API server has said no: nothing was made. */
function isRefusal(error: unknown): boolean {
  return [InvalidError, AlreadyExistsError, ForbiddenError, ConflictError, NotFoundError].some(
    (refusal) => error instanceof refusal,
  );
}

/** What the API server refuses, in its own words. */
function refused(error: unknown): never {
  const text = error instanceof Error ? withoutRequest(error.message).slice(0, 1_000) : '';
  if (error instanceof InvalidError) throw new Refusal('InvalidRequest', text, { cause: error });
  if (error instanceof AlreadyExistsError) {
    const message = `${text}: names are those of all jobs of the virtual organization, so choose another.`;
    throw new Refusal('Conflict', message, { cause: error });
  }
  if (error instanceof ConflictError || error instanceof NotFoundError) {
    throw new Refusal('Conflict', 'The job was changed or deleted at the same time: look again.', { cause: error });
  }
  if (error instanceof ForbiddenError) throw new Refusal('Forbidden', text, { cause: error });
  throw error;
}

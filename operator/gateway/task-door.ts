import { memberNameOf, type Principal } from '#common/identity/ids.ts';
import type { TaskStream } from '#common/identity/task-stream.ts';
import { createRegistry } from '#common/metrics.ts';
import { executions } from '#crds/execution.ts';
import { gridJobs } from '#crds/grid-job.ts';
import { organizationNamespace } from '#crds/organization.ts';
import type { MembershipIndex } from '#operator/identity/membership-index.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import { createClient } from '#runtime/client.ts';
import type { Client } from '#runtime/contracts.ts';
import { type CredentialSource, withBearer } from '#runtime/credentials.ts';
import { type ApiError, ForbiddenError, NotFoundError, UnauthorizedError, withoutRequest } from '#runtime/errors.ts';
import { createRuntimeMetrics } from '#runtime/metrics.ts';
import { mayI, type Right, whoAmI } from '#runtime/self-review.ts';
import { HttpTransport } from '#runtime/transport.ts';
import { Refusal } from './refusal.ts';

/** Where a task runs, and who asks for it. */
export interface TaskPlace {
  /** Name of the Site of the peer. */
  readonly site: string;
  /** Identity of the part there. */
  readonly part: string;
  readonly principal: Principal;
}

/** Somebody whom the API server of this site knows, while they ask for a task. */
export interface Visitor {
  readonly principal: Principal;
  /** Finds where a task runs, as far as the visitor may see it and may be connected to it. @throws {Refusal} */
  locate(stream: TaskStream, signal: AbortSignal): Promise<TaskPlace>;
  leave(): Promise<void>;
}

/** Lets members in who show a token for the API server of this site. */
export interface TaskDoor {
  /** @throws {Refusal} for who is no member. */
  enter(virtualOrganization: string, bearer: string, signal: AbortSignal): Promise<Visitor>;
}

/** {@link TaskDoor} by the API server: everything is asked for as the one who asks, so that rights here decide as for pods here. */
export class ApiTaskDoor implements TaskDoor {
  private readonly credentials: CredentialSource;
  private readonly index: Pick<MembershipIndex, 'ofUserName'>;
  /** Nobody reads them. */
  private readonly metrics = createRuntimeMetrics(createRegistry());

  /** @param credentials - how this process reaches the API server. */
  constructor(credentials: CredentialSource, index: Pick<MembershipIndex, 'ofUserName'>) {
    this.credentials = credentials;
    this.index = index;
  }

  async enter(virtualOrganization: string, bearer: string, signal: AbortSignal): Promise<Visitor> {
    const credentials = withBearer(this.credentials, bearer);
    const transport = new HttpTransport({ credentials, metrics: this.metrics, userAgent: 'xtreemos-gateway' });
    const client = createClient(transport, { fieldManager: 'xtreemos-gateway' });
    const leave = async (): Promise<void> => transport.close();
    try {
      const namespace = organizationNamespace(virtualOrganization);
      const userName = memberNameOf(await whoAmI(client, signal), namespace) ?? '';
      const principal = this.index.ofUserName(namespace, userName)?.spec.principal;
      if (principal === undefined)
        throw new Refusal(
          'Forbidden',
          `Tasks at other sites are for members of ${virtualOrganization}: log in as one.`,
          {
            policy: 'vo/membership',
            reason: 'NotAMember',
          },
        );
      const { issuer, subject } = principal;
      const who = { client, namespace, userName, principal: { issuer, subject } };
      return { principal: who.principal, locate: async (stream, ended) => locate(who, stream, ended), leave };
    } catch (error) {
      await leave();
      if (error instanceof UnauthorizedError)
        throw new Refusal('Unauthenticated', 'The API server does not accept the token: log in again.', {
          reason: 'TokenInvalid',
          cause: error,
        });
      throw error;
    }
  }
}

interface Who {
  readonly client: Client;
  readonly namespace: string;
  readonly userName: string;
  readonly principal: Principal;
}

async function locate(who: Who, stream: TaskStream, signal: AbortSignal): Promise<TaskPlace> {
  const { client, namespace, principal } = who;
  const { job: name, run, index } = stream;
  try {
    const job = await client.of(gridJobs).get({ namespace, name }, { signal });
    await checkRights(who, job.spec.owner, stream, signal);
    const execution = await client.of(executions).find({ namespace, name }, { signal });
    const placement = execution?.spec.placements.find(
      (each) => each.run === run && IndexSet.parse(each.tasks).has(index),
    );
    if (execution?.spec.gridJob.uid !== job.metadata.uid || placement === undefined)
      throw new Refusal('NotFound', `Task ${index} of ${name} does not run any more.`);
    if (placement.site === undefined)
      throw new Refusal('InvalidRequest', `Task ${index} of ${name} runs at this site: ask its API server.`);
    return { site: placement.site, part: execution.metadata.uid, principal };
  } catch (error) {
    if (error instanceof ForbiddenError || error instanceof NotFoundError)
      throw new Refusal(error instanceof ForbiddenError ? 'Forbidden' : 'NotFound', wordsOf(error), { cause: error });
    throw error;
  }
}

/** The rights that connecting to a pod here takes, asked for in the name of the visitor. */
async function checkRights(
  { client, namespace, userName }: Who,
  owner: string | undefined,
  { kind, job, index }: TaskStream,
  signal: AbortSignal,
): Promise<void> {
  const may = async (right: Omit<Right, 'namespace'>): Promise<boolean> =>
    mayI(client, { namespace, ...right }, signal);
  const verb = kind === 'log' ? 'get' : 'create';
  if (!(await may({ verb, resource: 'pods', subresource: kind })))
    throw new Refusal('Forbidden', `Your roles in the virtual organization have no right to pods/${kind}.`, {
      policy: 'vo/roles',
    });
  // As the policy xtreemos-connections decides for pods here.
  if (kind === 'log' || owner === userName) return;
  if (await may({ verb: 'manage', group: 'xtreemos.io', resource: 'accounts' })) return;
  throw new Refusal(
    'Forbidden',
    `Task ${index} of ${job} is not yours: its owner and administrators of the virtual organization may enter it.`,
    { policy: 'vo/owner', reason: 'NotTheOwner' },
  );
}

function wordsOf(error: ApiError): string {
  return withoutRequest(error.message);
}

import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Principal } from '#common/identity/ids.ts';
import type { Logger } from '#common/logger.ts';
import { type Execution, executionPlaced, executions, type ExecutionSpec, podLabels } from '#crds/execution.ts';
import { homeLeaseTerms } from '#crds/home-lease.ts';
import { keptLogsName, readKeptLogs } from '#crds/kept-logs.ts';
import { organizationNamespace } from '#crds/organization.ts';
import {
  answering,
  type PeerCaller,
  PeerError,
  peerMessageBytesMax,
  type PeerMethod,
} from '#operator/gateway/peers/contract.ts';
import {
  type LogsResponse,
  type PartState,
  type PutRequest,
  type SyncRequest,
  workMethods,
} from '#proto/site/schema.ts';
import { configMaps, hasEnded, type Pod } from '#runtime/builtin.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { Client, Informer } from '#runtime/contracts.ts';
import {
  AlreadyExistsError,
  ConflictError,
  ForbiddenError,
  ignoreNotFound,
  InvalidError,
  NotFoundError,
} from '#runtime/errors.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';
import { fence, type HomeLeases, isGoing } from './home-leases.ts';
import type { SiteMembers } from './members.ts';
import {
  hostedExecution,
  hostedName,
  hostedSpec,
  type PartName,
  putAgeMaxMs,
  readPart,
  type ToldPart,
} from './part.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import type { HostedSelection } from './selection-service.ts';
import { notShared } from './selection-service.ts';
import type { SharedOrganizations } from './shared.ts';
import type { SharedVolumes } from './volumes.ts';

/** What a {@link HostedParts} works with. */
export interface HostedPartsOptions {
  readonly executions: Informer<Execution>;
  /** The pods of an Execution. */
  readonly podsOf: (execution: Stored<Execution>) => readonly Stored<Pod>[];
  readonly client: Client;
  readonly clock: Clock;
  readonly log: Logger;
  readonly shared: SharedOrganizations;
  readonly selection: HostedSelection;
  readonly leases: HomeLeases;
  readonly members: SiteMembers;
  readonly volumes: SharedVolumes;
}

/** Of one answer: it must fit into a message. */
const answerBytesMax = peerMessageBytesMax / 2;
type Placement = ExecutionSpec['placements'][number];
const byHome = 'home';
const byPart = 'part';

/**
 * Carries out parts of the jobs of peers: makes an Execution of each, on which the rules of this site hold as on its own, and tells what
 * becomes of it. Any replica may serve: all that counts is in the API server.
 */
export class HostedParts {
  private readonly options: HostedPartsOptions;

  constructor(options: HostedPartsOptions) {
    this.options = options;
    options.executions.addIndex(byHome, ({ spec }) => (spec.part === undefined ? [] : [spec.gridJob.site]));
    options.executions.addIndex(byPart, ({ spec }) =>
      spec.part === undefined ? [] : [partKey(spec.gridJob.site, spec.part)],
    );
  }

  /** What peers may call. */
  methods(): PeerMethod[] {
    return [
      answering(workMethods.Put, async (request, caller) => this.put(request, caller)),
      answering(workMethods.PutWithVolumes, async (request, caller) => this.put(request, caller)),
      answering(workMethods.Sync, async (request, caller) => {
        const nowMs = this.options.clock.now();
        return { ...(await this.sync(request, caller)), nowMs };
      }),
      answering(workMethods.Logs, async ({ part }, caller) => this.logs(part, caller)),
    ];
  }

  private async put(request: PutRequest, caller: PeerCaller): Promise<PartState> {
    const { virtualOrganization, job, part, revision } = request;
    caller.charge(virtualOrganization);
    const namespace = organizationNamespace(virtualOrganization);
    const name = { home: caller.site, part, job, namespace, revision };
    const told = toldIn(request.spec);
    try {
      // Whoever had something carried out may end it, whatever was agreed since.
      if (told.isClosed) return await this.close(name, told, caller.signal);
      if (!this.options.shared.has(caller.site, virtualOrganization)) throw notShared(virtualOrganization);
      // It may have been sent before its home gave it up.
      const ageMs = this.options.clock.now() - request.heardMs;
      if (ageMs > putAgeMaxMs || ageMs < -homeLeaseTerms.skewMaxMs)
        throw new PeerError('Busy', 'The message was under way for too long: send it again.');
      this.checkVolumes(namespace, told);
      const spec = hostedSpec(told, name, this.userNameOf(namespace, told.owner));
      return await this.carryOut(name, spec, virtualOrganization, caller.signal);
    } catch (error) {
      if (error instanceof ConflictError || error instanceof AlreadyExistsError)
        throw new PeerError('Busy', 'The part was changed at the same time: send it again.', { cause: error });
      if (error instanceof InvalidError) throw new PeerError('Invalid', describeError(error), { cause: error });
      if (error instanceof ForbiddenError || error instanceof NotFoundError)
        throw new PeerError('Refused', `This site does not take it: ${describeError(error)}`, { cause: error });
      throw error;
    }
  }

  /** A task has the very data that its home means, or does not run here. */
  private checkVolumes(namespace: string, { volumes, volumeIdentities }: ToldPart): void {
    for (const { volume } of volumes) {
      const identity = volumeIdentities[volume] ?? '';
      if (identity !== '' && this.options.volumes.identityOf(namespace, volume) === identity) continue;
      throw new PeerError(
        'Refused',
        `Volume ${volume.slice(0, 63)} is not to be had at this site: it comes from the home of the virtual organization, unless another one here has its name.`,
      );
    }
  }

  /** What a member is called here: ids and names are issued by this site, to its own memberships alone. */
  private userNameOf(namespace: string, principal: Principal): string {
    const userName = this.options.members.userNameOf(namespace, principal);
    if (userName !== undefined) return userName;
    const who = `${principal.issuer} ${principal.subject}`.slice(0, 200);
    throw new PeerError(
      'Refused',
      `${who} is no member here: an administrator of the virtual organization adds them at this site.`,
    );
  }

  /** The Execution of a part, if there is one. @throws {PeerError} when the name is taken. */
  private async findHosted(name: PartName, signal: AbortSignal): Promise<Stored<Execution> | undefined> {
    const { namespace, home, part } = name;
    const found = await this.options.client.of(executions).find({ namespace, name: hostedName(name) }, { signal });
    if (found === undefined || (found.spec.part === part && found.spec.gridJob.site === home)) return found;
    throw new PeerError('Refused', `An Execution ${hostedName(name)} that is another's is in the way.`);
  }

  private async close(name: PartName, { signal: sent }: ToldPart, signal: AbortSignal): Promise<PartState> {
    const found = await this.findHosted(name, signal);
    if (found === undefined) return unknown(name.part);
    if (name.revision <= (found.spec.revision ?? 0) || found.spec.isClosed) return this.stateOf(found);
    const { revision } = name;
    const spec = { ...found.spec, revision, isClosed: true, ...(sent === undefined ? {} : { signal: sent }) };
    return this.stateOf(await this.options.client.of(executions).update({ ...found, spec }, { signal }));
  }

  private async carryOut(
    name: PartName,
    spec: ExecutionSpec,
    organization: string,
    signal: AbortSignal,
  ): Promise<PartState> {
    const { client, leases } = this.options;
    const { home, part, revision } = name;
    const found = await this.findHosted(name, signal);
    const known = found?.spec.placements ?? [];
    if (found !== undefined && (revision <= (found.spec.revision ?? 0) || !isOpenTo(spec, found)))
      return this.stateOf(found);
    if (found === undefined && spec.placements.length === 0) return unknown(part);
    if (!(await leases.isHeld(home, signal)))
      throw new PeerError('Busy', 'Your lease is not held here: renew it first (Sync).');
    this.checkPromises(spec, known, name, organization);
    const work = client.of(executions);
    return this.stateOf(
      found === undefined
        ? await work.create(hostedExecution(name, spec), { signal })
        : await work.update({ ...found, spec }, { signal }),
    );
  }

  /** Only nodes that have just promised the place take tasks: a peer does not choose nodes by itself. */
  private checkPromises(
    spec: ExecutionSpec,
    known: readonly Placement[],
    { home }: PartName,
    organization: string,
  ): void {
    for (const placement of spec.placements) {
      const { run, hold, node } = placement;
      if (known.some((before) => isWithin(placement, before))) continue;
      const { reservation } = placement;
      if (reservation !== undefined && !this.options.selection.mayDraw(home, organization, reservation))
        throw new PeerError('Refused', `Run ${run} draws from ${reservation}, which is no reservation of yours here.`);
      if (this.options.selection.isPromised(home, hold, node, organization)) continue;
      throw new PeerError('Refused', `Node ${node} has not promised the place of run ${run}: hold it first.`);
    }
  }

  private async sync(
    { heardMs, parts }: SyncRequest,
    caller: PeerCaller,
  ): Promise<{ parts: PartState[]; isWhole: boolean }> {
    const { site, signal } = caller;
    if (heardMs > 0) await this.options.leases.renew(site, heardMs, async () => this.endAll(site, signal), signal);
    await this.deleteOthers(heardMs, parts, caller);
    const changed: PartState[] = [];
    let bytes = 0;
    for (const { part, digest } of parts) {
      const execution = this.find(caller.site, part);
      const state = execution === undefined ? unknown(part) : this.stateOf(execution);
      if (state.digest === digest) continue;
      bytes += Buffer.byteLength(JSON.stringify(state));
      // The others come with the next answers, in which these are no news any more.
      if (bytes > answerBytesMax && changed.length > 0) return { parts: changed, isWhole: false };
      changed.push(state);
    }
    return { parts: changed, isWhole: true };
  }

  private async endAll(home: string, signal: AbortSignal): Promise<void> {
    for (const execution of this.options.executions.byIndex(byHome, home).filter(isGoing))
      await fence(execution, this.options, signal);
  }

  /** Deletes what a home does not want any more. What fails is done at the next call: the lease and the news do not wait for it. */
  private async deleteOthers(heardMs: number, parts: SyncRequest['parts'], caller: PeerCaller): Promise<void> {
    const { executions: cache, client, log } = this.options;
    const named = new Set(parts.map(({ part }) => part));
    for (const execution of cache.byIndex(byHome, caller.site)) {
      const { metadata, spec } = execution;
      // It may have come after the list was made.
      const isNew = Date.parse(metadata.creationTimestamp) > heardMs - homeLeaseTerms.skewMaxMs;
      if (isDeleting(execution) || isNew || named.has(spec.part ?? '')) continue;
      log.info('Deleting work that its home does not want any more', { Execution: metadata.name, home: caller.site });
      const { namespace, name, uid } = metadata;
      const options = { preconditions: { uid }, propagationPolicy: 'Background' as const, signal: caller.signal };
      await ignoreNotFound(client.of(executions).delete({ namespace, name }, options)).catch((error: unknown) =>
        log.warn('Work of a peer was not deleted', { Execution: name, problem: describeError(error) }),
      );
    }
  }

  private async logs(part: string, caller: PeerCaller): Promise<LogsResponse> {
    const execution = this.find(caller.site, part);
    if (execution === undefined) throw new PeerError('NotFound', `There is no part ${JSON.stringify(part)} here.`);
    const { namespace, name, uid } = execution.metadata;
    const key = { namespace, name: keptLogsName(name) };
    const found = await this.options.client.of(configMaps).find(key, { signal: caller.signal });
    return { logs: found === undefined ? [] : readKeptLogs(found, uid).map((log) => ({ ...log })) };
  }

  /** The Execution of a part of a home, if there is one. */
  find(home: string, part: string): Stored<Execution> | undefined {
    return this.options.executions.byIndex(byPart, partKey(home, part))[0];
  }

  private stateOf(execution: Stored<Execution>): PartState {
    const { metadata, spec, status } = execution;
    const live = this.options
      .podsOf(execution)
      .filter((pod) => !hasEnded(pod))
      .map(({ metadata }) => metadata.labels?.[podLabels.run] ?? '');
    const placed = findCondition(status?.conditions, executionPlaced.type);
    const state = {
      part: spec.part ?? '',
      ...{ isKnown: true, isFenced: spec.fencedTime !== undefined },
      runs: spec.placements.map(({ run }) => run),
      live: [...new Set(live)].sort(),
      tasks: status?.tasks === undefined ? '' : JSON.stringify(status.tasks),
      refusal: placed?.reason === executionPlaced.reasons.Refused ? placed.message : '',
      settledRevision: status?.observedGeneration === metadata.generation ? (spec.revision ?? 0) : 0,
    };
    return { ...state, digest: digestOf(state) };
  }
}

/** Whether a part takes another spec. What was ended stays ended; of a part that was fenced, other runs may come when its home is back. */
function isOpenTo({ placements }: ExecutionSpec, { spec: found }: Stored<Execution>): boolean {
  if (!found.isClosed) return true;
  const known = new Set(found.placements.map(({ run }) => run));
  return found.fencedTime !== undefined && placements.length > 0 && !placements.some(({ run }) => known.has(run));
}

/** Whether a placement is one that was there before, or less of it. */
function isWithin({ run, hold, node, reservation, tasks }: Placement, before: Placement): boolean {
  if (before.run !== run || before.hold !== hold || before.node !== node) return false;
  if (before.reservation !== reservation) return false;
  return IndexSet.parse(tasks).minus(IndexSet.parse(before.tasks)).size === 0;
}

function toldIn(spec: string): ToldPart {
  try {
    return readPart(spec);
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : describeError(error);
    throw new PeerError('Invalid', `spec is no part of a job: ${why}`, { cause: error });
  }
}

function unknown(part: string): PartState {
  const state = {
    part,
    isKnown: false,
    isFenced: false,
    runs: [],
    live: [],
    tasks: '',
    refusal: '',
    settledRevision: 0,
  };
  return { ...state, digest: digestOf(state) };
}

function digestOf(state: object): string {
  return createHash('sha256').update(JSON.stringify(state)).digest('base64url').slice(0, 22);
}

const partKey = (home: string, part: string): string => `${home}/${part}`;

import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { tryAll } from '#common/parallel.ts';
import type { Execution } from '#crds/execution.ts';
import { homeLeaseTerms } from '#crds/home-lease.ts';
import type { KeptLog } from '#crds/kept-logs.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import { isEnded, keyOfRun, lost, type RunFinding } from '#operator/controllers/execution/observe.ts';
import type { TaskRun } from '#operator/controllers/execution/pod.ts';
import { type PeerChannel, type PeerChannels, PeerError } from '#operator/gateway/peers/contract.ts';
import { workMethods } from '#proto/site/schema.ts';
import type { Informer, Runnable, Source } from '#runtime/contracts.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';
import type { SiteMembers } from './members.ts';
import type { SharedVolumes } from './volumes.ts';
import { partOf, putAgeMaxMs } from './part.ts';
import { endedCount, endedIn, findingThere, isOver, logTriesMax, type Part, partIn } from './part-state.ts';

/** What an {@link AwayParts} works with. */
export interface AwayPartsOptions {
  readonly executions: Informer<Execution>;
  readonly channels: PeerChannels;
  readonly volumes: SharedVolumes;
  readonly members: SiteMembers;
  readonly clock: Clock;
  readonly log: Logger;
  /** Keeps logs of tasks that ran elsewhere beside those of tasks that ran here. */
  readonly keepLogs: (execution: Stored<Execution>, logs: readonly KeptLog[], signal: AbortSignal) => Promise<void>;
}

/** Whether some of its tasks are placed at other sites. */
const hasParts = ({ spec }: Execution): boolean => spec.placements.some(({ site }) => site !== undefined);

/** The relation to one peer. */
interface Contact {
  /** What the peer said of its clock in its last answer, and when that came (monotonic). */
  heard: { readonly ms: number; readonly at: number } | undefined;
  /** When the answer came that was sent back last (monotonic): the peer reckons the lease from a moment before this. */
  renewedAt: number;
  isBusy: boolean;
  /** When the peer last had parts (monotonic): a while later it may still have some that are to be deleted. */
  namedAt: number;
  /** When the last request left of which the answer told all (monotonic). */
  askedAt: number;
  readonly parts: Map<string, Part>;
}

const tickMs = 1_000;
/** Short, so that one that gets lost costs little of the lease. */
const syncTimeoutMs = 5_000;
const putsMax = 8;
/** After the lease: for a change of leader at the peer, and for its kubelets. */
const allowanceMs = 25_000;
/** A refused part is placed anew only after a while. */
const refusedForMs = 10_000;
/** What was told before is carried out by then or never, and the cache of the peer has it. */
const unseenForMs = putAgeMaxMs + 5_000;
/** So long a peer hears that nothing is wanted of it any more. */
const forgottenAfterMs = 60_000;

/**
 * The parts of jobs of this site that other sites carry out. Which these are the Executions here say, and nothing else: what is kept in
 * memory is asked for anew after a restart. Once a second each peer with parts is told what changed, and asked what became of them, in one
 * request for all of them; it renews the lease without which the peer ends them.
 */
export class AwayParts implements Runnable {
  readonly name = 'away-parts';
  private readonly options: AwayPartsOptions;
  private readonly contacts = new Map<string, Contact>();
  private readonly listeners = new Set<(execution: Stored<Execution>) => void>();
  /** Another process may lead until then, and know more. */
  private isRunning = false;
  private wake = Promise.withResolvers<undefined>();

  constructor(options: AwayPartsOptions) {
    this.options = options;
  }

  /** Wakes the controller of Executions when something is heard. */
  get source(): Source {
    return {
      name: 'other-sites',
      synced: async () => Promise.resolve(),
      attach: (enqueue) => {
        const listener = ({ metadata: { namespace, name } }: Stored<Execution>): void =>
          enqueue({ namespace, name }, false);
        this.listeners.add(listener);
        return () => void this.listeners.delete(listener);
      },
    };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { executions, clock } = this.options;
    this.isRunning = true;
    await executions.synced(signal).catch(() => undefined);
    if (signal.aborted) return;
    const end = executions.onEvent((event) => {
      // Most run here only, and come by the thousand.
      if (hasParts(event.object) || (event.type === 'updated' && hasParts(event.old))) this.wake.resolve(undefined);
    });
    const stop = (): void => this.wake.resolve(undefined);
    signal.addEventListener('abort', stop, { once: true });
    const running = new Set<Promise<void>>();
    while (!signal.aborted) {
      const timer = clock.after(tickMs, stop);
      this.wake = Promise.withResolvers();
      for (const site of this.sites()) {
        const contact = this.contactOf(site);
        if (contact.isBusy) continue;
        contact.isBusy = true;
        const round = this.visit(site, contact, signal).finally(() => {
          contact.isBusy = false;
          running.delete(round);
        });
        running.add(round);
      }
      await this.wake.promise;
      timer.cancel();
      // Changes that come together are told together.
      await clock.sleep(20, signal).catch(() => undefined);
    }
    end();
    await Promise.all(running);
  }

  /** What is known of a run at another site. What was given up once stays so. */
  findingOf(execution: Stored<Execution>, task: TaskRun, known: RunFinding | undefined): RunFinding {
    const { site = '', index, run, node } = task;
    const before: RunFinding = known?.run === run ? known : { index, run, node, site, state: 'Starting' };
    if (!this.isRunning) return before;
    const contact = this.contactOf(site);
    const part = partIn(contact.parts, execution.metadata.uid);
    const key = keyOfRun(run, index);
    const givenUp = part.givenUp.get(key) ?? this.givenUp(execution, task, contact, part);
    if (givenUp !== undefined) {
      part.givenUp.set(key, givenUp);
      return givenUp;
    }
    const { state, refusal } = part;
    if (state?.runs.includes(run) === true) return findingThere(state, task, before);
    if (refusal === undefined) return before;
    return { ...before, message: `Site ${site} did not take it: ${refusal.message}`.slice(0, 1024) };
  }

  /** Whether a run that is not known to go on is over, for this site: it may be placed elsewhere then. */
  private givenUp(execution: Stored<Execution>, task: TaskRun, contact: Contact, part: Part): RunFinding | undefined {
    const { site = '', index, run, node } = task;
    const place = { index, run, node, site };
    const now = this.options.clock.monotonic();
    if (now > this.lostAt(contact, execution)) return lost(place, 'SiteLost');
    const { state, refusal } = part;
    if (state === undefined) return undefined;
    const isLive = state.live.includes(run);
    if (state.runs.includes(run)) {
      // It was ended there, whatever it looks like: it did not fail by itself.
      const finding = findingThere(state, task, { ...place, state: 'Starting' });
      const isOver = isEnded(finding) ? finding.state === 'Killed' : state.settledRevision > 0 && !isLive;
      return state.isFenced && isOver ? lost(place, 'SiteLost') : undefined;
    }
    if (isLive) return undefined;
    const { generation } = execution.metadata;
    if (refusal !== undefined) {
      if (refusal.generation !== generation || now - refusal.at < refusedForMs) return undefined;
      const message = `Site ${site} did not take it: ${refusal.message}`.slice(0, 1024);
      return { ...lost(place, 'SiteRefused'), message };
    }
    if (part.toldGeneration !== generation) return undefined;
    // An earlier message may still have been under way.
    const isGone =
      state.isKnown && !state.isFenced
        ? task.isEnding === true && state.settledRevision >= part.revision
        : contact.askedAt - part.toldAt > unseenForMs;
    return isGone ? lost(place, 'PodDeleted') : undefined;
  }

  /** Peers that parts are at, or were. */
  private sites(): string[] {
    const names = new Set<string>();
    for (const { spec } of this.options.executions.list())
      for (const { site } of spec.placements) if (site !== undefined) names.add(site);
    const now = this.options.clock.monotonic();
    for (const [site, { namedAt }] of this.contacts) {
      if (now - namedAt < forgottenAfterMs) names.add(site);
      else if (!names.has(site)) this.contacts.delete(site);
    }
    return [...names];
  }

  private contactOf(site: string): Contact {
    const known = this.contacts.get(site);
    if (known !== undefined) return known;
    const now = this.options.clock.monotonic();
    const fresh: Contact = {
      heard: undefined,
      // Who led before may have renewed the lease until now.
      ...{ renewedAt: now, namedAt: now, askedAt: -Infinity },
      isBusy: false,
      parts: new Map<string, Part>(),
    };
    this.contacts.set(site, fresh);
    return fresh;
  }

  /** From when on nothing of the part can run there any more (monotonic), unless the peer is heard again before. */
  private lostAt({ renewedAt }: Contact, { spec }: Stored<Execution>): number {
    return renewedAt + homeLeaseTerms.durationMs + 1000 * spec.template.terminationGraceSeconds + allowanceMs;
  }

  private async visit(site: string, contact: Contact, signal: AbortSignal): Promise<void> {
    const { log, clock } = this.options;
    const at = new Map(
      this.options.executions
        .list()
        .filter((each) => !isDeleting(each) && each.spec.placements.some((placement) => placement.site === site))
        .map((each) => [each.metadata.uid, each]),
    );
    for (const uid of contact.parts.keys()) if (!at.has(uid)) contact.parts.delete(uid);
    try {
      const channel = this.options.channels.channel(site);
      // Nothing to send back yet, or nothing that is new: what the answer says is sent back at once.
      const isNews = contact.heard === undefined || clock.monotonic() - contact.heard.at > 2 * tickMs;
      if (isNews) await this.sync(channel, contact, at, signal);
      await this.sync(channel, contact, at, signal);
      await this.tell(channel, contact, at, signal);
      await this.fetchLogs(channel, contact, at, signal);
    } catch (error) {
      if (signal.aborted) return;
      log.debug('A site was not reached', { site, problem: describeError(error) });
    }
    const now = clock.monotonic();
    for (const execution of at.values()) {
      const part = contact.parts.get(execution.metadata.uid);
      if (part?.refusal !== undefined || now > this.lostAt(contact, execution)) this.notify(execution);
      else if (execution.spec.placements.some(({ isEnding }) => isEnding === true)) this.notify(execution);
    }
  }

  private async sync(
    channel: PeerChannel,
    contact: Contact,
    at: ReadonlyMap<string, Stored<Execution>>,
    signal: AbortSignal,
  ): Promise<void> {
    const parts = [...at.keys()]
      .filter((uid) => !isOver(contact.parts.get(uid), at.get(uid)))
      .map((part) => ({ part, digest: contact.parts.get(part)?.state?.digest ?? '' }));
    const { heard } = contact;
    if (heard !== undefined) contact.renewedAt = heard.at;
    const askedAt = this.options.clock.monotonic();
    const request = { heardMs: heard?.ms ?? 0, parts };
    const answer = await channel.call(workMethods.Sync, request, { signal, timeoutMs: syncTimeoutMs });
    const now = this.options.clock.monotonic();
    contact.heard = { ms: answer.nowMs, at: now };
    if (answer.isWhole) contact.askedAt = askedAt;
    if (parts.length > 0) contact.namedAt = now;
    for (const state of answer.parts) {
      const execution = at.get(state.part);
      if (execution === undefined) continue;
      partIn(contact.parts, state.part).state = state;
      this.notify(execution);
    }
  }

  private async tell(
    channel: PeerChannel,
    contact: Contact,
    at: ReadonlyMap<string, Stored<Execution>>,
    signal: AbortSignal,
  ): Promise<void> {
    const queue = [...at.values()].filter((execution) => {
      const part = contact.parts.get(execution.metadata.uid);
      if (part?.refusal?.generation === execution.metadata.generation || isOver(part, execution)) return false;
      return part === undefined || part.toldGeneration !== execution.metadata.generation;
    });
    await tryAll(queue, putsMax, async (execution) => this.put(channel, contact, execution, signal));
  }

  private async put(
    channel: PeerChannel,
    contact: Contact,
    execution: Stored<Execution>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock } = this.options;
    const { uid, name, namespace = '', generation = 0 } = execution.metadata;
    const owner = this.options.members.principalOf(namespace, execution.spec.owner);
    if (owner === undefined) return;
    const part = partIn(contact.parts, uid);
    const isGivenUp = (run: string, index: number): boolean => part.givenUp.has(keyOfRun(run, index));
    const identityOf = (volume: string): string => this.options.volumes.identityOf(namespace, volume) ?? '';
    const spec = partOf(execution, channel.site, owner, identityOf, isGivenUp);
    if (part.told !== spec) {
      const virtualOrganization = organizationOfNamespace(namespace) ?? '';
      const heardMs = contact.heard?.ms ?? 0;
      const request = { virtualOrganization, job: name, part: uid, revision: generation, spec, heardMs };
      // Until it is answered, nobody knows what the site was told last.
      part.told = '';
      try {
        const method = execution.spec.volumes.length === 0 ? workMethods.Put : workMethods.PutWithVolumes;
        part.state = await channel.call(method, request, { signal });
      } catch (error) {
        if (!(error instanceof PeerError) || !isFinal(error)) throw error;
        part.refusal = { message: error.message, generation, at: clock.monotonic() };
        this.notify(execution);
        return;
      }
      part.revision = generation;
    }
    const now = clock.monotonic();
    Object.assign(part, { told: spec, toldGeneration: generation, toldAt: now, refusal: undefined });
    this.notify(execution);
  }

  private async fetchLogs(
    channel: PeerChannel,
    contact: Contact,
    at: ReadonlyMap<string, Stored<Execution>>,
    signal: AbortSignal,
  ): Promise<void> {
    for (const [uid, part] of contact.parts) {
      const execution = at.get(uid);
      const ended = endedIn(part.state);
      if (execution === undefined || !execution.spec.keepLogs || ended === '') continue;
      if (part.logsOf !== ended) Object.assign(part, { logsOf: ended, logTries: 0 });
      if (part.logTries >= logTriesMax) continue;
      part.logTries++;
      const { logs } = await channel.call(workMethods.Logs, { part: uid }, { signal });
      const wanted = new Set(
        execution.spec.placements.filter(({ site }) => site === channel.site).map(({ run }) => run),
      );
      const mine = logs.filter(({ run }) => wanted.has(run));
      if (mine.length === 0) continue;
      await this.options.keepLogs(execution, mine, signal);
      if (mine.length >= endedCount(part.state)) part.logTries = logTriesMax;
    }
  }

  private notify(execution: Stored<Execution>): void {
    for (const listener of this.listeners) listener(execution);
  }
}

/** Whether a peer will answer the same again. */
const isFinal = ({ reason }: PeerError): boolean =>
  reason === 'Refused' || reason === 'Invalid' || reason === 'Unsupported';

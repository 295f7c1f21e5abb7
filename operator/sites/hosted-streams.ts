import type { AuditLog, AuditOutcome } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import { rejectedOnAbort } from '#common/abort.ts';
import { asError, describeError } from '#common/errors.ts';
import type { Principal } from '#common/identity/ids.ts';
import { WaitingQueue } from '#common/waiting-queue.ts';
import { type Execution, podLabels, taskContainerName } from '#crds/execution.ts';
import { organizationNamespace } from '#crds/organization.ts';
import { podName } from '#operator/controllers/execution/pod.ts';
import type { MemberAccess } from '#operator/gateway/member-access.ts';
import { OpenStreams } from '#operator/gateway/open-streams.ts';
import { type PeerCaller, PeerError, type PeerMethod, streaming } from '#operator/gateway/peers/contract.ts';
import { Refusal } from '#operator/gateway/refusal.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import { type ConnectOpen, type ConnectRequest, type ConnectResponse, workMethods } from '#proto/site/schema.ts';
import type { Pod } from '#runtime/builtin.ts';
import { ApiError, ConnectionError, NotFoundError } from '#runtime/errors.ts';
import type { TerminalSize } from '#runtime/remote-channels.ts';
import type { Stored } from '#runtime/types.ts';
import type { PodConnector, PodStream } from './pod-connector.ts';
import { notShared } from './selection-service.ts';
import type { SharedOrganizations } from './shared.ts';

/** What {@link HostedStreams} works with. */
export interface HostedStreamsOptions {
  /** The Execution of a part of a home. */
  readonly find: (home: string, part: string) => Stored<Execution> | undefined;
  /** The pods of an Execution. */
  readonly podsOf: (execution: Stored<Execution>) => readonly Stored<Pod>[];
  readonly shared: SharedOrganizations;
  readonly access: MemberAccess;
  readonly connector: PodConnector;
  readonly audit: AuditLog;
  readonly clock: Clock;
}

/** The first message of a stream has to be there in this time, milliseconds. */
const openMs = 10_000;
/** Bytes under way to or from a task, beyond which whoever has more waits. */
export const windowBytes = 256 * 1024;
/** Of one message: less than peers take. */
const pieceBytesMax = 128 * 1024;
const whatOf = { LOG: 'task.log', EXEC: 'task.exec', ATTACH: 'task.attach' } as const;

/** A stream that was let in. */
interface Admitted {
  readonly pod: Stored<Pod>;
  readonly principal: Principal;
  readonly request: PodStream;
}

/**
 * Connects members to tasks that run here for jobs of other sites. The home says who asks; what the member may do is for this site: the
 * connection is made with the member's own account, so that rights and admission policies decide as for anybody who asks the API server here,
 * and the operator needs no right to enter pods (ADR 0167).
 */
export class HostedStreams {
  private readonly options: HostedStreamsOptions;
  private readonly streams: OpenStreams;

  constructor(options: HostedStreamsOptions) {
    this.options = options;
    this.streams = new OpenStreams(options.clock, options.access.onChange.bind(options.access));
  }

  /** What peers may call. */
  methods(): PeerMethod[] {
    return [streaming(workMethods.Connect, (requests, caller) => this.serve(requests, caller))];
  }

  private async *serve(
    requests: AsyncIterable<ConnectRequest>,
    caller: PeerCaller,
  ): AsyncGenerator<ConnectResponse, void, undefined> {
    const incoming = requests[Symbol.asyncIterator]();
    const open = await this.first(incoming, caller);
    const record = (outcome: AuditOutcome, why: string, message?: string): void =>
      this.options.audit.record({
        who: { issuer: open.issuer, subject: open.subject },
        what: whatOf[open.kind],
        on: {
          Site: caller.site,
          VirtualOrganization: open.virtualOrganization,
          Part: open.part,
          Task: `${open.index}`,
        },
        ...{ outcome, why, ...(message === undefined ? {} : { message }) },
      });
    const told = { isAllowed: false };
    try {
      for await (const answer of this.connect(open, incoming, caller, () => {
        told.isAllowed = true;
        record('Allowed', 'Connected');
      }))
        yield answer;
    } catch (error) {
      if (caller.signal.aborted) throw error;
      const problem = translated(error);
      const isOurs = !(problem instanceof PeerError);
      if (!told.isAllowed || isOurs || problem.reason === 'Refused')
        record(isOurs ? 'Failed' : 'Refused', isOurs ? 'Failed' : problem.reason, isOurs ? undefined : problem.message);
      throw problem;
    }
  }

  private async first(incoming: AsyncIterator<ConnectRequest>, { signal }: PeerCaller): Promise<ConnectOpen> {
    const late = new AbortController();
    const timer = this.options.clock.after(openMs, () => late.abort(new PeerError('Invalid', 'Nothing was opened.')));
    try {
      const ended = AbortSignal.any([late.signal, signal]);
      const next = await Promise.race([incoming.next(), rejectedOnAbort(ended)]);
      const open = next.done === true ? undefined : next.value.open;
      if (open === undefined) throw new PeerError('Invalid', 'The first message of a stream has to open it.');
      return open;
    } finally {
      timer.cancel();
    }
  }

  private async *connect(
    open: ConnectOpen,
    incoming: AsyncIterator<ConnectRequest>,
    caller: PeerCaller,
    onAdmit: () => void,
  ): AsyncGenerator<ConnectResponse, void, undefined> {
    const { access, connector } = this.options;
    const { virtualOrganization } = open;
    const { pod, principal, request } = this.admit(open, caller);
    const scopes = { peer: caller.site, organization: virtualOrganization, member: JSON.stringify(principal) };
    const stream = this.streams.enter(scopes, () => this.problem(open, caller, principal));
    const left = new AbortController();
    const signal = AbortSignal.any([caller.signal, stream.signal, left.signal]);
    const answers = new WaitingQueue<ConnectResponse>(windowBytes, sizeOf);
    const input = new Input(incoming, () => stream.touch());
    const say = async (channel: 'stdout' | 'stderr', chunk: Buffer): Promise<void> => {
      stream.touch();
      for (let at = 0; at < chunk.length; at += pieceBytesMax)
        await answers.push({ [channel]: chunk.subarray(at, at + pieceBytesMax) });
    };
    const run = async (): Promise<void> => {
      const credentials = await access.credentials(virtualOrganization, principal, signal);
      const streams = {
        ...(open.stdin ? { stdin: input.bytes() } : {}),
        endsStdin: open.kind === 'EXEC',
        onStdout: async (chunk: Buffer) => say('stdout', chunk),
        onStderr: async (chunk: Buffer) => say('stderr', chunk),
        onConnect: (resize: (size: TerminalSize) => void) => {
          onAdmit();
          if (open.tty) input.onResize(resize);
        },
      };
      if (open.kind === 'LOG') onAdmit();
      const { namespace, name } = pod.metadata;
      const exitStatus = (await connector.connect({ namespace, name }, request, credentials, streams, signal)) ?? 0;
      void answers.push({ end: { exitStatus } });
    };
    const running = run().then(
      () => answers.end(),
      (error: unknown) => answers.end(stream.signal.aborted ? reasonOf(stream.signal) : asError(error)),
    );
    // What waits for room must not outlast who takes.
    const onAbort = (): void => answers.end(reasonOf(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      yield* answers;
    } finally {
      signal.removeEventListener('abort', onAbort);
      left.abort(new Error('The caller left'));
      input.end();
      stream.close();
      await running;
    }
  }

  /** Whether this peer may connect this member to this task. @throws {PeerError} */
  private admit(open: ConnectOpen, caller: PeerCaller): Admitted {
    const { virtualOrganization, part, run, index, issuer, subject, kind, stdin, tty } = open;
    caller.charge(virtualOrganization);
    const principal = { issuer, subject };
    const problem = this.problem(open, caller, principal);
    if (problem !== undefined) throw problem;
    const execution = this.options.find(caller.site, part);
    // A peer reaches nothing but what it has carried out here itself.
    if (execution?.metadata.namespace !== organizationNamespace(virtualOrganization))
      throw new PeerError('NotFound', `Nothing of the job runs here any more.`);
    const pod = this.podOf(execution, { run, index });
    const state = pod?.status?.containerStatuses?.find(({ name }) => name === taskContainerName)?.state;
    if (pod === undefined || (state?.running === undefined && state?.terminated === undefined)) {
      const isPlaced = execution.spec.placements.some((each) => each.run === run && has(each.tasks, index));
      const what = isPlaced ? 'has not started yet, or its pod is gone' : 'does not run here any more';
      throw new PeerError('NotFound', `Task ${index} ${what}.`);
    }
    if (kind !== 'LOG' && state.running === undefined)
      throw new PeerError(
        'NotFound',
        `Task ${index} has ended, with exit status ${state.terminated?.exitCode ?? '?'}.`,
      );
    if (kind === 'EXEC' && open.command.length === 0)
      throw new PeerError('Invalid', 'command is empty: say what is to run.');
    const { follow, timestamps } = open;
    const tailLines = open.tailLines === 0 ? undefined : open.tailLines;
    const request: PodStream =
      kind === 'LOG'
        ? { log: { follow, tailLines, timestamps } }
        : { connect: { command: kind === 'EXEC' ? open.command : undefined, stdin, tty } };
    return { pod, principal, request };
  }

  /** Why the stream may not be, or go on. */
  private problem(
    { virtualOrganization }: ConnectOpen,
    { site }: PeerCaller,
    principal: Principal,
  ): PeerError | undefined {
    const { shared, access } = this.options;
    if (!shared.has(site, virtualOrganization)) return notShared(virtualOrganization);
    const refusal = access.refusal(virtualOrganization, principal);
    return refusal === undefined ? undefined : new PeerError('Refused', refusal.message);
  }

  /** The pod of a run, by everything that tells it from others. */
  private podOf(execution: Stored<Execution>, task: { run: string; index: number }): Stored<Pod> | undefined {
    const name = podName(execution, task);
    return this.options.podsOf(execution).find(({ metadata }) => {
      const labels = metadata.labels ?? {};
      const isTask = labels[podLabels.run] === task.run && labels[podLabels.index] === String(task.index);
      return metadata.name === name && isTask && labels[podLabels.owner] === execution.spec.owner;
    });
  }
}

/** What comes from the other end, after the first message: input apart from sizes of the terminal. */
class Input {
  private readonly queue = new WaitingQueue<Buffer>(windowBytes, (chunk) => chunk.length);
  private resize: ((size: TerminalSize) => void) | undefined;
  private size: TerminalSize | undefined;

  constructor(incoming: AsyncIterator<ConnectRequest>, touch: () => void) {
    this.read(incoming, touch).then(
      () => this.queue.end(),
      // The call tells by its signal that it has ended.
      () => this.queue.end(),
    );
  }

  bytes(): AsyncIterable<Buffer> {
    return this.queue;
  }

  onResize(resize: (size: TerminalSize) => void): void {
    this.resize = resize;
    if (this.size !== undefined) resize(this.size);
  }

  end(): void {
    this.queue.end();
  }

  private async read(incoming: AsyncIterator<ConnectRequest>, touch: () => void): Promise<void> {
    for (;;) {
      const next = await incoming.next();
      if (next.done === true) return;
      touch();
      const { stdin, stdinEnd, resize } = next.value;
      if (stdinEnd === true) this.queue.end();
      else if (stdin !== undefined) await this.queue.push(Buffer.from(stdin));
      else if (resize !== undefined) {
        this.size = resize;
        this.resize?.(resize);
      }
    }
  }
}

function sizeOf({ stdout, stderr }: ConnectResponse): number {
  return (stdout?.length ?? 0) + (stderr?.length ?? 0);
}

const reasonOf = (signal: AbortSignal): Error => asError(signal.reason);

function has(tasks: string, index: number): boolean {
  return IndexSet.parse(tasks).has(index);
}

/** What the home is told, or our own trouble. Words of the API server are the member's to read: it was asked as the member. */
function translated(error: unknown): unknown {
  if (error instanceof PeerError) return error;
  if (error instanceof Refusal)
    return new PeerError(error.code === 'Unavailable' ? 'Busy' : 'Refused', error.message, { cause: error });
  const words = describeError(error).replace(/^[A-Z]+ \/\S*: /, '');
  if (error instanceof NotFoundError)
    return new PeerError('NotFound', `The pod of the task is gone: ${words}`, { cause: error });
  if (error instanceof ApiError) {
    const reason =
      error.statusCode === 401 || error.statusCode === 403 ? 'Refused' : error.statusCode === 429 ? 'Busy' : 'Invalid';
    return new PeerError(reason, words, { cause: error });
  }
  if (error instanceof ConnectionError)
    return new PeerError('Unreachable', `The connection to the task broke: ${words}`, { cause: error });
  return error;
}

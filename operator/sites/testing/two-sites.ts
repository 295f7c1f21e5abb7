/** Two sites in one process and on one virtual clock: the product's own code of both ends, above a link, a store and a kubelet that are made up. */
import type { MethodDefinition } from '@grpc/grpc-js';
import type { VirtualClock } from '#common/clock.ts';
import { type Clock, type Timer } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import type { SeededRandom } from '#common/random.ts';
import { type Execution, executions, podLabels } from '#crds/execution.ts';
import { byExecution, ExecutionReconciler, podsOf } from '#operator/controllers/execution/controller.ts';
import type { LogKeeper } from '#operator/controllers/execution/log-keeper.ts';
import { PeerBudget } from '#operator/gateway/peers/budget.ts';
import {
  type PeerCallOptions,
  peerCallTimeoutMs,
  type PeerChannel,
  type PeerChannels,
  PeerError,
  type PeerMethod,
} from '#operator/gateway/peers/contract.ts';
import { type CallParts, serveAnswer, serveStream } from '#operator/gateway/peers/serve-call.ts';
import { StatusMemory } from '#operator/controllers/status-memory.ts';
import { openSurroundings } from '#operator/testing/surroundings.ts';
import { configMaps, type Lease, leases, type Pod, pods } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import type { Kind } from '#runtime/kind.ts';
import { formatKey, keyOf, type Stored } from '#runtime/types.ts';
import { HomeFencer } from '#selector/kubernetes/home-fencer.ts';
import { HomeLeases, LeaseFencer } from '../home-leases.ts';
import { HostedParts } from '../host.ts';
import type { HostedSelection } from '../selection-service.ts';
import type { SharedVolumes } from '../volumes.ts';
import { memoryClient, MemoryKind, MemoryKubelet } from './memory-api.ts';

/** The clock of a site: its wall clock may be set, and nothing else. */
class SiteClock implements Clock {
  private readonly base: VirtualClock;
  offsetMs = 0;

  constructor(base: VirtualClock) {
    this.base = base;
  }

  now(): number {
    return this.base.now() + this.offsetMs;
  }

  monotonic(): number {
    return this.base.monotonic();
  }

  after(delayMs: number, fn: () => void): Timer {
    return this.base.after(delayMs, fn);
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return this.base.sleep(delayMs, signal);
  }
}

/** What happens to messages of one direction. `stuck`: they come when the direction is mended, all of them. */
export type Direction = 'up' | 'lost' | 'stuck';

/** The link from a site to another, and back. */
export class TestLink {
  readonly site: string;
  there: Direction = 'up';
  back: Direction = 'up';
  delayMaxMs = 50;
  private readonly clock: VirtualClock;
  private readonly random: SeededRandom;
  private readonly stuck: (() => void)[] = [];
  private readonly budget: PeerBudget;
  private readonly from: string;
  /** What the operator of the other site serves; undefined while there is none. */
  methods: readonly PeerMethod[] | undefined;

  constructor(clock: VirtualClock, random: SeededRandom, { from, to } = { from: 'home', to: 'far' }) {
    this.clock = clock;
    this.random = random;
    this.from = from;
    this.site = to;
    this.budget = new PeerBudget(clock);
  }

  /** Both directions work again, and what was stuck comes. */
  mend(): void {
    Object.assign(this, { there: 'up', back: 'up', delayMaxMs: 50 });
    for (const send of this.stuck.splice(0)) send();
  }

  get channels(): PeerChannels {
    const channel: PeerChannel = { site: this.site, call: this.call.bind(this), stream: this.stream.bind(this) };
    return { channel: () => channel, names: () => [this.site], onChange: () => () => undefined };
  }

  private async call<Q, A>(definition: MethodDefinition<Q, A>, request: Q, options: PeerCallOptions = {}): Promise<A> {
    const bytes = definition.requestSerialize(request);
    return this.exchange(async () => {
      const message = await serveAnswer(this.find(definition), definition.requestDeserialize(bytes), this.callParts());
      return definition.responseDeserialize(definition.responseSerialize(message as A));
    }, options);
  }

  /** The answers come together. */
  private async *stream<Q, A>(
    definition: MethodDefinition<Q, A>,
    requests: AsyncIterable<Q>,
    options: PeerCallOptions = {},
  ): AsyncGenerator<A> {
    yield* await this.exchange(async () => {
      const answers: A[] = [];
      for await (const message of serveStream(this.find(definition), requests, this.callParts()))
        answers.push(definition.responseDeserialize(definition.responseSerialize(message as A)));
      return answers;
    }, options);
  }

  private async exchange<T>(
    serve: () => Promise<T>,
    { timeoutMs = peerCallTimeoutMs, signal }: PeerCallOptions,
  ): Promise<T> {
    const answer = Promise.withResolvers<T>();
    const give = (error: unknown): void => answer.reject(error);
    const timer = this.clock.after(timeoutMs, () => give(new PeerError('Unreachable', 'no answer in time')));
    signal?.addEventListener('abort', () => give(signal.reason));
    this.carry(this.there, () => {
      void serve().then(
        (message) => this.carry(this.back, () => answer.resolve(message)),
        (error: unknown) => this.carry(this.back, () => give(error)),
      );
    });
    return answer.promise.finally(() => timer.cancel());
  }

  private find({ path }: { readonly path: string }): PeerMethod {
    const method = this.methods?.find(({ definition }) => definition.path === path);
    if (method === undefined) throw new PeerError('Unreachable', 'nobody is there');
    return method;
  }

  private callParts(): CallParts {
    const { signal } = new AbortController();
    return { site: this.from, budget: this.budget, signal, onFailure: () => undefined };
  }

  private carry(direction: Direction, deliver: () => void): void {
    const later = (): void => void this.clock.after(this.random.int(this.delayMaxMs), deliver);
    if (direction === 'up') later();
    else if (direction === 'stuck') this.stuck.push(later);
  }
}

/** The site where the tasks run. Its operator may die; objects, kubelet, containers and the selector of its node do not. */
export class WorkingSite {
  readonly clock: SiteClock;
  readonly executions: MemoryKind<Execution>;
  private readonly pods: MemoryKind<Pod>;
  private readonly leases: MemoryKind<Lease>;
  private readonly kubelet: MemoryKubelet;
  private readonly link: TestLink;
  private life: AbortController | undefined;

  /** @param onStart - the container of a task of this job runs. @param onEnd - it does no more. */
  constructor(
    base: VirtualClock,
    random: SeededRandom,
    link: TestLink,
    onStart: (job: string) => void,
    onEnd: (job: string) => void,
  ) {
    this.link = link;
    this.clock = new SiteClock(base);
    this.executions = new MemoryKind(executions, this.clock, random);
    this.pods = new MemoryKind(pods, base, random);
    this.leases = new MemoryKind(leases, base, random);
    // What has no owner any more is collected.
    this.pods.onWrite((pod) => {
      base.after(2_000, () => {
        const [owner] = pod.metadata.ownerReferences ?? [];
        const isOwned = [...this.executions.objects.values()].some(({ metadata }) => metadata.uid === owner?.uid);
        if (!isOwned && this.pods.objects.has(formatKey(keyOf(pod)))) this.kubelet.end(pod);
      });
    });
    const jobOf = ({ metadata }: Stored<Pod>): string => metadata.labels?.[podLabels.job] ?? '';
    this.kubelet = new MemoryKubelet(
      this.pods,
      base,
      random,
      (pod) => onStart(jobOf(pod)),
      (pod) => onEnd(jobOf(pod)),
    );
    const bound = this.pods.cache();
    const fencer = new HomeFencer({
      ...{ pods: () => bound.list(), client: this.clientOf(new AbortController().signal), clock: this.clock },
      ...{ logger: silentLogger, namespace: 'system' },
    });
    void fencer.run(new AbortController().signal);
  }

  /** A new process of its operator. */
  start(): void {
    const life = new AbortController();
    this.life = life;
    const { clock } = this;
    const client = this.clientOf(life.signal);
    const [parts, podCache] = [this.executions.cache(), this.pods.cache()];
    podCache.addIndex(byExecution, ({ metadata }) => [
      `${metadata.namespace ?? ''}/${metadata.labels?.[podLabels.execution] ?? ''}`,
    ]);
    const hosted = new HostedParts({
      ...{ executions: parts, client, clock, log: silentLogger, shared: { has: () => true } },
      podsOf: (execution) => podsOf(podCache, execution),
      volumes: noVolumes,
      selection: { isPromised: () => true } as unknown as HostedSelection,
      members: { principalOf: () => undefined, userNameOf: () => 'u-alice-2013300123' },
      leases: new HomeLeases(client, clock, 'system'),
    });
    this.link.methods = hosted.methods();
    const held = new HomeLeases(client, clock, 'system');
    const fencer = new LeaseFencer({ executions: parts, client, leases: held, clock, log: silentLogger });
    void fencer.run(life.signal);
    const reconciler = new ExecutionReconciler({
      ...{ executions: parts, pods: podCache, client, clock, log: silentLogger, siteName: 'far' },
      surroundings: openSurroundings('far', () => true),
      hasGivenWay: () => false,
      elsewhere: () => {
        throw new Error('nothing of the far site runs elsewhere');
      },
      keeper: { keep: async () => Promise.resolve(false) } as unknown as LogKeeper,
      mayWorkFor: async (home, stop) => held.isHeld(home, stop),
      statuses: new StatusMemory(),
      freed: () => undefined,
    });
    const work = async (): Promise<void> => {
      while (!life.signal.aborted) {
        for (const { metadata } of parts.list())
          await reconciler.reconcile(metadata, life.signal).catch(() => undefined);
        await clock.sleep(200);
      }
    };
    void work();
  }

  /** The process dies, in the middle of whatever it does. */
  kill(): void {
    this.life?.abort(new Error('killed'));
    this.link.methods = undefined;
  }

  private clientOf(signal: AbortSignal): Client {
    const isAlive = (): boolean => !signal.aborted;
    const removed = this.executions.client(isAlive, (object) => {
      this.executions.remove(object);
      for (const pod of this.pods.objects.values())
        if (pod.metadata.ownerReferences?.some(({ uid }) => uid === object.metadata.uid)) this.kubelet.end(pod);
    });
    return memoryClient(
      new Map<Kind, object>([
        [executions, removed],
        [pods, this.pods.client(isAlive, (pod) => this.kubelet.end(pod))],
        [leases, this.leases.client(isAlive, (lease) => this.leases.remove(lease))],
        [configMaps, { find: async () => Promise.resolve(undefined) }],
      ]),
    );
  }
}

/** A site where no task has a volume. */
export const noVolumes: SharedVolumes = { identityOf: () => undefined, sitesWith: () => [] };

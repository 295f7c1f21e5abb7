import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { untilAborted } from '#common/abort.ts';
import { asError } from '#common/errors.ts';
import { type Clock, systemClock } from '#common/clock.ts';
import { type Logger, silentLogger } from '#common/logger.ts';
import { createRegistry, type Registry } from '#common/metrics.ts';
import { type Random, systemRandom } from '#common/random.ts';
import { leases } from './builtin.ts';
import { createClient } from './client.ts';
import type {
  Client,
  ControllerOptions,
  EventRecorder,
  HealthCheck,
  Informer,
  InformerOptions,
  Manager,
  Runnable,
} from './contracts.ts';
import { Controller } from './controller.ts';
import { BackgroundRecorder } from './events.ts';
import { LeaseFence } from './fence.ts';
import { authorized, healthHandler, HttpServer, type ListenOptions, metricsHandler } from './http-server.ts';
import { createInformer, type SharedInformer } from './informer.ts';
import { type Kind, resourceOf } from './kind.ts';
import { LeaseElector, type LeaseOptions } from './lease.ts';
import { createRuntimeMetrics, type RuntimeMetrics } from './metrics.ts';
import type { Transport } from './transport.ts';
import type { KubeObject } from './types.ts';

/** How a manager is put together. */
export interface ManagerOptions {
  /** Qualified name of the program: field manager of its writes and reporter of its events. */
  readonly name: string;
  /** Closed by whoever made it, after `run`. */
  readonly transport: Transport;
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
  readonly logger?: Logger | undefined;
  readonly registry?: Registry | undefined;
  /** The runtime's metrics, when the transport shares them; default: registered in `registry`. */
  readonly metrics?: RuntimeMetrics | undefined;
  /** Without it this process acts at once, and must be the only one. */
  readonly lease?: (Omit<LeaseOptions, 'identity'> & { readonly identity?: string | undefined }) | undefined;
  /** Where `/metrics` is served; `isProtected`: only to bearers of tokens that may get it. */
  readonly metricsServer?: (ListenOptions & { readonly isProtected?: boolean | undefined }) | undefined;
  /** Where `/healthz`, `/livez` and `/readyz` are served, to anyone. */
  readonly healthServer?: ListenOptions | undefined;
  /** What running reconciles get to end by themselves after the stop; default 20 s. */
  readonly graceMs?: number | undefined;
}

const defaultGraceMs = 20_000;
/** For the last events and giving up the lease. */
const lastWordsMs = 5_000;

/** The {@link Manager} of one process. */
export function createManager(options: ManagerOptions): Manager & { readonly ports: ManagerPorts } {
  return new ProcessManager(options);
}

/** Ports that the servers listen on, once `run` has started them. */
export interface ManagerPorts {
  readonly metrics: number | undefined;
  readonly health: number | undefined;
}

class ProcessManager implements Manager {
  readonly client: Client;
  readonly events: EventRecorder;
  readonly ports: { metrics: number | undefined; health: number | undefined } = {
    metrics: undefined,
    health: undefined,
  };
  private readonly options: ManagerOptions;
  private readonly parts: { clock: Clock; random: Random; logger: Logger; metrics: RuntimeMetrics };
  private readonly registry: Registry;
  private readonly plainClient: Client;
  private readonly recorder: BackgroundRecorder;
  private readonly fence: LeaseFence | undefined;
  private readonly elector: LeaseElector | undefined;
  private readonly informers = new Map<string, SharedInformer<KubeObject>>();
  private readonly controllers = new Map<string, Controller<KubeObject>>();
  private readonly runnables: Runnable[] = [];
  private readonly checks = { ready: new Map<string, HealthCheck>(), live: new Map<string, HealthCheck>() };
  private readonly caches = new AbortController();
  private readonly cacheEnds: Promise<void>[] = [];
  private state: 'made' | 'running' | 'stopping' = 'made';

  constructor(options: ManagerOptions) {
    this.options = options;
    this.registry = options.registry ?? createRegistry();
    this.parts = {
      clock: options.clock ?? systemClock,
      random: options.random ?? systemRandom(),
      logger: options.logger ?? silentLogger,
      metrics: options.metrics ?? createRuntimeMetrics(this.registry),
    };
    const identity = options.lease?.identity ?? `${hostname()}_${randomUUID()}`;
    this.plainClient = createClient(options.transport, { fieldManager: options.name });
    if (options.lease !== undefined) {
      this.fence = new LeaseFence(this.parts.clock);
      const client = this.plainClient.of(leases);
      this.elector = new LeaseElector({ ...options.lease, identity }, { ...this.parts, client, fence: this.fence });
    }
    this.client = createClient(options.transport, { fieldManager: options.name, fence: this.fence });
    this.recorder = new BackgroundRecorder({
      ...this.parts,
      client: this.client,
      controller: options.name,
      instance: identity,
    });
    this.events = this.recorder;
    this.addCheck('ready', 'caches', () => this.checkCaches());
  }

  get isLeader(): boolean {
    return this.fence?.isOpen ?? true;
  }

  informer<T extends KubeObject>(kind: Kind<T>, options: InformerOptions = {}): Informer<T> {
    const { namespace = '', labelSelector = '', fieldSelector = '', keepManagedFields = false } = options;
    const id = JSON.stringify([
      resourceOf(kind),
      kind.version,
      namespace,
      labelSelector,
      fieldSelector,
      keepManagedFields,
    ]);
    const known = this.informers.get(id);
    if (known !== undefined) return known as unknown as SharedInformer<T>;
    const made = createInformer(this.options.transport, kind, options, this.parts);
    this.informers.set(id, made as unknown as SharedInformer<KubeObject>);
    if (this.state === 'running') this.cacheEnds.push(made.run(this.caches.signal));
    return made;
  }

  addController<T extends KubeObject>(options: ControllerOptions<T>): void {
    this.assertNotRunning();
    if (this.controllers.has(options.name)) throw new TypeError(`A controller named ${options.name} exists already`);
    const made = new Controller(options, this.parts);
    this.controllers.set(options.name, made as unknown as Controller<KubeObject>);
  }

  addRunnable(runnable: Runnable): void {
    this.assertNotRunning();
    this.runnables.push(runnable);
  }

  addCheck(endpoint: 'ready' | 'live', name: string, check: HealthCheck): void {
    this.assertNotRunning();
    this.checks[endpoint].set(name, check);
  }

  async run(signal: AbortSignal): Promise<void> {
    this.assertNotRunning();
    this.state = 'running';
    const servers = this.createServers();
    const work = new WorkGroup(signal, this.parts.logger);
    const lease = new AbortController();
    let holding: Promise<void> | undefined;
    try {
      await Promise.all(servers.map(async ({ server, name }) => (this.ports[name] = await server.start())));
      for (const informer of this.informers.values()) this.cacheEnds.push(informer.run(this.caches.signal));
      this.startRunnables(work, false);
      if (this.elector !== undefined) {
        await work.orFailure(this.elector.acquire(work.signal));
        holding = this.elector.hold(lease.signal).catch((error: unknown) => work.fail(error));
      }
      for (const controller of this.controllers.values()) {
        work.start(controller.name, async (stop) => controller.run(stop));
      }
      this.startRunnables(work, true);
      await work.orFailure(untilAborted(work.signal));
    } catch (error) {
      if (error !== work.signal.reason) work.fail(error);
    } finally {
      this.state = 'stopping';
      await this.stop(work, lease, holding);
      await Promise.all(servers.map(async ({ server }) => server.stop()));
      work.dispose();
    }
    if (work.failure !== undefined) throw work.failure;
    this.parts.logger.info('Stopped');
  }

  private startRunnables(work: WorkGroup, needsLeader: boolean): void {
    for (const runnable of this.runnables) {
      if ((runnable.needsLeader ?? true) === needsLeader) work.start(runnable.name, async (stop) => runnable.run(stop));
    }
  }

  /** Work first, then its last events, then the lease, then the caches that all of them read. */
  private async stop(work: WorkGroup, lease: AbortController, holding: Promise<void> | undefined): Promise<void> {
    const { clock, logger } = this.parts;
    const late = await work.stop(this.options.graceMs ?? defaultGraceMs, clock);
    if (late.length > 0) logger.error('Not waiting any longer for what does not stop', { running: late });
    const limit = new AbortController();
    const timer = clock.after(lastWordsMs, () => limit.abort(new Error('the stop took too long')));
    await Promise.race([this.recorder.flush(), untilAborted(limit.signal)]);
    await this.recorder.stop();
    lease.abort(new Error('The manager stops'));
    await holding;
    // What still runs may act outside the API: the lease isn't given up then, so that it has its time to end.
    if (late.length > 0) this.fence?.close('the process stops');
    else if (this.elector !== undefined && holding !== undefined) await this.elector.release(limit.signal);
    timer.cancel();
    this.caches.abort(new Error('The manager stops'));
    await Promise.all(this.cacheEnds);
  }

  private createServers(): { readonly name: 'metrics' | 'health'; readonly server: HttpServer }[] {
    const { metricsServer, healthServer } = this.options;
    const { clock, logger } = this.parts;
    const servers: { readonly name: 'metrics' | 'health'; readonly server: HttpServer }[] = [];
    if (metricsServer !== undefined) {
      const open = metricsHandler(this.registry);
      const isProtected = metricsServer.isProtected === true;
      const handler = isProtected ? authorized(this.plainClient, clock, '/metrics', open) : open;
      servers.push({
        name: 'metrics',
        server: new HttpServer(metricsServer, new Map([['/metrics', handler]]), logger),
      });
    }
    if (healthServer !== undefined) {
      const live = healthHandler(this.checks.live);
      const routes = new Map([
        ['/healthz', live],
        ['/livez', live],
        ['/readyz', healthHandler(this.checks.ready)],
      ]);
      servers.push({ name: 'health', server: new HttpServer(healthServer, routes, logger) });
    }
    return servers;
  }

  private checkCaches(): void {
    if (this.state !== 'running') throw new Error(this.state === 'made' ? 'not started yet' : 'stopping');
    const missing = [...this.informers.values()].filter((informer) => !informer.isSynced);
    if (missing.length > 0) throw new Error(`waiting for ${missing.map(({ kind }) => resourceOf(kind)).join(', ')}`);
  }

  private assertNotRunning(): void {
    if (this.state !== 'made') throw new TypeError('The manager runs already: add everything before run, and run once');
  }
}

/** What runs until a common stop; the first that fails, or ends before it, stops the others. */
class WorkGroup {
  private readonly logger: Logger;
  private readonly outer: AbortSignal;
  private readonly stopper = new AbortController();
  private readonly onAbort = (): void => this.stopper.abort(this.outer.reason);
  private readonly running = new Map<string, Promise<void>>();
  private readonly failed = Promise.withResolvers<never>();
  failure: Error | undefined;

  constructor(outer: AbortSignal, logger: Logger) {
    this.outer = outer;
    this.logger = logger;
    this.failed.promise.catch(() => undefined);
    outer.addEventListener('abort', this.onAbort, { once: true });
    if (outer.aborted) this.onAbort();
  }

  /** Aborts at the stop, whatever it came from. */
  get signal(): AbortSignal {
    return this.stopper.signal;
  }

  start(name: string, run: (stop: AbortSignal) => Promise<void>): void {
    const end = run(this.signal).then(
      () => {
        this.running.delete(name);
        if (!this.signal.aborted) this.fail(new Error(`${name} ended before the stop`));
      },
      (error: unknown) => {
        this.running.delete(name);
        if (this.signal.aborted) this.logger.warn('Failed while stopping', { name, err: error });
        else this.fail(error);
      },
    );
    this.running.set(name, end);
  }

  /** Stops everything because of an error; the first one is what `run` throws. */
  fail(error: unknown): void {
    if (this.failure === undefined) {
      this.failure = asError(error);
      this.logger.error('Stopping', { err: error });
    }
    this.failed.reject(this.failure);
    this.stopper.abort(this.failure);
  }

  /** The promise, or the first failure when that comes earlier. */
  async orFailure<R>(promise: Promise<R>): Promise<R> {
    return Promise.race([promise, this.failed.promise]);
  }

  /** Stops, and waits for the ends. @returns the names of what still runs after the grace. */
  async stop(graceMs: number, clock: Clock): Promise<string[]> {
    this.stopper.abort(new Error('The manager stops'));
    const over = Promise.withResolvers<undefined>();
    const timer = clock.after(graceMs, () => over.resolve(undefined));
    await Promise.race([Promise.all(this.running.values()), over.promise]);
    timer.cancel();
    return [...this.running.keys()];
  }

  dispose(): void {
    this.outer.removeEventListener('abort', this.onAbort);
  }
}

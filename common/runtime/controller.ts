import { SpanStatusCode, trace } from '@opentelemetry/api';
import type { Clock, Timer } from '#common/clock.ts';
import { describeError, TerminalError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import type { BackoffOptions } from './backoff.ts';
import { runReconcile } from './context.ts';
import type { ControllerOptions, InformerEvent, Result } from './contracts.ts';
import { ApiError, ConflictError, FencedError } from './errors.ts';
import type { RuntimeMetrics } from './metrics.ts';
import { type Lane, type QueueItem, WorkQueue } from './queue.ts';
import { formatKey, keyOf, type KubeObject, parseKey, type Stored } from './types.ts';

/** What a controller is made of, besides its options. */
export interface ControllerParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: RuntimeMetrics;
  /** Of failed reconciles. Default 100 ms to 5 min. */
  readonly backoff?: BackoffOptions | undefined;
}

const defaultConcurrency = 4;
const defaultResyncMs = 10 * 3600_000;
const defaultTimeoutMs = 300_000;
/** A resync looks at one slot of the keys at a time, so that it is spread evenly. */
const resyncSlots = 60;
const syncWarningMs = 30_000;

type Outcome = 'done' | 'requeue' | 'conflict' | 'terminal' | 'fenced' | 'stopped' | 'error';

/** Runs the reconciles of one kind. See {@link ControllerOptions} for what it promises. */
export class Controller<T extends KubeObject> {
  private readonly options: ControllerOptions<T>;
  private readonly parts: ControllerParts;
  private readonly logger: Logger;
  private readonly queue: WorkQueue;
  private readonly tracer = trace.getTracer('xtreemos-runtime');
  private readonly running = new Set<AbortController>();
  private readonly parked = new Set<string>();
  private readonly timers = new Map<'resync' | 'sync', Timer>();
  private reconciles = 0;
  private isStopped = false;

  constructor(options: ControllerOptions<T>, parts: ControllerParts) {
    for (const name of ['concurrency', 'reconcileTimeoutMs'] as const) {
      const value = options[name];
      if (value !== undefined && !(value > 0))
        throw new RangeError(`${options.name}.${name} must be above 0, not ${value}`);
    }
    this.options = options;
    this.parts = parts;
    this.logger = parts.logger.with({ controller: options.name });
    this.queue = new WorkQueue({ ...parts, name: options.name });
  }

  get name(): string {
    return this.options.name;
  }

  /** Keys whose last reconcile failed for good and that wait for a change. */
  get parkedKeys(): readonly string[] {
    return [...this.parked];
  }

  /**
   * Waits for the caches, then reconciles until the signal aborts; resolves when the last running reconcile has
   * ended. Once. Changes are noted from the first moment on.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { primary, sources = [], concurrency = defaultConcurrency, resyncMs = defaultResyncMs } = this.options;
    const stop = (): void => this.stop(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    const detach = [
      primary.onEvent((event) => this.takeEvent(event)),
      ...sources.map((source) => source.attach((key, initial) => this.enqueue(formatKey(key), initial))),
    ];
    try {
      if (signal.aborted) return;
      await this.waitForCaches(signal);
      if (resyncMs > 0) this.armResync(resyncMs / resyncSlots, this.parts.random.int(resyncSlots));
      this.logger.info('Starting workers', { concurrency });
      await Promise.all(Array.from({ length: concurrency }, async () => this.work()));
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      for (const undo of detach) undo();
      this.stop(signal.reason);
    }
  }

  private async waitForCaches(signal: AbortSignal): Promise<void> {
    const { primary, sources = [] } = this.options;
    const warn = (): void => {
      this.logger.warn('Waiting for caches: is the API server there, the CRD installed, the role bound?');
      this.timers.set('sync', this.parts.clock.after(syncWarningMs, warn));
    };
    this.timers.set('sync', this.parts.clock.after(syncWarningMs, warn));
    try {
      await Promise.all([primary, ...sources].map(async (cache) => cache.synced(signal)));
    } finally {
      this.timers.get('sync')?.cancel();
    }
  }

  private stop(reason: unknown): void {
    if (this.isStopped) return;
    this.isStopped = true;
    this.queue.close();
    for (const timer of this.timers.values()) timer.cancel();
    for (const controller of this.running) controller.abort(reason);
  }

  private takeEvent(event: InformerEvent<T>): void {
    const key = formatKey(keyOf(event.object));
    if (event.type !== 'updated') this.enqueue(key, event.type === 'added' && event.initial);
    else if (isReplaced(event.old, event.object) || this.options.changed?.(event.object, event.old) !== false) {
      this.enqueue(key, false);
    }
  }

  private enqueue(key: string, initial: boolean): void {
    this.unpark(key);
    this.queue.add(key, initial ? 'resync' : 'change');
  }

  private async work(): Promise<void> {
    for (let item = await this.queue.take(); item !== undefined; item = await this.queue.take()) {
      await this.process(item);
      if (this.queue.takeOverflow()) this.enqueueAll();
    }
  }

  private async process(item: QueueItem): Promise<void> {
    const { clock, metrics } = this.parts;
    const { name, reconcileTimeoutMs = defaultTimeoutMs } = this.options;
    const abort = new AbortController();
    const startedAt = clock.monotonic();
    const timer = clock.after(reconcileTimeoutMs, () => {
      this.logger.error('Aborting a reconcile that takes too long', { key: item.key, reconcileTimeoutMs });
      abort.abort(new Error(`The reconcile took longer than ${reconcileTimeoutMs} ms`));
    });
    this.running.add(abort);
    metrics.reconcilesRunning.inc({ controller: name });
    let outcome: Outcome = 'error';
    try {
      outcome = this.settle(item, await this.reconcile(item, abort.signal));
    } catch (error) {
      outcome = this.settleError(item, error);
    } finally {
      timer.cancel();
      this.running.delete(abort);
      this.queue.finish(item.key);
      metrics.reconcilesRunning.dec({ controller: name });
      metrics.reconcileSeconds.observe({ controller: name, result: outcome }, (clock.monotonic() - startedAt) / 1000);
    }
  }

  private async reconcile(item: QueueItem, signal: AbortSignal): Promise<Result> {
    const { name, primary, reconciler } = this.options;
    const logFields = {
      controller: name,
      [primary.kind.kind]: item.key,
      reconcileID: `${name}-${(++this.reconciles).toString(36)}`,
    };
    const priority = item.lane === 'resync' ? 'background' : undefined;
    return this.tracer.startActiveSpan(`reconcile ${name}`, { attributes: { key: item.key } }, async (span) => {
      try {
        return await runReconcile({ priority, logFields }, async () =>
          reconciler.reconcile(parseKey(item.key), signal),
        );
      } catch (error) {
        span.setStatus({ code: SpanStatusCode.ERROR, message: describeError(error) });
        throw error;
      } finally {
        span.end();
      }
    });
  }

  private settle(item: QueueItem, result: Result): Outcome {
    const { requeueAfterMs } = result;
    if (requeueAfterMs !== undefined && !(requeueAfterMs > 0)) {
      throw new RangeError(`requeueAfterMs must be above 0, not ${requeueAfterMs}: return done instead`);
    }
    this.queue.forget(item.key);
    if (requeueAfterMs === undefined) return 'done';
    this.queue.addAfter(item.key, requeueAfterMs, item.lane);
    return 'requeue';
  }

  private settleError(item: QueueItem, error: unknown): Outcome {
    const { key, lane } = item;
    if (this.isStopped) return 'stopped';
    const fields = { [this.options.primary.kind.kind]: key, err: error };
    if (error instanceof TerminalError) {
      this.queue.forget(key);
      this.park(key);
      this.logger.warn('Parking an object until it changes', fields);
      return 'terminal';
    }
    const delayMs = this.queue.addFailed(key, lane);
    if (error instanceof FencedError) return 'fenced';
    if (error instanceof ConflictError) {
      this.logger.debug('Reconciling again after a conflict', { ...fields, delayMs });
      return 'conflict';
    }
    const askedMs = error instanceof ApiError ? error.retryAfterMs : undefined;
    this.logger.error('Reconcile failed', { ...fields, failures: this.queue.failuresOf(key), delayMs, askedMs });
    return 'error';
  }

  private park(key: string): void {
    this.parked.add(key);
    this.parts.metrics.parkedObjects.set({ controller: this.options.name }, this.parked.size);
  }

  private unpark(key: string): void {
    if (this.parked.size === 0 || !this.parked.delete(key)) return;
    this.parts.metrics.parkedObjects.set({ controller: this.options.name }, this.parked.size);
  }

  private armResync(slotMs: number, slot: number): void {
    const next = (slot + 1) % resyncSlots;
    const timer = this.parts.clock.after(slotMs, () => {
      this.enqueueAll(slot);
      this.armResync(slotMs, next);
    });
    this.timers.set('resync', timer);
  }

  /** Every object that isn't parked, or those of one slot, behind changes. */
  private enqueueAll(slot?: number): void {
    for (const object of this.options.primary.list()) {
      const key = formatKey(keyOf(object));
      if (slot !== undefined && hash(key) % resyncSlots !== slot) continue;
      const lane: Lane = 'resync';
      if (!this.parked.has(key)) this.queue.add(key, lane);
    }
  }
}

/** Another object of the same name, or one that has been asked to go. */
function isReplaced(old: Stored<KubeObject>, object: Stored<KubeObject>): boolean {
  return (
    old.metadata.uid !== object.metadata.uid || old.metadata.deletionTimestamp !== object.metadata.deletionTimestamp
  );
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

import { createHash } from 'node:crypto';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { type EventObject, events as eventKind } from './builtin.ts';
import { formatMicroTime } from './conditions.ts';
import type { Client, EventDraft, EventRecorder, ObjectReference } from './contracts.ts';
import { NotFoundError } from './errors.ts';
import { apiVersionOf, type Kind } from './kind.ts';
import type { RuntimeMetrics } from './metrics.ts';
import type { KubeObject, Stored } from './types.ts';

/** How a recorder is put together. */
export interface RecorderOptions {
  readonly client: Client;
  /** Name of the controller, qualified: `xtreemos.io/operator`. */
  readonly controller: string;
  /** Which instance of it, for example the pod's name. */
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: RuntimeMetrics;
}

/** The API server refuses longer notes. */
const noteBytesMax = 1024;
/** An event that repeats within this time is counted in its series; later it is a new event (client-go: 6 min). */
const seriesMs = 360_000;
/** A series is written at most this often, however fast it repeats. */
const seriesWriteMs = 30_000;
/** Per object: 25 at once, then one in 5 minutes (client-go's spam filter). */
const burstMax = 25;
const refillMs = 300_000;
const seriesMax = 4096;
const objectsMax = 4096;
const pendingMax = 1000;

interface Series {
  readonly name: string;
  readonly namespace: string;
  count: number;
  lastAt: number;
  writtenAt: number;
  isPending: boolean;
}

interface Bucket {
  tokens: number;
  refilledAt: number;
}

/** One write to do: a new event, or the count of a series. */
type Job = { readonly create: EventObject } | { readonly update: Series };

/**
 * Publishes events (events.k8s.io/v1) one after the other in the background. Repeats are counted, chatty objects are
 * cut short, everything kept is bounded, and what can't be published is dropped and counted: never an error for the
 * caller.
 */
export class BackgroundRecorder implements EventRecorder {
  private readonly options: RecorderOptions;
  private readonly series = new Map<string, Series>();
  private readonly buckets = new Map<string, Bucket>();
  private readonly pending: Job[] = [];
  private sequence = 0;
  private flushing: Promise<void> | undefined;
  private readonly stopping = new AbortController();

  constructor(options: RecorderOptions) {
    this.options = options;
  }

  publish(draft: EventDraft): void {
    if (this.stopping.signal.aborted) return;
    const now = this.options.clock.now();
    const key = seriesKey(draft);
    const known = this.series.get(key);
    if (known !== undefined && now - known.lastAt < seriesMs) this.repeat(key, known, now);
    else if (this.mayTell(draft.object, now)) this.start(key, draft, now);
    else this.count('limited');
  }

  /** Resolves when everything published so far has been written or dropped. */
  async flush(): Promise<void> {
    await this.flushing;
  }

  /** Drops what is left and publishes nothing more. */
  async stop(): Promise<void> {
    this.stopping.abort(new Error('The recorder was stopped'));
    for (let left = this.pending.splice(0).length; left > 0; left--) this.count('dropped');
    await this.flushing;
  }

  private start(key: string, draft: EventDraft, now: number): void {
    const event = this.toEvent(draft, now);
    const { name, namespace = 'default' } = event.metadata;
    remember(this.series, key, { name, namespace, count: 1, lastAt: now, writtenAt: now, isPending: false }, seriesMax);
    this.enqueue({ create: event });
  }

  private repeat(key: string, series: Series, now: number): void {
    series.count++;
    series.lastAt = now;
    remember(this.series, key, series, seriesMax);
    if (series.isPending || now - series.writtenAt < seriesWriteMs) {
      this.count('counted');
      return;
    }
    series.isPending = true;
    this.enqueue({ update: series });
  }

  private mayTell(object: ObjectReference, now: number): boolean {
    const key = `${object.apiVersion}/${object.kind}/${object.namespace ?? ''}/${object.name}`;
    const bucket = this.buckets.get(key) ?? { tokens: burstMax, refilledAt: now };
    const earned = Math.floor((now - bucket.refilledAt) / refillMs);
    if (earned > 0) {
      bucket.tokens = Math.min(burstMax, bucket.tokens + earned);
      bucket.refilledAt += earned * refillMs;
    }
    remember(this.buckets, key, bucket, objectsMax);
    if (bucket.tokens <= 0) return false;
    bucket.tokens--;
    return true;
  }

  private enqueue(job: Job): void {
    if (this.pending.length >= pendingMax) {
      if ('update' in job) job.update.isPending = false;
      this.count('dropped');
      return;
    }
    this.pending.push(job);
    this.flushing ??= this.work().finally(() => (this.flushing = undefined));
  }

  private async work(): Promise<void> {
    for (let job = this.pending.shift(); job !== undefined; job = this.pending.shift()) {
      try {
        await ('create' in job ? this.create(job.create) : this.update(job.update));
        this.count('written');
      } catch (error) {
        this.count('failed');
        this.options.logger.debug('Could not publish an event', { reason: describeError(error) });
      }
    }
  }

  private async create(event: EventObject): Promise<void> {
    await this.events.create(event, { priority: 'background', signal: this.stopping.signal });
  }

  private async update(series: Series): Promise<void> {
    const { name, namespace } = series;
    series.isPending = false;
    series.writtenAt = this.options.clock.now();
    const body = { series: { count: series.count, lastObservedTime: formatMicroTime(series.lastAt) } };
    const options = { priority: 'background', signal: this.stopping.signal } as const;
    try {
      await this.events.patch({ namespace, name }, { type: 'merge', body }, options);
    } catch (error) {
      // Events are kept for an hour: the next repeat starts a new one.
      if (error instanceof NotFoundError) series.lastAt = -Infinity;
      throw error;
    }
  }

  private toEvent(draft: EventDraft, now: number): EventObject {
    const { object, related } = draft;
    // Cluster-scoped objects have their events in "default".
    const namespace = object.namespace === undefined || object.namespace === '' ? 'default' : object.namespace;
    const unique = `${this.options.instance}/${now}/${this.sequence++}/${object.kind}/${object.name}`;
    const suffix = createHash('sha256').update(unique).digest('hex').slice(0, 16);
    return {
      metadata: { name: `${object.name.slice(0, 200)}.${suffix}`, namespace },
      eventTime: formatMicroTime(now),
      reportingController: this.options.controller,
      reportingInstance: this.options.instance.slice(0, 128),
      action: draft.action ?? draft.reason,
      reason: draft.reason,
      regarding: toReference(object),
      ...(related === undefined ? {} : { related: toReference(related) }),
      note: cutToBytes(draft.note, noteBytesMax),
      type: draft.type,
    };
  }

  private get events() {
    return this.options.client.of(eventKind);
  }

  private count(result: string): void {
    this.options.metrics.events.inc({ result });
  }
}

/** The reference of a stored object, for events and the like. */
export function referenceTo<T extends KubeObject>(kind: Kind<T>, object: Stored<T>): ObjectReference {
  const { name, namespace, uid } = object.metadata;
  return { apiVersion: apiVersionOf(kind), kind: kind.kind, name, namespace, uid };
}

function seriesKey(draft: EventDraft): string {
  const { apiVersion, kind, namespace = '', name, uid = '' } = draft.object;
  const what = draft.dedupeKey ?? `${draft.type}/${draft.reason}/${draft.note}`;
  return [apiVersion, kind, namespace, name, uid, what].join('\u0000');
}

function toReference(object: ObjectReference): Record<string, string> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

/** Sets a key as the newest, and drops the oldest beyond a size. */
function remember<V>(map: Map<string, V>, key: string, value: V, sizeMax: number): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > sizeMax && oldest !== undefined) map.delete(oldest);
}

function cutToBytes(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= bytesMax) return text;
  // Decoding a cut in the middle of a character gives U+FFFD at the end.
  return `${bytes
    .subarray(0, bytesMax - 6)
    .toString('utf8')
    .replace(/\uFFFD+$/u, '')}…`;
}

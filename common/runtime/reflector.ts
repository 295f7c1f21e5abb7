import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import { type BackoffOptions, fullJitterMs } from './backoff.ts';
import { ApiError, GoneError, InvalidError, ServerError } from './errors.ts';
import type { ListWatch, WatchEvent } from './list-watch.ts';
import type { RuntimeMetrics } from './metrics.ts';
import { formatKey, keyOf, type KubeObject, type Stored } from './types.ts';

/** Where a reflector puts what it learns. Called in the order of events; must not throw. */
export interface ReflectorSink<T extends KubeObject> {
  /** A full list of one moment. */
  replace(objects: Stored<T>[]): void;
  upsert(object: Stored<T>): void;
  delete(object: Stored<T>): void;
}

/** What a reflector is made of. */
export interface ReflectorParts<T extends KubeObject> {
  /** The resource, for logs and metrics. */
  readonly resource: string;
  readonly listWatch: ListWatch<T>;
  readonly sink: ReflectorSink<T>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: RuntimeMetrics;
}

/** client-go's reflector: 800 ms to 30 s. */
const backoff: BackoffOptions = { baseMs: 800, maxMs: 30_000 };
/** A watch that ends sooner than this, without an event, would make a hot loop. */
const shortWatchMs = 1_000;
/** A server that ignores `sendInitialEvents` never sends the closing bookmark: wait this long for the next sign. */
const initialSilenceMs = 30_000;
/** After this many refusals in a row the version itself is suspect (a restored backup, say): list again. */
const refusalsMax = 5;
/** A version that is too old twice within this time makes the reflector slow down: each time costs a full list. */
const expiredAgainMs = 30_000;

/** How long to wait before the next step: at least this, plus jitter; undefined for not at all. */
type Pause = number | undefined;

/**
 * Keeps a sink equal to what the API server has, for ever: lists (as a stream where the server can), watches from
 * there with bookmarks, resumes after any error from the last version seen, and lists again only when that version is
 * too old. No error ends it; only the signal does.
 */
export class Reflector<T extends KubeObject> {
  private readonly parts: ReflectorParts<T>;
  /** Version of the last thing seen; undefined when a list is due. */
  private resourceVersion: string | undefined;
  private listReason = 'start';
  private canStreamLists = true;
  private pauses = 0;
  private refusals = 0;
  private expiredAt = -Infinity;

  constructor(parts: ReflectorParts<T>) {
    this.parts = parts;
  }

  /** Runs until the signal aborts. Never fails. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.parts;
    while (!signal.aborted) {
      const pauseMs = await this.step(signal);
      if (pauseMs === undefined) continue;
      const jitterMs = fullJitterMs(backoff, this.pauses++, random);
      await clock.sleep(pauseMs + jitterMs, signal).catch(() => undefined);
    }
  }

  /** One list, one watch, or both as one stream. */
  private async step(signal: AbortSignal): Promise<Pause> {
    try {
      if (this.resourceVersion === undefined) {
        if (this.canStreamLists) return await this.watchList(signal);
        await this.list(signal);
      }
      return await this.watch(signal);
    } catch (error) {
      return signal.aborted ? undefined : this.recover(error);
    }
  }

  private async list(signal: AbortSignal): Promise<void> {
    const { items, resourceVersion } = await this.parts.listWatch.list(signal);
    this.takeList(items, resourceVersion);
  }

  private async watch(signal: AbortSignal): Promise<Pause> {
    const { clock, listWatch, metrics, resource } = this.parts;
    const startedAt = clock.monotonic();
    let events = 0;
    const start = { resourceVersion: this.resourceVersion ?? '', initialEvents: false };
    const onEvent = (event: WatchEvent<T>): void => {
      events++;
      this.takeEvent(event);
    };
    await listWatch.watch(start, onEvent, signal);
    metrics.watches.inc({ resource, result: 'ended' });
    if (events === 0 && clock.monotonic() - startedAt < shortWatchMs) return 0;
    this.pauses = 0;
    return undefined;
  }

  /** The present objects as a stream of events, held back until the bookmark that says they are all; then a watch. */
  private async watchList(signal: AbortSignal): Promise<Pause> {
    const { clock, listWatch, metrics, resource } = this.parts;
    const silence = new AbortController();
    let timer = clock.after(initialSilenceMs, () => silence.abort());
    let initial: Map<string, Stored<T>> | undefined = new Map();
    const onEvent = (event: WatchEvent<T>): void => {
      if (initial === undefined) {
        this.takeEvent(event);
        return;
      }
      timer.cancel();
      if (event.type === 'BOOKMARK') {
        if (event.isInitialEnd) {
          this.takeList([...initial.values()], event.resourceVersion);
          initial = undefined;
          return;
        }
      } else if (event.type === 'DELETED') initial.delete(formatKey(keyOf(event.object)));
      else initial.set(formatKey(keyOf(event.object)), event.object);
      timer = clock.after(initialSilenceMs, () => silence.abort());
    };
    try {
      await listWatch.watch(
        { resourceVersion: '', initialEvents: true },
        onEvent,
        AbortSignal.any([signal, silence.signal]),
      );
      metrics.watches.inc({ resource, result: 'ended' });
      return this.resourceVersion === undefined ? 0 : undefined;
    } catch (error) {
      const isUnknown = error instanceof InvalidError || (silence.signal.aborted && !signal.aborted);
      if (!isUnknown || this.resourceVersion !== undefined) throw error;
      this.parts.logger.info('Listing by pages, the server does not stream lists', { resource });
      this.canStreamLists = false;
      return undefined;
    } finally {
      timer.cancel();
    }
  }

  private takeList(objects: Stored<T>[], resourceVersion: string): void {
    const { logger, metrics, resource, sink } = this.parts;
    sink.replace(objects);
    this.resourceVersion = resourceVersion;
    this.refusals = 0;
    metrics.lists.inc({ resource, reason: this.listReason });
    logger.debug('Listed', { resource, reason: this.listReason, objects: objects.length, resourceVersion });
  }

  private takeEvent(event: WatchEvent<T>): void {
    const { metrics, resource, sink } = this.parts;
    this.pauses = 0;
    this.refusals = 0;
    metrics.watchEvents.inc({ resource, type: event.type });
    if (event.type === 'BOOKMARK') {
      this.resourceVersion = event.resourceVersion;
      return;
    }
    if (event.type === 'DELETED') sink.delete(event.object);
    else sink.upsert(event.object);
    this.resourceVersion = event.object.metadata.resourceVersion;
  }

  private recover(error: unknown): Pause {
    const { clock, logger, metrics, resource } = this.parts;
    const result = error instanceof ApiError ? String(error.statusCode) : 'connection';
    metrics.watches.inc({ resource, result });
    if (error instanceof GoneError) {
      logger.info('Listing again, the version is too old', { resource, resourceVersion: this.resourceVersion });
      this.listAgain('expired');
      const isRepeated = clock.monotonic() - this.expiredAt < expiredAgainMs;
      this.expiredAt = clock.monotonic();
      return isRepeated ? 0 : undefined;
    }
    logger.warn('Watching again after an error', { resource, resourceVersion: this.resourceVersion, err: error });
    if (!(error instanceof ApiError)) return 0;
    const isVersionRefused = error instanceof InvalidError || isVersionAhead(error);
    if (isVersionRefused || ++this.refusals >= refusalsMax) this.listAgain('refused');
    return error.retryAfterMs ?? 0;
  }

  private listAgain(reason: string): void {
    this.resourceVersion = undefined;
    this.listReason = reason;
  }
}

/** The server is behind the version asked for: after a restored backup it never gets there. */
function isVersionAhead(error: ApiError): boolean {
  const isTooLarge = error.details.causes?.some((cause) => cause.reason === 'ResourceVersionTooLarge') === true;
  return error instanceof ServerError && isTooLarge;
}

import type { ConfigMap } from '../builtin.ts';
import { GoneError, InvalidError } from '../errors.ts';
import type { ListWatch, WatchEvent, WatchStart } from '../list-watch.ts';
import type { Stored } from '../types.ts';
import { aConfigMap } from './parts.ts';

interface LogEntry {
  readonly version: number;
  readonly event: WatchEvent<ConfigMap>;
}

interface Watcher {
  readonly onEvent: (event: WatchEvent<ConfigMap>) => void;
  readonly end: (error?: Error) => void;
}

/**
 * A world of ConfigMaps with a log of versions, behind the reflector's own narrow interface: it answers 410 for what
 * was compacted, ends watches and refuses requests when told to. The envtest holds the real server to the same.
 */
export class FakeListWatch implements ListWatch<ConfigMap> {
  readonly objects = new Map<string, Stored<ConfigMap>>();
  version = 1;
  lists = 0;
  readonly starts: WatchStart[] = [];
  streamsLists = true;
  /** Thrown by the next requests, first in first out. */
  readonly faults: Error[] = [];
  private readonly log: LogEntry[] = [];
  private compacted = 0;
  private readonly watchers = new Set<Watcher>();

  /** Watches that are open. */
  get watching(): number {
    return this.watchers.size;
  }

  put(name: string, data: Record<string, string> = {}): void {
    const object = aConfigMap(name, ++this.version, data);
    this.tell({ type: this.objects.has(name) ? 'MODIFIED' : 'ADDED', object });
    this.objects.set(name, object);
  }

  remove(name: string): void {
    const object = this.objects.get(name);
    if (object === undefined) return;
    this.objects.delete(name);
    const metadata = { ...object.metadata, resourceVersion: String(++this.version) };
    this.tell({ type: 'DELETED', object: { ...object, metadata } });
  }

  bookmark(): void {
    const event = { type: 'BOOKMARK', resourceVersion: String(this.version), isInitialEnd: false } as const;
    for (const { onEvent } of [...this.watchers]) onEvent(event);
  }

  /** Forgets the log: older versions are gone. */
  compact(): void {
    this.compacted = this.version;
    this.log.splice(0);
  }

  /** Ends every watch: normally, or with an error. */
  endWatches(error?: Error): void {
    const ended = [...this.watchers];
    this.watchers.clear();
    for (const watcher of ended) watcher.end(error);
  }

  async list(): Promise<{ items: Stored<ConfigMap>[]; resourceVersion: string }> {
    this.lists++;
    this.throwFault();
    return { items: this.copies(), resourceVersion: String(this.version) };
  }

  async watch(start: WatchStart, onEvent: (event: WatchEvent<ConfigMap>) => void, signal: AbortSignal): Promise<void> {
    this.starts.push(start);
    this.throwFault();
    const end = Promise.withResolvers<undefined>();
    if (start.initialEvents) {
      if (!this.streamsLists)
        throw new InvalidError({ method: 'WATCH', path: '/' }, 422, { message: 'sendInitialEvents' });
      for (const object of this.copies()) onEvent({ type: 'ADDED', object });
      onEvent({ type: 'BOOKMARK', resourceVersion: String(this.version), isInitialEnd: true });
    } else {
      const from = Number(start.resourceVersion);
      if (from < this.compacted) throw new GoneError({ method: 'WATCH', path: '/' }, 410, { message: 'too old' });
      for (const { version, event } of [...this.log]) if (version > from) onEvent(structuredClone(event));
    }
    const watcher: Watcher = {
      onEvent: (event) => onEvent(structuredClone(event)),
      end: (error) => (error === undefined ? end.resolve(undefined) : end.reject(error)),
    };
    const onAbort = (): void => end.reject(signal.reason);
    signal.addEventListener('abort', onAbort);
    this.watchers.add(watcher);
    try {
      signal.throwIfAborted();
      await end.promise;
    } finally {
      this.watchers.delete(watcher);
      signal.removeEventListener('abort', onAbort);
    }
  }

  private copies(): Stored<ConfigMap>[] {
    return [...this.objects.values()].map((object) => structuredClone(object));
  }

  private tell(event: WatchEvent<ConfigMap>): void {
    this.log.push({ version: this.version, event });
    for (const { onEvent } of [...this.watchers]) onEvent(event);
  }

  private throwFault(): void {
    const fault = this.faults.shift();
    if (fault !== undefined) throw fault;
  }
}

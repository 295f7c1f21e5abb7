/** An API server, its caches and a kubelet, made up, for simulations: objects outlive every process, and caches hear of them a little later. */
import type { Clock } from '#common/clock.ts';
import type { Random } from '#common/random.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { AlreadyExistsError, ConflictError, NotFoundError } from '#runtime/errors.ts';
import { SharedInformer } from '#runtime/informer.ts';
import type { Kind } from '#runtime/kind.ts';
import { testParts } from '#runtime/testing/parts.ts';
import { formatKey, keyOf, type KubeObject, type ObjectKey, type Stored } from '#runtime/types.ts';

const latencyMaxMs = 20;
const cacheLagMaxMs = 400;
const request = { method: 'PUT', path: '/memory' } as const;

/** Objects of one kind. */
export class MemoryKind<T extends KubeObject & { spec?: unknown; status?: unknown }> {
  readonly objects = new Map<string, Stored<T>>();
  private readonly kind: Kind<T>;
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly caches = new Map<SharedInformer<T>, { readyAt: number }>();
  private readonly listeners = new Set<(object: Stored<T>) => void>();
  private count = 0;

  constructor(kind: Kind<T>, clock: Clock, random: Random) {
    this.kind = kind;
    this.clock = clock;
    this.random = random;
  }

  /** A cache of a process that has just listed. */
  cache(): SharedInformer<T> {
    const never = { list: async () => Promise.reject(new Error('unused')), watch: async () => Promise.resolve() };
    const informer = new SharedInformer(this.kind, never, {}, testParts(this.clock));
    informer.replace([...this.objects.values()].map((object) => structuredClone(object)));
    this.caches.set(informer, { readyAt: 0 });
    return informer;
  }

  /** Called with what was written, at once. */
  onWrite(listener: (object: Stored<T>) => void): void {
    this.listeners.add(listener);
  }

  /** Writes as the server does: versions and generations count up. */
  write(object: Stored<T>): Stored<T> {
    const key = formatKey(keyOf(object));
    const old = this.objects.get(key);
    const isChanged = JSON.stringify(old?.spec) !== JSON.stringify(object.spec);
    const { generation = 0 } = old?.metadata ?? {};
    const metadata = { ...object.metadata, generation: generation + (isChanged ? 1 : 0) };
    const stored = structuredClone({ ...object, metadata: { ...metadata, resourceVersion: String(++this.count) } });
    this.objects.set(key, stored);
    this.publish((informer) => informer.upsert(structuredClone(stored)));
    for (const listener of this.listeners) listener(stored);
    return structuredClone(stored);
  }

  remove(object: Stored<T>): void {
    if (this.objects.delete(formatKey(keyOf(object))))
      this.publish((informer) => informer.delete(structuredClone(object)));
  }

  /** What a client of the kind does, as far as it is used. @param mayWrite - false once its process is gone. */
  client(mayWrite: () => boolean, onDelete: (object: Stored<T>) => void): object {
    const read = (key: ObjectKey): Stored<T> | undefined => structuredClone(this.objects.get(formatKey(key)));
    const turn = async (): Promise<void> => {
      await this.clock.sleep(1 + this.random.int(latencyMaxMs));
      if (!mayWrite()) throw new Error('the process is gone');
    };
    const found = (key: ObjectKey): Stored<T> => {
      const object = read(key);
      if (object === undefined) throw new NotFoundError(request, 404, { message: 'not found' });
      return object;
    };
    const merge = (object: KubeObject): Stored<T> => {
      const old = read(object.metadata) ?? this.fresh(object);
      return this.write({ ...old, ...object, metadata: { ...old.metadata, ...object.metadata } } as Stored<T>);
    };
    return {
      find: async (key: ObjectKey) => (await turn(), read(key)),
      create: async (object: T) => {
        await turn();
        if (read(object.metadata) !== undefined) throw new AlreadyExistsError(request, 409, { message: 'exists' });
        return this.write(this.fresh(object));
      },
      update: async (object: Stored<T>) => {
        await turn();
        if (found(object.metadata).metadata.resourceVersion !== object.metadata.resourceVersion)
          throw new ConflictError(request, 409, { message: 'changed' });
        return this.write(object);
      },
      apply: async (object: KubeObject) => (await turn(), merge(object)),
      status: { apply: async (object: KubeObject) => (await turn(), found(object.metadata), merge(object)) },
      delete: async (key: ObjectKey) => {
        await turn();
        onDelete(found(key));
      },
    };
  }

  private fresh(object: KubeObject): Stored<T> {
    const uid = `uid-${object.metadata.name}-${++this.count}`;
    const creationTimestamp = new Date(this.clock.now()).toISOString();
    const metadata = { ...object.metadata, uid, creationTimestamp, resourceVersion: '0' };
    return { ...object, metadata } as Stored<T>;
  }

  /** In order, each a little later. */
  private publish(change: (informer: SharedInformer<T>) => void): void {
    for (const [informer, state] of this.caches) {
      state.readyAt = Math.max(state.readyAt, this.clock.monotonic() + this.random.int(cacheLagMaxMs));
      this.clock.after(state.readyAt - this.clock.monotonic(), () => change(informer));
    }
  }
}

/** A client of several kinds. */
export function memoryClient(kinds: ReadonlyMap<Kind, object>): Client {
  return { of: (kind: Kind) => kinds.get(kind) } as unknown as Client;
}

/** Runs pods: a container starts a little after its pod came, and ends within the grace of a pod that was asked to go. */
export class MemoryKubelet {
  private readonly pods: MemoryKind<Pod>;
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly seen = new Map<string, 'pending' | 'live' | 'ending'>();

  /** @param onStart - a container runs. @param onEnd - it does no more. */
  constructor(
    pods: MemoryKind<Pod>,
    clock: Clock,
    random: Random,
    onStart: (pod: Stored<Pod>) => void,
    onEnd: (pod: Stored<Pod>) => void,
  ) {
    this.pods = pods;
    this.clock = clock;
    this.random = random;
    pods.onWrite((pod) => {
      const { uid } = pod.metadata;
      const isLeaving = pod.metadata.deletionTimestamp !== undefined;
      const state = this.seen.get(uid);
      if (state === undefined && !isLeaving) {
        this.seen.set(uid, 'pending');
        this.later(1_500, () => this.start(pod, onStart));
      } else if (isLeaving && state !== 'ending') {
        this.seen.set(uid, 'ending');
        this.later(1_000 * (pod.spec?.terminationGracePeriodSeconds ?? 0), () => {
          if (state === 'live') onEnd(pod);
          this.pods.remove(pod);
        });
      }
    });
  }

  /** Asks a pod to go, as `delete` does. */
  end(pod: Stored<Pod>): void {
    const deletionTimestamp = new Date(this.clock.now()).toISOString();
    this.pods.write({ ...pod, metadata: { ...pod.metadata, deletionTimestamp } });
  }

  private start(pod: Stored<Pod>, onStart: (pod: Stored<Pod>) => void): void {
    const now = this.pods.objects.get(formatKey(keyOf(pod)));
    if (now?.metadata.uid !== pod.metadata.uid || now.metadata.deletionTimestamp !== undefined) return;
    this.seen.set(pod.metadata.uid, 'live');
    onStart(now);
    const state = { running: { startedAt: new Date(this.clock.now()).toISOString() } };
    const task = { name: 'task', image: '', imageID: '', ready: true, restartCount: 0, state };
    this.pods.write({ ...now, status: { phase: 'Running', containerStatuses: [task] } });
  }

  private later(withinMs: number, fn: () => void): void {
    this.clock.after(50 + this.random.int(Math.max(1, withinMs)), fn);
  }
}

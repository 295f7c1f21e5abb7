import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#common/clock.ts';
import type { Random } from '#common/random.ts';
import { configMaps, type ConfigMap } from '../builtin.ts';
import { type Client, done, type ObjectClient } from '../contracts.ts';
import { Controller } from '../controller.ts';
import { ApiError, ConnectionError } from '../errors.ts';
import { createInformer, type SharedInformer } from '../informer.ts';
import type { Transport } from '../transport.ts';
import { formatKey } from '../types.ts';
import { testParts } from './parts.ts';

/**
 * A controller that notes which version of each object it reconciled last, and compares that with what the server
 * has: one difference after things have settled is a missed event.
 */
export class Auditor {
  readonly informer: SharedInformer<ConfigMap>;
  readonly parts: ReturnType<typeof testParts>;
  readonly reconciled = new Map<string, string>();
  reconciles = 0;
  private readonly controller: Controller<ConfigMap>;
  private readonly abort = new AbortController();
  private ends: Promise<void>[] = [];

  constructor(transport: Transport, namespace: string, clock: Clock) {
    this.parts = testParts(clock);
    this.informer = createInformer(transport, configMaps, { namespace, labelSelector: 'audited' }, this.parts);
    this.controller = new Controller(
      {
        name: 'auditor',
        primary: this.informer,
        concurrency: 16,
        reconciler: {
          reconcile: async (key) => {
            const text = formatKey(key);
            const version = this.informer.get(key)?.metadata.resourceVersion;
            this.reconciles++;
            // Others change the object meanwhile: a queue that forgets such a key would show.
            await new Promise((resolve) => setImmediate(resolve));
            if (version === undefined) this.reconciled.delete(text);
            else this.reconciled.set(text, version);
            return done;
          },
        },
      },
      this.parts,
    );
  }

  start(): void {
    this.ends = [this.informer.run(this.abort.signal), this.controller.run(this.abort.signal)];
  }

  async stop(): Promise<void> {
    this.abort.abort(new Error('the test ends'));
    await Promise.all(this.ends);
  }

  /** Full lists made since the start, by reason. */
  async lists(reason: string): Promise<number> {
    const { values } = await this.parts.metrics.lists.get();
    return values.find(({ labels }) => labels.reason === reason)?.value ?? 0;
  }

  /**
   * Waits until every object's last state is reconciled.
   * @returns what is still wrong at the end of the time; empty when nothing is.
   */
  async missed(client: Client, namespace: string, limitMs: number): Promise<string[]> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const { items } = await client.of(configMaps).list({ namespace, labelSelector: 'audited' });
      const wrong = items
        .filter(({ metadata }) => this.reconciled.get(formatKey(metadata)) !== metadata.resourceVersion)
        .map(({ metadata }) => `${metadata.name} is at ${metadata.resourceVersion}`);
      const present = new Set(items.map(({ metadata }) => formatKey(metadata)));
      for (const key of this.reconciled.keys()) if (!present.has(key)) wrong.push(`${key} is gone`);
      if (wrong.length === 0 || performance.now() > deadline) return wrong;
      await sleep(500);
    }
  }
}

/** Changes, deletes and makes objects at random, in parallel, until it is stopped; failures are part of the game. */
export class Churn {
  operations = 0;
  failures = 0;
  private readonly objects: ObjectClient<ConfigMap>;
  private readonly namespace: string;
  private readonly count: number;
  private readonly random: Random;
  private isStopped = false;
  private ends: Promise<void>[] = [];

  constructor(client: Client, namespace: string, count: number, random: Random) {
    this.objects = client.of(configMaps);
    this.namespace = namespace;
    this.count = count;
    this.random = random;
  }

  /** Makes all objects. */
  async fill(width: number): Promise<void> {
    let next = 0;
    const work = async (): Promise<void> => {
      for (let i = next++; i < this.count; i = next++) await this.objects.apply(this.object(i, 0));
    };
    await Promise.all(Array.from({ length: width }, work));
  }

  start(width: number): void {
    this.isStopped = false;
    this.ends = Array.from({ length: width }, async () => {
      while (!this.isStopped) await this.once();
    });
  }

  async stop(): Promise<void> {
    this.isStopped = true;
    await Promise.all(this.ends);
  }

  private async once(): Promise<void> {
    const i = this.random.int(this.count);
    this.operations++;
    try {
      if (this.random.int(5) === 0) await this.objects.delete({ namespace: this.namespace, name: nameOf(i) });
      else await this.objects.apply(this.object(i, this.random.int(1_000_000)));
    } catch (error) {
      if (!(error instanceof ApiError) && !(error instanceof ConnectionError)) throw error;
      this.failures++;
      if (!(error instanceof ApiError)) await sleep(50);
    }
  }

  private object(i: number, value: number): ConfigMap {
    const metadata = { name: nameOf(i), namespace: this.namespace, labels: { audited: 'true' } };
    return { metadata, data: { value: String(value) } };
  }
}

function nameOf(i: number): string {
  return `cm-${i}`;
}

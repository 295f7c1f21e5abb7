/** Stands in for kubelets in tests against a bare API server: starts and ends the pods of its nodes as their images say. */
import type { Pod } from '#runtime/builtin.ts';
import { pods } from '#runtime/builtin.ts';
import { podLabels } from '#crds/execution.ts';
import type { Client, Informer } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { createManager } from '#runtime/manager.ts';
import type { HttpTransport } from '#runtime/transport.ts';
import { isDeleting, keyOf, type Stored } from '#runtime/types.ts';
import { ended, running } from './jobs.ts';

const lingerMs = 2_000;

/**
 * What a pod does follows from its image: `ok` ends well, `exit-3` ends with 3, `stay` runs until it is deleted, `lingers` also and
 * takes two seconds to end then, `flaky` fails in its first run and then ends well, `refused` finds no room on its first node.
 */
export class TestKubelet {
  private readonly client: Client;
  private readonly seen = new Map<string, number>();
  private readonly started = new Set<string>();
  /** Names of pods that ran, in order; a name that stands here twice ran twice. */
  readonly ran: string[] = [];
  /** Names of pods that were asked to end. */
  readonly asked: string[] = [];

  /** Pods of tasks. */
  readonly informer: Informer<Pod>;
  private readonly transport: HttpTransport;
  private readonly stopping = new AbortController();
  private readonly end: Promise<void>;

  /** Runs until it is stopped. @param transport - closed with it. */
  constructor(client: Client, transport: HttpTransport) {
    this.client = client;
    this.transport = transport;
    const manager = createManager({ name: 'kubelet', transport, graceMs: 0 });
    this.informer = manager.informer(pods, { labelSelector: podLabels.execution });
    this.informer.onEvent((event) => {
      if (event.type !== 'deleted') void this.sync(event.object).catch(() => undefined);
    });
    this.end = manager.run(this.stopping.signal).catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.stopping.abort(new Error('the tests are over'));
    await this.end;
    await this.transport.close();
  }

  private async sync(pod: Stored<Pod>): Promise<void> {
    const { uid, name } = pod.metadata;
    if (isDeleting(pod)) {
      if (this.asked.includes(name)) return;
      this.asked.push(name);
      if (pod.spec?.containers[0]?.image === 'lingers') await new Promise((resolve) => setTimeout(resolve, lingerMs));
      await ignoreNotFound(this.client.of(pods).delete(keyOf(pod), { gracePeriodSeconds: 0, preconditions: { uid } }));
      return;
    }
    if (this.started.has(uid) || pod.spec?.nodeName === undefined) return;
    this.started.add(uid);
    this.ran.push(name);
    const image = pod.spec.containers[0]?.image ?? '';
    const task = `${pod.metadata.labels?.['xtreemos.io/job'] ?? ''}/${pod.metadata.labels?.['xtreemos.io/task-index'] ?? ''}`;
    const run = (this.seen.get(task) ?? 0) + 1;
    this.seen.set(task, run);
    if (image === 'refused' && run === 1) {
      await this.report(pod, {
        phase: 'Failed',
        reason: 'OutOfcpu',
        message: 'Node did not have enough resource: cpu',
      });
      return;
    }
    await this.report(pod, running);
    const { activeDeadlineSeconds } = pod.spec;
    if (activeDeadlineSeconds !== undefined) {
      const over = { phase: 'Failed' as const, reason: 'DeadlineExceeded', message: 'Pod was active too long' };
      setTimeout(() => void this.report(pod, over).catch(() => undefined), 1000 * activeDeadlineSeconds).unref();
    }
    if (image === 'stay' || image === 'lingers') return;
    const code = image.startsWith('exit-') ? Number(image.slice(5)) : image === 'flaky' && run === 1 ? 1 : 0;
    await this.report(pod, ended(code));
  }

  private async report(pod: Stored<Pod>, status: NonNullable<Pod['status']>): Promise<void> {
    await ignoreNotFound(this.client.of(pods).status.patch(keyOf(pod), { type: 'merge', body: { status } }));
  }
}

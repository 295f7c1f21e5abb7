import type { TaskLogs } from '#operator/controllers/execution/task-logs.ts';
import type { ObjectKey } from '#runtime/types.ts';

/** Stands in for the logs of kubelets: every pod says its name, and what was put into it. */
export class FakeTaskLogs implements TaskLogs {
  /** By name of pod; undefined for a node that does not answer. */
  readonly texts = new Map<string, string | undefined>();
  /** Names of pods whose logs were read, in order. */
  readonly read: string[] = [];

  async tail({ name }: ObjectKey): Promise<string | undefined> {
    this.read.push(name);
    return Promise.resolve(this.texts.has(name) ? this.texts.get(name) : `I am ${name}\n`);
  }
}

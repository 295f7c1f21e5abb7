/** Pods and processes of the components of the product, as suites and benches find and kill them. */
import { readdirSync, readFileSync } from 'node:fs';
import type { Pod } from '#runtime/builtin.ts';
import type { Product } from './product.ts';

/** The pods of a component, by its label. */
export async function podsOfComponent({ site, name }: Product, component: string): Promise<Pod[]> {
  return (await site.get<{ items: Pod[] }>('pods', '-n', name, '-l', `app.kubernetes.io/component=${component}`)).items;
}

/** Process ids of everything that runs in the containers of a component. */
export async function processesOf(product: Product, component: string): Promise<number[]> {
  return processesIn(await podsOfComponent(product, component));
}

/** Process ids of everything that runs in the containers of these pods, as this machine counts them. */
export function processesIn(pods: readonly Pod[]): number[] {
  const ids = pods.flatMap(({ status }) =>
    (status?.containerStatuses ?? []).map(({ containerID = '' }) => containerID.replace(/^.*:\/\//, '')),
  );
  return readdirSync('/proc')
    .filter((entry) => /^[0-9]+$/.test(entry) && ids.includes(containerOf(entry)))
    .map(Number);
}

/** Kills every process of a component as the kernel does. @returns how many there were. */
export async function killProcesses(product: Product, component: string): Promise<number> {
  const pids = await processesOf(product, component);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  return pids.length;
}

/** Id of the container that a process is in; empty when in none, and when it is gone. */
function containerOf(pid: string): string {
  try {
    return /\/([0-9a-f]{64})$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? '';
  } catch {
    return '';
  }
}

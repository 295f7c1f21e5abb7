/** Jobs of suites, and their pods. */
import { podLabels } from '#crds/execution.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { TestSite } from '#sites/harness.ts';

/** An image with a shell. */
export const shellImage = 'xtreemos.io/busybox:1';

/** The template of tasks that run a shell script. */
export function aTask(script: string, cpu = '100m'): object {
  const resources = { cpu, memory: '32Mi' };
  return { image: shellImage, command: ['sh', '-c', script], resources, terminationGraceSeconds: 2 };
}

/** The pods of a job at a site. */
export async function podsOfJob(site: TestSite, namespace: string, job: string): Promise<Pod[]> {
  const selector = `${podLabels.job}=${job}`;
  return (await site.get<{ items: Pod[] }>('pods', '-n', namespace, '-l', selector)).items;
}

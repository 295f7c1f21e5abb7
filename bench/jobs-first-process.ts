/** From a submission to the first instruction of the task, on a real node with a kubelet and the product installed; beside a plain batch/v1 Job. */
import { readFileSync } from 'node:fs';
import { podLabels } from '#crds/execution.ts';
import { createClient, defineKind, HttpTransport, type KubeObject, kubeConfigCredentials } from '#runtime/index.ts';
import { gridJobs, type GridJob } from '#crds/grid-job.ts';
import { waitFor } from '#sites/harness.ts';
import { shellImage } from '../e2e/suites/job-objects.ts';
import type { Product } from '../e2e/suites/product.ts';

/** A Job of Kubernetes, of which only the template matters here. */
export interface PlainJob extends KubeObject {
  spec: { template: object; backoffLimit: number };
}
/** Jobs of Kubernetes. */
export const plainJobs = defineKind<PlainJob>({
  group: 'batch',
  version: 'v1',
  kind: 'Job',
  plural: 'jobs',
  namespaced: true,
});

/** Seconds. */
interface Spread {
  readonly p50: number;
  readonly p99: number;
}

/** How long it took, and how much longer than without us. */
export interface FirstProcess {
  readonly gridjob_s: Spread;
  readonly plain_s: Spread;
  readonly added_s: Spread;
}

/** Kubelets tell whole seconds only. The task tells itself: since the start of the machine, which is the same for pods and us. */
const command = ['cut', '-d ', '-f1', '/proc/uptime'];
const resources = { cpu: '50m', memory: '16Mi' };
const limitMs = 120_000;
const round = (value: number): number => Number(value.toFixed(2));

/**
 * Submits GridJobs and plain Jobs in turns, one at a time, both with one request to the API server. The first of each is not counted.
 * @param product - on a site without a virtual organization yet.
 */
export async function measureFirstProcess(
  product: Product,
  samples: number,
  report: (line: string) => void,
): Promise<FirstProcess> {
  const { site, name: organization, namespace } = product;
  await product.formOrganization();
  await product.join('alice');
  const [, file = ''] = (await product.logIn('alice')).login;
  const transport = new HttpTransport({ credentials: kubeConfigCredentials({ file }) });
  const member = createClient(transport, { fieldManager: 'bench' });
  const owner = createClient(product.transport, { fieldManager: 'bench' });
  const submitGrid = async (name: string): Promise<void> => {
    const template = { image: shellImage, command, resources };
    await member.of(gridJobs).create({ metadata: { name, namespace }, spec: { template } } as unknown as GridJob);
  };
  const submitPlain = async (name: string): Promise<void> => {
    const container = { name: 'task', image: shellImage, command, resources: { requests: resources } };
    const template = { spec: { restartPolicy: 'Never', containers: [container] } };
    await owner
      .of(plainJobs)
      .create({ metadata: { name, namespace: organization }, spec: { template, backoffLimit: 0 } });
  };
  /** @returns seconds from the request to what the task says. */
  const firstProcess = async (
    submit: (name: string) => Promise<void>,
    name: string,
    inNamespace: string,
    label: string,
  ): Promise<number> => {
    const submittedAt = uptime();
    await submit(name);
    const toldAt = await waitFor(
      `${name} has run`,
      async () => {
        const { stdout } = await site.tryKubectl(['logs', '-n', inNamespace, '-l', `${label}=${name}`]);
        return Number(stdout) || undefined;
      },
      { limitMs, pauseMs: 500 },
    );
    return toldAt - submittedAt;
  };
  const [grid, plain]: [number[], number[]] = [[], []];
  for (let n = 0; n <= samples; n++) {
    grid.push(await firstProcess(submitGrid, `first-${n}`, namespace, podLabels.job));
    plain.push(await firstProcess(submitPlain, `plain-${n}`, organization, 'batch.kubernetes.io/job-name'));
    if (n % 5 === 0) {
      report(
        `  after ${n} of ${samples}: GridJob ${round(grid.at(-1) ?? NaN)} s, plain Job ${round(plain.at(-1) ?? NaN)} s`,
      );
    }
  }
  await transport.close();
  const [gridS, plainS] = [spreadOf(grid.slice(1)), spreadOf(plain.slice(1))];
  return {
    ...{ gridjob_s: gridS, plain_s: plainS },
    added_s: { p50: round(gridS.p50 - plainS.p50), p99: round(gridS.p99 - plainS.p99) },
  };
}

function uptime(): number {
  return Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
}

function spreadOf(seconds: readonly number[]): Spread {
  const sorted = seconds.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN);
  return { p50: at(0.5), p99: at(0.99) };
}

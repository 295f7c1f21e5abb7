/**
 * What members cost the operator, in its pods on a real site with the product installed from its chart. Members are approved to 100, 1,000 and
 * so on; at each step changes of single members are made one after the other, and requests and CPU of the operator are counted for them.
 */
import { virtualOrganizations } from '#crds/virtual-organization.ts';
import { type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import { type Client, createClient, findCondition, HttpTransport, kubeConfigCredentials } from '#runtime/index.ts';
import type { Product } from '../e2e/suites/product.ts';

/** Changes that are made at each size. */
const changes = 50;
const limitMs = 900_000;

/** What the pods of the operator spent so far, together, and the memory of the one that holds most. */
interface Spent {
  readonly cpuMs: number;
  readonly requests: number;
  readonly rssMb: number;
  readonly peakMb: number;
}

/** @param total - members in the end, at least 100. */
export async function measureMembers(product: Product, total: number): Promise<Record<string, unknown>> {
  const transport = new HttpTransport({
    credentials: kubeConfigCredentials({ file: product.site.kubeconfig }),
    throttle: { qps: Infinity, inFlightMax: 32 },
  });
  try {
    return await measure(product, createClient(transport, { fieldManager: 'bench' }), total);
  } finally {
    await transport.close();
  }
}

async function measure(product: Product, client: Client, total: number): Promise<Record<string, unknown>> {
  const sizes = [100, 1000, 10_000].filter((size) => size < total).concat(total);
  const perChange: Record<string, unknown> = {};
  const enforcedMs: number[] = [];
  const { namespace, name } = product;
  let approvedPerS = 0;
  let count = 0;
  let spent = await spentBy(product);
  for (const size of sizes) {
    const startedAt = performance.now();
    const added = size - count;
    await approve(client, { organization: name, namespace }, count, size);
    approvedPerS = Math.round((added * 1000) / (performance.now() - startedAt));
    count = size;
    // Counts of the virtual organization and events follow for a moment.
    await sleep(5000);
    const before = await spentBy(product);
    console.log(`members: ${size}, the last ${added} approved at ${approvedPerS}/s, operator ${before.rssMb} MB`);
    for (let n = 0; n < changes; n++) {
      enforcedMs.push(await change(client, namespace, n, n % 2 === 0 ? 'Suspended' : 'Active'));
    }
    await sleep(2000);
    spent = await spentBy(product);
    perChange[String(size)] = {
      requests: round((spent.requests - before.requests) / changes),
      cpu_ms: round((spent.cpuMs - before.cpuMs) / changes),
    };
    console.log(`members: at ${size} a change costs ${JSON.stringify(perChange[String(size)])}`);
  }
  enforcedMs.sort((a, b) => a - b);
  return {
    members: total,
    approved_per_s: approvedPerS,
    operator_mb: spent.rssMb,
    operator_peak_mb: spent.peakMb,
    requests_per_change: perChange,
    enforce_p50_s: round((enforcedMs[Math.floor(enforcedMs.length / 2)] ?? NaN) / 1000),
    enforce_p99_s: round((enforcedMs[Math.floor(enforcedMs.length * 0.99)] ?? NaN) / 1000),
  };
}

/** Members are made approved, as an import makes them; done when each one's status says so. */
async function approve(
  client: Client,
  { organization, namespace }: { readonly organization: string; readonly namespace: string },
  from: number,
  to: number,
): Promise<void> {
  const memberships = client.of(voMemberships);
  let next = from;
  const work = async (): Promise<void> => {
    for (let n = next++; n < to; n = next++) {
      const principal = { issuer: 'https://login.example.org', subject: `user-${n}` };
      await memberships.apply({ metadata: { name: `m-${n}`, namespace }, spec: { principal, state: 'Active' } });
    }
  };
  await Promise.all(Array.from({ length: 16 }, work));
  const counted = async (): Promise<number> =>
    (await client.of(virtualOrganizations).get({ name: organization })).status?.members?.active ?? 0;
  await until(
    `${to} members are Active`,
    async () => (await counted()) >= Math.max(to - changes, from + 1) && (await areActive(client, namespace, to)),
  );
}

async function areActive(client: Client, namespace: string, count: number): Promise<boolean> {
  const { items } = await client.of(voMemberships).list({ namespace });
  return items.filter((each) => reasonOf(each) === 'Active').length >= count;
}

/** @returns milliseconds from the write to the status in force. */
async function change(client: Client, namespace: string, n: number, state: 'Suspended' | 'Active'): Promise<number> {
  const key = { namespace, name: `m-${Math.floor(n / 2)}` };
  const startedAt = performance.now();
  await client.of(voMemberships).patch(key, { type: 'merge', body: { spec: { state } } });
  await until(`${key.name} is ${state}`, async () => reasonOf(await client.of(voMemberships).get(key)) === state, 5);
  return performance.now() - startedAt;
}

function reasonOf({ status }: VOMembership): string | undefined {
  return findCondition(status?.conditions, 'Ready')?.reason;
}

/** Read inside the containers: CPU and memory from /proc, requests from the metrics, all but those of the lease and the Site. */
async function spentBy({ site, name }: Product): Promise<Spent> {
  const labels = 'app.kubernetes.io/component=operator';
  const listed = await site.kubectl(['get', 'pods', '-n', name, '-l', labels, '-o', 'name']);
  const spent = await Promise.all(
    listed
      .trim()
      .split('\n')
      .map(async (pod) => {
        const program = ['node', '--input-type=module', '--eval', insideContainer];
        const text = await site.kubectl(['exec', '-n', name, pod, '-c', 'operator', '--', ...program]);
        const { stat, status, metrics } = JSON.parse(text) as Record<'stat' | 'status' | 'metrics', string>;
        const [user, system] = stat
          .replace(/^.*\) /s, '')
          .split(' ')
          .slice(11, 13)
          .map(Number) as [number, number];
        const mb = (field: string): number => Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1000;
        const counts = metrics
          .split('\n')
          .filter((line) => line.startsWith('xtreemos_runtime_request_duration_seconds_count'))
          .filter((line) => !/resource="(leases|sites)/.test(line))
          .map((line) => Number(line.split(' ')[1]));
        // Ticks of 10 ms.
        const cpuMs = (user + system) * 10;
        return {
          cpuMs,
          requests: counts.reduce((sum, each) => sum + each, 0),
          rssMb: mb('VmRSS'),
          peakMb: mb('VmHWM'),
        };
      }),
  );
  return {
    cpuMs: spent.reduce((sum, each) => sum + each.cpuMs, 0),
    requests: spent.reduce((sum, each) => sum + each.requests, 0),
    rssMb: Math.round(Math.max(...spent.map((each) => each.rssMb))),
    peakMb: Math.round(Math.max(...spent.map((each) => each.peakMb))),
  };
}

/** Process 1 of the container is the operator. */
const insideContainer = `
  const { readFileSync } = await import('node:fs');
  const metrics = await (await fetch('http://127.0.0.1:8080/metrics')).text();
  const read = (file) => readFileSync('/proc/1/' + file, 'utf8');
  console.log(JSON.stringify({ stat: read('stat'), status: read('status'), metrics }));
`;

async function until(what: string, isSo: () => Promise<boolean>, pauseMs = 500): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`${what}: not in ${limitMs / 1000} s`);
    await sleep(pauseMs);
  }
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

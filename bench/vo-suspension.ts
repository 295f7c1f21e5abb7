/**
 * From the suspension of a member to the end of its last pod, and what identity adds to the first work of a member who was never seen, on a
 * real site with the product installed from its chart. The pods ignore the signal to end, so that the whole grace passes.
 */
import { waitFor } from '#sites/harness.ts';
import type { Login, Product } from '../e2e/suites/product.ts';

const podCount = 10;
/** Members who come for the first time. */
const newcomers = 20;

/** @param product - with its virtual organization formed. */
export async function measureSuspension(product: Product): Promise<Record<string, unknown>> {
  return { ...(await measureFirstWork(product)), ...(await suspend(product)) };
}

/** Before a first pod there must be an account: from asking for it until the account can be used. */
async function measureFirstWork(product: Product): Promise<Record<string, unknown>> {
  const times: number[] = [];
  for (let n = 0; n < newcomers; n++) {
    await product.join(`newcomer-${n}`);
    const member = await product.member(`newcomer-${n}`);
    const startedAt = performance.now();
    await product.makeAccount(member, Date.now() + 60_000);
    times.push(performance.now() - startedAt);
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number =>
    Math.round(times[Math.min(newcomers - 1, Math.floor(newcomers * share))] ?? NaN);
  return { identity_added_ms: at(0.5), identity_added_p99_ms: at(0.99) };
}

async function suspend(product: Product): Promise<Record<string, unknown>> {
  const { site, namespace } = product;
  await product.join('alice');
  const alice = await product.logIn('alice');
  for (let n = 0; n < podCount; n++) {
    await waitFor('a pod is accepted', async () => (await startStubborn(product, alice, `stubborn-${n}`)) === '');
  }
  await site.kubectl(['wait', '--for=condition=Ready', 'pod', '--all', '-n', namespace, '--timeout=120s'], {
    timeoutMs: 130_000,
  });
  const startedAt = performance.now();
  const body = JSON.stringify({ spec: { state: 'Suspended' } });
  await site.kubectl(['patch', 'vom', 'alice', '-n', namespace, '--type=merge', '-p', body]);
  let late = 0;
  await waitFor('a new pod is refused', async () => (await startStubborn(product, alice, `late-${late++}`)) !== '');
  const refusedS = (performance.now() - startedAt) / 1000;
  await waitFor(
    'no pod is left',
    async () => (await site.kubectl(['get', 'pods', '-n', namespace, '-o', 'name'])) === '',
    { limitMs: 120_000 },
  );
  const goneS = (performance.now() - startedAt) / 1000;
  return { suspend_refused_s: Math.round(refusedS * 1000) / 1000, suspend_gone_s: Math.round(goneS * 10) / 10 };
}

/** As the member: it wants an hour to end, and doesn't hear the signal. @returns why it was refused; empty when it was accepted. */
async function startStubborn({ site }: Product, { login }: Login, name: string): Promise<string> {
  const command = ['sh', '-c', "trap '' TERM; while true; do sleep 1; done"];
  const containers = [{ name: 'main', image: 'xtreemos.io/busybox:1', command }];
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: { containers, terminationGracePeriodSeconds: 3600 },
  };
  const input = JSON.stringify(pod);
  const { status, stderr } = await site.tryKubectl([...login, 'create', '-f', '-'], { input });
  return status === 0 ? '' : stderr;
}

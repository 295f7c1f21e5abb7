/**
 * From the suspension of a member to the end of its last pod, on a real site with the product installed from its chart: pods that ignore the
 * signal to end, so that the whole grace passes.
 */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { systemClock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { sites } from '#crds/site.ts';
import { virtualOrganizations } from '#crds/virtual-organization.ts';
import { voMemberships } from '#crds/vo-membership.ts';
import { requestAccount } from '#operator/identity/accounts.ts';
import { createClient, HttpTransport, kubeConfigCredentials, namespaces, pods } from '#runtime/index.ts';
import { openSites, type TestSite, waitFor } from '#sites/harness.ts';
import { localProvider } from '#sites/provider.ts';
import { aPod } from '#sites/testing.ts';
import { productRecipe } from '../hack/images/recipes.ts';

const root = path.resolve(import.meta.dirname, '..');
const organization = 'bench-suspension';
const namespace = `vo-${organization}`;
const podCount = 10;

/** @param name - instance of sites; brought up for this when it doesn't run, and taken down again then. */
export async function measureSuspension(name: string): Promise<Record<string, unknown>> {
  const report = (line: string): void => void process.stderr.write(`${line}\n`);
  const isFound = await openSites(name).then(
    () => true,
    () => false,
  );
  if (!isFound) await localProvider.up({ name, sites: 1, nodes: 1, report });
  try {
    const [site] = (await openSites(name)).sites;
    if (site === undefined) throw new Error(`${name} has no site`);
    await install(site);
    return await measure(site);
  } finally {
    if (!isFound) await localProvider.down(name, report);
  }
}

async function install(site: TestSite): Promise<void> {
  execFileSync(process.execPath, [path.join(root, 'hack/bundle.ts')], { cwd: root });
  await site.loadRecipes([productRecipe()]);
  const flags = ['--install', '--namespace', 'xtreemos-system', '--create-namespace', '--wait', '--timeout=180s'];
  await site.helm(['upgrade', 'xtreemos', path.join(root, 'charts/xtreemos'), ...flags, '--set', 'site.name=home']);
}

async function measure(site: TestSite): Promise<Record<string, unknown>> {
  const transport = new HttpTransport({ credentials: kubeConfigCredentials({ file: site.kubeconfig }) });
  const client = createClient(transport, { fieldManager: 'bench' });
  const key = { namespace, name: 'alice' };
  try {
    await client.of(namespaces).apply({ metadata: { name: namespace } });
    await client.of(virtualOrganizations).apply({
      metadata: { name: organization },
      spec: { state: 'Operational', administrators: [{ issuer: 'kubernetes:home', subject: 'root' }] },
    });
    const accept = { spec: { local: { acceptedVirtualOrganizations: [{ name: organization }] } } };
    await client.of(sites).patch({ name: 'home' }, { type: 'merge', body: accept });
    const principal = { issuer: 'https://login.example.org', subject: 'alice' };
    await client.of(voMemberships).apply({ metadata: key, spec: { principal, state: 'Active' } });
    const alice = await waitFor('alice has an id', async () => {
      const found = await client.of(voMemberships).get(key);
      return found.status?.userName === undefined ? undefined : found;
    });
    const askedAt = performance.now();
    await requestAccount(client, systemClock, alice, Date.now() + 60_000);
    const accountMs = Math.round(performance.now() - askedAt);
    const names = Array.from({ length: podCount }, (_, n) => `stubborn-${n}`);
    await site.apply(names.map((pod) => stubbornPod(pod, alice.status?.userName ?? '', alice.status?.uid ?? 0)));
    await site.kubectl(['wait', '--for=condition=Ready', 'pod', '--all', '-n', namespace, '--timeout=120s'], {
      timeoutMs: 130_000,
    });
    const startedAt = performance.now();
    await client.of(voMemberships).patch(key, { type: 'merge', body: { spec: { state: 'Suspended' } } });
    const refusal = /serviceaccount.*not found/i;
    await waitFor('a new pod is refused', async () => {
      const late = stubbornPod(
        `late-${Math.round(performance.now())}`,
        alice.status?.userName ?? '',
        alice.status?.uid ?? 0,
      );
      return client
        .of(pods)
        .create(late as never)
        .then(
          () => false,
          (error: unknown) => refusal.test(describeError(error)),
        );
    });
    const refusedS = (performance.now() - startedAt) / 1000;
    const left = async (): Promise<number> => (await client.of(pods).list({ namespace })).items.length;
    await waitFor('no pod is left', async () => (await left()) === 0, { limitMs: 120_000 });
    const goneS = (performance.now() - startedAt) / 1000;
    return {
      suspend_refused_s: Math.round(refusedS * 1000) / 1000,
      suspend_gone_s: Math.round(goneS * 10) / 10,
      account_ms: accountMs,
    };
  } finally {
    await site.tryKubectl(['delete', 'vo', organization]);
    await site.tryKubectl(['delete', 'namespace', namespace, '--timeout=60s'], { timeoutMs: 70_000 });
    await transport.close();
  }
}

/** It wants an hour to end, and doesn't hear the signal. */
function stubbornPod(name: string, account: string, uid: number): object {
  const script = "trap '' TERM; while true; do sleep 1; done";
  const pod = aPod({ name, namespace, script }) as { spec: Record<string, unknown> };
  const spec = {
    ...pod.spec,
    serviceAccountName: account,
    terminationGracePeriodSeconds: 3600,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: uid,
      runAsGroup: uid,
      seccompProfile: { type: 'RuntimeDefault' },
    },
  };
  return { ...pod, spec };
}

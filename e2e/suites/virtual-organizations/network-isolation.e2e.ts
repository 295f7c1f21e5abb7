/** The operator proves on a real site that NetworkPolicy is enforced, and what becomes of virtual organizations where it is not. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { Site } from '#crds/site.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { EventObject, Pod } from '#runtime/builtin.ts';
import type { Condition } from '#runtime/types.ts';
import { openSites, type TestSite, type TestSites, waitFor } from '#sites/harness.ts';
import { Product } from '../product.ts';

jest.setTimeout(600_000);

const name = 'suite-isolation';
const late = 'suite-isolation-late';
let shared: TestSites;
let product: Product;
let site: TestSite;

beforeAll(async () => {
  shared = await openSites();
  product = await Product.install(name);
  ({ site } = product);
}, 400_000);

afterAll(async () => {
  await shared.faults?.heedPolicies(site.name);
  await site.tryKubectl(['delete', 'vo', late, '--timeout=60s'], { timeoutMs: 70_000 });
  await product.uninstall();
});

interface Observed {
  readonly status?: { readonly conditions?: readonly Condition[] | undefined } | undefined;
}

const conditionOf = ({ status }: Observed, type: string): Condition | undefined =>
  status?.conditions?.find((each) => each.type === type);

/** Waits for a reason of a condition; a test takes seconds, two that wait in vain for a policy minutes. */
async function reason(names: readonly string[], type: string, wanted: string): Promise<Condition> {
  const found = await site.until<Site | VirtualOrganization>(
    names,
    (object) => conditionOf(object, type)?.reason === wanted,
    400_000,
  );
  return conditionOf(found, type)!;
}

/** Pods and policies of the test of the network that are there now. */
async function probes(): Promise<string[]> {
  const { items } = await site.get<{ items: Pod[] }>('pods,networkpolicies', '-n', name);
  return items.map(({ metadata }) => metadata.name).filter((each) => each.startsWith('xtreemos-network-probe'));
}

async function acceptBoth(): Promise<void> {
  const acceptedVirtualOrganizations = [{ name }, { name: late }];
  await offer({ acceptedVirtualOrganizations });
}

async function offer(local: object): Promise<void> {
  await site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', JSON.stringify({ spec: { local } })]);
}

/** Starts a pod as a member. */
async function run(login: readonly string[], pod: string): Promise<{ status: number; stderr: string }> {
  const flags = ['--image=xtreemos.io/busybox:1', '--image-pull-policy=Never', '--restart=Never'];
  return site.tryKubectl([...login, 'run', pod, ...flags, '--', 'sleep', '3600']);
}

describe('the test of the network by the operator (threat 13)', () => {
  let first: string;
  let login: readonly string[];
  let userName: string;

  test('finds on a site that enforces NetworkPolicy that it does, and leaves nothing behind', async () => {
    const { message } = await reason(['site', 'home'], 'NetworkIsolated', 'Enforced');
    expect(message).toBe('NetworkPolicy is enforced.');
    await waitFor('pods and policy are gone', async () => (await probes()).length === 0, { limitMs: 60_000 });
    await product.formOrganization();
    await reason(['vo', name], 'TenancyReady', 'SetUp');
    await product.join('anna');
    ({ login, userName } = await product.logIn('anna'));
    first = `${userName}-first`;
    await waitFor('anna may run pods', async () => (await run(login, first)).status === 0, { limitMs: 60_000 });
    await site.kubectl([...login, 'wait', '--for=condition=Ready', `pod/${first}`, '--timeout=60s']);
  });

  test('finds on a site that ignores NetworkPolicy that it does, and says so loudly', async () => {
    const { faults } = shared;
    if (faults === undefined) throw new Error('this provider has no faults: run with PROVIDER=local');
    await faults.ignorePolicies(site.name);
    await site.kubectl(['rollout', 'restart', 'deployment', '-n', name, '-l', 'app.kubernetes.io/component=operator']);
    const condition = await reason(['site', 'home'], 'NetworkIsolated', 'NotEnforced');
    expect(condition.status).toBe('False');
    expect(condition.message).toMatch(/was reached.*Install a network plug-in.*networkIsolation: NotOffered/);
    await waitFor('an event warns', async () => {
      const { items } = await site.get<{ items: EventObject[] }>('events.events.k8s.io', '-A');
      return items.some(({ type, reason: why }) => type === 'Warning' && why === 'NotEnforced');
    });
    await waitFor('pods and policy are gone', async () => (await probes()).length === 0, { limitMs: 60_000 });
  });

  test('lets no further virtual organization in then, with words that say why', async () => {
    const administrators = [{ issuer: 'kubernetes:home', subject: 'root' }];
    const about = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VirtualOrganization', metadata: { name: late } };
    await acceptBoth();
    await site.apply([{ ...about, spec: { state: 'Operational', administrators } }]);
    const { status, message } = await reason(['vo', late], 'TenancyReady', 'NetworkNotIsolated');
    expect(status).toBe('False');
    expect(message).toMatch(/does not enforce NetworkPolicy.*network plug-in.*networkIsolation: NotOffered/);
    expect((await reason(['vo', late], 'Ready', 'NotSetUp')).message).toBe(message);
    expect((await site.tryKubectl(['get', 'namespace', `vo-${late}`])).stderr).toContain('not found');
  });

  test('lets what runs go on, and nothing new of it start', async () => {
    await reason(['vo', name], 'TenancyReady', 'NetworkNotIsolated');
    const { status, stderr } = await run(login, `${userName}-second`);
    expect(status).not.toBe(0);
    expect(stderr).toContain('exceeded quota: tenancy');
    const pod = await site.get<Pod>('pod', first, '-n', product.namespace);
    expect(pod.status?.phase).toBe('Running');
    expect(pod.metadata.deletionTimestamp).toBeUndefined();
  });

  test('gives way to the owner of the site who accepts it, and virtual organizations are told', async () => {
    await offer({ networkIsolation: 'NotOffered' });
    expect((await reason(['site', 'home'], 'NetworkIsolated', 'NotOffered')).status).toBe('False');
    expect((await reason(['vo', late], 'TenancyReady', 'NetworkOpen')).message).toContain('no closed network');
    await reason(['vo', name], 'TenancyReady', 'NetworkOpen');
    await waitFor('something new starts', async () => (await run(login, `${userName}-third`)).status === 0);
  });

  test('finds that it is enforced again, once it is', async () => {
    await offer({ networkIsolation: 'Offered' });
    await reason(['vo', late], 'TenancyReady', 'NetworkNotIsolated');
    await shared.faults?.heedPolicies(site.name);
    await reason(['site', 'home'], 'NetworkIsolated', 'Enforced');
    await reason(['vo', late], 'TenancyReady', 'SetUp');
    await reason(['vo', name], 'TenancyReady', 'SetUp');
  });
});

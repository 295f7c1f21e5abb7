/** A member is approved, runs a pod under the issued id, and is suspended; the operator is killed while all of that happens. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { requestAccount } from '#operator/identity/accounts.ts';
import { createClient, HttpTransport, kubeConfigCredentials, type Stored } from '#runtime/index.ts';
import { openSites, type TestSite, waitFor } from '#sites/harness.ts';
import { aPod } from '#sites/testing.ts';
import { productRecipe } from '../../../hack/images/recipes.ts';

jest.setTimeout(240_000);

const root = path.resolve(import.meta.dirname, '../../..');
const system = 'suite-members';
const organization = 'suite-members';
const namespace = `vo-${organization}`;
let site: TestSite;
let transport: HttpTransport;

beforeAll(async () => {
  site = (await openSites()).sites[0]!;
  transport = new HttpTransport({ credentials: kubeConfigCredentials({ file: site.kubeconfig }) });
  await promisify(execFile)(process.execPath, [path.join(root, 'hack/bundle.ts')], { cwd: root });
  await site.loadRecipes([productRecipe()]);
  await site.helm([
    ...['install', 'xtreemos', path.join(root, 'charts/xtreemos'), '--namespace', system, '--create-namespace'],
    ...['--wait', '--timeout=180s', '--set', 'site.name=home', '--set', 'operator.leaseDurationSeconds=6'],
    ...['--set', 'crds.keep=false'],
  ]);
  await vo('Operational');
  const accepted = JSON.stringify({ spec: { local: { acceptedVirtualOrganizations: [{ name: organization }] } } });
  await site.kubectl(['wait', '--for=create', 'site/home', '--timeout=60s']);
  await site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', accepted]);
  await waitFor('the namespace is there', async () => (await site.tryKubectl(['get', 'ns', namespace])).status === 0);
}, 300_000);

afterAll(async () => {
  await site.tryKubectl(['patch', 'vo', organization, '--type=merge', '-p', '{"spec":{"state":"Dissolved"}}']);
  await site.tryKubectl(['wait', 'ns', namespace, '--for=delete', '--timeout=90s'], { timeoutMs: 100_000 });
  await site.tryKubectl(['delete', 'vo', organization, '--timeout=60s'], { timeoutMs: 70_000 });
  await site.tryKubectl(['delete', 'islice', '--all']);
  await site.helm(['uninstall', 'xtreemos', '--namespace', system, '--wait']);
  await site.tryKubectl(['delete', 'namespace', system, '--wait=false']);
  await transport.close();
});

async function vo(state: string): Promise<void> {
  await site.apply([
    {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VirtualOrganization',
      metadata: { name: organization },
      spec: {
        state,
        administrators: [{ issuer: 'kubernetes:home', subject: 'root' }],
        groups: [{ name: 'analysis' }],
      },
    },
  ]);
}

async function join(name: string, state: string): Promise<void> {
  await site.apply([
    {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VOMembership',
      metadata: { name, namespace },
      spec: {
        principal: { issuer: 'https://login.example.org', subject: name },
        state,
        groups: [{ name: 'analysis' }],
      },
    },
  ]);
}

const member = async (name: string): Promise<Stored<VOMembership>> => site.get('vom', name, '-n', namespace);

async function decide(name: string, state: string): Promise<void> {
  await site.kubectl([
    'patch',
    'vom',
    name,
    '-n',
    namespace,
    '--type=merge',
    '-p',
    JSON.stringify({ spec: { state } }),
  ]);
}

/** Waits until the condition Ready has the reason; long enough for another replica to take over. */
async function until(name: string, reason: string): Promise<Stored<VOMembership>> {
  return waitFor(
    `${name} is ${reason}`,
    async () => {
      const found = await member(name);
      return found.status?.conditions?.some((each) => each.type === 'Ready' && each.reason === reason) === true
        ? found
        : undefined;
    },
    { limitMs: 60_000 },
  );
}

async function startPod(membership: Stored<VOMembership>, name: string): Promise<void> {
  const { uid = 0, gid = 0, gids = [], userName = '' } = membership.status ?? {};
  const script = "trap '' TERM; id; while true; do sleep 1; done";
  const pod = aPod({ name, namespace, script }) as { spec: Record<string, unknown> };
  const securityContext = {
    runAsNonRoot: true,
    runAsUser: uid,
    runAsGroup: gid,
    fsGroup: gid,
    supplementalGroups: gids.map((each) => each.gid),
    supplementalGroupsPolicy: 'Strict',
    seccompProfile: { type: 'RuntimeDefault' },
  };
  await site.apply([
    {
      ...pod,
      spec: {
        ...pod.spec,
        serviceAccountName: userName,
        terminationGracePeriodSeconds: 3600,
        securityContext,
      },
    },
  ]);
  await site.kubectl(['wait', '--for=condition=Ready', `pod/${name}`, '-n', namespace, '--timeout=90s'], {
    timeoutMs: 100_000,
  });
}

const need = async (membership: Stored<VOMembership>): Promise<unknown> =>
  requestAccount(createClient(transport, { fieldManager: 'suite' }), systemClock, membership, Date.now() + 60_000);

/** Kills the replica that leads, as a crash of its node would. */
async function killLeader(): Promise<void> {
  const lease = await site.get<{ spec: { holderIdentity?: string } }>('lease', 'xtreemos', '-n', system);
  const pod = lease.spec.holderIdentity?.split('_')[0] ?? '';
  await site.tryKubectl(['delete', 'pod', pod, '-n', system, '--grace-period=0', '--force']);
}

test('an approved member runs a pod as the user and with the groups that were issued, by name', async () => {
  await join('alice', 'Requested');
  await until('alice', 'Requested');
  await decide('alice', 'Active');
  const alice = await until('alice', 'Active');
  const found = await waitFor('the group has an id', async () => {
    const again = await member('alice');
    return again.status?.gids?.length === 1 ? again : undefined;
  });
  await need(found);
  await startPod(found, 'first');
  const { stdout } = await site.exec(namespace, 'first', 'id');
  const { userName = '', uid = 0, gid = 0, gids = [] } = found.status ?? {};
  expect(stdout.trim()).toBe(
    `uid=${uid}(${userName}) gid=${gid}(vo-${organization}) groups=${gid}(vo-${organization}),${gids[0]?.gid ?? 0}(vo-${organization}/analysis)`,
  );
  expect(alice.status?.uid).toBe(uid);
});

test('kubectl get vo,vom reads well', async () => {
  const table = await waitFor('the count is there', async () => {
    const text = await site.kubectl(['get', 'vo,vom', '-n', namespace]);
    return /Operational +.* 1 +0 /.test(text) ? text : undefined;
  });
  expect(table).toMatch(/^NAME +STATE +READY +REASON +MEMBERS +REQUESTS +AGE$/m);
  expect(table).toMatch(/^NAME +STATE +USER +SUBJECT +READY +REASON +AGE$/m);
  expect(table).toMatch(/^\S*alice +Active +u-alice-\d{10} +alice +True +Active/m);
  const { status } = await site.get<VirtualOrganization>('vo', organization);
  expect(status?.members).toEqual({ active: 1, requested: 0, suspended: 0, expired: 0, banned: 0 });
});

test('a suspended member starts nothing within 5 s, and pods that ignore the signal to end are gone within 60 s (threat 39)', async () => {
  const alice = await member('alice');
  const startedAt = Date.now();
  await decide('alice', 'Suspended');
  const refused = await waitFor('a new pod is refused', async () => {
    const pod = aPod({ name: `late-${Date.now()}`, namespace });
    const body = { ...pod, spec: { ...(pod.spec as object), serviceAccountName: alice.status?.userName } };
    const { status, stderr } = await site.tryKubectl(['create', '-f', '-'], { input: JSON.stringify(body) });
    return status === 0 ? undefined : stderr;
  });
  expect(Date.now() - startedAt).toBeLessThan(5000);
  expect(refused).toMatch(/serviceaccount.*not found/i);
  await waitFor(
    'no pod is left',
    async () => (await site.kubectl(['get', 'pods', '-n', namespace, '-o', 'name'])) === '',
    {
      limitMs: 60_000,
    },
  );
  expect(Date.now() - startedAt).toBeLessThan(60_000);
  expect((await until('alice', 'Suspended')).status?.uid).toBe(alice.status?.uid);
});

test('with the leader killed at each step a member still gets one id and one account, and loses all of it (threat 63)', async () => {
  await join('bob', 'Requested');
  await killLeader();
  await decide('bob', 'Active');
  await killLeader();
  const bob = await until('bob', 'Active');
  await killLeader();
  await waitFor(
    'the account is there',
    async () =>
      need(bob).then(
        () => true,
        () => false,
      ),
    { limitMs: 60_000 },
  );
  await startPod(bob, 'second');
  await decide('bob', 'Suspended');
  await killLeader();
  await waitFor(
    'no pod is left',
    async () => (await site.kubectl(['get', 'pods', '-n', namespace, '-o', 'name'])) === '',
    {
      limitMs: 90_000,
    },
  );
  await killLeader();
  expect((await until('bob', 'Suspended')).spec.identity).toEqual(bob.spec.identity);
  await waitFor('nothing more to look after', async () => (await member('bob')).metadata.finalizers === undefined, {
    limitMs: 60_000,
  });
  const accounts = await site.kubectl([
    'get',
    'serviceaccounts',
    '-n',
    namespace,
    '-l',
    'xtreemos.io/member=true',
    '-o',
    'name',
  ]);
  expect(accounts).toBe('');
});

/** A member is approved, runs a pod under the issued id, and is suspended; the operator is killed while all of that happens. */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Stored } from '#runtime/index.ts';
import { type TestSite, waitFor } from '#sites/harness.ts';
import { aPod } from '#sites/testing.ts';
import { Product } from '../product.ts';

jest.setTimeout(240_000);

let product: Product;
let site: TestSite;
let namespace: string;

beforeAll(async () => {
  product = await Product.install('suite-members');
  ({ site, namespace } = product);
  await product.formOrganization({ groups: [{ name: 'analysis' }] });
}, 300_000);

afterAll(async () => {
  await product.uninstall();
});

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

const need = async (membership: Stored<VOMembership>): Promise<void> =>
  product.makeAccount(membership, Date.now() + 60_000);

/** Kills the replica that leads, as a crash of its node would. */
async function killLeader(): Promise<void> {
  const lease = await site.get<{ spec: { holderIdentity?: string } }>('lease', 'xtreemos', '-n', product.name);
  const pod = lease.spec.holderIdentity?.split('_')[0] ?? '';
  await site.tryKubectl(['delete', 'pod', pod, '-n', product.name, '--grace-period=0', '--force']);
}

test('an approved member runs a pod as the user and with the groups that were issued, by name', async () => {
  await product.join('alice', { state: 'Requested', groups: [{ name: 'analysis' }] });
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
    `uid=${uid}(${userName}) gid=${gid}(vo-${product.name}) groups=${gid}(vo-${product.name}),${gids[0]?.gid ?? 0}(vo-${product.name}/analysis)`,
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
  const { status } = await site.get<VirtualOrganization>('vo', product.name);
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
  await product.join('bob', { state: 'Requested', groups: [{ name: 'analysis' }] });
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

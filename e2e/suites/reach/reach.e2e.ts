/** A job of a member at one site lands on another: it runs there, and its status and logs come back. */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { runXos } from '#cli/testing/processes.ts';
import type { Execution } from '#crds/execution.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/index.ts';
import { openSites, sharedName, type TestSite, waitFor } from '#sites/harness.ts';
import { down, up } from '#sites/lifecycle.ts';
import { aTask, podsOfJob } from '../job-objects.ts';
import { type Login, Product } from '../product.ts';

jest.setTimeout(240_000);

const name = 'suite-reach';
const namespace = `vo-${name}`;
/** Sites of its own: those of the suites may be one. */
const instance = `${sharedName()}-reach`;
const quiet = (): void => undefined;
/** Each calls itself `home`; what they call each other is theirs to choose. */
const far = 'far';
let products: Product[];
let home: TestSite;
let away: TestSite;
let alice: Login;

async function peerOf(product: Product): Promise<object> {
  const { data } = await waitFor('the gateway is published', async () => {
    const found = await product.site.tryKubectl(['get', 'cm', 'xtreemos-gateway', '-n', 'kube-public', '-o', 'json']);
    return found.status === 0 ? (JSON.parse(found.stdout) as { data: Record<string, string> }) : undefined;
  });
  return { address: data.address, trustDomain: data.trustDomain, trustBundle: data.caBundle };
}

async function join(product: Product, site: string, peer: object): Promise<void> {
  const spec = { type: 'Peer', peer: { ...peer, virtualOrganizations: [name] } };
  await product.site.apply([{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'Site', metadata: { name: site }, spec }]);
}

beforeAll(async () => {
  await down(instance, quiet);
  await up({ name: instance, sites: 2, nodes: 1, report: quiet });
  const { sites } = await openSites(instance);
  [home, away] = sites as [TestSite, TestSite];
  products = [];
  for (const [site, domain] of [
    [home, 'near.example'],
    [away, 'far.example'],
  ] as const) {
    const address = `gateway.address=${site.gatewayAddress}:7443`;
    const product = await Product.installAt(site, name, [address, `site.trustDomain=${domain}`]);
    products.push(product);
    const externalIPs = { spec: { externalIPs: [site.gatewayAddress] } };
    await site.kubectl([
      'patch',
      'svc',
      'xtreemos-gateway',
      '-n',
      name,
      '--type=merge',
      '-p',
      JSON.stringify(externalIPs),
    ]);
    await product.formOrganization();
    await product.join('alice');
  }
  const [near, other] = products as [Product, Product];
  await join(near, far, await peerOf(other));
  await join(other, 'near', await peerOf(near));
  await other.member('alice');
  alice = await near.logIn('alice');
}, 480_000);

afterAll(async () => {
  await down(instance, quiet);
});

async function submit(job: string, spec: object): Promise<void> {
  const body = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name: job }, spec };
  const done = await home.tryKubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify(body) });
  expect(done).toMatchObject({ status: 0 });
}

const until = async (job: string, is: (job: Stored<GridJob>) => boolean): Promise<Stored<GridJob>> =>
  home.until(['gridjob', job, '-n', namespace], is, 120_000);

const podsAt = async (site: TestSite, job: string): Promise<Pod[]> => podsOfJob(site, namespace, job);

test('a job lands on another site, as the member of that site, and its status and logs come back', async () => {
  await submit('there', { placement: { sites: { in: [far] } }, template: aTask('id -un; sleep 3') });
  const running = await until('there', ({ status }) => status?.tasks?.running === 1);
  expect(running.status?.tasks?.rows[0]).toMatchObject({ site: far, node: away.nodes[0] });
  const job = await until('there', ({ status }) => status?.state === 'Succeeded');
  expect(job.status?.tasks).toMatchObject({ succeeded: 1, succeededIndexes: '0' });
  expect(await podsAt(home, 'there')).toEqual([]);
  const log = await waitFor('the log has come back', async () => {
    const { stdout } = await runXos(['logs', ...alice.login, 'there'], {});
    return stdout === '' ? undefined : stdout;
  });
  expect(log).toMatch(/^u-alice-\d+\n$/);
});

test('exit statuses come back, and a killed job ends there', async () => {
  await submit('fails', { placement: { sites: { in: [far] } }, template: aTask('exit 3') });
  expect((await until('fails', ({ status }) => status?.state === 'Failed')).status?.exitCode).toBe(3);
  await submit('long', { placement: { sites: { in: [far] } }, template: aTask('exec sleep 600') });
  await until('long', ({ status }) => status?.tasks?.running === 1);
  const patch = JSON.stringify({ spec: { signal: { name: 'KILL', sequence: 1 } } });
  await home.kubectl([...alice.login, 'patch', 'gridjob', 'long', '--type=merge', '-p', patch]);
  await until('long', ({ status }) => status?.state === 'Killed');
  await waitFor('nothing of it runs there', async () =>
    (await podsAt(away, 'long')).every(({ status }) => status?.phase === 'Failed') ? true : undefined,
  );
});

test('a gang spans both sites, and what its home forgets is deleted there', async () => {
  // More than one node has: all of it starts together, at both sites, or nothing does.
  await submit('both', { tasks: { count: 6, gangMinimum: 6 }, template: aTask('sleep 2', '400m') });
  const job = await until('both', ({ status }) => status?.state === 'Succeeded');
  expect(job.status?.executions?.map(({ site }) => site).sort()).toEqual([far, 'home']);
  for (const each of ['there', 'fails', 'long', 'both'])
    await home.kubectl(['delete', 'gridjob', each, '-n', namespace, '--wait=false']);
  await waitFor(
    'no part is left there',
    async () => {
      const { items } = await away.get<{ items: Execution[] }>('executions', '-n', namespace);
      return items.length === 0 ? true : undefined;
    },
    { limitMs: 90_000 },
  );
});

/** Objects made to crash the operator, as a process of its own, with the rights of the chart: it goes on, and serves the others. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import { createAuthority } from '#sites/pki.ts';
import { aNode } from './testing/builders.ts';
import { sendHostileObjects, surprisesIn } from './testing/hostile.ts';
import { installChart } from './testing/installed.ts';
import { OperatorProcess } from './testing/process.ts';

/** How many are tried; most are refused by the schemas. 100,000 take about ten minutes. */
const count = Number(process.env.XTREEMOS_HOSTILE_OBJECTS ?? 1_000);
jest.setTimeout(120_000 + count * 20);
const namespace = 'vo-hostile';
const root = '/apis/xtreemos.io/v1alpha1';

let plane: AloneControlPlane;
let client: KubeClient;
let operator: OperatorProcess;
let scratch: string;
let member: KubeClient;

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-hostile-'));
  plane = await startControlPlane({ dir: path.join(scratch, 'plane'), name: 'hostile' });
  client = new KubeClient(plane.credentials);
  const kubeconfig = await installChart(plane, client, scratch);
  // There is no selector at this address: jobs ask in vain, and go on asking.
  const authority = await createAuthority('hostile');
  const pair = await authority.issue({ commonName: 'operator', usages: ['client'] });
  for (const [name, text] of [
    ['tls.crt', pair.certificate],
    ['tls.key', pair.key],
    ['ca.crt', authority.certificate],
  ] as const) {
    writeFileSync(path.join(scratch, name), text, { mode: 0o600 });
  }
  await client.json('POST', '/api/v1/nodes', { body: aNode('n1') });
  operator = await OperatorProcess.start(
    kubeconfig,
    ...['--lease-name', 'xtreemos', '--site-name', 'home', '--selector', '127.0.0.1:1', '--selector-tls', scratch],
  );
  await waitFor('the operator works', async () => (await operator.health('/readyz')) === 200, { limitMs: 60_000 });
  await waitFor('the operator has made its Site', async () => client.find(`${root}/sites/home`));
  await form('hostile');
  member = await logIn('alice');
}, 180_000);

afterAll(async () => {
  member.close();
  await operator.end('SIGKILL');
  client.close();
  await plane.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** Forms a virtual organization that the site accepts, and waits for its namespace. */
async function form(name: string): Promise<void> {
  const names = [...new Set(['hostile', name])].map((each) => ({ name: each }));
  const accepted = { spec: { local: { acceptedVirtualOrganizations: names } } };
  await client.json('PATCH', `${root}/sites/home`, { body: accepted, contentType: 'application/merge-patch+json' });
  const administrators = [{ issuer: 'kubernetes:home', subject: 'root' }];
  const metadata = { name };
  const kind = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VirtualOrganization' };
  await client.json('POST', `${root}/virtualorganizations`, {
    body: { ...kind, metadata, spec: { state: 'Operational', administrators } },
  });
  let vo: VirtualOrganization | undefined;
  await waitFor(
    `${name} has its namespace`,
    async () => {
      vo = (await client.find(`${root}/virtualorganizations/${name}`)) as unknown as VirtualOrganization;
      return (
        vo.status?.conditions?.some(({ type, reason }) => type === 'TenancyReady' && reason !== 'Pending') === true
      );
    },
    { limitMs: 60_000 },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(vo?.status)}`);
  });
}

/** Makes a member, waits for their account, and logs them in: whose jobs and reservations are theirs. */
async function logIn(name: string): Promise<KubeClient> {
  const kind = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VOMembership' };
  const principal = { issuer: 'https://login.example.org', subject: name };
  const until = `${new Date(Date.now() + 3_600_000).toISOString().slice(0, 19)}Z`;
  const metadata = { name, namespace, annotations: { 'xtreemos.io/account-until': until } };
  const memberships = `${root}/namespaces/${namespace}/vomemberships`;
  await client.json('POST', memberships, { body: { ...kind, metadata, spec: { principal, state: 'Active' } } });
  const at = await waitFor(
    `${name} has an account`,
    async () => {
      const { status } = (await client.find(`${memberships}/${name}`)) as unknown as VOMembership;
      const account = `/api/v1/namespaces/${namespace}/serviceaccounts/${status?.userName ?? '-'}`;
      return (await client.find(account)) === undefined ? undefined : account;
    },
    { limitMs: 60_000 },
  );
  const { status } = await client.json('POST', `${at}/token`, { body: { spec: {} } });
  return new KubeClient({ ...plane.credentials, token: (status as { token: string }).token });
}

test('objects that are made to crash it are refused or told of, and others are served on (threat 14)', async () => {
  await sendHostileObjects({ count, namespace, administrator: client, member });
  await form('honest');
  expect([await operator.health('/livez'), await operator.health('/readyz')]).toEqual([200, 200]);
  expect(surprisesIn(operator.log)).toEqual([]);
});

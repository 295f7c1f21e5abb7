/** Objects made to crash the operator, as a process of its own, with the rights of the chart: it goes on, and serves the others. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { pick, SeededRandom } from '#common/random.ts';
import { HostileObjects } from '#crds/testing/hostile.ts';
import { readSamples } from '#crds/testing/samples.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, KubeStatusError, waitFor } from '#sites/kube-client.ts';
import { createAuthority } from '#sites/pki.ts';
import { aNode } from './testing/builders.ts';
import { installChart } from './testing/installed.ts';
import { OperatorProcess } from './testing/process.ts';

/** How many are tried; most are refused by the schemas. 100,000 take about ten minutes. */
const count = Number(process.env.XTREEMOS_HOSTILE_OBJECTS ?? 1_000);
jest.setTimeout(120_000 + count * 20);
const seed = 14;
const atOnce = 8;
const namespace = 'vo-hostile';
const root = '/apis/xtreemos.io/v1alpha1';
/** Kinds that have no namespace. */
const ofCluster = new Set(['VirtualOrganization']);
/** Kinds that bear the member who makes them. */
const ofMembers = new Set(['GridJob', 'Reservation', 'Volume']);

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

function pathOf({ kind }: { readonly kind: string }): string {
  const plural = `${kind.toLowerCase()}s`;
  return ofCluster.has(kind) ? `${root}/${plural}` : `${root}/namespaces/${namespace}/${plural}`;
}

test('objects that are made to crash it are refused or told of, and others are served on (threat 14)', async () => {
  const random = new SeededRandom(seed);
  const names = ['h0', 'h1', 'h2', 'h49', 'hostile', 'home'];
  // Slices and Sites are for operators and owners of sites alone.
  const samples = readSamples()
    .map(([, sample]) => sample)
    .filter(({ kind }) => kind !== 'IdentitySlice' && kind !== 'Site');
  const makers = new Map(
    samples.map(({ kind = '' }) => [kind, new HostileObjects(`${kind.toLowerCase()}s`, names, random)]),
  );
  const answers = new Map<number, number>();
  const kinds = new Set<string>();
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) {
      const sample = pick(random, samples);
      const { kind = '', apiVersion } = sample;
      const metadata = { name: `h${index}`, ...(ofCluster.has(kind) ? {} : { namespace }) };
      const object = { ...makers.get(kind)!.of({ ...sample, metadata }), apiVersion, kind, metadata };
      const maker = ofMembers.has(kind) ? member : client;
      const code = await maker.json('POST', pathOf(object), { body: object }).then(
        () => 201,
        (error: unknown) => {
          if (!(error instanceof KubeStatusError)) throw error;
          return error.code;
        },
      );
      answers.set(code, (answers.get(code) ?? 0) + 1);
      if (code === 201) kinds.add(kind);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  // Enough of every kind came through to be worth the name.
  expect(answers.get(201) ?? 0).toBeGreaterThan(count / 20);
  expect(kinds).toEqual(new Set(makers.keys()));
  expect([...answers.keys()].filter((code) => code >= 500)).toEqual([]);
  await form('honest');
  expect([await operator.health('/livez'), await operator.health('/readyz')]).toEqual([200, 200]);
  // Nothing was a surprise: what it can't work with it says in its own words.
  const surprises = operator.log
    .split('\n')
    .filter((line) => /TypeError|RangeError|ReferenceError|call stack/.test(line));
  expect([...new Set(surprises.map((line) => line.slice(0, 600)))].slice(0, 5)).toEqual([]);
});

/** An upgrade from an earlier chart, with the real Helm on a real API server: nothing stale stays, and nothing of the users goes. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { policyObjects } from '#crds/policies/index.ts';
import { defaultSettings } from '#crds/policies/policy.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { runHelm } from '#sites/helm.ts';
import { KubeClient, type KubeObject, KubeStatusError, waitFor } from '#sites/kube-client.ts';

jest.setTimeout(120_000);
const chart = path.resolve(import.meta.dirname, '../xtreemos');
const namespace = 'xtreemos-system';
const flags = ['--namespace', namespace, '--set', 'certificates.create=false'];
const root = '/apis/xtreemos.io/v1alpha1';
const registration = '/apis/admissionregistration.k8s.io/v1';
const policyPlurals = ['validating', 'mutating'].flatMap((way) =>
  ['policies', 'policybindings'].map((plural) => `${way}admission${plural}`),
);

let scratch: string;
let plane: AloneControlPlane;
let client: KubeClient;
let count = 0;

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-upgrade-'));
  plane = await startControlPlane({ dir: path.join(scratch, 'plane'), name: 'upgrade' });
  client = new KubeClient(plane.credentials);
}, 600_000);

afterAll(async () => {
  client.close();
  await plane.stop();
  rmSync(scratch, { recursive: true, force: true });
});

const helm = async (...args: string[]): Promise<string> =>
  runHelm(args, { kubeconfig: plane.kubeconfigPath, home: path.join(scratch, 'helm') });

/** The chart as an earlier revision had it: two policies had other names, and one more refused what is allowed now. */
function earlierChart(): string {
  const earlier = path.join(scratch, 'earlier');
  cpSync(chart, earlier, { recursive: true });
  const templates = path.join(earlier, 'templates');
  const edit = (file: string, change: (content: string) => string, to = file): void => {
    const content = readFileSync(path.join(templates, file), 'utf8');
    const changed = change(content);
    if (changed === content) throw new Error(`${file} has nothing to change`);
    writeFileSync(path.join(templates, to), changed);
  };
  rmSync(path.join(templates, 'policy-stale.yaml'));
  for (const way of ['validate', 'fill-in']) {
    for (const suffix of ['', '-binding']) {
      const file = `policy-${way}-governance${suffix}.yaml`;
      const named = (name: string) => (content: string) =>
        content.replaceAll('xtreemos-governance', `xtreemos-${name}`);
      edit(
        file,
        (content) => named('descriptions')(content).replace(refuseAll, refused),
        `policy-${way}-descriptions${suffix}.yaml`,
      );
      edit(file, named('governors'), `policy-${way}-governors${suffix}.yaml`);
      rmSync(path.join(templates, file));
    }
  }
  return earlier;
}

/** The rules of a policy that refuses, and one that lets no description be given. */
const refuseAll = /^ {2}validations:\n[\s\S]*$/m;
const refused =
  '  validations:\n    - expression: "!has(object.spec.description)"\n      message: descriptions are refused\n';

/** Name of every policy and binding that an installation has. */
async function installed(): Promise<string[]> {
  const lists = await Promise.all(policyPlurals.map(async (plural) => client.list(`${registration}/${plural}`)));
  return lists.flatMap(({ items }, index) => items.map(({ metadata }) => `${policyPlurals[index]} ${metadata?.name}`));
}

const organization = (name: string, spec: object): KubeObject => ({
  apiVersion: 'xtreemos.io/v1alpha1',
  kind: 'VirtualOrganization',
  metadata: { name },
  spec: { administrators: [{ issuer: 'https://id.example.org', subject: '1' }], ...spec },
});

/** @returns what the API server says against it; empty when it is formed. */
async function form(name: string, spec: object = {}, query = ''): Promise<string> {
  return client.json('POST', `${root}/virtualorganizations${query}`, { body: organization(name, spec) }).then(
    () => '',
    (error: unknown) => {
      if (error instanceof KubeStatusError) return error.message;
      throw error;
    },
  );
}

/** Asks in the name of another, which a policy refuses that was called otherwise, until it is told to stop. */
async function forge(stop: AbortSignal): Promise<string[]> {
  const answers: string[] = [];
  while (!stop.aborted) {
    answers.push(await form('forged', { dissolution: { data: 'Export', requestedBy: 'somebody' } }, '?dryRun=All'));
  }
  return answers;
}

/** What users and the operator wrote. */
async function data(): Promise<unknown> {
  const paths = ['sites/local', 'virtualorganizations/physics', 'identityslices/slice-0001'];
  const members = `${root}/namespaces/vo-physics/vomemberships/alice`;
  const objects = await Promise.all(
    [...paths.map((each) => `${root}/${each}`), members].map(async (at) => client.json('GET', at)),
  );
  return objects.map(({ metadata, spec, status }) => ({ uid: metadata?.uid, spec, status }));
}

async function writeData(): Promise<void> {
  const write = async (at: string, kind: string, metadata: object, spec: object): Promise<unknown> =>
    client.json('POST', `${root}/${at}`, { body: { apiVersion: 'xtreemos.io/v1alpha1', kind, metadata, spec } });
  await waitFor('the kinds are served', async () => (await form('physics')) === '', { limitMs: 30_000 });
  const labels = { 'xtreemos.io/virtual-organization': 'physics' };
  await client.json('POST', '/api/v1/namespaces', {
    body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'vo-physics', labels } },
  });
  await write('sites', 'Site', { name: 'local' }, { type: 'Local', local: { attributes: { country: 'FR' } } });
  const owner = { name: 'physics', uid: '00000000-0000-0000-0000-000000000001' };
  await write('identityslices', 'IdentitySlice', { name: 'slice-0001' }, { number: 1, virtualOrganization: owner });
  await write(
    'namespaces/vo-physics/vomemberships',
    'VOMembership',
    { name: 'alice', namespace: 'vo-physics' },
    {
      principal: { issuer: 'https://id.example.org', subject: '1' },
      identity: { slice: 1, localId: 1024 },
      state: 'Active',
    },
  );
  await client.json('PATCH', `${root}/namespaces/vo-physics/vomemberships/alice/status`, {
    body: { status: { userName: 'u-alice-2013332480', uid: 2_013_332_480 } },
    contentType: 'application/merge-patch+json',
  });
}

test('policies that the chart no longer has, or calls otherwise, go, and all that was written stays', async () => {
  await helm('install', 'xtreemos', earlierChart(), ...flags, '--create-namespace');
  await writeData();
  const before = await data();
  const tell = async (): Promise<string> => form(`told-${++count}`, { description: 'x' });
  await waitFor('descriptions are refused', async () => (await tell()).includes('are refused'));
  expect(await installed()).toContain('mutatingadmissionpolicybindings xtreemos-governors');

  const stop = new AbortController();
  const forged = forge(stop.signal);
  await helm('upgrade', 'xtreemos', chart, ...flags).finally(() => stop.abort());
  const answers = await forged;
  expect(answers.length).toBeGreaterThan(10);
  expect(answers.filter((answer) => !answer.includes('is not you'))).toEqual([]);
  const own = [...policyObjects(defaultSettings).values()].flat();
  const plural = (kind: string): string =>
    kind.toLowerCase().replace(/policy(binding)?$/, (_, end) => (end ? 'policybindings' : 'policies'));
  const wanted = own.map(({ kind, metadata }) => `${plural(kind)} ${metadata.name}`);
  const kept = (await installed()).filter((name) => !name.includes('xtreemos-selector-'));
  expect(kept.sort()).toEqual(wanted.sort());
  let answer = '';
  await waitFor('descriptions are not refused', async () => (answer = await tell()) === '').catch(() => undefined);
  expect(answer).toBe('');
  expect(await data()).toEqual(before);
});

test('another upgrade, and one after the chart was uninstalled and installed again, leave it so', async () => {
  const before = await Promise.all([data(), installed()]);
  await helm('upgrade', 'xtreemos', chart, ...flags, '--set', 'operator.logLevel=debug');
  expect(await Promise.all([data(), installed()])).toEqual(before);
  await helm('uninstall', 'xtreemos', '--namespace', namespace);
  await helm('install', 'xtreemos', chart, ...flags);
  expect(await Promise.all([data(), installed()])).toEqual(before);
});

test('policies of somebody else stay, whatever their labels', async () => {
  const metadata = { name: 'somebodys', labels: { 'app.kubernetes.io/part-of': 'xtreemos' } };
  const spec = { policyName: 'somebodys', validationActions: ['Audit'] };
  const body = {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingAdmissionPolicyBinding',
    metadata,
    spec,
  };
  await client.json('POST', `${registration}/validatingadmissionpolicybindings`, { body });
  await helm('upgrade', 'xtreemos', chart, ...flags);
  expect(await installed()).toContain('validatingadmissionpolicybindings somebodys');
});

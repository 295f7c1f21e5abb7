/** The generated CustomResourceDefinitions on a real API server. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, type KubeObject } from '#sites/kube-client.ts';
import { kinds } from './kinds.ts';
import type { StructuralSchema } from './structural.ts';
import { installCrds, readManifests } from './testing/install.ts';
import { refusalOf } from './testing/refusals.ts';
import { readSamples } from './testing/samples.ts';

jest.setTimeout(30_000);
const sitesPath = '/apis/xtreemos.io/v1alpha1/sites';
let plane: AloneControlPlane;
let client: KubeClient;

beforeAll(async () => {
  plane = await startControlPlane({ dir: mkdtempSync(path.join(tmpdir(), 'xtreemos-crds-')), name: 'crds' });
  client = new KubeClient(plane.credentials);
  await installCrds(client);
  for (const name of ['vo-physics', 'vo-biology', 'xtreemos-system']) {
    await client.json('POST', '/api/v1/namespaces', {
      body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name } },
    });
  }
}, 60_000);

afterAll(async () => {
  client.close();
  await plane.stop();
});

const site = (spec: unknown, name = 'test'): KubeObject =>
  ({ apiVersion: 'xtreemos.io/v1alpha1', kind: 'Site', metadata: { name }, spec }) as KubeObject;
const local = (fields: Record<string, unknown>): KubeObject => site({ type: 'Local', local: fields });
const peer = (fields: Record<string, unknown>): KubeObject =>
  site({
    type: 'Peer',
    peer: { address: 'a.example.org:7443', trustDomain: 'a.example.org', trustBundle: pem, ...fields },
  });
const provider = (fields: Record<string, unknown>): object => ({
  name: 'university',
  type: 'OpenIDConnect',
  openIDConnect: { issuer: 'https://login.example.org', clientID: 'xtreemos', ...fields },
});
const pem = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';

test.each(readSamples())('the sample %s is accepted as it stands', async (_, object) => {
  expect(await refusalOf(client, object as KubeObject)).toBe('');
});

test('the minimal sample gets its defaults', async () => {
  const [, minimal] = readSamples().find(([name]) => name === 'site-minimal.yaml')!;
  const stored = await client.json('POST', sitesPath, { body: minimal });
  expect(stored.spec).toMatchObject({ local: { acceptedVirtualOrganizations: [], isolation: ['Namespace'] } });
});

describe('a Site is refused, and the refusal names the field,', () => {
  test.each<[string, KubeObject, RegExp]>([
    ['without a spec', { ...site({}), spec: undefined } as never, /spec: Required value/],
    ['of an unknown type', site({ type: 'Remote' }), /spec\.type: Unsupported value: "Remote".*"Local", "Peer"/s],
    ['when Local says nothing of itself', site({ type: 'Local' }), /spec\.local: Required value: local is required/],
    [
      'when Peer has no address',
      site({ type: 'Peer' }),
      /spec\.peer: Required value: peer is required when type is Peer/,
    ],
    [
      'when Local has a peer',
      site({ ...peer({}).spec, type: 'Local', local: {} }),
      /spec\.peer: Forbidden: peer may only be set when type is Peer/,
    ],
    ['with an unknown field', local({ colour: 'blue' }), /unknown field "spec\.local\.colour"/],
    [
      'with a country in words',
      local({ attributes: { country: 'France' } }),
      /spec\.local\.attributes: .*country must be/,
    ],
    [
      'with a bad attribute name',
      local({ attributes: { 'My Key': 'x' } }),
      /spec\.local\.attributes: .*attribute name/,
    ],
    [
      'with an attribute name too long',
      local({ attributes: { ['a'.repeat(64)]: 'x' } }),
      /spec\.local\.attributes: .*1 to 63 characters/,
    ],
    [
      'with an attribute too long',
      local({ attributes: { a: 'x'.repeat(254) } }),
      /spec\.local\.attributes\.a: Too long/,
    ],
    [
      'with too many attributes',
      local({ attributes: Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`a${index}`, 'x'])) }),
      /spec\.local\.attributes: Too many/,
    ],
    [
      'with the same virtual organization twice',
      local({ acceptedVirtualOrganizations: [{ name: 'physics' }, { name: 'physics' }] }),
      /spec\.local\.acceptedVirtualOrganizations\[1\]: Duplicate value/,
    ],
    [
      'with a virtual organization that can have no namespace',
      local({ acceptedVirtualOrganizations: [{ name: 'a'.repeat(61) }] }),
      /acceptedVirtualOrganizations\[0\]\.name: Too long/,
    ],
    [
      'with a limit that is no quantity',
      local({ acceptedVirtualOrganizations: [{ name: 'a', limits: { cpu: 'lots' } }] }),
      /acceptedVirtualOrganizations\[0\]\.limits\.cpu: Invalid value: "lots"/,
    ],
    [
      'with a negative limit',
      local({ acceptedVirtualOrganizations: [{ name: 'a', limits: { memory: '-1Gi' } }] }),
      /acceptedVirtualOrganizations\[0\]\.limits\.memory: Invalid value/,
    ],
    ['with an unknown isolation', local({ isolation: ['None'] }), /spec\.local\.isolation\[0\]: Unsupported value/],
    ['with an address without a port', peer({ address: 'a.example.org' }), /spec\.peer\.address: Invalid value/],
    ['with a trust domain in capitals', peer({ trustDomain: 'A' }), /spec\.peer\.trustDomain: Invalid value/],
    ['with a trust bundle that is no PEM', peer({ trustBundle: 'MIIB' }), /spec\.peer\.trustBundle: Invalid value/],
    [
      'with a trust bundle too long',
      peer({ trustBundle: pem + 'x'.repeat(65_536) }),
      /spec\.peer\.trustBundle: Too long/,
    ],
    [
      'with the isolation Sandbox but no runtime for it',
      local({ isolation: ['Sandbox'] }),
      /spec\.local\.sandboxRuntimeClass: Required value: name a sandboxRuntimeClass/,
    ],
    [
      'with a range of ids that ends before it starts',
      local({ reservedIds: [{ first: 2, last: 1 }] }),
      /spec\.local\.reservedIds\[0\]\.last: Invalid value: .*first must not be above last/,
    ],
    [
      'with an OpenID provider that is not reached over https',
      local({ identityProviders: [provider({ issuer: 'http://login.example.org' })] }),
      /identityProviders\[0\]\.openIDConnect\.issuer: Invalid value/,
    ],
    [
      'with scopes that lack openid',
      local({ identityProviders: [provider({ scopes: ['email'] })] }),
      /identityProviders\[0\]\.openIDConnect\.scopes: .*openid must be among the scopes/,
    ],
    [
      'with a provider that says nothing of itself',
      local({ identityProviders: [{ name: 'a', type: 'ClientCertificate' }] }),
      /identityProviders\[0\]\.clientCertificate: Required value/,
    ],
    ['with a name too long for a label', site({ type: 'Local', local: {} }, 'a'.repeat(64)), /at most 63 characters/],
  ])('%s', async (_, object, message) => {
    expect(await refusalOf(client, object)).toMatch(message);
  });
});

describe('what a Site was made as', () => {
  const patched = async (name: string, spec: unknown): Promise<KubeObject> =>
    client.json('PATCH', `${sitesPath}/${name}`, { body: { spec }, contentType: 'application/merge-patch+json' });

  test('its type can not change', async () => {
    await client.json('POST', sitesPath, { body: site({ type: 'Local', local: {} }, 'stays-local') });
    await expect(patched('stays-local', { ...peer({}).spec, local: null })).rejects.toThrow(
      /spec\.type: Invalid value: type can not change/,
    );
  });

  test('the trust domain of a peer can not change, its address can', async () => {
    await client.json('POST', sitesPath, { body: site(peer({}).spec, 'peer') });
    await expect(patched('peer', { peer: { trustDomain: 'b.example.org' } })).rejects.toThrow(
      /spec\.peer\.trustDomain: Invalid value: .*can not change/,
    );
    const moved = await patched('peer', { peer: { address: '[2001:db8::1]:7443' } });
    expect(moved.spec).toMatchObject({ peer: { address: '[2001:db8::1]:7443' } });
  });
});

test('who writes a Site can not write its status along', async () => {
  const object = { ...site({ type: 'Local', local: {} }, 'spoof'), status: { kubernetesVersion: 'v9' } };
  const stored = await client.json('POST', sitesPath, { body: object });
  expect(stored.status).toBeUndefined();
});

test('kubectl explain has a description of every field', async () => {
  const document = await client.json('GET', '/openapi/v3/apis/xtreemos.io/v1alpha1');
  const { schemas } = document.components as { schemas: Record<string, StructuralSchema> };
  for (const kind of kinds) {
    const entry = Object.entries(schemas).find(([name]) => name.endsWith(`.${kind.kind}`));
    expect(entry).toBeDefined();
    const { spec, status } = entry![1].properties ?? {};
    expect(undescribed(spec, 'spec')).toEqual([]);
    if (kind.status !== undefined) expect(undescribed(status, 'status')).toEqual([]);
  }
});

function undescribed(schema: StructuralSchema | undefined, at: string): string[] {
  const inner = [
    ...Object.entries(schema?.properties ?? {}).map(([name, field]) => undescribed(field, `${at}.${name}`)),
    schema?.items === undefined ? [] : undescribed(schema.items, `${at}[]`),
  ].flat();
  return (schema?.description ?? '') === '' ? [at, ...inner] : inner;
}

test('the columns, names and categories are served', async () => {
  const table = await client.text('GET', sitesPath);
  expect(table).toContain('SiteList');
  for (const manifest of readManifests()) {
    const stored = await client.json(
      'GET',
      `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${manifest.metadata?.name ?? ''}`,
    );
    expect(stored.spec).toMatchObject(manifest.spec as Record<string, unknown>);
  }
});

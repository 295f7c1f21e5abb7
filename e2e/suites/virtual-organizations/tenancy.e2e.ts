/** A virtual organization from its forming to its end on a real site, by plain kubectl: the owner of the site, an administrator, two members. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { readReceipt } from '#operator/identity/testing/authority-compliance.ts';
import { loginOf, openSites, type TestSite, type TestSites, waitFor } from '#sites/harness.ts';
import { canReach, podAddress, waitPods, withNamespace } from '#sites/testing.ts';
import type { CommandResult } from '#sites/shell.ts';
import YAML from 'yaml';
import { Product } from '../product.ts';

jest.setTimeout(180_000);

const system = 'suite-vo-system';
const outside = 'suite-vo-outside';
/** Addresses that a pod of the owner of the site adds to a node: a metadata service as clouds have it, and some server far away. */
const metadataService = '169.254.169.254';
const farServer = '198.51.100.7';

let shared: TestSites;
let product: Product;
let site: TestSite;
let scratch: string;
const cleanups: (() => Promise<void>)[] = [];

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-vo-'));
  shared = await openSites();
  product = await Product.install(system, ['site.reservedRanges={10.176.0.0/12}']);
  ({ site } = product);
  cleanups.push(await withNamespace(site, outside));
  await site.kubectl(['wait', '--for=condition=Ready', 'site/home', '--timeout=60s']);
}, 400_000);

afterAll(async () => {
  for (const name of ['physics', 'chemistry']) {
    await site.tryKubectl(['delete', 'vo', name, '--timeout=60s']);
  }
  await site.tryKubectl(['delete', 'clusterrolebinding', 'vo-founders', '--ignore-not-found']);
  await site.tryKubectl(['delete', 'clusterrole', 'vo-founder', '--ignore-not-found']);
  await product.uninstall();
  for (const cleanup of cleanups) await cleanup();
  rmSync(scratch, { recursive: true, force: true });
});

/** kubectl as one of the users of the site who may do nothing by themselves. */
async function as(user: string, args: readonly string[], input?: string): Promise<CommandResult> {
  return site.tryKubectl([...loginOf(shared, site, user), ...args], input === undefined ? {} : { input });
}

/** kubectl as a member of a virtual organization: with a token of their account, as a login gives it. */
async function asMember(vo: string, userName: string, args: readonly string[], input?: string): Promise<CommandResult> {
  const config = YAML.parse(await site.kubectl(['config', 'view', '--raw', '--flatten'])) as {
    users: { user: object }[];
  };
  const token = (await site.kubectl(['create', 'token', userName, '-n', `vo-${vo}`])).trim();
  for (const user of config.users) user.user = { token };
  const file = path.join(scratch, userName);
  writeFileSync(file, YAML.stringify(config), { mode: 0o600 });
  return site.tryKubectl(['--kubeconfig', file, '-n', `vo-${vo}`, ...args], input === undefined ? {} : { input });
}

const manifest = (object: object): string => JSON.stringify({ apiVersion: 'xtreemos.io/v1alpha1', ...object });

/** Alice forms a virtual organization. */
async function form(name: string, spec: object = {}): Promise<void> {
  const administrators = [{ issuer: 'kubernetes:home', subject: 'alice' }];
  const object = { kind: 'VirtualOrganization', metadata: { name }, spec: { administrators, ...spec } };
  const { status, stderr } = await as('alice', ['create', '-f', '-'], manifest(object));
  expect([stderr, status]).toEqual(['', 0]);
}

async function accept(...accepted: object[]): Promise<void> {
  const patch = JSON.stringify({ spec: { local: { acceptedVirtualOrganizations: accepted } } });
  await site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', patch]);
}

async function reason(name: string, type: string, wanted: string, limitMs = 60_000): Promise<VirtualOrganization> {
  return waitFor(
    `${type} of ${name} is ${wanted}`,
    async () => {
      const vo = await site.get<VirtualOrganization>('vo', name);
      const found = vo.status?.conditions?.find((each) => each.type === type);
      return found?.reason === wanted && found.observedGeneration === vo.metadata.generation ? vo : undefined;
    },
    { limitMs, pauseMs: 300 },
  );
}

/** Alice makes someone a member. @returns their user name, once their account is there. */
async function join(vo: string, name: string): Promise<string> {
  const spec = { principal: { issuer: 'kubernetes:home', subject: name }, state: 'Active' };
  const metadata = { name, namespace: `vo-${vo}` };
  const made = await as('alice', ['create', '-f', '-'], manifest({ kind: 'VOMembership', metadata, spec }));
  expect([made.stderr, made.status]).toEqual(['', 0]);
  return account(vo, name);
}

/** Asks for the account of a member, as a login does, and waits for it. */
async function account(vo: string, name: string): Promise<string> {
  const until = `${new Date(Date.now() + 3_600_000).toISOString().slice(0, 19)}Z`;
  await site.kubectl(['annotate', '--overwrite', 'vom', name, '-n', `vo-${vo}`, `xtreemos.io/account-until=${until}`]);
  return waitFor(`the account of ${name}`, async () => {
    const { status } = await site.get<VOMembership>('vom', name, '-n', `vo-${vo}`);
    const userName = status?.userName;
    if (userName === undefined) return undefined;
    return (await site.tryKubectl(['get', 'serviceaccount', userName, '-n', `vo-${vo}`])).status === 0
      ? userName
      : undefined;
  });
}

const serve = 'mkdir -p /tmp/www; hostname > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www';

/** A pod as a member writes it; `user` is their user name, which ends in their id. What is needed besides is filled in. */
function podOf(name: string, user: string, node?: string): string {
  const securityContext = { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } };
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      ...(node === undefined ? {} : { nodeSelector: { 'kubernetes.io/hostname': node } }),
      terminationGracePeriodSeconds: 3600,
      serviceAccountName: user,
      automountServiceAccountToken: false,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: Number(user.slice(user.lastIndexOf('-') + 1)),
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          name: 'main',
          image: 'xtreemos.io/busybox:1',
          imagePullPolicy: 'Never',
          command: ['/bin/sh', '-c', serve],
          securityContext,
        },
      ],
    },
  });
}

/** A pod of somebody who has nothing to do with virtual organizations. */
function neighbour(node: string): object {
  const pod = JSON.parse(podOf('neighbour', 'somebody-1000', node)) as { metadata: object; spec: object };
  return {
    ...pod,
    metadata: { name: 'neighbour', namespace: outside },
    spec: { ...pod.spec, serviceAccountName: 'default', terminationGracePeriodSeconds: 0 },
  };
}

async function runAs(vo: string, userName: string, pod: string, node?: string): Promise<void> {
  const made = await asMember(vo, userName, ['create', '-f', '-'], podOf(pod, userName, node));
  expect([made.stderr, made.status]).toEqual(['', 0]);
  await waitPods(site, `vo-${vo}`, pod);
}

describe('forming', () => {
  test('a user whom the owner of the site lets, forms one; without the word of the site nothing is made', async () => {
    await site.kubectl([
      'create',
      'clusterrole',
      'vo-founder',
      '--verb=create,get,list',
      '--resource=virtualorganizations.xtreemos.io',
    ]);
    await site.kubectl(['create', 'clusterrolebinding', 'vo-founders', '--clusterrole=vo-founder', '--user=alice']);
    await form('physics', { state: 'Operational', quota: { memory: '2Gi' } });
    await reason('physics', 'Ready', 'NotAccepted');
    expect((await site.tryKubectl(['get', 'namespace', 'vo-physics'])).status).not.toBe(0);
    const told = await as('alice', [
      'get',
      'vo',
      'physics',
      '-o',
      'jsonpath={.status.conditions[?(@.type=="Ready")].message}',
    ]);
    expect(told.stdout).toContain('spec.local.acceptedVirtualOrganizations');
  });

  test('accepted, it has its namespace, and kubectl shows it', async () => {
    await accept({ name: 'physics', limits: { cpu: 2 } });
    await reason('physics', 'Ready', 'Operational');
    expect((await as('alice', ['get', 'vo'])).stdout).toMatch(/^physics +Operational +True +Operational/m);
    const quota = await site.get<{ spec: { hard: Record<string, string> } }>('quota', 'tenancy', '-n', 'vo-physics');
    expect(quota.spec.hard).toMatchObject({ 'requests.cpu': '2', 'limits.memory': '2Gi' });
  });

  test('its administrator makes members, whose pods run under issued ids and no others', async () => {
    const alice = await join('physics', 'alice');
    await runAs('physics', alice, `${alice}-first`);
    const { stdout } = await site.exec('vo-physics', `${alice}-first`, 'id -u');
    expect(alice).toMatch(new RegExp(`-${stdout.trim()}$`));
  });
});

describe('rights (threats 56, 57)', () => {
  test.each([
    [
      'label the namespace',
      ['label', 'namespace', 'vo-physics', 'pod-security.kubernetes.io/enforce=privileged', '--overwrite'],
    ],
    ['bind roles', ['create', 'rolebinding', 'x', '-n', 'vo-physics', '--clusterrole=admin', '--user=alice']],
    ['bind roles of the cluster', ['create', 'clusterrolebinding', 'x', '--clusterrole=cluster-admin', '--user=alice']],
    ['read Secrets', ['get', 'secrets', '-n', 'vo-physics']],
    ['open the network', ['delete', 'networkpolicy', 'default-deny', '-n', 'vo-physics']],
    ['raise the quota', ['delete', 'quota', 'tenancy', '-n', 'vo-physics']],
    ['make tokens', ['create', 'token', 'default', '-n', 'vo-physics']],
    [
      'change the word of the site',
      ['patch', 'site', 'home', '--type=merge', '-p', '{"spec":{"local":{"isolation":[]}}}'],
    ],
    ['delete the object, which would go round governance', ['delete', 'vo', 'physics']],
    ['look elsewhere', ['get', 'pods', '-n', system]],
    ['be refused by webhooks of their own', ['create', '-f', '-']],
  ])('an administrator can not %s', async (what, args) => {
    const webhook = JSON.stringify({
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingWebhookConfiguration',
      metadata: { name: 'x' },
    });
    const { status, stderr } = await as('alice', args, what.includes('webhooks') ? webhook : undefined);
    expect(status).not.toBe(0);
    expect(stderr).toContain('forbidden');
  });

  test('a status is for the operator alone', async () => {
    const patch = [
      'patch',
      'vo',
      'physics',
      '--subresource=status',
      '--type=merge',
      '-p',
      '{"status":{"state":"Dissolved"}}',
    ];
    expect((await as('alice', patch)).stderr).toContain('forbidden');
  });
});

describe('the network (threat 13)', () => {
  const targets = new Map<string, string>();
  let user: string;
  let probe: string;

  beforeAll(async () => {
    const node = site.nodes[0]!;
    user = await account('physics', 'alice');
    probe = `${user}-probe`;
    // The owner of the site puts servers where clouds have theirs, and a neighbour without any policy.
    const addresses = `ip addr add ${metadataService}/32 dev lo; ip addr add ${farServer}/32 dev lo; sleep 1; echo up; while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nok' | nc -l -p 8099; done`;
    const container = {
      name: 'main',
      image: 'xtreemos.io/busybox:1',
      imagePullPolicy: 'Never',
      command: ['/bin/sh', '-c', addresses],
    };
    await site.apply([
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'servers', namespace: outside },
        spec: {
          hostNetwork: true,
          terminationGracePeriodSeconds: 0,
          nodeSelector: { 'kubernetes.io/hostname': node },
          containers: [{ ...container, securityContext: { capabilities: { add: ['NET_ADMIN'] } } }],
        },
      },
      neighbour(node),
    ]);
    await waitPods(site, outside, 'servers', 'neighbour');
    await form('chemistry', { state: 'Operational' });
    await accept({ name: 'physics' }, { name: 'chemistry' });
    await reason('chemistry', 'Ready', 'Operational');
    const other = await join('chemistry', 'alice');
    await runAs('chemistry', other, `${other}-other`, node);
    await runAs('physics', user, probe, node);
    await runAs('physics', user, `${user}-sister`, node);
    const internal = await site.get<{ status: { addresses: { type: string; address: string }[] } }>('node', node);
    const address = internal.status.addresses.find(({ type }) => type === 'InternalIP')!.address;
    targets.set('the kubelet', `${address} 10250`);
    targets.set('the API server', 'kubernetes.default.svc.cluster.local 443');
    targets.set('the metadata service', `${metadataService} 8099`);
    // The sites of the tests give nodes no pod range of their own: the owner names it (site.reservedRanges).
    targets.set('a pod without policies', `${await podAddress(site, outside, 'neighbour')} 8080`);
    targets.set(
      'a pod of another virtual organization',
      `${await podAddress(site, 'vo-chemistry', `${other}-other`)} 8080`,
    );
    targets.set('a sister pod', `${await podAddress(site, 'vo-physics', `${user}-sister`)} 8080`);
    targets.set('some server', `${farServer} 8099`);
  });

  afterAll(async () => {
    const undo = `ip addr del ${metadataService}/32 dev lo; ip addr del ${farServer}/32 dev lo`;
    await site.exec(outside, 'servers', undo);
  });

  const connects = async (namespace: string, pod: string, target: string): Promise<boolean> =>
    (await site.exec(namespace, pod, `timeout 3 nc -w 2 ${target} </dev/null >/dev/null`)).status === 0;
  const nowhere = [
    'the kubelet',
    'the API server',
    'the metadata service',
    'a pod without policies',
    'a pod of another virtual organization',
  ];

  test('there is something to keep away from: a pod without policies reaches all but the pods of virtual organizations', async () => {
    for (const name of ['the kubelet', 'the API server', 'the metadata service', 'some server'])
      expect([name, await connects(outside, 'neighbour', targets.get(name)!)]).toEqual([name, true]);
    for (const name of ['a pod of another virtual organization', 'a sister pod'])
      expect([name, await connects(outside, 'neighbour', targets.get(name)!)]).toEqual([name, false]);
  });

  test('by default a pod reaches nothing but DNS', async () => {
    for (const [name, target] of targets)
      expect([name, await connects('vo-physics', probe, target)]).toEqual([name, false]);
    const dns = await site.exec('vo-physics', probe, 'timeout 10 nslookup kubernetes.default.svc.cluster.local');
    expect(dns.status).toBe(0);
  });

  test('what is declared opens, and even the whole world leaves out what belongs to the site', async () => {
    const network = {
      internal: true,
      egress: [
        { name: 'world', cidr: '0.0.0.0/0' },
        { name: 'cheat', cidr: `${metadataService}/32` },
      ],
    };
    const patched = await as('alice', [
      'patch',
      'vo',
      'physics',
      '--type=merge',
      '-p',
      JSON.stringify({ spec: { network } }),
    ]);
    expect([patched.stderr, patched.status]).toEqual(['', 0]);
    const vo = await reason('physics', 'TenancyReady', 'EgressRefused');
    expect(vo.status?.conditions?.find(({ type }) => type === 'TenancyReady')?.message).toContain('cheat');
    await waitFor('some server is reached', async () => connects('vo-physics', probe, targets.get('some server')!));
    await waitFor('the sister pod is reached', async () =>
      canReach(site, 'vo-physics', probe, targets.get('a sister pod')!.replace(' ', ':')),
    );
    for (const name of nowhere)
      expect([name, await connects('vo-physics', probe, targets.get(name)!)]).toEqual([name, false]);
  });
});

describe('the word of the site', () => {
  test('freezing stops new work and keeps what runs', async () => {
    const user = await account('physics', 'alice');
    await as('alice', ['patch', 'vo', 'physics', '--type=merge', '-p', '{"spec":{"state":"Frozen"}}']);
    await reason('physics', 'Ready', 'Frozen');
    const late = await asMember('physics', user, ['create', '-f', '-'], podOf(`${user}-late`, user));
    expect(late.status).not.toBe(0);
    expect((await site.exec('vo-physics', `${user}-first`, 'true')).status).toBe(0);
    await as('alice', ['patch', 'vo', 'physics', '--type=merge', '-p', '{"spec":{"state":"Operational"}}']);
    await reason('physics', 'Ready', 'Operational');
  });

  test('cut, everything of it has ended within a minute, and nothing in it can change that; ids and data are kept', async () => {
    const before = await site.get<VOMembership>('vom', 'alice', '-n', 'vo-physics');
    const user = await account('physics', 'alice');
    const startedAt = Date.now();
    await accept({ name: 'chemistry' });
    await waitFor('its pods are gone', async () => {
      return (await site.get<{ items: object[] }>('pods', '-n', 'vo-physics')).items.length === 0;
    });
    expect(Date.now() - startedAt).toBeLessThan(60_000);
    await reason('physics', 'Accepted', 'Cut');
    expect((await site.tryKubectl(['get', 'serviceaccount', user, '-n', 'vo-physics'])).status).not.toBe(0);
    const patched = await as('alice', [
      'patch',
      'vo',
      'physics',
      '--type=merge',
      '-p',
      '{"spec":{"quota":{"cpu":64}}}',
    ]);
    expect(patched.status).toBe(0);
    await reason('physics', 'Ready', 'NotAccepted');
    expect((await as('alice', ['run', 'x', '--image=xtreemos.io/busybox:1', '-n', 'vo-physics'])).status).not.toBe(0);

    await accept({ name: 'physics' }, { name: 'chemistry' });
    await reason('physics', 'Ready', 'Operational');
    expect(await account('physics', 'alice')).toBe(user);
    const after = await site.get<VOMembership>('vom', 'alice', '-n', 'vo-physics');
    expect(after.spec.identity).toEqual(before.spec.identity);
    await runAs('physics', user, `${user}-back`);
  });
});

describe('the end', () => {
  test('a namespace that is not its own is never taken over (threat 68)', async () => {
    await site.kubectl(['create', 'namespace', 'vo-biology']);
    try {
      await form('biology');
      await accept({ name: 'physics' }, { name: 'chemistry' }, { name: 'biology' });
      await reason('biology', 'TenancyReady', 'NamespaceTaken');
      await site.kubectl(['delete', 'vo', 'biology', '--timeout=60s']);
      expect((await site.tryKubectl(['get', 'namespace', 'vo-biology'])).status).toBe(0);
    } finally {
      await site.kubectl(['delete', 'namespace', 'vo-biology', '--wait=false']);
    }
  });

  test('dissolved by its administrator, it leaves a signed receipt and nothing else (threat 66)', async () => {
    const asked = await as('alice', [
      'patch',
      'vo',
      'physics',
      '--type=merge',
      '-p',
      '{"spec":{"dissolution":{"data":"Erase"}}}',
    ]);
    expect([asked.stderr, asked.status]).toEqual(['', 0]);
    const vo = await reason('physics', 'Dissolved', 'Complete', 120_000);
    const receipt = readReceipt(vo.status?.sites?.[0]?.receipt ?? '');
    expect(receipt).toMatchObject({ vo: { name: 'physics' }, site: 'home', data: 'Erase' });
    expect(receipt.removed).toEqual(expect.arrayContaining([{ resource: 'vomemberships.xtreemos.io', count: 1 }]));
    expect(receipt.slices.length).toBe(1);
    await expectNothingLeft('physics');
  });

  test('an object that the owner of the site deletes is dissolved first', async () => {
    await site.kubectl(['delete', 'vo', 'chemistry', '--timeout=120s'], { timeoutMs: 130_000 });
    await expectNothingLeft('chemistry');
  });

  test('the same name formed again has nothing of the old (threat 68)', async () => {
    const old = (await site.get<VirtualOrganization>('vo', 'physics')).status?.slices;
    await site.kubectl(['delete', 'vo', 'physics', '--timeout=60s']);
    await form('physics', { state: 'Operational' });
    await reason('physics', 'Ready', 'Operational');
    expect((await site.get<{ items: object[] }>('vom', '-n', 'vo-physics')).items).toEqual([]);
    const slices = await waitFor(
      'it has a slice',
      async () => (await site.get<VirtualOrganization>('vo', 'physics')).status?.slices,
    );
    expect(slices).not.toEqual(old);
  });

  async function expectNothingLeft(name: string): Promise<void> {
    expect((await site.tryKubectl(['get', 'namespace', `vo-${name}`])).status).not.toBe(0);
    const everything = 'pods,serviceaccounts,rolebindings,configmaps,networkpolicies,resourcequotas,vom';
    expect(
      JSON.parse((await site.tryKubectl(['get', everything, '-n', `vo-${name}`, '-o', 'json'])).stdout),
    ).toMatchObject({ items: [] });
    const rbac = await site.kubectl(['get', 'clusterroles,clusterrolebindings', '-o', 'name']);
    expect(rbac).not.toContain(`xtreemos:vo:${name}`);
  }
});

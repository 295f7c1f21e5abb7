/** A virtual organization from its forming to its end on a real site, by plain kubectl: the owner of the site, an administrator, two members. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { readReceipt } from '#operator/identity/testing/authority-compliance.ts';
import { waitFor } from '#sites/harness.ts';
import { networkCases } from './network.cases.ts';
import { podOf, system, TenancyScene } from './tenancy-scene.ts';

jest.setTimeout(180_000);
const scene = new TenancyScene();
beforeAll(async () => scene.start(), 400_000);
afterAll(async () => scene.stop());

describe('forming', () => {
  test('a user whom the owner of the site lets, forms one; without the word of the site nothing is made', async () => {
    await scene.site.kubectl([
      'create',
      'clusterrole',
      'vo-founder',
      '--verb=create,get,list',
      '--resource=virtualorganizations.xtreemos.io',
    ]);
    await scene.site.kubectl([
      'create',
      'clusterrolebinding',
      'vo-founders',
      '--clusterrole=vo-founder',
      '--user=alice',
    ]);
    await scene.form('physics', { state: 'Operational', quota: { memory: '2Gi' } });
    await scene.reason('physics', 'Ready', 'NotAccepted');
    expect((await scene.site.tryKubectl(['get', 'namespace', 'vo-physics'])).status).not.toBe(0);
    const told = await scene.as('alice', [
      'get',
      'vo',
      'physics',
      '-o',
      'jsonpath={.status.conditions[?(@.type=="Ready")].message}',
    ]);
    expect(told.stdout).toContain('spec.local.acceptedVirtualOrganizations');
  });

  test('accepted, it has its namespace, and kubectl shows it', async () => {
    await scene.accept({ name: 'physics', limits: { cpu: 2 } });
    await scene.reason('physics', 'Ready', 'Operational');
    expect((await scene.as('alice', ['get', 'vo'])).stdout).toMatch(/^physics +Operational +True +Operational/m);
    const quota = await scene.site.get<{ spec: { hard: Record<string, string> } }>(
      'quota',
      'tenancy',
      '-n',
      'vo-physics',
    );
    expect(quota.spec.hard).toMatchObject({ 'requests.cpu': '2', 'limits.memory': '2Gi' });
  });

  test('its administrator makes members, whose pods run under issued ids and no others', async () => {
    const alice = await scene.join('physics', 'alice');
    await scene.runAs('physics', alice, `${alice}-first`);
    const { stdout } = await scene.site.exec('vo-physics', `${alice}-first`, 'id -u');
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
    const { status, stderr } = await scene.as('alice', args, what.includes('webhooks') ? webhook : undefined);
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
    expect((await scene.as('alice', patch)).stderr).toContain('forbidden');
  });
});

networkCases(scene);

describe('the word of the site', () => {
  test('freezing stops new work and keeps what runs', async () => {
    const user = await scene.account('physics', 'alice');
    await scene.as('alice', ['patch', 'vo', 'physics', '--type=merge', '-p', '{"spec":{"state":"Frozen"}}']);
    await scene.reason('physics', 'Ready', 'Frozen');
    const late = await scene.asMember('physics', user, ['create', '-f', '-'], podOf(`${user}-late`, user));
    expect(late.status).not.toBe(0);
    expect((await scene.site.exec('vo-physics', `${user}-first`, 'true')).status).toBe(0);
    await scene.as('alice', ['patch', 'vo', 'physics', '--type=merge', '-p', '{"spec":{"state":"Operational"}}']);
    await scene.reason('physics', 'Ready', 'Operational');
  });

  test('cut, everything of it has ended within a minute, and nothing in it can change that; ids and data are kept', async () => {
    const before = await scene.site.get<VOMembership>('vom', 'alice', '-n', 'vo-physics');
    const user = await scene.account('physics', 'alice');
    const startedAt = Date.now();
    await scene.accept({ name: 'chemistry' });
    await waitFor('its pods are gone', async () => {
      return (await scene.site.get<{ items: object[] }>('pods', '-n', 'vo-physics')).items.length === 0;
    });
    expect(Date.now() - startedAt).toBeLessThan(60_000);
    await scene.reason('physics', 'Accepted', 'Cut');
    expect((await scene.site.tryKubectl(['get', 'serviceaccount', user, '-n', 'vo-physics'])).status).not.toBe(0);
    const patched = await scene.as('alice', [
      'patch',
      'vo',
      'physics',
      '--type=merge',
      '-p',
      '{"spec":{"quota":{"cpu":64}}}',
    ]);
    expect(patched.status).toBe(0);
    await scene.reason('physics', 'Ready', 'NotAccepted');
    expect(
      (await scene.as('alice', ['run', 'x', '--image=xtreemos.io/busybox:1', '-n', 'vo-physics'])).status,
    ).not.toBe(0);

    await scene.accept({ name: 'physics' }, { name: 'chemistry' });
    await scene.reason('physics', 'Ready', 'Operational');
    expect(await scene.account('physics', 'alice')).toBe(user);
    const after = await scene.site.get<VOMembership>('vom', 'alice', '-n', 'vo-physics');
    expect(after.spec.identity).toEqual(before.spec.identity);
    await scene.runAs('physics', user, `${user}-back`);
  });
});

describe('the end', () => {
  test('a namespace that is not its own is never taken over (threat 68)', async () => {
    await scene.site.kubectl(['create', 'namespace', 'vo-biology']);
    try {
      await scene.form('biology');
      await scene.accept({ name: 'physics' }, { name: 'chemistry' }, { name: 'biology' });
      await scene.reason('biology', 'TenancyReady', 'NamespaceTaken');
      await scene.site.kubectl(['delete', 'vo', 'biology', '--timeout=60s']);
      expect((await scene.site.tryKubectl(['get', 'namespace', 'vo-biology'])).status).toBe(0);
    } finally {
      await scene.site.kubectl(['delete', 'namespace', 'vo-biology', '--wait=false']);
    }
  });

  test('dissolved by its administrator, it leaves a signed receipt and nothing else (threat 66)', async () => {
    const asked = await scene.as('alice', [
      'patch',
      'vo',
      'physics',
      '--type=merge',
      '-p',
      '{"spec":{"dissolution":{"data":"Erase"}}}',
    ]);
    expect([asked.stderr, asked.status]).toEqual(['', 0]);
    const vo = await scene.reason('physics', 'Dissolved', 'Complete', 120_000);
    const receipt = readReceipt(vo.status?.sites?.[0]?.receipt ?? '');
    expect(receipt).toMatchObject({ vo: { name: 'physics' }, site: 'home', data: 'Erase' });
    expect(receipt.removed).toEqual(expect.arrayContaining([{ resource: 'vomemberships.xtreemos.io', count: 1 }]));
    expect(receipt.slices.length).toBe(1);
    await expectNothingLeft('physics');
  });

  test('an object that the owner of the site deletes is dissolved first', async () => {
    await scene.site.kubectl(['delete', 'vo', 'chemistry', '--timeout=120s'], { timeoutMs: 130_000 });
    await expectNothingLeft('chemistry');
  });

  test('the same name formed again has nothing of the old (threat 68)', async () => {
    const old = (await scene.site.get<VirtualOrganization>('vo', 'physics')).status?.slices;
    await scene.site.kubectl(['delete', 'vo', 'physics', '--timeout=60s']);
    await scene.form('physics', { state: 'Operational' });
    await scene.reason('physics', 'Ready', 'Operational');
    expect((await scene.site.get<{ items: object[] }>('vom', '-n', 'vo-physics')).items).toEqual([]);
    const slices = await waitFor(
      'it has a slice',
      async () => (await scene.site.get<VirtualOrganization>('vo', 'physics')).status?.slices,
    );
    expect(slices).not.toEqual(old);
  });

  async function expectNothingLeft(name: string): Promise<void> {
    expect((await scene.site.tryKubectl(['get', 'namespace', `vo-${name}`])).status).not.toBe(0);
    const everything = 'pods,serviceaccounts,rolebindings,configmaps,networkpolicies,resourcequotas,vom';
    expect(
      JSON.parse((await scene.site.tryKubectl(['get', everything, '-n', `vo-${name}`, '-o', 'json'])).stdout),
    ).toMatchObject({ items: [] });
    const rbac = await scene.site.kubectl(['get', 'clusterroles,clusterrolebindings', '-o', 'name']);
    expect(rbac).not.toContain(`xtreemos:vo:${name}`);
  }
});

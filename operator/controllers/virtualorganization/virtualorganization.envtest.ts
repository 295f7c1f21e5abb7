/** The controller of VirtualOrganizations against a real API server with the real namespace and garbage collectors. No node: pods never run. */
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { waitFor } from '#sites/kube-client.ts';
import type { RunningOperator } from './testing/bench.ts';
import { alice, codeOf, inNamespace, organizations, root, World } from './testing/world.ts';

jest.setTimeout(90_000);

const bob = { issuer: 'kubernetes:home', subject: 'bob' };
let world: World;
let operator: RunningOperator;

beforeAll(async () => {
  world = await World.open('tenancy');
  operator = world.start();
}, 600_000);

afterAll(async () => world.close());

afterEach(() => world.expectNothingForbidden());

describe('forming', () => {
  test('a virtual organization that the site does not accept gets nothing, and is told what to do', async () => {
    const { metadata } = await world.form();
    const vo = await world.reason(metadata.name, 'Ready', 'NotAccepted');
    expect(vo.status?.conditions?.find(({ type }) => type === 'Accepted')?.message).toContain(
      'adds {name: vo1} to spec.local.acceptedVirtualOrganizations of Site home',
    );
    expect(await world.bench.client.find('/api/v1/namespaces/vo-vo1')).toBeUndefined();
  });

  test('an accepted one gets its namespace with limits, closed network and rights', async () => {
    const { metadata } = await world.form({ quota: { cpu: 8, memory: '4Gi' }, network: { internal: true } });
    const { name, uid } = metadata;
    await world.accept({ name, limits: { cpu: 4, storage: '1Ti' } });
    const vo = await world.reason(name, 'Ready', 'Operational');
    expect(vo.status).toMatchObject({ state: 'Operational', sites: [{ name: 'home', accepted: true }] });
    const namespace = await world.bench.client.json('GET', `/api/v1/namespaces/vo-${name}`);
    expect(namespace.metadata).toMatchObject({
      labels: {
        'xtreemos.io/virtual-organization': name,
        'pod-security.kubernetes.io/enforce': 'restricted',
        'xtreemos.io/isolation': 'Namespace',
      },
      ownerReferences: [{ kind: 'VirtualOrganization', uid, controller: true }],
    });
    expect(await world.hard(name)).toMatchObject({
      'requests.cpu': '4',
      'limits.memory': '4Gi',
      'requests.storage': '1Ti',
    });
    const { items } = await world.bench.client.list(`/apis/networking.k8s.io/v1/namespaces/vo-${name}/networkpolicies`);
    expect(items.map((each) => each.metadata?.name)).toEqual([
      'allow-dns',
      'allow-internal',
      'default-deny',
      'grid-access',
    ]);
    const account = await world.bench.client.json('GET', inNamespace(name, 'serviceaccounts/default'));
    expect(account).toMatchObject({ automountServiceAccountToken: false });
  });

  test('a namespace that was there before is never taken over (threat 68)', async () => {
    const name = `vo${world.count + 1}`;
    await world.create('/api/v1/namespaces', {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: `vo-${name}`, labels: { 'xtreemos.io/virtual-organization': name, mine: 'yes' } },
    });
    await world.accept({ name });
    await world.form();
    const vo = await world.reason(name, 'TenancyReady', 'NamespaceTaken');
    expect(vo.status?.conditions?.find(({ type }) => type === 'Ready')).toMatchObject({
      status: 'False',
      reason: 'NotSetUp',
    });
    const { metadata } = await world.bench.client.json('GET', `/api/v1/namespaces/vo-${name}`);
    expect(metadata).not.toHaveProperty('ownerReferences');
    const { items } = await world.bench.client.list(inNamespace(name, 'resourcequotas'));
    expect(items).toEqual([]);
    // Its end leaves the namespace alone as well.
    await world.bench.client.json('DELETE', `${organizations}/${name}`);
    await waitFor('it is gone', async () => (await world.read(name)) === undefined);
    expect((await world.bench.client.json('GET', `/api/v1/namespaces/vo-${name}`)).metadata).not.toHaveProperty(
      'deletionTimestamp',
    );
  });

  test('an isolation that the site does not offer leaves it without a namespace', async () => {
    const name = `vo${world.count + 1}`;
    await world.accept({ name });
    await world.form({ isolation: { minimum: 'DedicatedNode' } });
    const vo = await world.reason(name, 'TenancyReady', 'IsolationNotOffered');
    expect(vo.status?.conditions?.find(({ type }) => type === 'Ready')?.message).toContain('the site offers Namespace');
    expect(await world.bench.client.find(`/api/v1/namespaces/vo-${name}`)).toBeUndefined();
  });
});

describe('where the operator found that NetworkPolicy is not enforced (threat 13)', () => {
  const found = async (status: string, reason: string): Promise<void> => {
    const lastTransitionTime = '2026-01-01T00:00:00Z';
    const condition = { type: 'NetworkIsolated', status, reason, message: 'as the test says', lastTransitionTime };
    await world.patch(`${root}/sites/home/status`, { status: { conditions: [condition] } });
  };
  const offer = async (networkIsolation: string): Promise<void> => {
    await world.patch(`${root}/sites/home`, { spec: { local: { networkIsolation } } });
  };
  let old: string;
  let late: string;

  beforeAll(async () => {
    old = (await world.form()).metadata.name;
    await world.accept({ name: old });
    await world.reason(old, 'Ready', 'Operational');
    await found('False', 'NotEnforced');
    late = (await world.form()).metadata.name;
    await world.accept({ name: old }, { name: late });
  });

  afterAll(async () => {
    await found('True', 'Enforced');
    await offer('Offered');
  });

  test('one that is new gets no namespace, and is told why and what helps', async () => {
    const vo = await world.reason(late, 'TenancyReady', 'NetworkNotIsolated');
    const ready = vo.status?.conditions?.find(({ type }) => type === 'Ready');
    expect(ready).toMatchObject({ status: 'False', reason: 'NotSetUp' });
    expect(ready?.message).toMatch(/does not enforce NetworkPolicy.*networkIsolation: NotOffered/);
    expect(await world.bench.client.find(`/api/v1/namespaces/vo-${late}`)).toBeUndefined();
  });

  test('one that was there keeps what it has, and starts nothing new', async () => {
    await world.reason(old, 'TenancyReady', 'NetworkNotIsolated');
    await waitFor('its quota is closed', async () => (await world.hard(old)).pods === '0');
    expect(await world.bench.client.find(`/api/v1/namespaces/vo-${old}`)).toBeDefined();
  });

  test('what is not known is not held against it', async () => {
    await found('Unknown', 'Inconclusive');
    await world.reason(late, 'TenancyReady', 'SetUp');
    await found('False', 'NotEnforced');
    await world.reason(late, 'TenancyReady', 'NetworkNotIsolated');
  });

  test('all of it opens when the owner of the site accepts it, and is told', async () => {
    await offer('NotOffered');
    for (const name of [old, late]) {
      const vo = await world.reason(name, 'TenancyReady', 'NetworkOpen');
      expect(vo.status?.conditions?.find(({ type }) => type === 'Ready')?.reason).toBe('Operational');
      await waitFor('its quota is open', async () => (await world.hard(name)).pods !== '0');
    }
  });
});

describe('while it lives', () => {
  let name: string;
  beforeAll(async () => {
    name = (await world.form()).metadata.name;
    await world.accept({ name });
    await world.reason(name, 'Ready', 'Operational');
  });

  test('what is changed or removed by others comes back', async () => {
    const policy = `/apis/networking.k8s.io/v1/namespaces/vo-${name}/networkpolicies/default-deny`;
    await world.bench.client.json('DELETE', policy);
    await world.patch(inNamespace(name, 'resourcequotas/tenancy'), { spec: { hard: { pods: '999999' } } });
    const owners = `/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/xtreemos:vo:${name}`;
    await world.patch(owners, { subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'mallory' }] });
    await waitFor('the policy is back', async () => world.bench.client.find(policy));
    await waitFor('the quota is back', async () => (await world.hard(name)).pods === '5k');
    await waitFor('the owners are back', async () =>
      JSON.stringify((await world.bench.client.json('GET', owners)).subjects).includes('alice'),
    );
  });

  test('its owners have their own object and namespace, and nothing that would lead further (threat 56)', async () => {
    const may = async (user: string, verb: string, resource: string, at: object = {}): Promise<boolean> => {
      const [plural, group = ''] = resource.split(/\.(.*)/s);
      const resourceAttributes = { verb, group, resource: plural, ...at };
      const body = {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SubjectAccessReview',
        spec: { user, resourceAttributes },
      };
      const answer = await world.create('/apis/authorization.k8s.io/v1/subjectaccessreviews', body);
      return (answer.status as { allowed: boolean }).allowed;
    };
    const inside = { namespace: `vo-${name}` };
    const own = { name };
    await waitFor('alice has rights', async () => may('alice', 'patch', 'virtualorganizations.xtreemos.io', own));
    expect(await may('alice', 'create', 'vomemberships.xtreemos.io', inside)).toBe(true);
    expect(await may('alice', 'create', 'pods', inside)).toBe(true);
    const refused: readonly (readonly [string, string, object])[] = [
      ['delete', 'virtualorganizations.xtreemos.io', own],
      ['patch', 'virtualorganizations.xtreemos.io', { name: 'another' }],
      ['patch', 'virtualorganizations.xtreemos.io', { ...own, subresource: 'status' }],
      ['patch', 'sites.xtreemos.io', { name: 'home' }],
      ['patch', 'namespaces', { name: `vo-${name}`, namespace: `vo-${name}` }],
      ['delete', 'namespaces', { name: `vo-${name}`, namespace: `vo-${name}` }],
      ['create', 'rolebindings.rbac.authorization.k8s.io', inside],
      ['create', 'roles.rbac.authorization.k8s.io', inside],
      ['create', 'clusterrolebindings.rbac.authorization.k8s.io', {}],
      ['create', 'networkpolicies.networking.k8s.io', inside],
      ['patch', 'resourcequotas', inside],
      ['patch', 'limitranges', inside],
      ['create', 'mutatingwebhookconfigurations.admissionregistration.k8s.io', {}],
      ['create', 'validatingadmissionpolicybindings.admissionregistration.k8s.io', {}],
      ['get', 'secrets', inside],
      ['list', 'secrets', inside],
      ['create', 'serviceaccounts', { ...inside, subresource: 'token' }],
      ['impersonate', 'serviceaccounts', inside],
      ['create', 'pods', { namespace: 'default' }],
    ];
    for (const [verb, resource, at] of refused)
      expect([verb, resource, await may('alice', verb, resource, at)]).toEqual([verb, resource, false]);
    expect(await may('mallory', 'patch', 'virtualorganizations.xtreemos.io', own)).toBe(false);
  });

  test('a change of the status by others, and a quiet hour, cost no write', async () => {
    const before = operator.writes.length;
    await world.bench.client.json('PATCH', `${organizations}/${name}/status`, {
      body: { status: { members: { active: 3, requested: 0, suspended: 0, expired: 0, banned: 0 } } },
      contentType: 'application/merge-patch+json',
    });
    await world.patch(`${root}/sites/home`, { metadata: { annotations: { touched: 'yes' } } });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(operator.writes.slice(before)).toEqual([]);
    expect((await world.read(name))?.status?.members?.active).toBe(3);
  });

  test('a change costs the same number of requests with many members as with none', async () => {
    const cost = async (description: string): Promise<number> => {
      const before = operator.requests();
      await world.patch(`${organizations}/${name}`, { spec: { description } });
      await world.reason(name, 'Ready', 'Operational');
      await new Promise((resolve) => setTimeout(resolve, 500));
      return operator.requests() - before;
    };
    await cost('first');
    const alone = await cost('second');
    for (let i = 0; i < 100; i++) {
      await world.create(`${root}/namespaces/vo-${name}/vomemberships`, {
        apiVersion: 'xtreemos.io/v1alpha1',
        kind: 'VOMembership',
        metadata: { name: `m${i}` },
        spec: { principal: { issuer: 'https://idp.example.org', subject: String(i) } },
      });
    }
    expect(await cost('third')).toBe(alone);
    expect(alone).toBeLessThanOrEqual(3);
  });

  test('freezing stops new work and keeps what runs; it goes on afterwards', async () => {
    await world.createPod(name, 'running');
    await world.patch(`${organizations}/${name}`, { spec: { state: 'Frozen' } });
    const frozen = await world.reason(name, 'Ready', 'Frozen');
    expect(frozen.status?.state).toBe('Frozen');
    expect(await world.hard(name)).toMatchObject({ pods: '0', 'count/jobs.batch': '0' });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(
      await codeOf(
        world.create(inNamespace(name, 'pods'), {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: 'late' },
          spec: { containers: [{ name: 'main', image: 'x' }] },
        }),
      ),
    ).toBe(403);
    expect(await world.bench.client.find(inNamespace(name, 'pods/running'))).toBeDefined();
    await world.patch(`${organizations}/${name}`, { spec: { state: 'Operational' } });
    await world.reason(name, 'Ready', 'Operational');
    expect(await world.hard(name)).toMatchObject({ pods: '5k' });
  });

  test('cut by the site, everything of it ends at once and is kept; accepted again, it goes on', async () => {
    await world.create(inNamespace(name, 'serviceaccounts'), {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'u-carol-2013266944', labels: { 'xtreemos.io/member': 'true' } },
    });
    await world.accept();
    const cut = await world.reason(name, 'Accepted', 'Cut');
    expect(cut.status?.sites?.[0]).toMatchObject({ accepted: false, state: 'Cut' });
    await waitFor(
      'its pods are gone',
      async () => (await world.bench.client.list(inNamespace(name, 'pods'))).items.length === 0,
    );
    expect(await world.hard(name)).toMatchObject({ pods: '0', 'requests.storage': '0' });
    expect(await world.bench.client.find(inNamespace(name, 'serviceaccounts/u-carol-2013266944'))).toBeUndefined();
    // What its owner says doesn't help.
    await world.patch(`${organizations}/${name}`, { spec: { quota: { cpu: 64 } } });
    await world.reason(name, 'Ready', 'NotAccepted');
    expect(await world.hard(name)).toMatchObject({ pods: '0' });
    await world.accept({ name });
    await world.reason(name, 'Ready', 'Operational');
    const { items } = await world.bench.client.list(`${root}/namespaces/vo-${name}/vomemberships`);
    expect(items.length).toBe(100);
  });
});

describe('governance (threat 67)', () => {
  const both = { administrators: [alice, bob], governance: { secondAdministrator: true, delaySeconds: 2 } };

  async function formed(spec: object): Promise<string> {
    const { name } = (await world.form(spec)).metadata;
    await world.accept({ name });
    await world.reason(name, 'Ready', 'Operational');
    return name;
  }

  test('one administrator alone dissolves nothing, and the request can be withdrawn', async () => {
    const name = await formed(both);
    await world.patch(`${organizations}/${name}`, { spec: { dissolution: { data: 'Erase', requestedBy: 'alice' } } });
    await world.reason(name, 'Dissolved', 'AwaitingApproval');
    expect(await codeOf(world.patch(`${organizations}/${name}`, { spec: { state: 'Dissolved' } }))).toBe(422);
    expect(
      await codeOf(world.patch(`${organizations}/${name}`, { spec: { dissolution: { approvedBy: 'alice' } } })),
    ).toBe(422);
    await world.patch(`${organizations}/${name}`, { spec: { dissolution: { approvedBy: 'mallory' } } });
    await world.reason(name, 'Dissolved', 'AwaitingApproval');
    await world.patch(`${organizations}/${name}`, { spec: { dissolution: null } });
    const vo = await world.reason(name, 'Dissolved', 'NotRequested');
    expect(vo.status?.state).toBe('Operational');
  });

  test('two administrators dissolve it after the delay, which every change starts anew', async () => {
    const name = await formed(both);
    await world.patch(`${organizations}/${name}`, {
      spec: { dissolution: { data: 'Erase', requestedBy: 'alice', approvedBy: 'bob' } },
    });
    await world.reason(name, 'Dissolved', 'Delayed');
    await world.patch(`${organizations}/${name}`, { spec: { dissolution: null } });
    await world.reason(name, 'Dissolved', 'NotRequested');
    const startedAt = Date.now();
    await world.patch(`${organizations}/${name}`, {
      spec: { dissolution: { data: 'Erase', requestedBy: 'alice', approvedBy: 'bob' } },
    });
    await world.reason(name, 'Dissolved', 'Complete');
    // Times in the status are whole seconds.
    expect(Date.now() - startedAt).toBeGreaterThan(1000);
    expect((await world.read(name))?.spec.state).toBe('Dissolved');
  });

  test('an administrator is removed only with the consent of another, and never the last', async () => {
    const name = await formed({ ...both, governance: { secondAdministrator: true } });
    const object = `${organizations}/${name}`;
    expect(await codeOf(world.patch(object, { spec: { administrators: [alice] } }))).toBe(422);
    expect(await codeOf(world.patch(object, { spec: { administrators: [] } }))).toBe(422);
    await world.patch(object, { spec: { administrators: [alice, { ...bob, removal: { requestedBy: 'alice' } }] } });
    await world.reason(name, 'Ready', 'Operational');
    expect((await world.read(name))?.spec.administrators.length).toBe(2);
    await world.patch(object, {
      spec: { administrators: [alice, { ...bob, removal: { requestedBy: 'alice', approvedBy: 'bob' } }] },
    });
    await waitFor('bob is gone', async () => (await world.read(name))?.spec.administrators.length === 1);
    await world.patch(object, { spec: { administrators: [{ ...alice, removal: { requestedBy: 'alice' } }] } });
    await world.reason(name, 'Ready', 'Operational');
    expect((await world.read(name))?.spec.administrators.map(({ subject }) => subject)).toEqual(['alice']);
  });
});

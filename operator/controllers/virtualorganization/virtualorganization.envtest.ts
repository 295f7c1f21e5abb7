/** The controller of VirtualOrganizations against a real API server with the real namespace and garbage collectors. No node: pods never run. */
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { readReceipt } from '#operator/identity/testing/authority-compliance.ts';
import type { Stored } from '#runtime/types.ts';
import { type KubeObject, KubeStatusError, waitFor } from '#sites/kube-client.ts';
import { Bench, type Killer, type RunningOperator } from './testing/bench.ts';

jest.setTimeout(90_000);

const root = '/apis/xtreemos.io/v1alpha1';
const organizations = `${root}/virtualorganizations`;
const merge = 'application/merge-patch+json';
const alice = { issuer: 'kubernetes:home', subject: 'alice' };
const bob = { issuer: 'kubernetes:home', subject: 'bob' };

let bench: Bench;
let operator: RunningOperator;
let count = 0;
const started: RunningOperator[] = [];

beforeAll(async () => {
  bench = await Bench.open('tenancy');
  await create(`${root}/sites`, {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'Site',
    metadata: { name: 'home' },
    spec: { type: 'Local', local: { isolation: ['Namespace'] } },
  });
  operator = start();
}, 600_000);

afterAll(async () => {
  for (const each of started) await each.stop();
  await bench.close();
});

afterEach(() => {
  for (const each of started) expect(each.log()).not.toMatch(/forbidden|is not allowed|attempting to grant/i);
});

function start(killer?: Killer): RunningOperator {
  const running = bench.start(killer);
  started.push(running);
  return running;
}

const create = async (at: string, body: object): Promise<KubeObject> => bench.client.json('POST', at, { body });
const patch = async (at: string, body: object): Promise<KubeObject> =>
  bench.client.json('PATCH', at, { body, contentType: merge });

async function codeOf(request: Promise<unknown>): Promise<number> {
  return request.then(
    () => 200,
    (error: unknown) => (error instanceof KubeStatusError ? error.code : 0),
  );
}

/** Accepts exactly these virtual organizations. */
async function accept(...accepted: object[]): Promise<void> {
  await patch(`${root}/sites/home`, { spec: { local: { acceptedVirtualOrganizations: accepted } } });
}

/** Forms a virtual organization of a new name. */
async function form(spec: object = {}, name = `vo${++count}`): Promise<Stored<VirtualOrganization>> {
  const made = await create(organizations, {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'VirtualOrganization',
    metadata: { name },
    spec: { administrators: [alice], state: 'Operational', ...spec },
  });
  return made as unknown as Stored<VirtualOrganization>;
}

const read = async (name: string): Promise<Stored<VirtualOrganization> | undefined> =>
  (await bench.client.find(`${organizations}/${name}`)) as unknown as Stored<VirtualOrganization> | undefined;

/** Waits until a condition has a reason that was computed from the spec as it stands. */
async function reason(name: string, type: string, wanted: string): Promise<Stored<VirtualOrganization>> {
  return waitFor(
    `${type} of ${name} is ${wanted}`,
    async () => {
      const vo = await read(name);
      const found = vo?.status?.conditions?.find((each) => each.type === type);
      const isCurrent = found?.observedGeneration === vo?.metadata.generation;
      return isCurrent && found?.reason === wanted ? vo : undefined;
    },
    { limitMs: 30_000 },
  );
}

const inNamespace = (name: string, resource: string): string => `/api/v1/namespaces/vo-${name}/${resource}`;

async function hard(name: string): Promise<Record<string, string>> {
  const quota = await bench.client.json('GET', inNamespace(name, 'resourcequotas/tenancy'));
  return (quota.spec as { hard: Record<string, string> }).hard;
}

/** A pod that was admitted; nothing runs it. */
async function createPod(name: string, pod: string): Promise<KubeObject> {
  // The quota controller has to have counted first.
  return waitFor(`pod ${pod} is admitted`, async () =>
    create(inNamespace(name, 'pods'), {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: pod },
      spec: {
        securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
        containers: [
          {
            name: 'main',
            image: 'example.org/none',
            securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          },
        ],
      },
    }),
  );
}

async function slice(number: number, vo: Stored<VirtualOrganization>): Promise<string> {
  const name = `slice-${String(number).padStart(4, '0')}`;
  const { name: organization, uid } = vo.metadata;
  await create(`${root}/identityslices`, {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'IdentitySlice',
    metadata: { name },
    spec: { number, virtualOrganization: { name: organization, uid } },
  });
  return `${root}/identityslices/${name}`;
}

describe('forming', () => {
  test('a virtual organization that the site does not accept gets nothing, and is told what to do', async () => {
    const { metadata } = await form();
    const vo = await reason(metadata.name, 'Ready', 'NotAccepted');
    expect(vo.status?.conditions?.find(({ type }) => type === 'Accepted')?.message).toContain(
      'adds {name: vo1} to spec.local.acceptedVirtualOrganizations of Site home',
    );
    expect(await bench.client.find('/api/v1/namespaces/vo-vo1')).toBeUndefined();
  });

  test('an accepted one gets its namespace with limits, closed network and rights', async () => {
    const { metadata } = await form({ quota: { cpu: 8, memory: '4Gi' }, network: { internal: true } });
    const { name, uid } = metadata;
    await accept({ name, limits: { cpu: 4, storage: '1Ti' } });
    const vo = await reason(name, 'Ready', 'Operational');
    expect(vo.status).toMatchObject({ state: 'Operational', sites: [{ name: 'home', accepted: true }] });
    const namespace = await bench.client.json('GET', `/api/v1/namespaces/vo-${name}`);
    expect(namespace.metadata).toMatchObject({
      labels: {
        'xtreemos.io/virtual-organization': name,
        'pod-security.kubernetes.io/enforce': 'restricted',
        'xtreemos.io/isolation': 'Namespace',
      },
      ownerReferences: [{ kind: 'VirtualOrganization', uid, controller: true }],
    });
    expect(await hard(name)).toMatchObject({ 'requests.cpu': '4', 'limits.memory': '4Gi', 'requests.storage': '1Ti' });
    const { items } = await bench.client.list(`/apis/networking.k8s.io/v1/namespaces/vo-${name}/networkpolicies`);
    expect(items.map((each) => each.metadata?.name)).toEqual(['allow-dns', 'allow-internal', 'default-deny']);
    const account = await bench.client.json('GET', inNamespace(name, 'serviceaccounts/default'));
    expect(account).toMatchObject({ automountServiceAccountToken: false });
  });

  test('a namespace that was there before is never taken over (threat 68)', async () => {
    const name = `vo${count + 1}`;
    await create('/api/v1/namespaces', {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: `vo-${name}`, labels: { 'xtreemos.io/virtual-organization': name, mine: 'yes' } },
    });
    await accept({ name });
    await form();
    const vo = await reason(name, 'TenancyReady', 'NamespaceTaken');
    expect(vo.status?.conditions?.find(({ type }) => type === 'Ready')).toMatchObject({
      status: 'False',
      reason: 'NotSetUp',
    });
    const { metadata } = await bench.client.json('GET', `/api/v1/namespaces/vo-${name}`);
    expect(metadata).not.toHaveProperty('ownerReferences');
    const { items } = await bench.client.list(inNamespace(name, 'resourcequotas'));
    expect(items).toEqual([]);
    // Its end leaves the namespace alone as well.
    await bench.client.json('DELETE', `${organizations}/${name}`);
    await waitFor('it is gone', async () => (await read(name)) === undefined);
    expect((await bench.client.json('GET', `/api/v1/namespaces/vo-${name}`)).metadata).not.toHaveProperty(
      'deletionTimestamp',
    );
  });

  test('an isolation that the site does not offer leaves it without a namespace', async () => {
    const name = `vo${count + 1}`;
    await accept({ name });
    await form({ isolation: { minimum: 'DedicatedNode' } });
    const vo = await reason(name, 'TenancyReady', 'IsolationNotOffered');
    expect(vo.status?.conditions?.find(({ type }) => type === 'Ready')?.message).toContain('the site offers Namespace');
    expect(await bench.client.find(`/api/v1/namespaces/vo-${name}`)).toBeUndefined();
  });
});

describe('while it lives', () => {
  let name: string;
  beforeAll(async () => {
    name = (await form()).metadata.name;
    await accept({ name });
    await reason(name, 'Ready', 'Operational');
  });

  test('what is changed or removed by others comes back', async () => {
    const policy = `/apis/networking.k8s.io/v1/namespaces/vo-${name}/networkpolicies/default-deny`;
    await bench.client.json('DELETE', policy);
    await patch(inNamespace(name, 'resourcequotas/tenancy'), { spec: { hard: { pods: '999999' } } });
    const owners = `/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/xtreemos:vo:${name}`;
    await patch(owners, { subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'mallory' }] });
    await waitFor('the policy is back', async () => bench.client.find(policy));
    await waitFor('the quota is back', async () => (await hard(name)).pods === '5k');
    await waitFor('the owners are back', async () =>
      JSON.stringify((await bench.client.json('GET', owners)).subjects).includes('alice'),
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
      const answer = await create('/apis/authorization.k8s.io/v1/subjectaccessreviews', body);
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
    await bench.client.json('PATCH', `${organizations}/${name}/status`, {
      body: { status: { members: { active: 3, requested: 0, suspended: 0, expired: 0, banned: 0 } } },
      contentType: merge,
    });
    await patch(`${root}/sites/home`, { metadata: { annotations: { touched: 'yes' } } });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(operator.writes.slice(before)).toEqual([]);
    expect((await read(name))?.status?.members?.active).toBe(3);
  });

  test('a change costs the same number of requests with many members as with none', async () => {
    const cost = async (description: string): Promise<number> => {
      const before = operator.requests();
      await patch(`${organizations}/${name}`, { spec: { description } });
      await reason(name, 'Ready', 'Operational');
      await new Promise((resolve) => setTimeout(resolve, 500));
      return operator.requests() - before;
    };
    await cost('first');
    const alone = await cost('second');
    for (let i = 0; i < 100; i++) {
      await create(`${root}/namespaces/vo-${name}/vomemberships`, {
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
    await createPod(name, 'running');
    await patch(`${organizations}/${name}`, { spec: { state: 'Frozen' } });
    const frozen = await reason(name, 'Ready', 'Frozen');
    expect(frozen.status?.state).toBe('Frozen');
    expect(await hard(name)).toMatchObject({ pods: '0', 'count/jobs.batch': '0' });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(
      await codeOf(
        create(inNamespace(name, 'pods'), {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: 'late' },
          spec: { containers: [{ name: 'main', image: 'x' }] },
        }),
      ),
    ).toBe(403);
    expect(await bench.client.find(inNamespace(name, 'pods/running'))).toBeDefined();
    await patch(`${organizations}/${name}`, { spec: { state: 'Operational' } });
    await reason(name, 'Ready', 'Operational');
    expect(await hard(name)).toMatchObject({ pods: '5k' });
  });

  test('cut by the site, everything of it ends at once and is kept; accepted again, it goes on', async () => {
    await create(inNamespace(name, 'serviceaccounts'), {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'u-carol-2013266944', labels: { 'xtreemos.io/member': 'true' } },
    });
    await accept();
    const cut = await reason(name, 'Accepted', 'Cut');
    expect(cut.status?.sites?.[0]).toMatchObject({ accepted: false, state: 'Cut' });
    await waitFor(
      'its pods are gone',
      async () => (await bench.client.list(inNamespace(name, 'pods'))).items.length === 0,
    );
    expect(await hard(name)).toMatchObject({ pods: '0', 'requests.storage': '0' });
    expect(await bench.client.find(inNamespace(name, 'serviceaccounts/u-carol-2013266944'))).toBeUndefined();
    // What its owner says doesn't help.
    await patch(`${organizations}/${name}`, { spec: { quota: { cpu: 64 } } });
    await reason(name, 'Ready', 'NotAccepted');
    expect(await hard(name)).toMatchObject({ pods: '0' });
    await accept({ name });
    await reason(name, 'Ready', 'Operational');
    const { items } = await bench.client.list(`${root}/namespaces/vo-${name}/vomemberships`);
    expect(items.length).toBe(100);
  });
});

describe('governance (threat 67)', () => {
  const both = { administrators: [alice, bob], governance: { secondAdministrator: true, delaySeconds: 2 } };

  async function formed(spec: object): Promise<string> {
    const { name } = (await form(spec)).metadata;
    await accept({ name });
    await reason(name, 'Ready', 'Operational');
    return name;
  }

  test('one administrator alone dissolves nothing, and the request can be withdrawn', async () => {
    const name = await formed(both);
    await patch(`${organizations}/${name}`, { spec: { dissolution: { data: 'Erase', requestedBy: 'alice' } } });
    await reason(name, 'Dissolved', 'AwaitingApproval');
    expect(await codeOf(patch(`${organizations}/${name}`, { spec: { state: 'Dissolved' } }))).toBe(422);
    expect(await codeOf(patch(`${organizations}/${name}`, { spec: { dissolution: { approvedBy: 'alice' } } }))).toBe(
      422,
    );
    await patch(`${organizations}/${name}`, { spec: { dissolution: { approvedBy: 'mallory' } } });
    await reason(name, 'Dissolved', 'AwaitingApproval');
    await patch(`${organizations}/${name}`, { spec: { dissolution: null } });
    const vo = await reason(name, 'Dissolved', 'NotRequested');
    expect(vo.status?.state).toBe('Operational');
  });

  test('two administrators dissolve it after the delay, which every change starts anew', async () => {
    const name = await formed(both);
    await patch(`${organizations}/${name}`, {
      spec: { dissolution: { data: 'Erase', requestedBy: 'alice', approvedBy: 'bob' } },
    });
    await reason(name, 'Dissolved', 'Delayed');
    await patch(`${organizations}/${name}`, { spec: { dissolution: null } });
    await reason(name, 'Dissolved', 'NotRequested');
    const startedAt = Date.now();
    await patch(`${organizations}/${name}`, {
      spec: { dissolution: { data: 'Erase', requestedBy: 'alice', approvedBy: 'bob' } },
    });
    await reason(name, 'Dissolved', 'Complete');
    // Times in the status are whole seconds.
    expect(Date.now() - startedAt).toBeGreaterThan(1000);
    expect((await read(name))?.spec.state).toBe('Dissolved');
  });

  test('an administrator is removed only with the consent of another, and never the last', async () => {
    const name = await formed({ ...both, governance: { secondAdministrator: true } });
    const object = `${organizations}/${name}`;
    expect(await codeOf(patch(object, { spec: { administrators: [alice] } }))).toBe(422);
    expect(await codeOf(patch(object, { spec: { administrators: [] } }))).toBe(422);
    await patch(object, { spec: { administrators: [alice, { ...bob, removal: { requestedBy: 'alice' } }] } });
    await reason(name, 'Ready', 'Operational');
    expect((await read(name))?.spec.administrators.length).toBe(2);
    await patch(object, {
      spec: { administrators: [alice, { ...bob, removal: { requestedBy: 'alice', approvedBy: 'bob' } }] },
    });
    await waitFor('bob is gone', async () => (await read(name))?.spec.administrators.length === 1);
    await patch(object, { spec: { administrators: [{ ...alice, removal: { requestedBy: 'alice' } }] } });
    await reason(name, 'Ready', 'Operational');
    expect((await read(name))?.spec.administrators.map(({ subject }) => subject)).toEqual(['alice']);
  });
});

describe('dissolving', () => {
  /** A virtual organization with a pod, an account and a slice. */
  async function full(
    number: number,
    spec: object = {},
  ): Promise<{ vo: Stored<VirtualOrganization>; slicePath: string }> {
    const vo = await form(spec);
    bench.authority.found(vo);
    const { name } = vo.metadata;
    await accept({ name });
    await reason(name, 'Ready', 'Operational');
    await createPod(name, 'work');
    await create(inNamespace(name, 'serviceaccounts'), {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'u-carol-2013266944', labels: { 'xtreemos.io/member': 'true' } },
    });
    return { vo, slicePath: await slice(number, vo) };
  }

  async function expectNothingLeft(name: string): Promise<void> {
    expect(await bench.client.find(`/api/v1/namespaces/vo-${name}`)).toBeUndefined();
    for (const kind of ['clusterroles', 'clusterrolebindings'])
      expect(await bench.client.find(`/apis/rbac.authorization.k8s.io/v1/${kind}/xtreemos:vo:${name}`)).toBeUndefined();
  }

  test('leaves nothing but a tombstone with a signed receipt, and the same name gets nothing of it (threats 66, 68)', async () => {
    const { vo, slicePath } = await full(1);
    const { name, uid } = vo.metadata;
    await patch(`${organizations}/${name}`, { spec: { dissolution: { data: 'Erase', requestedBy: 'alice' } } });
    const done = await reason(name, 'Dissolved', 'Complete');
    expect(done.status).toMatchObject({ state: 'Dissolved' });
    await expectNothingLeft(name);
    const receipt = done.status?.sites?.[0]?.receipt ?? '';
    expect(readReceipt(receipt)).toMatchObject({
      vo: { name, uid },
      site: 'home',
      data: 'Erase',
      slices: [1],
      removed: expect.arrayContaining([
        { resource: 'pods', count: 1 },
        { resource: 'serviceaccounts', count: 1 },
      ]),
    });
    const tombstone = await bench.client.json('GET', slicePath);
    expect(tombstone.spec).toMatchObject({ state: 'Retired', virtualOrganization: { uid } });
    expect(JSON.stringify(tombstone.metadata)).toContain(receipt);
    await expect(bench.authority.signReceipt(vo, readReceipt(receipt))).rejects.toThrow('gone');

    await bench.client.json('DELETE', `${organizations}/${name}`);
    await waitFor('the object is gone', async () => (await read(name)) === undefined);
    const again = await form({}, name);
    await reason(name, 'Ready', 'Operational');
    expect(again.metadata.uid).not.toBe(uid);
    expect((await bench.client.list(inNamespace(name, 'pods'))).items).toEqual([]);
    const accounts = (await bench.client.list(inNamespace(name, 'serviceaccounts'))).items;
    expect(accounts.map((each) => each.metadata?.name)).toEqual(['default']);
    expect((await bench.client.json('GET', slicePath)).spec).toMatchObject({
      state: 'Retired',
      virtualOrganization: { uid },
    });
  });

  test('an object that is deleted is dissolved first, and says so; its volumes are set aside', async () => {
    const { vo, slicePath } = await full(2);
    const { name } = vo.metadata;
    await bench.client.json('DELETE', `${organizations}/${name}`);
    await waitFor('the object is gone', async () => (await read(name)) === undefined, { limitMs: 30_000 });
    await expectNothingLeft(name);
    const { metadata } = await bench.client.json('GET', slicePath);
    const annotations = (metadata as { annotations: Record<string, string> }).annotations;
    expect(readReceipt(annotations['xtreemos.io/dissolution-receipt'] ?? '').data).toBe('Export');
    const { items } = await bench.client.list('/apis/events.k8s.io/v1/namespaces/default/events');
    const ours = items.filter((each) => (each.regarding as { name: string }).name === name);
    expect(ours.map((each) => each.reason)).toEqual(expect.arrayContaining(['Deleting', 'Complete']));
  });

  test.each(['Erase', 'Export'] as const)(
    '%s: volumes are told what becomes of them before their claims go',
    async (data) => {
      const { vo } = await full(data === 'Erase' ? 3 : 4);
      const { name } = vo.metadata;
      const volume = `volume-${name}`;
      await create('/api/v1/persistentvolumes', {
        apiVersion: 'v1',
        kind: 'PersistentVolume',
        metadata: { name: volume },
        spec: {
          capacity: { storage: '1Gi' },
          accessModes: ['ReadWriteOnce'],
          persistentVolumeReclaimPolicy: 'Retain',
          claimRef: { namespace: `vo-${name}`, name: 'data' },
          csi: { driver: 'none.example.org', volumeHandle: name },
          storageClassName: '',
        },
      });
      await create(inNamespace(name, 'persistentvolumeclaims'), {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: 'data' },
        spec: {
          accessModes: ['ReadWriteOnce'],
          resources: { requests: { storage: '1Gi' } },
          storageClassName: '',
          volumeName: volume,
        },
      });
      await waitFor('the claim is bound', async () => {
        const claim = await bench.client.json('GET', inNamespace(name, 'persistentvolumeclaims/data'));
        return (claim.status as { phase: string }).phase === 'Bound';
      });
      await patch(`${organizations}/${name}`, { spec: { dissolution: { data } } });
      if (data === 'Erase') {
        // No provisioner of that name runs here: the owner of the site is told which volume waits for it.
        const waiting = await reason(name, 'Dissolved', 'ClearingData');
        expect(waiting.status?.dissolution?.volumes).toEqual([{ name: volume, claim: 'data', size: '1Gi' }]);
        const found = await bench.client.json('GET', `/api/v1/persistentvolumes/${volume}`);
        expect(found.spec).toMatchObject({ persistentVolumeReclaimPolicy: 'Delete' });
        await patch(`/api/v1/persistentvolumes/${volume}`, { metadata: { finalizers: null } });
        await bench.client.json('DELETE', `/api/v1/persistentvolumes/${volume}`);
      }
      const done = await reason(name, 'Dissolved', 'Complete');
      expect(readReceipt(done.status?.sites?.[0]?.receipt ?? '').volumes[0]?.name).toBe(volume);
      const left = await bench.client.find(`/api/v1/persistentvolumes/${volume}`);
      if (data === 'Erase') expect(left).toBeUndefined();
      else {
        expect(left?.spec).toMatchObject({ persistentVolumeReclaimPolicy: 'Retain' });
        expect(left?.metadata?.labels).toMatchObject({ 'xtreemos.io/exported-from': name });
      }
    },
  );

  test.each(['before', 'after'] as const)(
    'goes on where it was when the operator is killed %s each of its steps',
    async (moment) => {
      const { vo, slicePath } = await full(moment === 'before' ? 10 : 11);
      const { name } = vo.metadata;
      await operator.stop();
      const seen = new Set<string>();
      const killer: Killer = (write) => {
        const what = write
          .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'T')
          .replace(/"resourceVersion":"\d+"/, '')
          .replace(/eyJ[\w.-]+/g, 'JWS');
        if (seen.has(what)) return undefined;
        seen.add(what);
        return moment;
      };
      await bench.client.json('DELETE', `${organizations}/${name}`);
      let deaths = 0;
      for (; deaths < 100; deaths++) {
        const mortal = bench.start(killer);
        const gone = waitFor('it is gone', async () => (await read(name)) === undefined, {
          limitMs: 20_000,
          pauseMs: 50,
        });
        const end = await Promise.race([mortal.killed.then(() => 'killed'), gone.then(() => 'gone')]);
        gone.catch(() => undefined);
        await mortal.stop();
        if (end === 'gone' && (await read(name)) === undefined) break;
      }
      expect(deaths).toBeGreaterThan(8);
      await expectNothingLeft(name);
      const { spec, metadata } = await bench.client.json('GET', slicePath);
      expect(spec).toMatchObject({ state: 'Retired' });
      const annotations = (metadata as { annotations: Record<string, string> }).annotations;
      expect(readReceipt(annotations['xtreemos.io/dissolution-receipt'] ?? '')).toMatchObject({
        vo: { name },
        removed: expect.arrayContaining([{ resource: 'pods', count: 1 }]),
      });
      operator = start();
    },
  );
});

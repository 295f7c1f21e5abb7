/** Who may write what in the namespace of a virtual organization, with the controllers of Kubernetes at work and no operator. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { type KubeObject, waitFor } from '#sites/kube-client.ts';
import {
  accounts,
  aPod,
  completeSpec,
  namespace,
  type Organization,
  type Person,
  pods,
  refusal,
  startOrganization,
  workloads,
} from './testing/organization.ts';

jest.setTimeout(90_000);
let organization: Organization;
const configMaps = `/api/v1/namespaces/${namespace}/configmaps`;
const jobs = `/apis/batch/v1/namespaces/${namespace}/jobs`;

beforeAll(async () => {
  organization = await startOrganization({ name: 'tenants', withControllers: true });
  const alice = organization.as('alice');
  for (const name of ['hers', `${accounts.alice}-web`]) await alice.json('POST', pods(), { body: aPod(name) });
  await alice.json('POST', configMaps, { body: { metadata: { name: 'hers' }, data: { a: 'b' } } });
  for (const [kind, at, build] of workloads.slice(1)) {
    await alice.json('POST', at, { body: build(`hers-${kind.toLowerCase()}`, {}) });
  }
}, 120_000);
afterAll(async () => organization.stop());

/** What is said of entering a pod; it has no dry run. Without nodes nothing is entered. */
async function enters(person: Person, pod: string, way: string): Promise<string> {
  return organization
    .as(person)
    .text('POST', `${pods(pod)}/${way}`)
    .catch((error: unknown) => (error as Error).message);
}

const says = async (person: Person, method: string, at: string, body?: unknown): Promise<string> =>
  refusal(organization.as(person), at, body, method);

describe('threat 9: what XtreemOS writes', () => {
  test.each<[string, string, object]>([
    ['a label', 'labels', { 'xtreemos.io/vo': 'chemistry' }],
    ['the label of the owner', 'labels', { 'xtreemos.io/owner': accounts.bob }],
    ['a label of a part', 'labels', { 'jobs.xtreemos.io/x': 'y' }],
    ['an annotation', 'annotations', { 'xtreemos.io/uid': '0' }],
  ])('%s is not for members', async (_, field, value) => {
    const refused = /metadata\.(labels|annotations).*xtreemos\.io.*|names u-bob/;
    expect(await says('alice', 'POST', pods(), aPod('x', {}, { [field]: value }))).toMatch(refused);
    expect(await says('alice', 'POST', configMaps, { metadata: { name: 'x', [field]: value } })).toMatch(refused);
    expect(await says('alice', 'PATCH', pods('hers'), { metadata: { [field]: value } })).toMatch(refused);
    const template = { metadata: { labels: { app: 'x' }, [field]: { app: 'x', ...value } } };
    const job = {
      metadata: { name: 'x' },
      spec: { template: { ...template, spec: aPod('x', { restartPolicy: 'Never' }).spec } },
    };
    expect(await says('alice', 'POST', jobs, job)).toMatch(/metadata\.\w+: .*xtreemos\.io|names u-bob/);
  });

  test.each([
    'k8s.v1.cni.cncf.io/networks',
    'io.kubernetes.cri-o.Devices',
    'io.katacontainers.config.x',
    'kubernetes.io/config.mirror',
  ])('nor is the annotation %s on a pod', async (key) => {
    expect(await says('alice', 'POST', pods(), aPod('x', {}, { annotations: { [key]: 'x' } }))).toMatch(
      /metadata\.annotations: |mirror pod/,
    );
  });

  test('but own labels and annotations are', async () => {
    const own = {
      labels: { app: 'x', 'example.org/a': 'b' },
      annotations: { note: 'x', 'kubectl.kubernetes.io/default-container': 'main' },
    };
    expect(await says('alice', 'POST', pods(), aPod('x', {}, own))).toBe('');
  });
});

describe('threat 10: a member', () => {
  const owner = { apiVersion: 'v1', kind: 'Pod', name: 'hers', uid: '00000000-0000-0000-0000-000000000000' };
  test.each<[string, object, RegExp]>([
    ['can not forge an owner', { ownerReferences: [owner] }, /metadata\.ownerReferences: .*controllers only/],
    [
      'can not keep an object by a finalizer',
      { finalizers: ['example.org/mine'] },
      /metadata\.finalizers: .*controllers only/,
    ],
  ])('%s', async (_, metadata, message) => {
    expect(await says('alice', 'POST', pods(), aPod('x', {}, metadata))).toMatch(message);
    expect(await says('alice', 'PATCH', pods('hers'), { metadata })).toMatch(message);
    expect(await says('alice', 'POST', configMaps, { metadata: { name: 'x', ...metadata } })).toMatch(message);
  });

  test('can not free a pod from the accounting of its Job', async () => {
    const name = await podOf('hers-job');
    expect(await says('alice', 'PATCH', pods(name), { metadata: { finalizers: null } })).toMatch(
      /metadata\.finalizers/,
    );
  });
});

async function podOf(prefix: string): Promise<string> {
  return waitFor('the controller made its pod', async () => {
    const { items } = await organization.admin.list(pods());
    return items.find((pod) => pod.metadata?.name?.startsWith(`${prefix}-`))?.metadata?.name;
  });
}

test.each(['job', 'deployment', 'replicaset', 'statefulset', 'replicationcontroller'])(
  'a pod that a %s of a member makes runs as the member',
  async (kind) => {
    const pod = await organization.admin.json('GET', pods(await podOf(`hers-${kind}`)));
    const { serviceAccountName, automountServiceAccountToken, securityContext } = completeSpec(accounts.alice);
    expect(pod.spec).toMatchObject({ serviceAccountName, automountServiceAccountToken, securityContext });
    expect(JSON.stringify(pod)).not.toContain('serviceAccountToken');
  },
);

test('a Deployment settles: what is filled in is the same in its ReplicaSet', async () => {
  const at = `/apis/apps/v1/namespaces/${namespace}/replicasets`;
  const count = async (): Promise<number> =>
    (await organization.admin.list(at)).items.filter((set) => set.metadata?.name?.startsWith('hers-deployment-'))
      .length;
  await podOf('hers-deployment');
  expect(await count()).toBe(1);
});

describe('threat 12: what belongs to another member', () => {
  const connects = ['exec?command=ls&stdout=true', 'attach?stdout=true', 'portforward', 'proxy'];
  test.each(connects)('can not be entered by %s', async (way) => {
    expect(await enters('bob', 'hers', way)).toMatch(/pods\/\w+: .*hers|pods\/proxy/);
    expect(await enters('bob', `${accounts.alice}-web`, way)).toMatch(/pods\/\w+: /);
  });

  test.each(connects.slice(0, 3))(
    'can be entered by its owner by %s when it bears the name, and by an administrator',
    async (way) => {
      const past = /does not have a host assigned|not running|upgrade|unable|Upgrade/;
      expect(await enters('alice', `${accounts.alice}-web`, way)).toMatch(past);
      expect(await enters('carol', 'hers', way)).toMatch(past);
    },
  );

  test.each(workloads.map(([kind, at]) => [kind, at] as const))(
    'can not be changed or deleted: a %s',
    async (kind, at) => {
      const one = `${at}/${kind === 'Pod' ? 'hers' : `hers-${kind.toLowerCase()}`}`;
      expect(await says('bob', 'DELETE', one)).toMatch(/belongs to u-alice.* and not u-bob/);
      expect(await says('bob', 'PATCH', one, { metadata: { labels: { a: 'b' } } })).toMatch(/belongs to u-alice/);
      expect(await says('dave', 'DELETE', one)).toMatch(/no member of the virtual organization|belongs to/);
      expect(await says('carol', 'DELETE', one)).toBe('');
      expect(await says('alice', 'PATCH', one, { metadata: { labels: { a: 'b' } } })).toBe('');
    },
  );

  test('can not be changed or deleted: a ConfigMap', async () => {
    expect(await says('bob', 'PATCH', `${configMaps}/hers`, { data: { a: 'c' } })).toMatch(/belongs to u-alice/);
    expect(await says('bob', 'DELETE', configMaps)).toMatch(/belongs to u-alice|belongs to nobody/);
    expect(await says('alice', 'DELETE', `${configMaps}/hers`)).toBe('');
  });

  test('can not be evicted, bound or scaled', async () => {
    const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: 'hers', namespace } };
    expect(await says('bob', 'POST', `${pods('hers')}/eviction`, eviction)).toMatch(
      /pods\/eviction: hers is not known to be yours/,
    );
    const binding = {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name: 'hers' },
      target: { kind: 'Node', name: 'n' },
    };
    expect(await says('alice', 'POST', `${pods('hers')}/binding`, binding)).toMatch(/pods\/binding: /);
    for (const kind of ['deployment', 'replicaset', 'statefulset']) {
      const at = `/apis/apps/v1/namespaces/${namespace}/${kind}s/hers-${kind}/scale`;
      expect(await says('bob', 'PATCH', at, { spec: { replicas: 2 } })).toMatch(
        /scale: hers-\w+ is not known to be yours/,
      );
    }
  });

  test('an administrator may stop it, but not change what runs', async () => {
    const at = `/apis/apps/v1/namespaces/${namespace}/deployments/hers-deployment`;
    expect(await says('carol', 'PATCH', at, { spec: { replicas: 0 } })).toBe('');
    const image = { spec: { template: { spec: { containers: [{ name: 'main', image: 'evil' }] } } } };
    expect(await says('carol', 'PATCH', at, image)).toMatch(/spec: of hers-deployment runs as u-alice.*only its owner/);
  });

  test('names of its account are kept for it', async () => {
    for (const name of [`${accounts.alice}-x`, accounts.alice, 'u-alice-20132', 'u-x']) {
      expect(await says('bob', 'POST', pods(), aPod(name))).toMatch(/metadata\.name: u-.*kept for accounts/);
      expect(await says('bob', 'POST', pods(), aPod('x', {}, { name: undefined, generateName: name }))).toMatch(
        /kept for accounts/,
      );
      expect(await says('bob', 'POST', configMaps, { metadata: { name } })).toMatch(/kept for accounts/);
    }
    expect(await says('bob', 'POST', jobs, workloads[1]![2](`${accounts.alice}-x`, {}))).toMatch(/kept for accounts/);
    expect(await says('bob', 'POST', pods(), aPod(`${accounts.bob}-x`))).toBe('');
    expect(await says('alice', 'POST', configMaps, { metadata: { name: `${accounts.alice}-account` } })).toMatch(
      /written by the operator/,
    );
  });
});

describe('threat 56: a member whom roles give too much', () => {
  const cluster = '/apis/rbac.authorization.k8s.io/v1/clusterroles';
  const object = (kind: string, rest: object = {}): object => ({ metadata: { name: 'x' }, kind, ...rest });
  test.each<[string, string, object]>([
    [
      'a NetworkPolicy',
      `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`,
      object('NetworkPolicy', { spec: { podSelector: {} } }),
    ],
    ['a Role', `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/roles`, object('Role', { rules: [] })],
    ['a ClusterRole', cluster, object('ClusterRole', { rules: [] })],
    ['a ServiceAccount', `/api/v1/namespaces/${namespace}/serviceaccounts`, object('ServiceAccount')],
    [
      'a token of another member',
      `/api/v1/namespaces/${namespace}/serviceaccounts/${accounts.bob}/token`,
      { spec: {} },
    ],
    ['a Secret', `/api/v1/namespaces/${namespace}/secrets`, object('Secret')],
    ['a quota', `/api/v1/namespaces/${namespace}/resourcequotas`, object('ResourceQuota')],
    [
      'a PodDisruptionBudget',
      `/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets`,
      object('PodDisruptionBudget', { spec: { minAvailable: 1, selector: {} } }),
    ],
    [
      'a DaemonSet',
      `/apis/apps/v1/namespaces/${namespace}/daemonsets`,
      object('DaemonSet', { spec: workloads.find(([kind]) => kind === 'ReplicaSet')![2]('x', {}).spec }),
    ],
    ['a namespace', '/api/v1/namespaces', object('Namespace')],
    [
      'a webhook',
      '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations',
      object('MutatingWebhookConfiguration'),
    ],
  ])('can not make %s', async (_, at, body) => {
    expect(await says('alice', 'POST', at, body)).toMatch(
      /xtreemos-tenants.*members of a virtual organization may not write this kind/,
    );
  });

  test('can not change its namespace', async () => {
    const body = { metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } } };
    expect(await says('carol', 'PATCH', `/api/v1/namespaces/${namespace}`, body)).toMatch(/may not write this kind/);
  });

  test.each<[string, object]>([
    ['type LoadBalancer', { type: 'LoadBalancer' }],
    ['type NodePort', { type: 'NodePort' }],
    ['type ExternalName', { type: 'ExternalName', externalName: 'example.org' }],
    ['addresses of others', { externalIPs: ['192.0.2.1'] }],
  ])('can not make a Service with %s', async (_, spec) => {
    const body = { metadata: { name: 'x' }, spec: { ports: [{ port: 80 }], ...spec } };
    expect(await says('alice', 'POST', `/api/v1/namespaces/${namespace}/services`, body)).toMatch(
      /spec: Service x of type/,
    );
  });

  test('can still ask what it may', async () => {
    const body = { spec: { resourceAttributes: { verb: 'get', resource: 'pods', namespace } } };
    expect(await says('alice', 'POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', body)).toBe('');
  });
});

describe('threat 60: what was judged', () => {
  const evil = {
    containers: [{ name: 'main', image: 'x', securityContext: { privileged: true, allowPrivilegeEscalation: true } }],
  };
  test.each(workloads.filter(([kind]) => !['Pod', 'Job'].includes(kind)))(
    'can not change afterwards: a %s',
    async (kind, at) => {
      const spec =
        kind === 'CronJob' ? { jobTemplate: { spec: { template: { spec: evil } } } } : { template: { spec: evil } };
      expect(await says('alice', 'PATCH', `${at}/hers-${kind.toLowerCase()}`, { spec })).toMatch(
        /container main: securityContext/,
      );
    },
  );

  test('a pod can not be given another scheduler, node or toleration', async () => {
    const tolerations = [{ operator: 'Exists' }];
    expect(await says('alice', 'PATCH', pods('hers'), { spec: { tolerations } })).toMatch(/tolerations/);
    const resize = { spec: { containers: [{ name: 'main', resources: { claims: [{ name: 'x' }] } }] } };
    expect(await says('alice', 'PATCH', `${pods('hers')}/resize`, resize)).not.toBe('');
  });
});

describe('an object of a member', () => {
  test('says whose it is', async () => {
    const stored = await organization
      .as('bob')
      .json('POST', `${configMaps}?dryRun=All`, { body: { metadata: { name: 'his' } } });
    expect(stored.metadata?.labels).toEqual({ 'xtreemos.io/owner': accounts.bob });
  });
  test('of a member of another virtual organization is refused', async () => {
    expect(await says('dave', 'POST', pods(), aPod('x'))).toMatch(
      /is no member of the virtual organization of namespace vo-physics|serviceAccountName: ("default"|names default)/,
    );
  });
  test('of the site owner runs as a member too, or is refused', async () => {
    const { admin } = organization;
    expect(await refusal(admin, pods(), aPod('x'))).toMatch(/serviceAccountName: "default"/);
    expect(await refusal(admin, pods(), aPod('x', completeSpec(accounts.bob)))).toBe('');
  });
});

describe('who has the last word', () => {
  const patch = async (at: string, spec: object): Promise<KubeObject> =>
    organization.admin.json('PATCH', `/apis/xtreemos.io/v1alpha1/${at}`, {
      body: { spec },
      contentType: 'application/merge-patch+json',
    });
  const accepted = async (names: readonly string[]): Promise<KubeObject> =>
    patch('sites/local', { local: { acceptedVirtualOrganizations: names.map((name) => ({ name })) } });

  test('the site: what it no longer accepts starts nothing', async () => {
    await accepted(['chemistry']);
    await waitFor(
      'it acts',
      async () =>
        (await says('alice', 'POST', pods(), aPod('x'))).includes('does not list physics: ask the owner of the site'),
      { limitMs: 5000 },
    );
    await accepted(['physics', 'chemistry']);
    await waitFor('it acts', async () => (await says('alice', 'POST', pods(), aPod('x'))) === '', { limitMs: 5000 });
  });

  test('the virtual organization: while it is Frozen its controllers start nothing either', async () => {
    await patch('virtualorganizations/physics', { state: 'Frozen' });
    await waitFor(
      'it acts',
      async () =>
        (await says('alice', 'POST', pods(), aPod('x'))).includes(
          'spec.state: of VirtualOrganization physics is Frozen and not Operational',
        ),
      { limitMs: 5000 },
    );
    const name = await podOf('hers-replicaset');
    await organization.as('alice').json('DELETE', `${pods(name)}?gracePeriodSeconds=0`);
    const events = `/api/v1/namespaces/${namespace}/events?fieldSelector=involvedObject.kind=ReplicaSet,reason=FailedCreate`;
    await waitFor(
      'the controller was refused',
      async () =>
        JSON.stringify((await organization.admin.list(events)).items).includes('is Frozen and not Operational'),
      { limitMs: 30_000 },
    );
    await patch('virtualorganizations/physics', { state: 'Operational' });
  });

  test('the least isolation that the virtual organization wants is kept', async () => {
    for (const [minimum, message] of [
      ['Sandbox', /less than Sandbox/],
      ['DedicatedNode', /less than DedicatedNode/],
    ] as const) {
      await patch('virtualorganizations/physics', { isolation: { minimum } });
      await waitFor('it acts', async () => message.test(await says('alice', 'POST', pods(), aPod('x'))), {
        limitMs: 5000,
      });
    }
    const dedicated = {
      nodeSelector: { 'xtreemos.io/dedicated-to': 'physics' },
      tolerations: [{ key: 'xtreemos.io/dedicated-to', value: 'physics', effect: 'NoSchedule' }],
    };
    expect(await says('alice', 'POST', pods(), aPod('x', dedicated))).toBe('');
    await patch('virtualorganizations/physics', { isolation: { minimum: 'Namespace' } });
  });
});

test('a refusal is in the audit log of the API server: who, what, which policy, why', async () => {
  await says('bob', 'DELETE', pods('hers'));
  const line = await waitFor('it is written', () =>
    readFileSync(organization.plane.auditLogPath, 'utf8')
      .split('\n')
      .findLast((each) => each.includes('validation_failure') && each.includes(accounts.bob)),
  );
  const event = JSON.parse(line) as {
    annotations: Record<string, string>;
    user: { username: string };
    responseStatus: { code: number };
  };
  expect(event).toMatchObject({
    user: { username: `system:serviceaccount:${namespace}:${accounts.bob}` },
    responseStatus: { code: 403 },
  });
  expect(event.annotations['validation.policy.admission.k8s.io/validation_failure']).toMatch(
    /belongs to u-alice.*"policy":"xtreemos-owners"/,
  );
});

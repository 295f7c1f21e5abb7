/** Two virtual organizations on a real API server, with members who may do far more by RBAC than any role of ours gives. For tests. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type AloneControlPlane, type NamedUser, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, type KubeObject, KubeStatusError, waitFor } from '#sites/kube-client.ts';
import { installCrds } from '../../testing/install.ts';
import { mutatingKind, policyObjects } from '../index.ts';
import { defaultSettings, mutatingObjects, type PolicyObject, validatingObjects } from '../policy.ts';

/** First id of the slice of `physics`, and of `chemistry`. */
export const [physicsBase, chemistryBase] = [2_013_265_920, 2_013_331_456];
/** Accounts. Alice is in group 2 of physics; Carol administrates it; Dave is of chemistry. */
export const accounts = {
  alice: `u-alice-${physicsBase + 1080}`,
  bob: `u-bob-${physicsBase + 1081}`,
  carol: `u-carol-${physicsBase + 1082}`,
  dave: `u-dave-${chemistryBase + 1080}`,
} as const;
/** Namespace of the virtual organization that Alice, Bob and Carol are in. */
export const namespace = 'vo-physics';

const rbac = 'rbac.authorization.k8s.io';
const every = ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete', 'deletecollection'];

/** Who asks. */
export type Person = keyof typeof accounts;

/** An API server with the policies, and clients of the members. */
export interface Organization {
  readonly plane: AloneControlPlane;
  /** The administrator of the site. */
  readonly admin: KubeClient;
  as(person: Person): KubeClient;
  stop(): Promise<void>;
}

/** How to start: `fills` is false where the API does not serve policies that fill in; `users` are further logins. */
export interface OrganizationOptions {
  readonly name: string;
  readonly fills?: boolean;
  readonly withControllers?: boolean;
  readonly users?: readonly NamedUser[];
}

/** Starts it. Nothing of the operator runs: what holds, holds without it. */
export async function startOrganization(options: OrganizationOptions): Promise<Organization> {
  const { name, fills = true, withControllers = false, users = [] } = options;
  const plane = await startControlPlane({
    dir: mkdtempSync(path.join(tmpdir(), `xtreemos-${name}-`)),
    name,
    withControllers,
    users,
  });
  const admin = new KubeClient(plane.credentials);
  await installCrds(admin);
  for (const object of objects()) await admin.apply(pathOf(object), object);
  await installPolicies(admin, fills);
  const clients = {} as Record<Person, KubeClient>;
  for (const [person, account] of Object.entries(accounts)) {
    const at = `/api/v1/namespaces/${namespaceOf(person as Person)}/serviceaccounts/${account}/token`;
    const { status } = await admin.json('POST', at, { body: { spec: { expirationSeconds: 3600 } } });
    clients[person as Person] = new KubeClient({ ...plane.credentials, token: status?.token as string });
  }
  return {
    plane,
    admin,
    as: (person) => clients[person],
    stop: async () => {
      for (const client of [admin, ...Object.values(clients)]) client.close();
      await plane.stop();
    },
  };
}

/** Installs the policies as the chart does, with the name of the operator that it has by default, and waits until they act. */
async function installPolicies(admin: KubeClient, fills: boolean): Promise<void> {
  const policies = [...policyObjects(defaultSettings).values()].flat();
  const wanted = policies.filter(({ kind }) => fills || !kind.startsWith(mutatingKind));
  for (const policy of wanted) await admin.apply(policyPath(policy), policy as unknown as KubeObject);
  await untilPoliciesAct(admin, fills);
}

/** Where a policy or binding is kept. */
export function policyPath({ kind, metadata }: PolicyObject): string {
  const plural = kind
    .toLowerCase()
    .replace(/policy$/, 'policies')
    .replace(/binding$/, 'bindings');
  return `/apis/admissionregistration.k8s.io/v1/${plural}/${metadata.name}`;
}

/**
 * Waits until all policies act. An API server takes up what it has heard of about once a second, so that for a moment it
 * may know some and not others. It hears of policies in the order in which they were written: once it knows the last ones,
 * made here to see that, it knows all.
 */
async function untilPoliciesAct(admin: KubeClient, fills: boolean): Promise<void> {
  const last = (name: string) => ({
    name,
    about: 'The last of the policies.',
    everywhere: true,
    resourceRules: [{ apiGroups: [''], apiVersions: ['v1'], resources: ['configmaps'], operations: ['CREATE'] }],
    conditions: [{ name: 'is-it', expression: `object.metadata.name == '${name}'` }],
  });
  const refuses = { ...last('last-refuses'), rules: [{ expression: 'false', messageExpression: "'it acts'" }] };
  const patches = ["[JSONPatch{op: 'add', path: '/data', value: {'it': 'acts'}}]"];
  const fillsIn = fills ? mutatingObjects({ ...last('last-fills'), patches }) : [];
  for (const policy of [...validatingObjects(refuses), ...fillsIn]) {
    await admin.apply(policyPath(policy), policy as unknown as KubeObject);
  }
  const at = '/api/v1/namespaces/default/configmaps';
  const fill = async (): Promise<boolean> => {
    const body = { metadata: { name: 'last-fills' } };
    return (await admin.json('POST', `${at}?dryRun=All`, { body })).data !== undefined;
  };
  await waitFor(
    'the policies act',
    async () =>
      (await refusal(admin, at, { metadata: { name: 'last-refuses' } })).includes('it acts') &&
      (!fills || (await fill())),
    { limitMs: 120_000 },
  );
}

/** Path of the pods of a namespace, or of one. */
export function pods(name?: string, where = namespace): string {
  return `/api/v1/namespaces/${where}/pods${name === undefined ? '' : `/${name}`}`;
}

/**
 * What the API server says of a request that it refuses; empty when it accepts it. Nothing is stored.
 * @throws what isn't an answer of the API server.
 */
export async function refusal(client: KubeClient, at: string, body: unknown, method = 'POST'): Promise<string> {
  try {
    const contentType = method === 'PATCH' ? { contentType: 'application/merge-patch+json' } : {};
    await client.json(method, `${at}${at.includes('?') ? '&' : '?'}dryRun=All`, {
      body,
      timeoutMs: 60_000,
      ...contentType,
    });
    return '';
  } catch (error) {
    if (error instanceof KubeStatusError) return error.message;
    throw error;
  }
}

/** A pod with one container. `spec` is laid over it. */
export function aPod(name: string, spec: Readonly<Record<string, unknown>> = {}, metadata: object = {}): KubeObject {
  const body = { containers: [{ name: 'main', image: 'xtreemos.io/busybox:1' }], ...spec };
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, ...metadata }, spec: body };
}

/** The spec of a pod as a member must write it where nothing is filled in. */
export function completeSpec(account: string): Record<string, unknown> {
  const uid = Number(account.slice(account.lastIndexOf('-') + 1));
  const gid = uid - (uid % 65_536);
  return {
    serviceAccountName: account,
    automountServiceAccountToken: false,
    securityContext: {
      runAsUser: uid,
      runAsGroup: gid,
      fsGroup: gid,
      supplementalGroupsPolicy: 'Strict',
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumes: [{ name: 'xtreemos-account', configMap: { name: `${account}-account` } }],
    containers: [completeContainer('main')],
  };
}

/** A container as a member must write it where nothing is filled in. */
export function completeContainer(name: string): Record<string, unknown> {
  return {
    name,
    image: 'xtreemos.io/busybox:1',
    securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
    volumeMounts: ['passwd', 'group'].map((file) => ({
      name: 'xtreemos-account',
      mountPath: `/etc/${file}`,
      subPath: file,
      readOnly: true,
    })),
  };
}

/** Every kind that makes pods for members, with where it is kept and how it holds the spec of a pod. */
export const workloads: readonly [string, string, (name: string, spec: object) => KubeObject][] = [
  ['Pod', pods(), (name, spec) => aPod(name, spec as Record<string, unknown>)],
  ...(
    [
      ['Job', 'batch/v1', (spec: object) => ({ template: { spec: { restartPolicy: 'Never', ...spec } } })],
      [
        'CronJob',
        'batch/v1',
        (spec: object) => ({
          schedule: '0 0 1 1 *',
          jobTemplate: { spec: { template: { spec: { restartPolicy: 'Never', ...spec } } } },
        }),
      ],
      ['Deployment', 'apps/v1', selected],
      ['ReplicaSet', 'apps/v1', selected],
      ['StatefulSet', 'apps/v1', selected],
      ['ReplicationController', 'v1', (spec: object) => ({ ...selected(spec), selector: { app: 'x' } })],
    ] as const
  ).map(([kind, apiVersion, wrap]): [string, string, (name: string, spec: object) => KubeObject] => [
    kind,
    `/${apiVersion.includes('/') ? 'apis' : 'api'}/${apiVersion}/namespaces/${namespace}/${kind.toLowerCase()}s`,
    (name, spec) => ({
      apiVersion,
      kind,
      metadata: { name },
      spec: wrap({ containers: aPod('x').spec?.containers, ...spec }),
    }),
  ]),
];

function selected(spec: object): Record<string, unknown> {
  const labels = { app: 'x' };
  return { selector: { matchLabels: labels }, template: { metadata: { labels }, spec } };
}

function namespaceOf(person: Person): string {
  return person === 'dave' ? 'vo-chemistry' : namespace;
}

function bindingOf(name: string, role: string, people: readonly Person[], where = namespace): KubeObject {
  return {
    apiVersion: `${rbac}/v1`,
    kind: 'RoleBinding',
    metadata: { name, namespace: where },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: role },
    subjects: people.map((person) => ({
      kind: 'ServiceAccount',
      name: accounts[person],
      namespace: namespaceOf(person),
    })),
  };
}

function clusterRole(name: string, rules: readonly object[]): KubeObject {
  return { apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata: { name }, rules };
}

/** Everything besides the policies. */
function objects(): KubeObject[] {
  const everyone = Object.keys(accounts) as Person[];
  const groups = [
    '',
    'apps',
    'batch',
    'autoscaling',
    'networking.k8s.io',
    'policy',
    rbac,
    'admissionregistration.k8s.io',
  ];
  const may = [{ apiGroups: groups, resources: ['*'], verbs: every }];
  return [
    ...['physics', 'chemistry'].flatMap((name) => organization(name)),
    ...everyone.map((person): KubeObject => ({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: accounts[person], namespace: namespaceOf(person), labels: { 'xtreemos.io/member': 'true' } },
    })),
    clusterRole('far-too-much', may),
    clusterRole('administrator', [{ apiGroups: ['xtreemos.io'], resources: ['accounts'], verbs: ['manage'] }]),
    clusterRole('group-two', [
      { apiGroups: ['xtreemos.io'], resources: ['groups'], resourceNames: [String(physicsBase + 2)], verbs: ['use'] },
    ]),
    {
      ...bindingOf('far-too-much', 'far-too-much', everyone),
      kind: 'ClusterRoleBinding',
      metadata: { name: 'far-too-much' },
    },
    bindingOf('administrator', 'administrator', ['carol']),
    bindingOf('group-two', 'group-two', ['alice']),
    {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'Site',
      metadata: { name: 'local' },
      spec: { type: 'Local', local: { acceptedVirtualOrganizations: [{ name: 'physics' }, { name: 'chemistry' }] } },
    },
  ];
}

function organization(name: string): KubeObject[] {
  const [label, mode] = ['xtreemos.io/virtual-organization', 'xtreemos.io/uid-mode'];
  const base = name === 'physics' ? physicsBase : chemistryBase;
  return [
    {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name: `vo-${name}`,
        labels: { [label]: name, [mode]: 'Global', 'xtreemos.io/isolation': 'Namespace' },
        annotations: { 'xtreemos.io/group-ids': `${base + 1},${base + 2}` },
      } as never,
    },
    {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VirtualOrganization',
      metadata: { name },
      spec: { state: 'Operational', administrators: [{ issuer: 'https://id.example.org', subject: 'carol' }] },
    },
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace: `vo-${name}` } },
  ];
}

function pathOf({ apiVersion = '', kind = '', metadata }: KubeObject): string {
  const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const where = metadata?.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`;
  return `${root}${where}/${kind.toLowerCase()}s/${metadata?.name ?? ''}`;
}

/**
 * What the admission policies add to making a pod (`make bench-admission`), for namespaces with few and many accounts, beside the design that
 * was not taken: a policy with every ServiceAccount of the namespace as a parameter. One API server, no nodes; pods are made as a member, dry
 * run, one after another. The last line is the figure: milliseconds at the 50th and 99th percentile.
 */
import { readFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import path from 'node:path';
import {
  startOrganization,
  type Organization,
  accounts,
  aPod,
  completeSpec,
  namespace,
  pods,
} from '#crds/policies/testing/organization.ts';
import type { KubeClient, KubeObject } from '#sites/kube-client.ts';

const sizes = (process.env.ACCOUNTS ?? '10,1000,10000').split(',').map(Number);
const samples = Number(process.env.SAMPLES ?? 300);
if (sizes.some((size) => !Number.isInteger(size) || size < 4))
  throw new Error('ACCOUNTS: whole numbers of at least 4, with commas');
const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces';
const admissionApi = '/apis/admissionregistration.k8s.io/v1';
const plain = 'plain';
const byParameter = 'by-parameter';

/** What one pod costs: wall-clock time as the client sees it, and processor time of the API server, which other programs do not disturb. */
interface Share {
  readonly cpu_ms: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
}

const organization = await startOrganization({ name: 'bench-admission' });
const figure: Record<string, unknown> = {};
try {
  await prepare(organization);
  let made = Object.keys(accounts).length;
  for (const size of sizes) {
    for (; made < size; made += 250) await makeAccounts(organization.admin, made, Math.min(made + 250, size));
    made = size;
    const alice = organization.as('alice');
    const spec = completeSpec(accounts.alice);
    const result = {
      without_policies: await measure(
        organization.admin,
        pods(undefined, plain),
        aPod('x', { ...spec, serviceAccountName: 'default' }),
      ),
      with_policies: await measure(alice, pods(), aPod('x')),
      serviceaccounts_as_parameters: await measure(
        organization.admin,
        pods(undefined, byParameter),
        aPod('x', { ...spec, serviceAccountName: 'default' }),
      ),
      load: Number(loadavg()[0]?.toFixed(1)),
    };
    figure[size] = result;
    console.log(`${size} accounts: ${JSON.stringify(result)}`);
  }
} finally {
  await organization.stop();
}
console.log(`figure: ${JSON.stringify({ bench: 'admission', samples, accounts: figure })}`);

/** Namespaces to compare with, and the policy that was not taken, which reads ids from annotations. */
async function prepare({ admin }: Organization): Promise<void> {
  for (const name of [plain, byParameter]) {
    await admin.apply(`/api/v1/namespaces/${name}`, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels: { bench: name } },
    });
    await admin.apply(`/api/v1/namespaces/${name}/serviceaccounts/default`, {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'default' },
    });
  }
  const policyName = 'bench-serviceaccounts-as-parameters';
  await admin.apply(`${admissionApi}/validatingadmissionpolicies/${policyName}`, {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingAdmissionPolicy',
    metadata: { name: policyName },
    spec: {
      failurePolicy: 'Fail',
      paramKind: { apiVersion: 'v1', kind: 'ServiceAccount' },
      matchConstraints: {
        namespaceSelector: { matchLabels: { bench: byParameter } },
        resourceRules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
      },
      matchConditions: [{ name: 'this-account', expression: 'params.metadata.name == object.spec.serviceAccountName' }],
      validations: [
        {
          expression:
            "object.spec.securityContext.?supplementalGroups.orValue([]).all(g, string(g) in params.metadata.annotations['xtreemos.io/gids'].split(','))",
        },
      ],
    },
  });
  await admin.apply(`${admissionApi}/validatingadmissionpolicybindings/${policyName}`, {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingAdmissionPolicyBinding',
    metadata: { name: policyName },
    spec: { policyName, paramRef: { selector: {}, parameterNotFoundAction: 'Deny' }, validationActions: ['Deny'] },
  });
}

/** Accounts with the rights that members have: a role, and groups. */
async function makeAccounts(admin: KubeClient, from: number, to: number): Promise<void> {
  await Promise.all(Array.from({ length: to - from }, async (_, index) => makeAccount(admin, from + index)));
}

async function makeAccount(admin: KubeClient, index: number): Promise<void> {
  const name = `u-m${index}-${2_013_268_000 + index}`;
  const group = 'rbac.authorization.k8s.io';
  const binding = (suffix: string, kind: string, role: string): KubeObject => ({
    metadata: { name: `${name}-${suffix}` },
    roleRef: { apiGroup: group, kind, name: role },
    subjects: [{ kind: 'ServiceAccount', name, namespace }],
  });
  const rules = [{ apiGroups: ['xtreemos.io'], resources: ['groups'], resourceNames: ['2013265921'], verbs: ['use'] }];
  const post = async (at: string, body: unknown): Promise<unknown> =>
    admin.json('POST', at, { body, timeoutMs: 60_000 });
  const account = { metadata: { name, annotations: { 'xtreemos.io/gids': '2013265921' } } };
  await post(`/api/v1/namespaces/${namespace}/serviceaccounts`, account);
  await post(`/api/v1/namespaces/${byParameter}/serviceaccounts`, account);
  await post(`${rbac}/${namespace}/roles`, { metadata: { name: `${name}-groups` }, rules });
  await post(`${rbac}/${namespace}/rolebindings`, binding('groups', 'Role', `${name}-groups`));
  await post(`${rbac}/${namespace}/rolebindings`, binding('member', 'ClusterRole', 'group-two'));
}

async function measure(client: KubeClient, at: string, body: KubeObject): Promise<Share> {
  const { pid } = JSON.parse(
    readFileSync(path.join(path.dirname(organization.plane.kubeconfigPath), 'run/kube-apiserver.json'), 'utf8'),
  ) as { pid: number };
  const cpuMs = (): number => {
    const [userTicks = 0, systemTicks = 0] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
      .slice(11, 13)
      .map(Number);
    return (userTicks + systemTicks) * 10;
  };
  const times: number[] = [];
  const ask = async (): Promise<void> => {
    await client.json('POST', `${at}?dryRun=All`, { body, timeoutMs: 60_000 });
  };
  for (let index = 0; index < 20; index++) await ask();
  const cpuBeforeMs = cpuMs();
  for (let index = 0; index < samples; index++) {
    const startedAt = performance.now();
    await ask();
    times.push(performance.now() - startedAt);
  }
  const cpu = (cpuMs() - cpuBeforeMs) / samples;
  times.sort((a, b) => a - b);
  const at99 = times[Math.floor(times.length * 0.99)] ?? 0;
  return {
    cpu_ms: Number(cpu.toFixed(1)),
    p50_ms: Number((times[times.length >> 1] ?? 0).toFixed(2)),
    p99_ms: Number(at99.toFixed(2)),
  };
}

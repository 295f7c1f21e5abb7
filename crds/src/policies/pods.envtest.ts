/** What pods of members may be, asked of a real API server by the members themselves, directly and through every kind that makes pods. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { waitFor } from '#sites/kube-client.ts';
import {
  accounts,
  aPod,
  completeContainer,
  completeSpec,
  namespace,
  type Organization,
  physicsBase,
  pods,
  refusal,
  startOrganization,
  workloads,
} from './testing/organization.ts';

jest.setTimeout(60_000);
let organization: Organization;

beforeAll(async () => {
  organization = await startOrganization({ name: 'pods' });
}, 120_000);
afterAll(async () => organization.stop());

const main = (container: object): object => ({ containers: [{ ...completeContainer('main'), ...container }] });
const secured = (context: object): object =>
  main({ securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] }, ...context } });
const podSecurity = (context: object): object => ({ securityContext: context });
const volume = (source: object): object => ({ volumes: [{ name: 'v', ...source }] });
const withProbe = (probe: object): object => main({ livenessProbe: probe });
const foreignUser = physicsBase + 1081;

/** Attack, what is asked for, and what the refusal must say: field, then remedy. */
const attacks: readonly [string, object, RegExp][] = [
  [
    'threat 1: privileged',
    secured({ privileged: true, allowPrivilegeEscalation: true }),
    /container main: securityContext\.(privileged|allowPrivilegeEscalation): true.*(leave it out|set it to false)/,
  ],
  [
    'threat 1: more rights by setuid',
    secured({ allowPrivilegeEscalation: true }),
    /allowPrivilegeEscalation: true.*set it to false/,
  ],
  [
    'threat 1: an added capability',
    secured({ capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] } }),
    /capabilities\.add: NET_ADMIN.*remove it/,
  ],
  [
    'threat 1: capabilities kept',
    secured({ capabilities: { drop: ['CHOWN'] } }),
    /capabilities\.drop: without ALL.*\[ALL\]/,
  ],
  [
    'threat 1: an unmasked /proc',
    { ...secured({ procMount: 'Unmasked' }), hostUsers: false },
    /(procMount: Unmasked.*leave it out|hostUsers: false.*leave it out)/,
  ],
  [
    'threat 1: no seccomp in a container',
    secured({ seccompProfile: { type: 'Unconfined' } }),
    /container main: securityContext\.seccompProfile\.type: Unconfined.*leave it out/,
  ],
  [
    'threat 1: no seccomp',
    podSecurity({ seccompProfile: { type: 'Unconfined' } }),
    /seccompProfile\.type: Unconfined.*RuntimeDefault/,
  ],
  [
    'threat 1: no AppArmor',
    podSecurity({ appArmorProfile: { type: 'Unconfined' } }),
    /appArmorProfile\.type: Unconfined.*RuntimeDefault/,
  ],
  [
    'threat 1: another SELinux type',
    podSecurity({ seLinuxOptions: { type: 'spc_t' } }),
    /seLinuxOptions: is not allowed/,
  ],
  [
    'threat 1: a sysctl',
    podSecurity({ sysctls: [{ name: 'kernel.shm_rmid_forced', value: '0' }] }),
    /sysctls: is not allowed/,
  ],
  [
    'threat 2: the network of the node',
    { hostNetwork: true },
    /hostNetwork: is not allowed.*use the network of the pod/,
  ],
  ['threat 2: the processes of the node', { hostPID: true }, /hostPID: is not allowed.*shareProcessNamespace/],
  ['threat 2: shared memory of the node', { hostIPC: true }, /hostIPC: is not allowed/],
  [
    'threat 2: a port of the node',
    main({ ports: [{ containerPort: 80, hostPort: 80 }] }),
    /container main: ports\.hostPort.*Service/,
  ],
  ['threat 2: names of hosts', { hostAliases: [{ ip: '127.0.0.1', hostnames: ['a'] }] }, /hostAliases: is not allowed/],
  ['threat 2: a folder of the node', volume({ hostPath: { path: '/' } }), /volumes: v: kind hostPath.*use emptyDir/],
  [
    'threat 3: the account of another member',
    { serviceAccountName: accounts.bob },
    /serviceAccountName.*u-bob.*u-alice|runAsUser/,
  ],
  [
    'threat 3: the account of another virtual organization',
    { serviceAccountName: accounts.dave },
    /not found|serviceAccountName/,
  ],
  ['threat 3: a token', { automountServiceAccountToken: true }, /automountServiceAccountToken: true.*set it to false/],
  [
    'threat 3: a token by projection',
    volume({ projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } }),
    /volumes: v: source serviceAccountToken.*gateway/,
  ],
  ['threat 4: root', podSecurity({ runAsUser: 0 }), /runAsUser: 0.*set it to 2013267000/],
  ['threat 4: another member', podSecurity({ runAsUser: foreignUser }), /runAsUser: 2013267001.*set it to 2013267000/],
  ['threat 4: another group', podSecurity({ runAsGroup: 0 }), /runAsGroup: 0.*set it to 2013265920/],
  ['threat 4: root allowed', podSecurity({ runAsNonRoot: false }), /runAsNonRoot: false/],
  [
    'threat 4: another member in a container',
    secured({ runAsUser: foreignUser }),
    /container main: securityContext\.runAsUser: 2013267001/,
  ],
  [
    'threat 4: another group in a container',
    secured({ runAsGroup: 0 }),
    /container main: securityContext\.runAsGroup: 0/,
  ],
  [
    'threat 4: root in an init container',
    { initContainers: [{ ...completeContainer('first'), securityContext: { runAsUser: 0 } }] },
    /container first: securityContext\.runAsUser: 0/,
  ],
  ['threat 4: a user namespace where ids are global', { hostUsers: false }, /hostUsers: false.*leave it out/],
  [
    'threat 5: groups of the image',
    podSecurity({ supplementalGroupsPolicy: 'Merge' }),
    /supplementalGroupsPolicy: Merge.*Strict/,
  ],
  [
    'threat 6: the group of files of another virtual organization',
    podSecurity({ fsGroup: physicsBase + 65_536 }),
    /fsGroup: 2013331456/,
  ],
  [
    'threat 6: a group of another virtual organization',
    podSecurity({ supplementalGroups: [physicsBase + 65_538] }),
    /supplementalGroups: 2013331458/,
  ],
  [
    'threat 6: a group that she is not in',
    podSecurity({ supplementalGroups: [physicsBase + 1] }),
    /supplementalGroups: 2013265921/,
  ],
  ['threat 6: a group of the node', podSecurity({ supplementalGroups: [0] }), /supplementalGroups: 0/],
  [
    'threat 6: a foreign group among own ones',
    podSecurity({ supplementalGroups: [physicsBase + 2, physicsBase + 1] }),
    /supplementalGroups: /,
  ],
  ['threat 8: a node', { nodeName: 'node-1' }, /nodeName: node-1.*the scheduler chooses/],
  ['threat 8: every taint', { tolerations: [{ operator: 'Exists' }] }, /tolerations: every taint/],
  [
    'threat 8: a reserved node',
    { tolerations: [{ key: 'xtreemos.io/dedicated-to', value: 'chemistry', effect: 'NoSchedule' }] },
    /tolerations: xtreemos\.io\/dedicated-to/,
  ],
  [
    'threat 8: a control plane',
    { nodeSelector: { 'node-role.kubernetes.io/control-plane': '' } },
    /nodeSelector: node-role/,
  ],
  [
    'threat 8: the node of another virtual organization',
    { nodeSelector: { 'xtreemos.io/dedicated-to': 'chemistry' } },
    /nodeSelector: xtreemos/,
  ],
  [
    'threat 8: a control plane by affinity',
    {
      affinity: {
        nodeAffinity: nodeAffinity({ matchExpressions: [{ key: 'node-role.kubernetes.io/x', operator: 'Exists' }] }),
      },
    },
    /affinity\.nodeAffinity: node-role/,
  ],
  [
    'threat 8: a node by its fields',
    {
      affinity: {
        nodeAffinity: nodeAffinity({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n'] }] }),
      },
    },
    /affinity\.nodeAffinity: matchFields/,
  ],
  [
    'threat 8: beside pods of others',
    {
      affinity: {
        podAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: [
            { topologyKey: 'kubernetes.io/hostname', namespaceSelector: {}, labelSelector: {} },
          ],
        },
      },
    },
    /affinity: namespaceSelector/,
  ],
  ['threat 8: another scheduler', { schedulerName: 'mine' }, /schedulerName: mine.*leave it out/],
  [
    'threat 8: a priority',
    { priorityClassName: 'system-node-critical' },
    /priorityClassName: system-node-critical|not permitted/,
  ],
  ['threat 8: a runtime', { runtimeClassName: 'fast' }, /runtimeClassName: fast|RuntimeClass "fast" not found/],
  ['threat 8: devices', { resourceClaims: [{ name: 'a', resourceClaimName: 'b' }] }, /resourceClaims: is not allowed/],
  ['threat 11: a Secret as a volume', volume({ secret: { secretName: 's' } }), /volumes: v: kind secret/],
  [
    'threat 11: a projected Secret',
    volume({ projected: { sources: [{ secret: { name: 's' } }] } }),
    /volumes: v: source secret/,
  ],
  [
    'threat 11: a Secret as a variable',
    main({ env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } }] }),
    /container main: env\.valueFrom\.secretKeyRef.*ConfigMap/,
  ],
  [
    'threat 11: a Secret as all variables',
    main({ envFrom: [{ secretRef: { name: 's' } }] }),
    /envFrom\.secretRef.*ConfigMap/,
  ],
  [
    'threat 11: a Secret of a registry',
    { imagePullSecrets: [{ name: 's' }] },
    /imagePullSecrets: is not allowed.*registry/,
  ],
  [
    'threat 13: a probe of another host',
    withProbe({ httpGet: { host: '169.254.169.254', port: 80 } }),
    /host: 169\.254\.169\.254/,
  ],
  [
    'threat 13: a hook to another host',
    main({ lifecycle: { preStop: { httpGet: { host: '10.0.0.1', port: 80 } } } }),
    /host: 10\.0\.0\.1/,
  ],
];

function nodeAffinity(term: object): object {
  return { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [term] } };
}

describe.each(workloads)('a %s', (_kind, at, build) => {
  test('of a member is accepted as it is written most shortly', async () => {
    expect(await refusal(organization.as('alice'), at, build('mine', {}))).toBe('');
  });

  test('of a member is accepted in all words', async () => {
    expect(await refusal(organization.as('alice'), at, build('mine', completeSpec(accounts.alice)))).toBe('');
  });

  test.each(attacks)('is refused with %s', async (_, spec, message) => {
    const answer = await refusal(organization.as('alice'), at, build('mine', spec));
    expect(answer).toMatch(message);
  });
});

test('a pod gets the identity of its member, and its token is taken away', async () => {
  const stored = await organization.as('alice').json('POST', `${pods()}?dryRun=All`, { body: aPod('mine') });
  expect(stored.spec).toMatchObject({
    ...completeSpec(accounts.alice),
    securityContext: {
      runAsUser: physicsBase + 1080,
      runAsGroup: physicsBase,
      fsGroup: physicsBase,
      supplementalGroups: [physicsBase + 2],
      supplementalGroupsPolicy: 'Strict',
    },
    volumes: [{ name: 'xtreemos-account', configMap: { name: `${accounts.alice}-account` } }],
  });
  expect(JSON.stringify(stored)).not.toContain('serviceAccountToken');
});

test('a pod keeps fewer groups when it says so', async () => {
  const spec = podSecurity({ supplementalGroups: [physicsBase + 2] }) as Record<string, unknown>;
  const stored = await organization.as('alice').json('POST', `${pods()}?dryRun=All`, { body: aPod('mine', spec) });
  expect(stored.spec?.securityContext).toMatchObject({ supplementalGroups: [physicsBase + 2] });
});

test('a member without groups gets none', async () => {
  const stored = await organization.as('bob').json('POST', `${pods()}?dryRun=All`, { body: aPod('mine') });
  expect(JSON.stringify(stored.spec)).not.toContain('supplementalGroups"');
});

describe('threat 4: an ephemeral container', () => {
  const at = `${pods('target')}/ephemeralcontainers`;
  beforeAll(async () => {
    await organization.as('alice').json('POST', pods(), { body: aPod('target') });
  });
  const adding = (container: object): object => ({
    spec: { ephemeralContainers: [{ name: 'debug', image: 'xtreemos.io/busybox:1', ...container }] },
  });

  test('of the owner is accepted and restricted', async () => {
    expect(await refusal(organization.as('alice'), at, adding({}), 'PATCH')).toBe('');
  });

  test.each<[string, object, RegExp]>([
    ['as root', { securityContext: { runAsUser: 0 } }, /container debug: securityContext\.runAsUser: 0/],
    ['with privilege', { securityContext: { privileged: true } }, /container debug|allowPrivilegeEscalation/],
    ['with a Secret', { envFrom: [{ secretRef: { name: 's' } }] }, /container debug: envFrom\.secretRef/],
  ])('is refused %s', async (_, container, message) => {
    expect(await refusal(organization.as('alice'), at, adding(container), 'PATCH')).toMatch(message);
  });

  test('of another member is refused', async () => {
    expect(await refusal(organization.as('bob'), at, adding({}), 'PATCH')).toMatch(/target belongs to u-alice/);
  });
});

describe('where ids are local', () => {
  const setMode = async (labels: object): Promise<void> => {
    await organization.admin.json('PATCH', `/api/v1/namespaces/${namespace}`, {
      body: { metadata: { labels } },
      contentType: 'application/merge-patch+json',
    });
  };
  const local = 'xtreemos.io/uid-mode';
  beforeAll(async () => setMode({ [local]: 'Local' }));
  afterAll(async () => setMode({ [local]: 'Global' }));

  test('threat 4: the namespace alone can not say so', async () => {
    expect(await refusal(organization.as('alice'), pods(), aPod('mine'))).toMatch(
      /uid-mode.*differs from spec\.identity\.uidMode/,
    );
  });

  test('threat 4: a pod is refused with ids that are not its own there', async () => {
    const organizations = '/apis/xtreemos.io/v1alpha1/virtualorganizations';
    const { spec } = await organization.admin.json('GET', `${organizations}/physics`);
    await organization.admin.json('DELETE', `${organizations}/physics`);
    await organization.admin.json('POST', organizations, {
      body: {
        apiVersion: 'xtreemos.io/v1alpha1',
        kind: 'VirtualOrganization',
        metadata: { name: 'physics' },
        spec: { ...spec, identity: { uidMode: 'Local' } },
      },
    });
    const alice = organization.as('alice');
    await waitFor('the mode is seen', async () => (await refusal(alice, pods(), aPod('mine'))) === '', {
      limitMs: 10_000,
    });
    for (const [wrong, message] of [
      [podSecurity({ runAsUser: physicsBase + 1080 }), /runAsUser: 2013267000.*set it to 1080/],
      [podSecurity({ runAsUser: 0 }), /runAsUser: 0.*set it to 1080/],
      [{ hostUsers: true }, /hostUsers: true.*set it to false/],
    ] as const) {
      expect(await refusal(alice, pods(), aPod('mine', wrong as Record<string, unknown>))).toMatch(message);
    }
  });
});

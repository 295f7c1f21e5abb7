/** Attacks by what a member writes into a pod: the same list for every kind that makes pods, and for a real site. For tests. */
import { completeContainer } from './organization.ts';

/** Numbers and names in what the attacks ask for. */
export interface PodIds {
  readonly uid: number;
  /** First id of the slice: the group of all members. Groups of the virtual organization follow it. */
  readonly gid: number;
  readonly account: string;
  /** Another member. */
  readonly otherUid: number;
  readonly otherAccount: string;
  /** First id of another virtual organization, and an account of it. */
  readonly foreignGid: number;
  readonly foreignAccount: string;
}

/** Name with the number of the threat, what is laid over a pod, and what the refusal must say: field, then remedy. */
export type PodAttack = readonly [name: string, spec: object, refusal: RegExp];

const main = (container: object): object => ({ containers: [{ ...completeContainer('main'), ...container }] });
const secured = (context: object): object =>
  main({ securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] }, ...context } });
/** A pod with a security context. */
export const podSecurity = (context: object): object => ({ securityContext: context });
const volume = (source: object): object => ({ volumes: [{ name: 'v', ...source }] });
const withProbe = (probe: object): object => main({ livenessProbe: probe });

/** Every attack. The member is in the second group of the virtual organization, and not in the first. */
export function podAttacks(ids: PodIds): readonly PodAttack[] {
  const { uid, gid, account, otherUid, otherAccount, foreignGid, foreignAccount } = ids;
  return [
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
    [
      'threat 2: names of hosts',
      { hostAliases: [{ ip: '127.0.0.1', hostnames: ['a'] }] },
      /hostAliases: is not allowed/,
    ],
    ['threat 2: a folder of the node', volume({ hostPath: { path: '/' } }), /volumes: v: kind hostPath.*use emptyDir/],
    [
      'threat 3: the account of another member',
      { serviceAccountName: otherAccount },
      new RegExp(`serviceAccountName.*${otherAccount}.*${account}|runAsUser`),
    ],
    [
      'threat 3: the account of another virtual organization',
      { serviceAccountName: foreignAccount },
      /not found|serviceAccountName/,
    ],
    [
      'threat 3: a token',
      { automountServiceAccountToken: true },
      /automountServiceAccountToken: true.*set it to false/,
    ],
    [
      'threat 3: a token by projection',
      volume({ projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } }),
      /volumes: v: source serviceAccountToken.*gateway/,
    ],
    ['threat 4: root', podSecurity({ runAsUser: 0 }), new RegExp(`runAsUser: 0.*set it to ${uid}`)],
    [
      'threat 4: another member',
      podSecurity({ runAsUser: otherUid }),
      new RegExp(`runAsUser: ${otherUid}.*set it to ${uid}`),
    ],
    ['threat 4: another group', podSecurity({ runAsGroup: 0 }), new RegExp(`runAsGroup: 0.*set it to ${gid}`)],
    ['threat 4: root allowed', podSecurity({ runAsNonRoot: false }), /runAsNonRoot: false/],
    [
      'threat 4: another member in a container',
      secured({ runAsUser: otherUid }),
      new RegExp(`container main: securityContext\\.runAsUser: ${otherUid}`),
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
      podSecurity({ fsGroup: foreignGid }),
      new RegExp(`fsGroup: ${foreignGid}`),
    ],
    [
      'threat 6: a group of another virtual organization',
      podSecurity({ supplementalGroups: [foreignGid + 2] }),
      new RegExp(`supplementalGroups: ${foreignGid + 2}`),
    ],
    [
      'threat 6: a group that she is not in',
      podSecurity({ supplementalGroups: [gid + 1] }),
      new RegExp(`supplementalGroups: ${gid + 1}`),
    ],
    ['threat 6: a group of the node', podSecurity({ supplementalGroups: [0] }), /supplementalGroups: 0/],
    [
      'threat 6: a foreign group among own ones',
      podSecurity({ supplementalGroups: [gid + 2, gid + 1] }),
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
    [
      'threat 8: devices',
      { resourceClaims: [{ name: 'a', resourceClaimName: 'b' }] },
      /resourceClaims: is not allowed/,
    ],
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
}

function nodeAffinity(term: object): object {
  return { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [term] } };
}

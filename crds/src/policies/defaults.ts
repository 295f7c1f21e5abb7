/** What the policies fill in, so that a plain `kubectl run` of a member works. What is stated stays as it is, and is judged. */
import { changesDefaults } from './changes.ts';
import { governanceDefaults } from './governance.ts';
import { fillVariables, groupDefaults } from './groups.ts';
import { submitterDefaults } from './jobs.ts';
import { dedicatedLabel } from './pod-placement.ts';
import { accountFiles, accountVolume, podResourceRules } from './pods.ts';
import type { MutatingPolicy, ResourceRule } from './policy.ts';
import { fillsTemplates, isMemberRequest, requesterVariables } from './requester.ts';
import { labelledRules, ownerLabel } from './tenants.ts';
import { volumeDefaults } from './volumes.ts';

/** Fields that the API server lets change in a pod that runs are not filled in again. */
const isNewTemplate =
  "request.kind.kind != 'Pod' || request.operation == 'CREATE' || request.?subResource.orValue('') == 'ephemeralcontainers'";

/** The policies that fill in. */
export function mutatingPolicies(): MutatingPolicy[] {
  return [
    podDefaults(),
    ...groupDefaults(),
    ownerDefaults(),
    governanceDefaults(),
    submitterDefaults(),
    volumeDefaults(),
    ...changesDefaults(),
  ];
}

function podDefaults(): MutatingPolicy {
  return {
    name: 'xtreemos-pods',
    about:
      'Fills in the account, ids, names and restrictions of the member that a pod of a virtual organization runs for, and where the organization may run.',
    resourceRules: podResourceRules,
    conditions: [
      { name: 'makes-a-template', expression: fillsTemplates },
      { name: 'is-new', expression: isNewTemplate },
    ],
    variables: [
      ...fillVariables,
      {
        name: 'isFilled',
        expression: "variables.isMember && variables.tooLarge == '' && request.?subResource.orValue('') == ''",
      },
      { name: 'volumes', expression: 'variables.spec.?volumes.orValue([])' },
      // The volume that the API server adds for the token, before it knows which account the pod will have.
      {
        name: 'tokenVolumes',
        expression:
          "variables.volumes.filter(v, v.name.startsWith('kube-api-access-') && v.?projected.?sources.orValue([]).exists(s, has(s.serviceAccountToken))).map(v, v.name)",
      },
      {
        name: 'organization',
        expression: "namespaceObject.metadata.labels['xtreemos.io/virtual-organization']",
      },
      {
        name: 'isolation',
        expression: "namespaceObject.metadata.?labels[?'xtreemos.io/isolation'].orValue('Namespace')",
      },
    ],
    patches: [
      // One patch: each costs the API server a round through JSON. All of it is computed from what was sent.
      [
        ...['containers', 'initContainers', 'ephemeralContainers'].map(containerPatches),
        `(variables.isFilled ? ${[accountPatches, securityPatches, volumePatches, placementPatches].join(' + ')} : [])`,
      ].join(' + '),
    ],
  };
}

/** CEL: one patch when `condition` holds. */
function patchIf(condition: string, op: 'add' | 'replace', path: string, value: string): string {
  return `(${condition} ? [JSONPatch{op: '${op}', path: ${path}, value: ${value}}] : [])`;
}

const at = (path: string): string => `variables.pointer + '/${path}'`;

const accountPatches = [
  patchIf('variables.namedAccount != variables.account', 'add', at('serviceAccountName'), 'variables.account'),
  patchIf(
    'has(variables.spec.serviceAccount) && variables.spec.serviceAccount != variables.account && variables.namedAccount != variables.account',
    'replace',
    at('serviceAccount'),
    'variables.account',
  ),
  patchIf('!has(variables.spec.automountServiceAccountToken)', 'add', at('automountServiceAccountToken'), 'false'),
  patchIf(
    "!has(variables.spec.hostUsers) && (variables.isLocal || namespaceObject.metadata.?labels[?'xtreemos.io/user-namespace'].orValue('') == 'required')",
    'add',
    at('hostUsers'),
    'false',
  ),
].join(' + ');

const security = 'variables.spec.?securityContext';
const securityPatches = [
  patchIf('!has(variables.spec.securityContext)', 'add', at('securityContext'), 'Object.spec.securityContext{}'),
  ...Object.entries({
    runAsUser: 'variables.runAsUser',
    runAsGroup: 'variables.runAsGroup',
    fsGroup: 'variables.runAsGroup',
    runAsNonRoot: 'true',
    supplementalGroupsPolicy: "'Strict'",
    seccompProfile: "{'type': 'RuntimeDefault'}",
  }).map(([field, value]) =>
    patchIf(`!${security}.?${field}.hasValue()`, 'add', at(`securityContext/${field}`), value),
  ),
].join(' + ');

const accountVolumeValue = `Object.spec.volumes{name: '${accountVolume}', configMap: Object.spec.volumes.configMap{name: variables.account + '-account'}}`;
const volumePatches = [
  patchIf(
    'size(variables.tokenVolumes) > 0',
    'replace',
    at('volumes'),
    'variables.volumes.filter(v, !(v.name in variables.tokenVolumes))',
  ),
  patchIf('!has(variables.spec.volumes)', 'add', at('volumes'), '[]'),
  patchIf(`!variables.volumes.exists(v, v.name == '${accountVolume}')`, 'add', at('volumes/-'), accountVolumeValue),
].join(' + ');

const selector = 'variables.spec.?nodeSelector.orValue({})';
const runtimeClass = "namespaceObject.metadata.?annotations[?'xtreemos.io/runtime-class'].orValue('')";
const dedicatedKey = dedicatedLabel.replace('/', '~1');
const placementPatches = [
  patchIf(
    `variables.isolation == 'Sandbox' && ${runtimeClass} != '' && !has(variables.spec.runtimeClassName)`,
    'add',
    at('runtimeClassName'),
    runtimeClass,
  ),
  `(variables.isolation != 'DedicatedNode' ? [] : ${[
    patchIf('!has(variables.spec.nodeSelector)', 'add', at('nodeSelector'), 'Object.spec.nodeSelector{}'),
    patchIf(
      `!('${dedicatedLabel}' in ${selector})`,
      'add',
      at(`nodeSelector/${dedicatedKey}`),
      'variables.organization',
    ),
    patchIf('!has(variables.spec.tolerations)', 'add', at('tolerations'), '[]'),
    patchIf(
      `!variables.spec.?tolerations.orValue([]).exists(t, t.?key.orValue('') == '${dedicatedLabel}')`,
      'add',
      at('tolerations/-'),
      `{'key': '${dedicatedLabel}', 'operator': 'Equal', 'value': variables.organization, 'effect': 'NoSchedule'}`,
    ),
  ].join(' + ')})`,
].join(' + ');

/** Restrictions and mounts of every container of a list. Ephemeral containers can't have a mount with a sub-path. */
function containerPatches(listName: string): string {
  const here = (path: string): string => `variables.pointer + '/${listName}/' + string(i) + '/${path}'`;
  const security = 'c.?securityContext';
  const parts = [
    patchIf('!has(c.securityContext)', 'add', here('securityContext'), 'Object.spec.containers.securityContext{}'),
    patchIf(
      `!${security}.?allowPrivilegeEscalation.hasValue()`,
      'add',
      here('securityContext/allowPrivilegeEscalation'),
      'false',
    ),
    patchIf(`!${security}.?capabilities.hasValue()`, 'add', here('securityContext/capabilities'), "{'drop': ['ALL']}"),
  ];
  if (listName !== 'ephemeralContainers') parts.push(mountPatches(here));
  const condition =
    listName === 'ephemeralContainers' ? "variables.isMember && variables.tooLarge == ''" : 'variables.isFilled';
  return `(${condition} ? variables.spec.?${listName}.orValue([]).transformList(i, c, ${parts.join(' + ')}).flatten() : [])`;
}

function mountPatches(here: (path: string) => string): string {
  const mounts = 'c.?volumeMounts.orValue([])';
  return [
    patchIf(
      `${mounts}.exists(m, m.name in variables.tokenVolumes)`,
      'replace',
      here('volumeMounts'),
      `${mounts}.filter(m, !(m.name in variables.tokenVolumes))`,
    ),
    patchIf('!has(c.volumeMounts)', 'add', here('volumeMounts'), '[]'),
    ...Object.entries(accountFiles).map(([path, key]) =>
      patchIf(
        `!${mounts}.exists(m, m.mountPath == '${path}')`,
        'add',
        here('volumeMounts/-'),
        `Object.spec.containers.volumeMounts{name: '${accountVolume}', mountPath: '${path}', subPath: '${key}', readOnly: true}`,
      ),
    ),
  ].join(' + ');
}

/** Objects without a template say in a label whose they are. */
function ownerDefaults(): MutatingPolicy {
  const rules = labelledRules.map((rule): ResourceRule => ({ ...rule, operations: ['CREATE'] }));
  return {
    name: 'xtreemos-owners',
    about: 'Labels what a member makes in the namespace of a virtual organization as theirs.',
    resourceRules: rules,
    conditions: [{ name: 'is-a-member', expression: isMemberRequest }],
    variables: requesterVariables,
    patches: [
      [
        "variables.ownAccount == '' ? [] :",
        "(has(object.metadata.labels) ? [] : [JSONPatch{op: 'add', path: '/metadata/labels', value: Object.metadata.labels{}}])",
        `+ ('${ownerLabel}' in object.metadata.?labels.orValue({}) ? [] : [JSONPatch{op: 'add', path: '/metadata/labels/${ownerLabel.replace('/', '~1')}', value: variables.ownAccount}])`,
      ].join(' '),
    ],
  };
}

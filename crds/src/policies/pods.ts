/** What the spec of a pod may say, for pods and for templates of pods alike. */
import { gatewayVolume, taskTokenAudience, taskTokenSeconds } from '../grid-access.ts';
import {
  allowedKeys,
  containerFields,
  containerSecurityFields,
  podFields,
  podSecurityFields,
  projectionFields,
  smallFields,
  volumeFields,
} from './pod-fields.ts';
import type { Named, PolicySettings, ResourceRule, Rule, ValidatingPolicy } from './policy.ts';
import { accountPattern, identityVariables, isIssuedUser, templateKinds, templateVariables } from './requester.ts';
import { placementRules, selectableLabels } from './pod-placement.ts';
import { celList, containerRule, eachRule, quoted, specRule, unknownKeys } from './rules.ts';

/** Pods, what changes the spec of a pod, and every kind with a template of pods. */
export const podResourceRules: readonly ResourceRule[] = [
  {
    apiGroups: [''],
    apiVersions: ['*'],
    resources: ['pods', 'pods/ephemeralcontainers', 'pods/resize'],
    operations: ['CREATE', 'UPDATE'],
  },
  ...Object.entries(templateKinds).map(([group, resources]): ResourceRule => ({
    apiGroups: [group],
    apiVersions: ['*'],
    resources,
    operations: ['CREATE', 'UPDATE'],
  })),
];

/** Requests that bring a new spec; what only moves a finalizer or a label is not judged again. */
export const bringsSpec: Named = {
  name: 'brings-a-spec',
  expression: "request.operation == 'CREATE' || object.spec != oldObject.spec",
};

/** Name of the volume that holds the member's passwd and group lines. */
export const accountVolume = 'xtreemos-account';

/** Where the lines are mounted, and the key of the ConfigMap that holds them. */
export const accountFiles: Readonly<Record<string, string>> = { '/etc/passwd': 'passwd', '/etc/group': 'group' };

const security = 'variables.security';
const volumes = 'variables.spec.?volumes.orValue([])';
const list = (path: string): string => `variables.spec.?${path}.orValue([])`;

const podVariables: readonly Named[] = [
  ...templateVariables,
  { name: 'account', expression: 'variables.namedAccount' },
  ...identityVariables,
  {
    name: 'mounting',
    expression: `variables.spec.?containers.orValue([]) + ${list('initContainers')}`,
  },
  { name: 'containers', expression: `variables.mounting + ${list('ephemeralContainers')}` },
  // An empty map is written as one filtered to nothing: a literal `{}` has a type of its own.
  { name: 'security', expression: 'variables.spec.?securityContext.orValue({})' },
];

/** The policy on the shape of pods. */
export function podsPolicy({
  priorityClassNames,
  nodeLabels: published,
  operatorUser,
}: PolicySettings): ValidatingPolicy {
  return {
    name: 'xtreemos-pods',
    about:
      'Pods of virtual organizations run as the member whose account they name: with its ids, without privilege, token, Secrets or anything of the node.',
    resourceRules: podResourceRules,
    conditions: [bringsSpec],
    variables: [
      ...podVariables,
      { name: 'operatorUser', expression: operatorUser },
      { name: 'priorityClassNames', expression: priorityClassNames },
      { name: 'published', expression: published },
      { name: 'nodeLabels', expression: `${celList(selectableLabels)} + variables.published` },
    ],
    rules: [
      {
        expression: "variables.tooLarge == ''",
        messageExpression:
          "variables.at + '.' + variables.tooLarge + ' is not allowed in a virtual organization: make it smaller, or make several pods'",
      },
      ...accountRules(),
      ...fieldRules(),
      ...identityRules(),
      ...securityRules(),
      ...volumeRules(),
      ...containerRules(),
      ...placementRules(),
    ],
  };
}

function accountRules(): Rule[] {
  return [
    specRule({
      expression: `variables.account.matches('${accountPattern}') && ${isIssuedUser}`,
      path: 'serviceAccountName',
      value: "'\"' + variables.account + '\"'",
      remedy: quoted('name the account of the member, u-<handle>-<uid>; "xos whoami" shows it'),
    }),
    specRule({
      expression: "variables.spec.?serviceAccount.orValue('') in ['', variables.account]",
      path: 'serviceAccount',
      value: "variables.spec.?serviceAccount.orValue('')",
      remedy: quoted('leave it out; serviceAccountName says it'),
    }),
    specRule({
      expression: 'variables.spec.?automountServiceAccountToken.orValue(true) == false',
      path: 'automountServiceAccountToken',
      value: "'true, its default,'",
      remedy: quoted('set it to false: credentials come from the gateway'),
    }),
  ];
}

function fieldRules(): Rule[] {
  const known = (map: string, table: Parameters<typeof allowedKeys>[0], path: string): Rule => {
    const unknown = unknownKeys(map, allowedKeys(table));
    return {
      expression: `size(${unknown}) == 0`,
      messageExpression: `variables.at + '.${path}' + ${unknown}[0] + ': ' + string(${remedyOf(table)}[?${unknown}[0]].orValue('remove it: this field is not known to the policies of virtual organizations'))`,
    };
  };
  const containerKeys = allowedKeys(containerFields);
  const securityKeys = allowedKeys(containerSecurityFields);
  const inContainer = unknownKeys('i', containerKeys);
  const inSecurity = unknownKeys('i.?securityContext.orValue({})', securityKeys);
  return [
    known('variables.spec', podFields, ''),
    known(security, podSecurityFields, 'securityContext.'),
    containerRule(`size(${inContainer}) > 0`, `${inContainer}[0]`, 'remove it'),
    containerRule(`size(${inSecurity}) > 0`, `'securityContext.' + ${inSecurity}[0]`, 'remove it'),
  ];
}

function remedyOf(table: { readonly refused: Readonly<Record<string, string>> }): string {
  const entries = Object.entries(table.refused).map(
    ([key, remedy]) => `'${key}': ${quoted(`is not allowed in a virtual organization: ${remedy}`)}`,
  );
  return `{${entries.join(', ')}}`;
}

function identityRules(): Rule[] {
  const pinned = (field: string, wanted: string): Rule[] => [
    specRule({
      expression: `${security}.?${field}.orValue(-1) == ${wanted}`,
      path: `securityContext.${field}`,
      value: `(has(${security}.${field}) ? string(${security}.${field}) : 'nothing')`,
      remedy: `'set it to ' + string(${wanted}) + ', the id of ' + variables.account + ' here'`,
    }),
    ...(field === 'fsGroup'
      ? []
      : [
          containerRule(
            `has(i.securityContext) && i.securityContext.?${field}.orValue(${wanted}) != ${wanted}`,
            `'securityContext.${field}: ' + string(i.securityContext.${field})`,
            'leave it out: the pod says it for all containers',
          ),
        ]),
  ];
  return [
    ...pinned('runAsUser', 'variables.runAsUser'),
    ...pinned('runAsGroup', 'variables.runAsGroup'),
    ...pinned('fsGroup', 'variables.runAsGroup'),
    specRule({
      expression: `${security}.?supplementalGroupsPolicy.orValue('Merge') == 'Strict'`,
      path: 'securityContext.supplementalGroupsPolicy',
      value: `${security}.?supplementalGroupsPolicy.orValue('Merge, its default,')`,
      remedy: quoted('set it to Strict, so that groups come from the virtual organization and not from the image'),
    }),
    specRule({
      expression:
        "variables.isLocal || namespaceObject.metadata.?labels[?'xtreemos.io/user-namespace'].orValue('') == 'required' ? variables.spec.?hostUsers.orValue(true) == false : variables.spec.?hostUsers.orValue(true) == true",
      path: 'hostUsers',
      value: 'string(variables.spec.?hostUsers.orValue(true))',
      remedy:
        "(variables.spec.?hostUsers.orValue(true) ? 'set it to false: this virtual organization works in user namespaces' : 'leave it out: the ids of this virtual organization do not exist inside of a user namespace')",
    }),
  ];
}

function securityRules(): Rule[] {
  const profile = (field: string, required: boolean): Rule[] => [
    specRule({
      expression: `${security}.?${field}.?type.orValue('${required ? 'Unconfined' : 'RuntimeDefault'}') == 'RuntimeDefault'`,
      path: `securityContext.${field}.type`,
      value: `${security}.?${field}.?type.orValue('nothing')`,
      remedy: quoted('set it to RuntimeDefault'),
    }),
    containerRule(
      `i.?securityContext.?${field}.?type.orValue('RuntimeDefault') != 'RuntimeDefault'`,
      `'securityContext.${field}.type: ' + i.securityContext.${field}.type`,
      'leave it out: the pod says RuntimeDefault for all containers',
    ),
  ];
  const optional = (field: string, good: string, remedy: string): Rule =>
    containerRule(
      `i.?securityContext.?${field}.orValue(${good}) != ${good}`,
      `'securityContext.${field}: ' + string(i.securityContext.${field})`,
      remedy,
    );
  const added = 'i.?securityContext.?capabilities.?add.orValue([])';
  return [
    ...profile('seccompProfile', true),
    ...profile('appArmorProfile', false),
    specRule({
      expression: `${security}.?runAsNonRoot.orValue(true) == true`,
      path: 'securityContext.runAsNonRoot',
      value: "'false'",
      remedy: quoted('set it to true or leave it out'),
    }),
    optional('runAsNonRoot', 'true', 'leave it out'),
    optional('privileged', 'false', 'leave it out'),
    optional('procMount', "'Default'", 'leave it out'),
    containerRule(
      'i.?securityContext.?allowPrivilegeEscalation.orValue(true)',
      "'securityContext.allowPrivilegeEscalation: true, its default,'",
      'set it to false',
    ),
    containerRule(
      `size(${added}) > 0`,
      `'securityContext.capabilities.add: ' + ${added}[0]`,
      'remove it: members have no capability',
    ),
    containerRule(
      "!('ALL' in i.?securityContext.?capabilities.?drop.orValue([]))",
      "'securityContext.capabilities.drop: without ALL,'",
      'set it to [ALL]',
    ),
  ];
}

/** CEL over the volume `i`: the one token that a pod may have, which the operator gives to tasks of jobs with `gridAccess`. Volumes of a pod never change. */
const taskToken = [
  "request.kind.kind == 'Pod'",
  "(request.operation == 'UPDATE' || request.userInfo.username == variables.operatorUser)",
  `i.name == '${gatewayVolume}'`,
  `i.projected.sources.all(s, !has(s.serviceAccountToken) || s.serviceAccountToken.?audience.orValue('') == '${taskTokenAudience}' && s.serviceAccountToken.?expirationSeconds.orValue(0) == ${taskTokenSeconds})`,
].join(' && ');

function volumeRules(): Rule[] {
  const kinds = unknownKeys('i', allowedKeys(volumeFields));
  const sources = 'i.?projected.?sources.orValue([])';
  const unknownSources = `${sources}.filter(s, size(${unknownKeys('s', allowedKeys(projectionFields))}) > 0)`;
  return [
    eachRule({
      list: volumes,
      wrong: `size(${kinds}) > 0`,
      value: `'volumes: ' + i.name + ': kind ' + ${kinds}[0]`,
      remedy: quoted(Object.values(volumeFields.refused)[0] ?? ''),
    }),
    eachRule({
      list: volumes,
      wrong: `size(${unknownSources}) > 0`,
      value: `'volumes: ' + i.name + ': source ' + ${unknownKeys(`${unknownSources}[0]`, allowedKeys(projectionFields))}[0]`,
      remedy: quoted('project configMap and downwardAPI only; credentials come from the gateway'),
    }),
    eachRule({
      list: volumes,
      wrong: `${sources}.exists(s, has(s.serviceAccountToken)) && !(${taskToken})`,
      value: `'volumes: ' + i.name + ': source serviceAccountToken'`,
      remedy: quoted('project configMap and downwardAPI only; credentials come from the gateway'),
    }),
    specRule({
      expression: `${volumes}.exists(v, v.name == '${accountVolume}' && v.?configMap.?name.orValue('') == variables.account + '-account')`,
      path: 'volumes',
      value: `'without ${accountVolume}, which'`,
      remedy: `'add {name: ${accountVolume}, configMap: {name: ' + variables.account + '-account}}'`,
    }),
    ...Object.entries(accountFiles).map(([path, key]) =>
      eachRule({
        list: 'variables.mounting',
        wrong: `!i.?volumeMounts.orValue([]).exists(m, m.name == '${accountVolume}' && m.mountPath == '${path}' && m.?subPath.orValue('') == '${key}')`,
        value: `'container ' + i.name + ': volumeMounts: without ${path}'`,
        remedy: quoted(`add {name: ${accountVolume}, mountPath: ${path}, subPath: ${key}, readOnly: true}`),
      }),
    ),
  ];
}

function containerRules(): Rule[] {
  const small = (field: keyof typeof smallFields, listed: string, name: string, remedy: string): Rule => {
    const { allowed } = smallFields[field];
    const wrong = `${listed}.filter(s, size(${unknownKeys('s', allowed)}) > 0)`;
    return containerRule(`size(${wrong}) > 0`, `'${name}.' + ${unknownKeys(`${wrong}[0]`, allowed)}[0]`, remedy);
  };
  const handlers = [
    ...['livenessProbe', 'readinessProbe', 'startupProbe'].map((probe) => `i.?${probe}`),
    ...['postStart', 'preStop'].map((hook) => `i.?lifecycle.?${hook}`),
  ].flatMap((at) => ['httpGet', 'tcpSocket'].map((way) => `${at}.?${way}.?host.orValue('')`));
  const noSecrets = 'use a ConfigMap: no Secret of this namespace may be read';
  return [
    small('io.k8s.api.core.v1.ContainerPort', 'i.?ports.orValue([])', 'ports', 'use containerPort and a Service'),
    small('io.k8s.api.core.v1.EnvFromSource', 'i.?envFrom.orValue([])', 'envFrom', noSecrets),
    small(
      'io.k8s.api.core.v1.EnvVarSource',
      'i.?env.orValue([]).filter(e, has(e.valueFrom)).map(e, e.valueFrom)',
      'env.valueFrom',
      noSecrets,
    ),
    small('io.k8s.api.core.v1.VolumeMount', 'i.?volumeMounts.orValue([])', 'volumeMounts', 'remove it'),
    containerRule(
      "i.?volumeMounts.orValue([]).exists(m, m.?mountPropagation.orValue('None') == 'Bidirectional')",
      "'volumeMounts.mountPropagation: Bidirectional'",
      'use None or HostToContainer',
    ),
    small(
      'io.k8s.api.core.v1.ResourceRequirements',
      '(has(i.resources) ? [i.resources] : [])',
      'resources',
      'request devices as extended resources',
    ),
    containerRule(
      handlers.map((host) => `${host} != ''`).join(' || '),
      `'host: ' + [${handlers.join(', ')}].filter(h, h != '')[0]`,
      'leave the host out: a node would send the request, past every network policy',
    ),
    specRule({
      expression: '!has(variables.spec.resources) || size(variables.spec.resources.?claims.orValue([])) == 0',
      path: 'resources.claims',
      value: "'a claim'",
      remedy: quoted('request devices as extended resources'),
    }),
  ];
}

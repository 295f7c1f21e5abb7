/** What members may make at all in their namespace, whose it is, and what of it they may not touch. */
import { mayBeCleared } from '../claim.ts';
import type { Named, PolicySettings, ResourceRule, Rule, ValidatingPolicy } from './policy.ts';
import {
  isCaretakerRequest,
  isMemberRequest,
  mayActAsAccount,
  mayManage,
  requesterVariables,
  templateKinds,
  templateVariables,
} from './requester.ts';
import { celList, quoted } from './rules.ts';

/** Label that says whose an object without a template is. */
export const ownerLabel = 'xtreemos.io/owner';

/** Objects without a template that members may make, by API group. */
const labelledKinds = {
  '': ['configmaps', 'services', 'persistentvolumeclaims'],
  'snapshot.storage.k8s.io': ['volumesnapshots'],
} as const;

/** Kinds with a template that members may make: no DaemonSet (one pod per node), and nothing that only stores a template. */
const workloads = {
  ...templateKinds,
  '': ['pods', 'replicationcontrollers'],
  apps: templateKinds.apps.filter((kind) => kind !== 'daemonsets'),
} as const;

/** Subresources that members may use. */
const subresources = {
  '': [
    'pods/ephemeralcontainers',
    'pods/resize',
    'pods/exec',
    'pods/attach',
    'pods/portforward',
    'pods/eviction',
    'replicationcontrollers/scale',
  ],
  apps: ['deployments/scale', 'replicasets/scale', 'statefulsets/scale'],
} as const;

/** Questions that everybody may ask about themselves. They are cluster-wide, and change nothing. */
const questions = [
  'authentication.k8s.io/selfsubjectreviews',
  'authorization.k8s.io/selfsubjectaccessreviews',
  'authorization.k8s.io/selfsubjectrulesreviews',
];

const rulesOf = (kinds: Readonly<Record<string, readonly string[]>>, operations: readonly string[]): ResourceRule[] =>
  Object.entries(kinds).map(([group, resources]) => ({
    apiGroups: [group],
    apiVersions: ['*'],
    resources,
    operations,
  }));

/** Requests for objects whose owner is in a label. */
export const labelledRules = rulesOf(labelledKinds, ['CREATE', 'UPDATE', 'DELETE']);

const allowedResources = [
  ...[labelledKinds, workloads, subresources].flatMap((kinds) => fullNames(kinds)),
  ...questions,
];

function fullNames(kinds: Readonly<Record<string, readonly string[]>>): string[] {
  return Object.entries(kinds).flatMap(([group, names]) => names.map((name) => `${group}/${name}`));
}

const resourceVariable: Named = {
  name: 'resource',
  expression:
    "request.resource.group + '/' + request.resource.resource + (request.?subResource.orValue('') == '' ? '' : '/' + request.subResource)",
};

/**
 * True for who works in a virtual organization: its members, any other account of its namespace, and people who aren't owners of the site
 * (those may change the Site). Other programs of the cluster are as RBAC has them.
 */
export const isTenant = `(${[
  isMemberRequest,
  "('system:serviceaccounts:' + request.namespace) in request.userInfo.?groups.orValue([])",
  "(!request.userInfo.username.startsWith('system:') && !authorizer.group('xtreemos.io').resource('sites').check('update').allowed())",
].join(' || ')})`;

const isOwnKinds = "request.resource.group == 'xtreemos.io'";

function tenantKindsRule(): Rule {
  return {
    expression: `${isOwnKinds} || variables.resource in ${celList(allowedResources)}`,
    messageExpression: `variables.resource + ': members of a virtual organization may not write this kind; they may write ${[
      labelledKinds,
      workloads,
    ]
      .flatMap((kinds) => Object.values<readonly string[]>(kinds).flat())
      .join(', ')}'`,
  };
}

/** The policies on what members may write. Together with RBAC they leave only what is listed, also where a role gives too much. */
export function tenantPolicies(): ValidatingPolicy[] {
  const every = (scope: 'Namespaced' | 'Cluster'): ResourceRule => ({
    apiGroups: ['*'],
    apiVersions: ['*'],
    resources: ['*/*'],
    operations: ['*'],
    scope,
  });
  return [
    {
      name: 'xtreemos-tenants',
      about: 'In the namespace of a virtual organization members write only kinds that are listed, as members of it.',
      resourceRules: [every('Namespaced')],
      conditions: [{ name: 'is-a-tenant', expression: isTenant }],
      variables: [...requesterVariables, resourceVariable],
      rules: [
        {
          expression: "variables.ownAccount != '' || !request.userInfo.username.startsWith('system:')",
          messageExpression:
            "'user: ' + request.userInfo.username + ' is no member of the virtual organization of namespace ' + request.namespace + ': log in to it with \"xos login\"'",
        },
        tenantKindsRule(),
      ],
    },
    {
      name: 'xtreemos-tenants-cluster',
      about:
        'Members of virtual organizations write nothing that belongs to the whole cluster, but kinds of XtreemOS that roles give them.',
      resourceRules: [every('Cluster')],
      everywhere: true,
      conditions: [{ name: 'is-a-member', expression: isMemberRequest }],
      variables: [resourceVariable],
      rules: [tenantKindsRule()],
    },
  ];
}

/** The policy on who may make, change and delete objects, and on what in their metadata is not for members. */
export function ownersPolicy({ operatorUser }: PolicySettings): ValidatingPolicy {
  const operations = ['CREATE', 'UPDATE', 'DELETE'];
  return {
    name: 'xtreemos-owners',
    about:
      'Members make, change and delete only what is theirs; administrators of the virtual organization may also change and delete.',
    resourceRules: [
      ...rulesOf(workloads, operations),
      ...labelledRules,
      ...rulesOf({ '': ['pods/ephemeralcontainers', 'pods/resize'], apps: ['daemonsets'] }, operations),
    ],
    variables: [
      ...requesterVariables,
      { name: 'stored', expression: "request.operation == 'CREATE' ? object : oldObject" },
      ...ownerVariables(),
      { name: 'operatorUser', expression: operatorUser },
      { name: 'isCaretaker', expression: isCaretakerRequest },
      { name: 'isTenant', expression: isTenant },
    ],
    rules: [...ownershipRules(), ...nameRules(), ...metadataRules(), ...templateMetadataRules(), ...serviceRules()],
  };
}

/** The template of what is stored, as `templateVariables` have it for what is sent. */
function ownerVariables(): Named[] {
  const stored = templateVariables
    .filter(({ name }) => name === 'template')
    .map(({ expression }) => expression.replaceAll('object', 'variables.stored'));
  const hasTemplate = `request.kind.kind in ${celList(['Pod', 'CronJob', 'Job', 'Deployment', 'ReplicaSet', 'StatefulSet', 'DaemonSet', 'ReplicationController'])}`;
  return [
    { name: 'hasTemplate', expression: hasTemplate },
    { name: 'storedTemplate', expression: stored[0] ?? '' },
    {
      name: 'account',
      expression: `variables.hasTemplate ? variables.storedTemplate.spec.?serviceAccountName.orValue('') : variables.stored.metadata.?labels[?'${ownerLabel}'].orValue('')`,
    },
    ...templateVariables.filter(({ name }) => name === 'template'),
  ];
}

const forWhom =
  "(variables.account == '' ? 'nobody' : variables.account) + ' and not ' + (variables.ownAccount == '' ? request.userInfo.username : variables.ownAccount)";

/**
 * True for the selector of a node that ends work which gives way to a reservation, or is that of another site. A policy of the chart holds it to
 * its own node. Its account is called like the operator's, with `-selector`.
 */
const isClearing = [
  "request.operation == 'DELETE' && request.kind.kind == 'Pod'",
  "request.userInfo.username == variables.operatorUser + '-selector'",
  `(${mayBeCleared('variables.stored')})`,
].join(' && ');

function ownershipRules(): Rule[] {
  return [
    {
      expression: `request.operation != 'CREATE' || (!variables.hasTemplate && !variables.isTenant) || ${mayActAsAccount}`,
      messageExpression: `(variables.hasTemplate ? 'spec.serviceAccountName' : 'metadata.labels[${ownerLabel}]') + ': names ' + ${forWhom} + ': make objects for yourself only: leave it out, or set it to your own account'`,
    },
    {
      expression: `request.operation == 'CREATE' || variables.isCaretaker || variables.ownAccount != '' && variables.ownAccount == variables.account || ${mayManage} || ${isClearing}`,
      messageExpression: `'metadata.name: ' + variables.stored.metadata.name + ' belongs to ' + ${forWhom} + ': only its owner and administrators of the virtual organization may change or delete it'`,
    },
    {
      expression: `request.operation != 'UPDATE' || !variables.hasTemplate || variables.template.spec == variables.storedTemplate.spec || request.?subResource.orValue('') == 'ephemeralcontainers' || variables.isCaretaker || ${mayActAsAccount}`,
      messageExpression: `'spec: of ' + variables.stored.metadata.name + ' runs as ' + ${forWhom} + ': an administrator may stop or delete it, but only its owner may change what runs'`,
    },
  ];
}

/** Names that begin with that of an account are kept for it: where a request has no object, the name alone tells whose it is. */
function nameRules(): Rule[] {
  const names = "[object.metadata.?name.orValue(''), object.metadata.?generateName.orValue('')]";
  const foreign =
    "n.startsWith('u-') && !(variables.account != '' && (n == variables.account || n.startsWith(variables.account + '-')))";
  return [
    {
      expression: `request.operation != 'CREATE' || (!variables.hasTemplate && !variables.isTenant) || !${names}.exists(n, ${foreign})`,
      messageExpression: `'metadata.name: ' + ${names}.filter(n, ${foreign})[0] + ' begins with u-, which is kept for accounts: choose another name, or begin it with ' + variables.account + '-'`,
    },
    {
      expression: `!variables.isTenant || request.operation == 'DELETE' || !object.metadata.?name.orValue('').matches('^u-[a-z0-9]{1,16}-[0-9]{10}-account$')`,
      messageExpression: `'metadata.name: ' + object.metadata.name + ' is written by the operator: choose another name'`,
    },
  ];
}

const isReserved = "k.matches('^([a-z0-9.-]+[.])?xtreemos[.]io/')";

const metadataFields = ['labels', 'annotations'] as const;

/** CEL over the key `k` of the map `map`: true but for the label that names who asks. */
function isNotOwn(field: string, map: string): string {
  return field === 'labels' ? `!(k == '${ownerLabel}' && ${map}[k] == variables.ownAccount)` : 'true';
}

function reservedMessage(keys: string, at: string): string {
  return `'${at}: ' + ${keys}[0] + ' is written by XtreemOS only: leave it as it is'`;
}

/** What tenants leave as it is in the metadata of an object. Reads `variables.isTenant` and `variables.ownAccount`. */
export function metadataRules(): Rule[] {
  const kept = (field: string, what: string, except: string): Rule => {
    const [now, before] = ['object', 'oldObject'].map((name) => `${name}.metadata.?${field}.orValue([])`);
    const added = `${now}.filter(f, !(f in (oldObject == null ? [] : ${before})) && !(${except}))`;
    const gone = `(oldObject == null ? [] : ${before}.filter(f, !(f in ${now})))`;
    return {
      expression: `!variables.isTenant || request.operation == 'DELETE' || size(${added}) == 0 && size(${gone}) == 0`,
      messageExpression: `'metadata.${field}: ${what} are set and removed by controllers only: leave them as they are'`,
    };
  };
  return [
    ...metadataFields.map(reservedRule),
    kept('ownerReferences', 'owners', 'false'),
    kept('finalizers', 'finalizers', "f in ['kubernetes.io/pvc-protection', 'foregroundDeletion', 'orphan']"),
  ];
}

/** Labels or annotations of the reserved prefix stay as they are. */
function reservedRule(field: string): Rule {
  const map = `object.metadata.?${field}.orValue({})`;
  const before = `(oldObject == null ? {} : oldObject.metadata.?${field}.orValue({}))`;
  const changed = `${map}.filter(k, ${isReserved} && ${map}[k] != ${before}[?k].orValue('') && ${isNotOwn(field, map)})`;
  const gone = `${before}.filter(k, ${isReserved} && !(k in ${map}))`;
  return {
    expression: `!variables.isTenant || request.operation == 'DELETE' || size(${changed}) == 0 && size(${gone}) == 0`,
    messageExpression: reservedMessage(`(${changed} + ${gone})`, `metadata.${field}`),
  };
}

/** In a template there are no labels or annotations of the reserved prefix. */
function templateMetadataRules(): Rule[] {
  return metadataFields.map((field) => {
    const map = `variables.template.metadata.${field}`;
    const inTemplate = `variables.template.?metadata.?${field}.orValue({}).filter(k, ${isReserved} && ${isNotOwn(field, map)})`;
    return {
      expression: `!variables.isTenant || request.operation == 'DELETE' || !variables.hasTemplate || request.kind.kind == 'Pod' || size(${inTemplate}) == 0`,
      messageExpression: reservedMessage(inTemplate, `template.metadata.${field}`),
    };
  });
}

function serviceRules(): Rule[] {
  return [
    {
      expression: `request.operation == 'DELETE' || request.kind.kind != 'Service' || object.spec.?type.orValue('ClusterIP') == 'ClusterIP' && size(object.spec.?externalIPs.orValue([])) == 0`,
      messageExpression: `'spec: Service ' + object.metadata.name + ' of type ' + object.spec.?type.orValue('ClusterIP') + (size(object.spec.?externalIPs.orValue([])) > 0 ? ' with externalIPs' : '') + ' reaches beyond the cluster: use type ClusterIP without externalIPs'`,
    },
  ];
}

/** Annotations on pods that members may set: what runtimes, schedulers and network plug-ins read there is the site's. */
export function annotationsPolicy({ podAnnotations }: PolicySettings): ValidatingPolicy {
  const known = `${celList(['kubectl.kubernetes.io/', 'kubernetes.io/description', 'kubernetes.io/limit-ranger', 'batch.kubernetes.io/'])} + variables.published`;
  const strange = (map: string): string =>
    `${map}.filter(k, !k.matches('^[A-Za-z0-9_-]+$') && !(${known}).exists(a, k == a || a.endsWith('/') && k.startsWith(a)) && !${isReserved})`;
  const annotations = 'variables.template.?metadata.?annotations.orValue({})';
  return {
    name: 'xtreemos-annotations',
    about:
      'Annotations on pods of members are their own words, or listed: others steer runtimes, schedulers and networks.',
    resourceRules: rulesOf(workloads, ['CREATE', 'UPDATE']),
    conditions: [{ name: 'is-a-tenant', expression: isTenant }],
    variables: [...templateVariables, { name: 'published', expression: podAnnotations }],
    rules: [
      {
        expression: `size(${strange(annotations)}) == 0`,
        messageExpression: `'metadata.annotations: ' + ${strange(annotations)}[0] + ' of the pod is not allowed in a virtual organization: remove it, or ask the owner of the site to publish it (' + ${quoted('admission.podAnnotations')} + ')'`,
      },
    ],
  };
}

/** The policy on requests that have no object to judge: into a pod, to another count of pods, or out of the way. */
export function connectionsPolicy({ operatorUser }: PolicySettings): ValidatingPolicy {
  const scales = Object.entries(subresources).map(([group, names]): ResourceRule => ({
    apiGroups: [group],
    apiVersions: ['*'],
    resources: names.filter((name) => name.endsWith('/scale')),
    operations: ['UPDATE'],
  }));
  return {
    name: 'xtreemos-connections',
    about:
      'Members enter, evict and scale only what bears the name of their account; administrators of the virtual organization also others.',
    resourceRules: [
      {
        apiGroups: [''],
        apiVersions: ['*'],
        resources: ['pods/exec', 'pods/attach', 'pods/portforward', 'pods/proxy', 'services/proxy'],
        operations: ['CONNECT'],
      },
      {
        apiGroups: [''],
        apiVersions: ['*'],
        resources: ['pods/eviction', 'pods/binding', 'bindings'],
        operations: ['CREATE'],
      },
      ...scales,
    ],
    variables: [
      ...requesterVariables,
      resourceVariable,
      { name: 'operatorUser', expression: operatorUser },
      { name: 'isCaretaker', expression: isCaretakerRequest },
    ],
    rules: [
      {
        expression: `!(${isTenant}) || !(variables.resource in ['/pods/proxy', '/services/proxy', '/pods/binding', '/bindings'])`,
        messageExpression:
          "variables.resource + ': of ' + request.name + ' is not for members of a virtual organization: use port-forward'",
      },
      {
        expression: `variables.isCaretaker || variables.ownAccount != '' && request.name.startsWith(variables.ownAccount + '-') || ${mayManage}`,
        messageExpression:
          "variables.resource + ': ' + request.name + ' is not known to be yours: only what has a name that begins with ' + (variables.ownAccount == '' ? 'your account' : variables.ownAccount + '-') + ' is open to you alone; make it again under such a name, or ask an administrator of the virtual organization'",
      },
    ],
  };
}

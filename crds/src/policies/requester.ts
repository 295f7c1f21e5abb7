/** Who asks, and for which member a pod runs, in CEL. All of it is read from names, so that nothing is looked up. */
import type { Named } from './policy.ts';

/**
 * Form of a member's account: `u-`, the handle, the uid. Handles have no hyphen and uids ten digits, so that no account name is the
 * beginning of another one.
 */
export const accountPattern = '^u-[a-z0-9]{1,16}-[0-9]{10}$';

/** The range of ids: 2,048 slices of 65,536 from here on. */
const firstId = 2_013_265_920;
/** Local ids of users; below are groups, above is nothing. */
const [firstUser, lastUser] = [1024, 60_000];

const kubeSystem = 'system:serviceaccount:kube-system:';
/** Controllers that make pods from templates, and templates from templates; what they make is judged at the parent. */
const makers = ['job', 'cronjob', 'replicaset', 'deployment', 'statefulset', 'replication'].map(
  (name) => `${kubeSystem}${name}-controller`,
);
const controllerManager = 'system:kube-controller-manager';

const list = (items: readonly string[]): string => `[${items.map((item) => `'${item}'`).join(', ')}]`;

/** True for the account of a member of any virtual organization. */
export const isMemberRequest =
  "request.userInfo.username.matches('^system:serviceaccount:vo-[^:]+:u-[a-z0-9]{1,16}-[0-9]{10}$')";

/** True for controllers of Kubernetes that make an object for another one, whose controller it names as its owner. */
const isMakerRequest = `(request.userInfo.username in ${list([...makers, controllerManager])} && object.metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false)))`;

/** True for controllers of Kubernetes, nodes and the operator: they look after what members made. Reads `variables.operatorUser`. */
export const isCaretakerRequest = [
  `request.userInfo.username.startsWith('${kubeSystem}')`,
  `request.userInfo.username in [variables.operatorUser, '${controllerManager}', 'system:kube-scheduler', 'system:apiserver']`,
  "request.userInfo.?groups.orValue([]).exists(g, g == 'system:nodes')",
].join(' || ');

/** True for who looks after the accounts of this virtual organization: its administrators and those of the site. */
export const mayManage =
  "authorizer.group('xtreemos.io').resource('accounts').namespace(request.namespace).check('manage').allowed()";

/** Variables about who asks. `ownAccount` is empty for everybody who isn't a member of this very virtual organization. */
export const requesterVariables: readonly Named[] = [
  { name: 'accountPrefix', expression: "'system:serviceaccount:' + request.namespace + ':'" },
  {
    name: 'ownAccount',
    expression: `request.userInfo.username.startsWith(variables.accountPrefix) && request.userInfo.username.substring(size(variables.accountPrefix)).matches('${accountPattern}') ? request.userInfo.username.substring(size(variables.accountPrefix)) : ''`,
  },
];

/** Kinds that hold the template of a pod, by API group; the paths of the templates are in `templateVariables`. */
export const templateKinds = {
  '': ['replicationcontrollers', 'podtemplates'],
  apps: ['deployments', 'replicasets', 'statefulsets', 'daemonsets'],
  batch: ['jobs', 'cronjobs'],
} as const;

/** Where the template of a kind is; everything else has it at `.spec.template`. */
const templatePaths: Readonly<Record<string, string>> = {
  Pod: '',
  CronJob: '.spec.jobTemplate.spec.template',
  PodTemplate: '.template',
};

/** A CEL expression that has one value per kind. */
function byKind(value: (path: string) => string): string {
  const special = Object.entries(templatePaths).map(
    ([kind, path]) => `request.kind.kind == '${kind}' ? ${value(path)} : `,
  );
  return `${special.join('')}${value('.spec.template')}`;
}

/**
 * How many of each thing a pod may have: judging costs the API server time that grows with them, and a member must not be able to take all of
 * it. Far more than pods have; a spec beyond is refused unseen.
 */
const sizesMax: Readonly<Record<string, number>> = {
  containers: 64,
  initContainers: 64,
  ephemeralContainers: 64,
  volumes: 128,
  tolerations: 64,
  nodeSelector: 64,
};
const containerSizesMax: Readonly<Record<string, number>> = { env: 512, envFrom: 64, ports: 128, volumeMounts: 128 };
const listedMax = 64;

/** CEL: the first thing that there is too much of, or nothing. */
function tooLarge(): string {
  const spec = 'variables.template.spec';
  const inSpec = Object.entries(sizesMax).map(
    ([name, max]) => `has(${spec}.${name}) && size(${spec}.${name}) > ${max} ? '${name}: more than ${max}' : `,
  );
  const containers = ['containers', 'initContainers', 'ephemeralContainers'].flatMap((kind) =>
    Object.entries(containerSizesMax).map(
      ([name, max]) =>
        `${spec}.?${kind}.orValue([]).exists(c, has(c.${name}) && size(c.${name}) > ${max}) ? '${kind}.${name}: more than ${max}' : `,
    ),
  );
  const terms = ['nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.?nodeSelectorTerms']
    .concat('nodeAffinity.?preferredDuringSchedulingIgnoredDuringExecution')
    .concat(
      ['podAffinity', 'podAntiAffinity'].flatMap((kind) =>
        ['required', 'preferred'].map((how) => `${kind}.?${how}DuringSchedulingIgnoredDuringExecution`),
      ),
    )
    .map(
      (path) =>
        `size(${spec}.?affinity.?${path}.orValue([])) > ${listedMax} ? 'affinity: more than ${listedMax} terms' : `,
    );
  return `${[...inSpec, ...containers, ...terms].join('')}''`;
}

/** Variables about the pod, or the template of pods, in the request. */
export const templateVariables: readonly Named[] = [
  { name: 'template', expression: byKind((path) => `object${path}`) },
  { name: 'at', expression: byKind((path) => `'${`${path}.spec`.slice(1)}'`) },
  { name: 'pointer', expression: byKind((path) => `'${`${path}.spec`.replaceAll('.', '/')}'`) },
  { name: 'tooLarge', expression: tooLarge() },
  { name: 'spec', expression: "variables.tooLarge == '' ? variables.template.spec : {}" },
  {
    name: 'namedAccount',
    expression: "string(variables.spec.?serviceAccountName.orValue(''))",
  },
];

/** Variables about the member that the pod runs for: `uid`, `gid` and `base` as the virtual organization issued them. */
export const identityVariables: readonly Named[] = [
  { name: 'isMember', expression: `variables.account.matches('${accountPattern}')` },
  {
    name: 'uid',
    expression: "variables.isMember ? int(variables.account.substring(variables.account.lastIndexOf('-') + 1)) : 0",
  },
  { name: 'base', expression: 'variables.uid - variables.uid % 65536' },
  {
    name: 'isLocal',
    expression: "namespaceObject.metadata.?labels[?'xtreemos.io/uid-mode'].orValue('Global') == 'Local'",
  },
  { name: 'offset', expression: 'variables.isLocal ? variables.base : 0' },
  { name: 'runAsUser', expression: 'variables.uid - variables.offset' },
  { name: 'runAsGroup', expression: 'variables.base - variables.offset' },
];

/** True when the number in the name of the account is that of a user: in the range, and neither a group's nor unused. */
export const isIssuedUser = `variables.uid >= ${firstId} && variables.uid <= 2147483647 && variables.uid % 65536 >= ${firstUser} && variables.uid % 65536 <= ${lastUser}`;

/**
 * Whether who asks may make pods that run as `variables.account`. Who may impersonate an account acts as it anyway. Reads
 * `variables.operatorUser`.
 */
export const mayActAsAccount = [
  'variables.ownAccount == variables.account',
  'request.userInfo.username == variables.operatorUser',
  isMakerRequest,
  "authorizer.group('').resource('serviceaccounts').namespace(request.namespace).name(variables.account).check('impersonate').allowed()",
].join(' || ');

/** True for members and everybody else whose templates are their own; controllers copy theirs, which must stay as they are. */
export const fillsTemplates = `!request.userInfo.username.startsWith('${kubeSystem}') && request.userInfo.username != '${controllerManager}'`;

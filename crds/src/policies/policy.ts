/** What an admission policy is made of, before it is printed. The words are those of `admissionregistration.k8s.io/v1`. */

/**
 * What a site decides when it installs the policies. Each value is the whole of a field in the objects, never a part of one, so that Helm can
 * put its own there.
 */
export interface PolicySettings {
  /** User name of the operator, a CEL string. */
  readonly operatorUser: string;
  /** Name of the local Site, plain: the parameter of a binding. */
  readonly siteName: string;
  /** StorageClass of the volumes that claims of members may begin with a snapshot, a CEL string; empty for none. */
  readonly volumeClass: string;
  /** PriorityClasses that pods of members may name, a CEL list of strings. */
  readonly priorityClassNames: string;
  /** Keys of node labels that members may select on besides the usual ones, a CEL list of strings. */
  readonly nodeLabels: string;
  /** Annotations that members may set on pods: keys, or prefixes that end in `/`; a CEL list of strings. */
  readonly podAnnotations: string;
}

/** Settings as the chart has them by default, in namespace `xtreemos-system`. */
export const defaultSettings: PolicySettings = {
  operatorUser: "'system:serviceaccount:xtreemos-system:xtreemos'",
  siteName: 'local',
  volumeClass: "'xtreemos'",
  priorityClassNames: '[]',
  nodeLabels: '[]',
  podAnnotations: '[]',
};

/** A named CEL expression. */
export interface Named {
  readonly name: string;
  readonly expression: string;
}

/** What must be true, and what is said when it is not: field, value and remedy. */
export interface Rule {
  readonly expression: string;
  /** CEL expression of the message. */
  readonly messageExpression: string;
}

/** Which requests a policy sees. */
export interface ResourceRule {
  readonly apiGroups: readonly string[];
  readonly apiVersions: readonly string[];
  readonly resources: readonly string[];
  readonly operations: readonly string[];
  readonly scope?: 'Namespaced' | 'Cluster';
}

/** Objects that a policy reads besides the request: all of a kind, or the one called `name`. */
export interface Parameter {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name?: string;
}

/** One policy with its binding. */
interface PolicyBase {
  readonly name: string;
  /** What it is for, in a sentence. */
  readonly about: string;
  readonly resourceRules: readonly ResourceRule[];
  readonly excludeResourceRules?: readonly ResourceRule[];
  /** Only namespaces where this label is (or isn't) `true`, of those of virtual organizations. */
  readonly namespaceLabel?: { readonly key: string; readonly operator: 'In' | 'NotIn' };
  /** Whether it also sees what is outside of namespaces of virtual organizations; then its conditions must be narrow. */
  readonly everywhere?: boolean;
  readonly parameter?: Parameter;
  readonly conditions?: readonly Named[];
  readonly variables?: readonly Named[];
}

/** A policy that refuses. */
export interface ValidatingPolicy extends PolicyBase {
  readonly rules: readonly Rule[];
}

/** A policy that fills in. */
export interface MutatingPolicy extends PolicyBase {
  /** CEL expressions, each a list of JSONPatch. */
  readonly patches: readonly string[];
}

/** A Kubernetes object, ready to be printed. */
export interface PolicyObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: Readonly<Record<string, unknown>>;
}

const apiVersion = 'admissionregistration.k8s.io/v1';

/** Label that the namespace of each virtual organization bears; its value is the name. */
export const organizationLabel = 'xtreemos.io/virtual-organization';

function namespaceSelector({ namespaceLabel }: PolicyBase): object {
  const inOrganizations = { key: organizationLabel, operator: 'Exists' };
  return {
    matchExpressions: [
      inOrganizations,
      ...(namespaceLabel === undefined ? [] : [{ ...namespaceLabel, values: ['true'] }]),
    ],
  };
}

function commonSpec(policy: PolicyBase): Record<string, unknown> {
  const { parameter, resourceRules, excludeResourceRules, conditions = [], variables = [] } = policy;
  return {
    failurePolicy: 'Fail',
    ...(parameter === undefined ? {} : { paramKind: { apiVersion: parameter.apiVersion, kind: parameter.kind } }),
    matchConstraints: {
      matchPolicy: 'Equivalent',
      ...(policy.everywhere === true ? {} : { namespaceSelector: namespaceSelector(policy) }),
      resourceRules: resourceRules.map(printRule),
      ...(excludeResourceRules === undefined ? {} : { excludeResourceRules: excludeResourceRules.map(printRule) }),
    },
    ...(conditions.length === 0 ? {} : { matchConditions: conditions }),
    ...(variables.length === 0 ? {} : { variables }),
  };
}

function printRule({ scope, ...rule }: ResourceRule): Record<string, unknown> {
  return { ...rule, scope: scope ?? 'Namespaced' };
}

function bindingSpec(policy: PolicyBase): Record<string, unknown> {
  const { name, parameter } = policy;
  if (parameter === undefined) return { policyName: name };
  const which = parameter.name === undefined ? { selector: {} } : { name: parameter.name };
  return { policyName: name, paramRef: { ...which, parameterNotFoundAction: 'Deny' } };
}

const metadata = ({ name, about }: PolicyBase): PolicyObject['metadata'] => ({
  name,
  annotations: { 'kubernetes.io/description': about },
});

/** The objects that install a policy: it and its binding. A refusal is also written to the audit log of the API server. */
export function validatingObjects(policy: ValidatingPolicy): PolicyObject[] {
  return [
    {
      apiVersion,
      kind: 'ValidatingAdmissionPolicy',
      metadata: metadata(policy),
      spec: {
        ...commonSpec(policy),
        validations: policy.rules.map((rule) => ({ ...rule, reason: 'Forbidden' })),
      },
    },
    {
      apiVersion,
      kind: 'ValidatingAdmissionPolicyBinding',
      metadata: { name: policy.name },
      spec: { ...bindingSpec(policy), validationActions: ['Deny', 'Audit'] },
    },
  ];
}

/** The objects that install a policy which fills in. It runs again when another one changed the object. */
export function mutatingObjects(policy: MutatingPolicy): PolicyObject[] {
  const { patches } = policy;
  return [
    {
      apiVersion,
      kind: 'MutatingAdmissionPolicy',
      metadata: metadata(policy),
      spec: {
        ...commonSpec(policy),
        reinvocationPolicy: 'IfNeeded',
        mutations: patches.map((expression) => ({ patchType: 'JSONPatch', jsonPatch: { expression } })),
      },
    },
    { apiVersion, kind: 'MutatingAdmissionPolicyBinding', metadata: { name: policy.name }, spec: bindingSpec(policy) },
  ];
}

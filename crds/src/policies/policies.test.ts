import { describe, expect, test } from '@jest/globals';
import { allowedKeys, podFields } from './pod-fields.ts';
import { policyObjects } from './index.ts';
import { defaultSettings, type PolicyObject } from './policy.ts';

interface Constraints {
  readonly matchPolicy: string;
  readonly namespaceSelector?: unknown;
  readonly resourceRules: readonly {
    readonly apiGroups?: readonly string[];
    readonly apiVersions: readonly string[];
    readonly scope: string;
  }[];
}

const objects = [...policyObjects(defaultSettings).values()].flat();
const policies = objects.filter(({ kind }) => kind.endsWith('Policy'));
const nameOf = ({ kind, metadata }: PolicyObject): string => `${kind} ${metadata.name}`;
const constraints = (policy: PolicyObject): Constraints => policy.spec.matchConstraints as Constraints;

test('threat 55: nothing is a webhook', () => {
  const kinds = ['Validating', 'Mutating'].flatMap((way) => [`${way}AdmissionPolicy`, `${way}AdmissionPolicyBinding`]);
  expect(new Set(objects.map(({ kind }) => kind))).toEqual(new Set(kinds));
});

describe.each(policies.map((policy) => [nameOf(policy), policy] as const))('%s', (_, policy) => {
  test('threat 55: refuses when it can not decide', () => {
    expect(policy.spec.failurePolicy).toBe('Fail');
  });

  test('threat 60: sees every version of what it judges, however it is asked for', () => {
    expect(constraints(policy).matchPolicy).toBe('Equivalent');
    for (const rule of constraints(policy).resourceRules) expect(rule.apiVersions).toEqual(['*']);
  });

  test('has one binding that refuses, and says so in the audit log', () => {
    const bindings = objects.filter(
      ({ kind, spec }) => kind === `${policy.kind}Binding` && spec.policyName === policy.metadata.name,
    );
    expect(bindings).toHaveLength(1);
    const actions = policy.kind.startsWith('Validating') ? ['Deny', 'Audit'] : undefined;
    expect(bindings[0]?.spec.validationActions).toEqual(actions);
    if (policy.spec.paramKind !== undefined) {
      expect(bindings[0]?.spec.paramRef).toMatchObject({ parameterNotFoundAction: 'Deny' });
    }
  });

  test('sees only namespaces of virtual organizations, own kinds, or what members do to the cluster', () => {
    if (constraints(policy).namespaceSelector !== undefined) return;
    const { resourceRules } = constraints(policy);
    expect(resourceRules.every(({ scope }) => scope === 'Cluster')).toBe(true);
    // Kinds of ours concern nobody else.
    if (resourceRules.every(({ apiGroups }) => apiGroups?.join() === 'xtreemos.io')) return;
    expect(JSON.stringify(policy.spec.matchConditions)).toContain('system:serviceaccount:vo-');
  });
});

test('every refusal has a message of its own', () => {
  for (const { spec } of policies) {
    for (const rule of (spec.validations ?? []) as { messageExpression?: string; reason?: string }[]) {
      expect(rule.reason).toBe('Forbidden');
      expect(rule.messageExpression).not.toBe('');
    }
  }
});

test('nothing of the node can be named', () => {
  for (const field of ['hostNetwork', 'hostPID', 'hostIPC', 'hostAliases', 'imagePullSecrets', 'resourceClaims']) {
    expect(allowedKeys(podFields)).not.toContain(field);
  }
});

/** Who changed what governs: the API server stamps it, so that the audit log of the operator can tell it without guessing. */
import type { MutatingPolicy, ResourceRule, Rule, ValidatingPolicy } from './policy.ts';

/** Annotation that names the user whose request changed the spec last. Nobody can write another name. */
export const changedByAnnotation = 'xtreemos.io/changed-by';

const rulesFor = (resources: readonly string[], scope: 'Namespaced' | 'Cluster'): ResourceRule => ({
  apiGroups: ['xtreemos.io'],
  apiVersions: ['*'],
  resources,
  operations: ['CREATE', 'UPDATE'],
  scope,
});

/** What is stamped, in the cluster and in namespaces of virtual organizations. */
const places = [
  { suffix: '-cluster', everywhere: true, resourceRules: [rulesFor(['virtualorganizations', 'sites'], 'Cluster')] },
  { suffix: '', everywhere: false, resourceRules: [rulesFor(['vomemberships'], 'Namespaced')] },
] as const;

const me = 'request.userInfo.username';
const now = `object.metadata.?annotations[?'${changedByAnnotation}'].orValue('')`;
const old = `(oldObject == null ? '' : oldObject.metadata.?annotations[?'${changedByAnnotation}'].orValue(''))`;
const isChanged = '(oldObject == null || object.spec != oldObject.spec)';

const rule: Rule = {
  // Empty where nothing fills it in: then it is not known, which is said.
  expression: `${now} == '' || ${now} == (${isChanged} ? ${me} : ${old})`,
  messageExpression: `'metadata.annotations[${changedByAnnotation}]: ' + ${now} + ' is not who changes the spec: leave it out'`,
};

/** The policies that let nobody name somebody else as who changed it. */
export function changesPolicies(): ValidatingPolicy[] {
  return places.map(({ suffix, ...place }) => ({
    name: `xtreemos-changes${suffix}`,
    about: 'Who is named as having changed the spec is who did.',
    ...place,
    rules: [rule],
  }));
}

/** The policies that write who changed the spec. */
export function changesDefaults(): MutatingPolicy[] {
  const key = changedByAnnotation.replace('/', '~1');
  const map =
    "(has(object.metadata.annotations) ? [] : [JSONPatch{op: 'add', path: '/metadata/annotations', value: Object.metadata.annotations{}}])";
  const stamp = `[JSONPatch{op: 'add', path: '/metadata/annotations/${key}', value: ${isChanged} ? ${me} : ${old}}]`;
  return places.map(({ suffix, ...place }) => ({
    name: `xtreemos-changes${suffix}`,
    about: 'Writes who changed the spec.',
    ...place,
    conditions: [
      {
        name: 'is-to-be-written',
        expression: `${isChanged} && ${now} != ${me} || !${isChanged} && ${now} != ${old} && ${old} != ''`,
      },
    ],
    patches: [`${map} + ${stamp}`],
  }));
}

/** Who asked for a destructive act and who approved it: the API server pins both to whoever writes them, so that the operator can rely on them. */
import type { MutatingPolicy, Named, PolicySettings, ResourceRule, Rule, ValidatingPolicy } from './policy.ts';

const organizations = (operations: readonly string[]): ResourceRule[] => [
  {
    apiGroups: ['xtreemos.io'],
    apiVersions: ['*'],
    resources: ['virtualorganizations'],
    operations,
    scope: 'Cluster',
  },
];

const me = 'request.userInfo.username';
const isOperator = `${me} == variables.operatorUser`;
const fields = ['requestedBy', 'approvedBy'] as const;

const variables: readonly Named[] = [
  { name: 'before', expression: 'oldObject == null ? object.spec : oldObject.spec' },
  {
    name: 'isGoverned',
    expression:
      'variables.before.?governance.?secondAdministrator.orValue(false) || variables.before.?governance.?delaySeconds.orValue(0) > 0',
  },
  { name: 'wasAsked', expression: 'oldObject != null && has(oldObject.spec.dissolution)' },
];

/** A name stays as it is, or becomes the own one of whoever writes it. */
function dissolutionRule(field: (typeof fields)[number]): Rule {
  const now = `object.spec.?dissolution.?${field}.orValue('')`;
  const old = `(variables.wasAsked ? oldObject.spec.dissolution.?${field}.orValue('') : '')`;
  return {
    expression: `${isOperator} || ${now} == '' || ${now} == ${old} || ${now} == ${me}`,
    messageExpression: `'spec.dissolution.${field}: ' + ${now} + ' is not you: set it to ' + ${me}`,
  };
}

/** As above, for each administrator who is to be removed. */
function removalRule(field: (typeof fields)[number]): Rule {
  const now = `a.?removal.?${field}.orValue('')`;
  const isKept = `variables.before.administrators.exists(b, oldObject != null && b.issuer == a.issuer && b.subject == a.subject && b.?removal.?${field}.orValue('') == ${now})`;
  const isWrong = `${now} != '' && ${now} != ${me} && !${isKept}`;
  return {
    expression: `${isOperator} || !object.spec.administrators.exists(a, ${isWrong})`,
    messageExpression: `'spec.administrators: removal.${field} of ' + object.spec.administrators.filter(a, ${isWrong})[0].subject + ' is not you: set it to ' + ${me}`,
  };
}

/** The policy that pins requests to who writes them, and leaves the acts themselves to the operator where governance is on. */
export function governancePolicy({ operatorUser }: PolicySettings): ValidatingPolicy {
  const isThere = 'object.spec.administrators.exists(b, b.issuer == a.issuer && b.subject == a.subject)';
  return {
    name: 'xtreemos-governance',
    about:
      'Who asks to dissolve a virtual organization or to remove an administrator, and who approves, is who writes it; with governance on, only the operator carries it out.',
    resourceRules: organizations(['CREATE', 'UPDATE']),
    everywhere: true,
    variables: [{ name: 'operatorUser', expression: operatorUser }, ...variables],
    rules: [
      ...fields.map(dissolutionRule),
      ...fields.map(removalRule),
      {
        expression: `${isOperator} || !variables.wasAsked || !has(object.spec.dissolution) || object.spec.dissolution.data == oldObject.spec.dissolution.data || !has(object.spec.dissolution.approvedBy)`,
        messageExpression:
          "'spec.dissolution.data: was approved as ' + oldObject.spec.dissolution.data + ': withdraw the request and ask again'",
      },
      {
        expression: `${isOperator} || !variables.isGoverned || object.spec.?state.orValue('Forming') != 'Dissolved' || variables.before.?state.orValue('Forming') == 'Dissolved' && oldObject != null`,
        messageExpression:
          "'spec.state: governance asks for more than one word: set spec.dissolution instead, and the operator dissolves it once that is approved and the delay is over'",
      },
      {
        expression: `${isOperator} || !variables.isGoverned || variables.before.administrators.all(a, ${isThere})`,
        messageExpression: `'spec.administrators: ' + variables.before.administrators.filter(a, !${isThere})[0].subject + ' is protected by governance: set removal there, and the operator removes it once that is approved and the delay is over'`,
      },
    ],
  };
}

/** The policy that fills in who asked for a dissolution. Approving is said by hand: nobody approves by accident. */
export function governanceDefaults(): MutatingPolicy {
  return {
    name: 'xtreemos-governance',
    about: 'Fills in who asks to dissolve a virtual organization.',
    resourceRules: organizations(['CREATE', 'UPDATE']),
    everywhere: true,
    conditions: [
      {
        name: 'is-a-person',
        expression: `!${me}.startsWith('system:') || ${me}.startsWith('system:serviceaccount:vo-')`,
      },
      {
        name: 'asks',
        expression: 'has(object.spec.dissolution) && !has(object.spec.dissolution.requestedBy)',
      },
    ],
    patches: [`[JSONPatch{op: 'add', path: '/spec/dissolution/requestedBy', value: ${me}}]`],
  };
}

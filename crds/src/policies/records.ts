/** What is recorded of members and only some may write: ids, and acceptance. */
import type { PolicySettings, ResourceRule, Rule, ValidatingPolicy } from './policy.ts';

const isOwnerOfSite = "authorizer.group('xtreemos.io').resource('sites').check('update').allowed()";
const isOperator = 'request.userInfo.username == variables.operatorUser';

const rulesFor = (resource: string, operations: readonly string[], scope: 'Namespaced' | 'Cluster'): ResourceRule => ({
  apiGroups: ['xtreemos.io'],
  apiVersions: ['*'],
  resources: [resource],
  operations,
  scope,
});

/** The policies on records. */
export function recordPolicies({ operatorUser }: PolicySettings): ValidatingPolicy[] {
  const variables = [{ name: 'operatorUser', expression: operatorUser }];
  return [
    {
      name: 'xtreemos-slices',
      about: 'Which ids are issued is written by the operator, and by the owner of the site when a backup is restored.',
      resourceRules: [rulesFor('identityslices', ['CREATE', 'UPDATE', 'DELETE'], 'Cluster')],
      everywhere: true,
      variables,
      rules: [
        {
          expression: `${isOperator} || ${isOwnerOfSite}`,
          messageExpression:
            "'metadata.name: IdentitySlice ' + request.name + ' is written by the operator only: leave it as it is'",
        },
      ],
    },
    {
      name: 'xtreemos-memberships',
      about: 'The id of a member is written by the operator, and what it accepted by the gateway.',
      resourceRules: [rulesFor('vomemberships', ['CREATE', 'UPDATE'], 'Namespaced')],
      variables,
      rules: [
        recordRule('identity', `${isOperator} || ${isOwnerOfSite}`, 'the operator issues it'),
        recordRule('acceptedUse', `${isOperator} || ${isOwnerOfSite}`, 'the member accepts it at the gateway'),
      ],
    },
  ];
}

/** A field of a membership that changes by `who` only. */
function recordRule(field: string, who: string, how: string): Rule {
  return {
    expression: `!has(object.spec.${field}) || (oldObject != null && oldObject.spec.?${field}.hasValue() && oldObject.spec.${field} == object.spec.${field}) || ${who}`,
    messageExpression: `'spec.${field}: of VOMembership ' + object.metadata.?name.orValue('') + ' is not for you to set: leave it out; ${how}'`,
  };
}

/** The word of the site, and the state of the virtual organization: both are read from the objects themselves, so that a change acts at once. */
import { dedicatedLabel } from './pod-placement.ts';
import { podResourceRules } from './pods.ts';
import type { Named, PolicySettings, ResourceRule, ValidatingPolicy } from './policy.ts';
import { identityVariables, templateVariables } from './requester.ts';

const newWork: readonly ResourceRule[] = podResourceRules.map((rule) => ({
  ...rule,
  resources: rule.resources.filter((resource) => !resource.includes('/')),
  operations: ['CREATE'],
}));

const organization = "namespaceObject.metadata.labels['xtreemos.io/virtual-organization']";

const variables: readonly Named[] = [
  { name: 'organization', expression: organization },
  ...templateVariables,
  { name: 'account', expression: 'variables.namedAccount' },
  ...identityVariables,
];

/** The policy that asks the local Site. */
export function sitePolicy({ siteName }: PolicySettings): ValidatingPolicy {
  return {
    name: 'xtreemos-site',
    about:
      'New work of a virtual organization starts only while the owner of the site accepts it, with the isolation that the site offers.',
    resourceRules: newWork,
    parameter: { apiVersion: 'xtreemos.io/v1alpha1', kind: 'Site', name: siteName },
    variables,
    rules: [
      {
        expression:
          'params.spec.?local.?acceptedVirtualOrganizations.orValue([]).exists(v, v.name == variables.organization)',
        messageExpression:
          "'spec.local.acceptedVirtualOrganizations: of Site ' + params.metadata.name + ' does not list ' + variables.organization + ': ask the owner of the site to accept it'",
      },
      {
        expression:
          "!has(variables.spec.runtimeClassName) || variables.spec.runtimeClassName == params.spec.?local.?sandboxRuntimeClass.orValue('') && 'Sandbox' in params.spec.?local.?isolation.orValue([])",
        messageExpression:
          "variables.at + '.runtimeClassName: ' + variables.spec.runtimeClassName + ' is not the sandbox that the site offers: leave it out' + params.spec.?local.?sandboxRuntimeClass.optMap(c, ' or set it to ' + c).orValue('')",
      },
    ],
  };
}

/** The policy that asks the VirtualOrganization. All are parameters; only the one whose namespace it is counts. */
export function organizationPolicy(): ValidatingPolicy {
  return {
    name: 'xtreemos-virtual-organization',
    about:
      'New work of a virtual organization starts only while it is Operational, and with the isolation that it wants at least.',
    resourceRules: newWork,
    parameter: { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VirtualOrganization' },
    conditions: [{ name: 'is-this-one', expression: "request.namespace == 'vo-' + params.metadata.name" }],
    variables: [
      ...variables,
      { name: 'minimum', expression: "params.spec.?isolation.?minimum.orValue('Namespace')" },
      {
        name: 'isDedicated',
        expression: `variables.spec.?nodeSelector[?'${dedicatedLabel}'].orValue('') == variables.organization`,
      },
      { name: 'isStronger', expression: 'has(variables.spec.runtimeClassName) || variables.isDedicated' },
    ],
    rules: [
      {
        expression: "params.spec.?state.orValue('Forming') == 'Operational' && !has(params.metadata.deletionTimestamp)",
        messageExpression:
          "'spec.state: of VirtualOrganization ' + params.metadata.name + ' is ' + params.spec.?state.orValue('Forming') + ' and not Operational: nothing new starts; ask its administrators'",
      },
      {
        expression: "(params.spec.?identity.?uidMode.orValue('Global') == 'Local') == variables.isLocal",
        messageExpression:
          "'metadata.labels[xtreemos.io/uid-mode]: of Namespace ' + request.namespace + ' differs from spec.identity.uidMode of VirtualOrganization ' + params.metadata.name + ': the operator corrects it'",
      },
      {
        expression:
          "variables.minimum != 'UserNamespace' || variables.spec.?hostUsers.orValue(true) == false || variables.isStronger",
        messageExpression:
          "variables.at + '.hostUsers: true is less than UserNamespace, the isolation that this virtual organization wants: set it to false'",
      },
      {
        expression: "variables.minimum != 'Sandbox' || has(variables.spec.runtimeClassName) || variables.isDedicated",
        messageExpression:
          "variables.at + '.runtimeClassName: nothing is less than Sandbox, the isolation that this virtual organization wants: set it to the sandbox of the site'",
      },
      {
        expression: "variables.minimum != 'DedicatedNode' || variables.isDedicated",
        messageExpression:
          "variables.at + '.nodeSelector: without xtreemos.io/dedicated-to is less than DedicatedNode, the isolation that this virtual organization wants: set it to ' + variables.organization",
      },
    ],
  };
}

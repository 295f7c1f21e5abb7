/** Every admission policy of the project. Nothing of it is a webhook: the API server itself decides, also while the operator is away. */
import { changesPolicies } from './changes.ts';
import { mutatingPolicies } from './defaults.ts';
import { governancePolicy } from './governance.ts';
import { groupPolicies } from './groups.ts';
import { submittersPolicy } from './jobs.ts';
import { podsPolicy } from './pods.ts';
import { mutatingObjects, type PolicyObject, type PolicySettings, validatingObjects } from './policy.ts';
import { recordPolicies } from './records.ts';
import { organizationPolicy, sitePolicy } from './site.ts';
import { annotationsPolicy, connectionsPolicy, ownersPolicy, tenantPolicies } from './tenants.ts';
import { volumePolicies } from './volumes.ts';

/** The kind of policies that fill in; only newer API servers (1.36) serve it. */
export const mutatingKind = 'MutatingAdmissionPolicy';

/** The objects of every policy, each with its binding, by the name of the file they are kept in. */
export function policyObjects(settings: PolicySettings): Map<string, PolicyObject[]> {
  const validating = [
    podsPolicy(settings),
    ...groupPolicies(),
    ownersPolicy(settings),
    annotationsPolicy(settings),
    ...tenantPolicies(),
    connectionsPolicy(settings),
    submittersPolicy(settings),
    ...volumePolicies(settings),
    sitePolicy(settings),
    organizationPolicy(),
    governancePolicy(settings),
    ...recordPolicies(settings),
    ...changesPolicies(),
  ];
  const short = (name: string): string => name.replace('xtreemos-', '');
  return new Map([
    ...validating.map((policy) => [`validate-${short(policy.name)}`, validatingObjects(policy)] as const),
    ...mutatingPolicies().map((policy) => [`fill-in-${short(policy.name)}`, mutatingObjects(policy)] as const),
  ]);
}

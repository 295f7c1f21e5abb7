import { group } from '#crds/kind.ts';
import type { RoleRule } from './organizations.ts';

/**
 * What the operator may do for memberships besides keeping the tenancy: give ids, make accounts, and end the pods of those who may not act any
 * more. It may never delete a slice: the ids in it would be given out again.
 */
export const memberRules: readonly RoleRule[] = [
  { apiGroups: [group], resources: ['vomemberships', 'vomemberships/status'], verbs: ['patch'] },
  // Of organizations whose home is another site.
  { apiGroups: [group], resources: ['vomemberships'], verbs: ['update', 'delete'] },
  { apiGroups: [group], resources: ['identityslices'], verbs: ['create', 'update'] },
  { apiGroups: [''], resources: ['configmaps'], verbs: ['create', 'patch'] },
  { apiGroups: [''], resources: ['pods'], verbs: ['deletecollection'] },
];

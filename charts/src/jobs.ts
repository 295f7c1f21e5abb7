/** What jobs need of the chart: the operator's rights to place them and to make their pods. */
import { group } from '#crds/kind.ts';
import type { RoleRule } from './organizations.ts';

const read = ['get', 'list', 'watch'];

/** Rights of the operator. Pods that it makes are judged by the admission policies as everybody's. */
export const operatorJobRules: readonly RoleRule[] = [
  // Made and changed at the gateway for tasks that submit and control jobs below their own.
  { apiGroups: [group], resources: ['gridjobs'], verbs: [...read, 'create', 'patch', 'delete'] },
  // Those of jobs here go with their job; those of peers are deleted when their home names them no more.
  { apiGroups: [group], resources: ['executions'], verbs: [...read, 'create', 'update', 'delete'] },
  { apiGroups: [group], resources: ['reservations'], verbs: read },
  // Claims are written by the selectors; those of a node that is gone, or of a reservation that may not be, are deleted here.
  { apiGroups: [group], resources: ['claims'], verbs: [...read, 'create', 'delete'] },
  {
    apiGroups: [group],
    resources: ['gridjobs/status', 'executions/status', 'reservations/status'],
    verbs: ['get', 'update', 'patch'],
  },
  // To be named as owner of what is made for them, where the API server asks for it.
  { apiGroups: [group], resources: ['gridjobs/finalizers', 'executions/finalizers'], verbs: ['update'] },
  { apiGroups: [''], resources: ['pods'], verbs: [...read, 'create', 'delete'] },
  { apiGroups: [''], resources: ['pods/log'], verbs: ['get'] },
  // Pods that are ended for a job of higher priority say so.
  { apiGroups: [''], resources: ['pods/status'], verbs: ['patch'] },
  // The logs of tasks that are kept when their pods are gone.
  { apiGroups: [''], resources: ['configmaps'], verbs: ['get', 'create', 'update'] },
  { apiGroups: [''], resources: ['persistentvolumeclaims'], verbs: ['get'] },
];

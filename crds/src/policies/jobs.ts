/** Whose jobs and reservations are whose: their owner is who submitted them, from the request's own identity. */
import { jobPriorityAnnotation } from '../organization.ts';
import { jobRoomPrefix, jobTreeLabel } from '../grid-access.ts';
import type { MutatingPolicy, PolicySettings, ResourceRule, ValidatingPolicy } from './policy.ts';
import { isCaretakerRequest, isMemberRequest, mayActAsAccount, mayManage, requesterVariables } from './requester.ts';

const ownedRules = (operations: readonly string[]): ResourceRule[] => [
  { apiGroups: ['xtreemos.io'], apiVersions: ['*'], resources: ['gridjobs', 'reservations'], operations },
];

/** Fills in the owner of what a member submits. */
export function submitterDefaults(): MutatingPolicy {
  return {
    name: 'xtreemos-submitters',
    about: 'Writes into jobs and reservations which member makes them.',
    resourceRules: ownedRules(['CREATE']),
    conditions: [{ name: 'is-a-member', expression: isMemberRequest }],
    variables: requesterVariables,
    patches: [
      "variables.ownAccount == '' || has(object.spec.owner) ? [] : [JSONPatch{op: 'add', path: '/spec/owner', value: variables.ownAccount}]",
    ],
  };
}

/** CEL: the tree of jobs that an object bears the label of; empty when it bears none. */
const treeOf = (object: string): string => `${object}.metadata.?labels[?'${jobTreeLabel}'].orValue('')`;

/** CEL: every annotation of `some` that stands for room in the tree is one of `others` with the same value. */
const roomsAreIn = (some: string, others: string): string =>
  `${some}.all(key, !key.startsWith('${jobRoomPrefix}') || ${others}[?key].orValue('') == ${some}[key])`;

const priorityOf = (object: string): string => `${object}.spec.?priority.orValue(0)`;
const priorityMax = `namespaceObject.metadata.?annotations[?'${jobPriorityAnnotation}'].orValue('0')`;

/** The policy on who may make, change and delete jobs and reservations. */
export function submittersPolicy({ operatorUser }: PolicySettings): ValidatingPolicy {
  return {
    name: 'xtreemos-submitters',
    about:
      'Members submit jobs and reserve as themselves only; only they, and administrators of the virtual organization, may change or delete them.',
    resourceRules: ownedRules(['CREATE', 'UPDATE', 'DELETE']),
    variables: [
      ...requesterVariables,
      { name: 'stored', expression: "request.operation == 'CREATE' ? object : oldObject" },
      { name: 'account', expression: "variables.stored.spec.?owner.orValue('')" },
      {
        name: 'annotations',
        expression: "request.operation == 'DELETE' ? {} : object.metadata.?annotations.orValue({})",
      },
      {
        name: 'storedAnnotations',
        expression: "request.operation == 'CREATE' ? {} : oldObject.metadata.?annotations.orValue({})",
      },
      { name: 'operatorUser', expression: operatorUser },
      { name: 'isCaretaker', expression: isCaretakerRequest },
    ],
    rules: [
      {
        expression: `request.operation != 'CREATE' || (variables.account != '' && (${mayActAsAccount}))`,
        messageExpression:
          "'spec.owner: ' + (variables.account == '' ? 'is not set' : variables.account + ' is not who asks') + ': submit as a member of the virtual organization (log in with \"xos login\"), and leave spec.owner out'",
      },
      {
        // Whose child it is, the gateway knows from the task that asks; nothing here can look the parent up.
        expression:
          "request.operation != 'CREATE' || !has(object.spec.parent) || request.userInfo.username == variables.operatorUser",
        messageExpression:
          "'spec.parent: ' + object.spec.parent.job + ' can not be chosen: leave it out; a job that is submitted from within a task of a job with spec.gridAccess is its child'",
      },
      {
        expression: `request.operation == 'DELETE' || request.userInfo.username == variables.operatorUser || ${treeOf('object')} == (oldObject == null ? '' : ${treeOf('oldObject')})`,
        messageExpression: `'metadata.labels[${jobTreeLabel}]: is written by the gateway only: leave it as it is'`,
      },
      {
        // Also for the operator: it submits what tasks of members ask for.
        expression: `request.operation == 'DELETE' || request.kind.kind != 'GridJob' || ${priorityOf('object')} <= 0 || (request.operation == 'UPDATE' && ${priorityOf('object')} <= ${priorityOf('oldObject')}) || ${priorityOf('object')} <= int(${priorityMax}) || ${mayManage}`,
        messageExpression: `'spec.priority: ' + string(${priorityOf('object')}) + ' is more than the ' + ${priorityMax} + ' that members may give here: ask for less, or have an administrator raise spec.jobs.priorityMax of the virtual organization'`,
      },
      {
        expression: `request.operation == 'DELETE' || request.userInfo.username == variables.operatorUser || (${roomsAreIn('variables.annotations', 'variables.storedAnnotations')} && ${roomsAreIn('variables.storedAnnotations', 'variables.annotations')})`,
        messageExpression: `'metadata.annotations: those that begin with ${jobRoomPrefix} are written by the gateway only: leave them as they are'`,
      },
      {
        expression: `request.operation == 'CREATE' || variables.isCaretaker || variables.ownAccount != '' && variables.ownAccount == variables.account || ${mayManage}`,
        messageExpression:
          "'metadata.name: ' + variables.stored.metadata.name + ' belongs to ' + (variables.account == '' ? 'nobody' : variables.account) + ': only its owner and administrators of the virtual organization may change or delete it'",
      },
    ],
  };
}

/**
 * Supplemental groups of pods. Which groups a member is in is a right of its account (`use` on `groups.xtreemos.io`, named by the gid), so
 * that one question to the authorizer answers it, however many accounts there are, and an account that isn't known has none.
 */
import { bringsSpec, podResourceRules } from './pods.ts';
import type { MutatingPolicy, Named, Rule, ValidatingPolicy } from './policy.ts';
import { fillsTemplates, identityVariables, requesterVariables, templateVariables } from './requester.ts';

/** Groups of one membership, and of one virtual organization: the limits of the kinds. */
const [memberGroupsMax, organizationGroupsMax] = [64, 256];

/**
 * Questions to the authorizer that one policy asks: each costs 350,000 of 1,000,000 units per expression and of 10,000,000 per policy
 * (k8s.io/apiserver, pkg/apis/cel), so two an expression.
 */
const [questionsPerExpression, questionsPerPolicy] = [2, 26];

/** Local ids of groups: 0 is the virtual organization itself. */
const lastGroup = 1023;

const mayUse = (gid: string): string =>
  `authorizer.serviceAccount(request.namespace, variables.account).group('xtreemos.io').resource('groups').namespace(request.namespace).name(string(${gid})).check('use').allowed()`;

function blocks(count: number, size: number): number[] {
  return Array.from({ length: Math.ceil(count / size) }, (_, index) => index * size);
}

const stated = 'variables.spec.?securityContext.?supplementalGroups.orValue([])';

/** The policies that compare groups: each judges so many, and only pods that have as many cost the later ones anything. */
export function groupPolicies(): ValidatingPolicy[] {
  return blocks(memberGroupsMax, questionsPerPolicy).map((from, index) => ({
    name: `xtreemos-groups-${index + 1}`,
    about: `Pods of virtual organizations are in groups of their member only (numbers ${from + 1} to ${from + questionsPerPolicy} of a pod).`,
    resourceRules: podResourceRules,
    conditions: [bringsSpec],
    variables: [
      ...templateVariables,
      { name: 'account', expression: 'variables.namedAccount' },
      ...identityVariables,
      { name: 'stated', expression: stated },
    ],
    rules: [
      ...(index === 0 ? rangeRules() : []),
      ...blocks(questionsPerPolicy, 2).map((offset) => groupRule(from + offset)),
    ],
  }));
}

const remedy = 'is not allowed in a virtual organization: state groups of the member only; "xos whoami" shows them\'';

function rangeRules(): Rule[] {
  const outside = `g + variables.offset <= variables.base || g + variables.offset > variables.base + ${lastGroup}`;
  return [
    {
      expression: `size(variables.stated) <= ${memberGroupsMax}`,
      messageExpression: `variables.at + '.securityContext.supplementalGroups: ' + string(size(variables.stated)) + ' groups are too many: state at most ${memberGroupsMax}'`,
    },
    {
      expression: `!variables.stated.exists(g, ${outside})`,
      messageExpression: `variables.at + '.securityContext.supplementalGroups: ' + string(variables.stated.filter(g, ${outside})[0]) + ' ${remedy}`,
    },
  ];
}

function groupRule(first: number): Rule {
  const unsettled = (index: number): string =>
    `(size(variables.stated) > ${index} && !${mayUse(`variables.stated[${index}] + variables.offset`)})`;
  const indexes = Array.from({ length: questionsPerExpression }, (_, offset) => first + offset);
  return {
    expression: indexes.map((index) => `!${unsettled(index)}`).join(' && '),
    messageExpression: `variables.at + '.securityContext.supplementalGroups: ' + variables.stated.filter(g, variables.stated.indexOf(g) in [${indexes.join(', ')}]).map(g, string(g)).join(' or ') + ' ${remedy}`,
  };
}

const offered = "namespaceObject.metadata.?annotations[?'xtreemos.io/group-ids'].orValue('')";

/** Stands last in the list while a policy fills it in over several patches; no id is negative. */
const unfinished = -1;

/** Label of namespaces whose virtual organization has more groups than one policy can ask for. */
const manyGroupsLabel = 'xtreemos.io/many-groups';

/**
 * The policies that fill in groups when a pod states none: one for virtual organizations with few groups, one for those with many. The
 * namespace says which groups there are (annotation `xtreemos.io/group-ids`: gids with commas); each is asked for.
 */
export function groupDefaults(): MutatingPolicy[] {
  const everyBlock = blocks(organizationGroupsMax, questionsPerPolicy);
  const fill = (size: string, from: readonly number[], operator: 'In' | 'NotIn'): MutatingPolicy => ({
    name: `xtreemos-groups-${size}`,
    about: `Fills in the groups of the member of a pod that states none, in a virtual organization with ${size} groups.`,
    resourceRules: podResourceRules,
    namespaceLabel: { key: manyGroupsLabel, operator },
    conditions: [{ name: 'makes-a-template', expression: `request.operation == 'CREATE' && ${fillsTemplates}` }],
    variables: [
      ...fillVariables,
      { name: 'offered', expression: `${offered} == '' ? [] : ${offered}.split(',')` },
      { name: 'stated', expression: stated },
      { name: 'isFilling', expression: `variables.isMember && variables.stated.exists(g, g == ${unfinished})` },
      ...from.flatMap((block) =>
        blocks(questionsPerPolicy, questionsPerExpression).map((offset) => granted(block + offset)),
      ),
    ],
    patches: from.length === 1 ? [wholePatch] : [startPatch, ...from.map(appendPatch), endPatch],
  });
  return [fill('few', [0], 'NotIn'), fill('many', everyBlock, 'In')];
}

const groupsPointer = "variables.pointer + '/securityContext/supplementalGroups'";

/** CEL: all groups of a block of offered ones that the member is in. */
function grantedOf(from: number): string {
  return blocks(questionsPerPolicy, questionsPerExpression)
    .map((offset) => `variables.granted${from + offset}`)
    .join(' + ');
}

/** CEL: patches that set the groups to `value`. */
function setGroups(value: string): string {
  return `(has(variables.spec.securityContext) ? [] : [JSONPatch{op: 'add', path: variables.pointer + '/securityContext', value: Object.spec.securityContext{}}]) + [JSONPatch{op: 'add', path: ${groupsPointer}, value: ${value}}]`;
}

const statesNone = 'variables.isMember && size(variables.stated) == 0 && size(variables.offered) > 0';
const wholePatch = `${statesNone} && size(${grantedOf(0)}) > 0 ? ${setGroups(grantedOf(0))} : []`;
const startPatch = `${statesNone} ? ${setGroups(`[${unfinished}]`)} : []`;

function appendPatch(from: number): string {
  return `variables.isFilling && size(variables.offered) > ${from} ? [JSONPatch{op: 'replace', path: ${groupsPointer}, value: ${grantedOf(from)} + variables.stated}] : []`;
}

const endPatch = [
  'variables.isFilling ? [size(variables.stated) == 1 ?',
  `JSONPatch{op: 'remove', path: ${groupsPointer}} :`,
  `JSONPatch{op: 'replace', path: ${groupsPointer}, value: variables.stated.filter(g, g != ${unfinished})}] : []`,
].join(' ');

/** Those of two offered groups that the member is in, as they are inside of the pod. */
function granted(first: number): Named {
  const indexes = Array.from({ length: questionsPerExpression }, (_, offset) => first + offset);
  const one = (index: number): string =>
    `(size(variables.offered) > ${index} && ${mayUse(`variables.offered[${index}]`)} ? [int(variables.offered[${index}]) - variables.offset] : [])`;
  return { name: `granted${first}`, expression: indexes.map(one).join(' + ') };
}

/** Variables of policies that fill in: the account is the one that is named, or that of the member who asks. */
export const fillVariables: readonly Named[] = [
  ...requesterVariables,
  ...templateVariables,
  {
    name: 'account',
    expression:
      "variables.namedAccount in ['', 'default'] && variables.ownAccount != '' ? variables.ownAccount : variables.namedAccount",
  },
  ...identityVariables,
];

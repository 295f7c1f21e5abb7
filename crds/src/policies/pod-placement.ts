/** Where pods of virtual organizations may run: on nodes that anyone may choose, and on those kept for them. */
import { smallFields } from './pod-fields.ts';
import type { Rule } from './policy.ts';
import { eachRule, quoted, specRule, unknownKeys } from './rules.ts';

const list = (path: string): string => `variables.spec.?${path}.orValue([])`;

/** Labels of nodes that anyone may select on: what a node is, not whom it is kept for. */
export const selectableLabels = ['arch', 'hostname', 'os']
  .map((label) => `kubernetes.io/${label}`)
  .concat(['topology.kubernetes.io/region', 'topology.kubernetes.io/zone']);

/** Label and taint of nodes that are kept for one virtual organization; the value is its name. */
export const dedicatedLabel = 'xtreemos.io/dedicated-to';

const organization = "namespaceObject.metadata.labels['xtreemos.io/virtual-organization']";

/** Where a pod may run. */
export function placementRules(): Rule[] {
  const selector = 'variables.spec.?nodeSelector.orValue({})';
  const badSelector = `${selector}.filter(k, !(k in variables.nodeLabels) && !(k == '${dedicatedLabel}' && ${selector}[k] == ${organization}))`;
  const affinity = 'variables.spec.?affinity';
  const terms = `(${affinity}.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.?nodeSelectorTerms.orValue([]) + ${affinity}.?nodeAffinity.?preferredDuringSchedulingIgnoredDuringExecution.orValue([]).map(p, p.preference))`;
  const podTerms = `(${['podAffinity', 'podAntiAffinity']
    .flatMap((kind) => [
      `${affinity}.?${kind}.?requiredDuringSchedulingIgnoredDuringExecution.orValue([])`,
      `${affinity}.?${kind}.?preferredDuringSchedulingIgnoredDuringExecution.orValue([]).map(p, p.podAffinityTerm)`,
    ])
    .join(' + ')})`;
  const inTerm = unknownKeys('i', smallFields['io.k8s.api.core.v1.NodeSelectorTerm'].allowed);
  const inPodTerm = unknownKeys('i', smallFields['io.k8s.api.core.v1.PodAffinityTerm'].allowed);
  const badRequirement = `(!(r.key in variables.nodeLabels) && !(r.key == '${dedicatedLabel}' && r.operator == 'In' && r.?values.orValue([]) == [${organization}]))`;
  const known = `with a label that any member may select on, or ask the owner of the site to publish this one`;
  return [
    specRule({
      // The operator names the node that has promised the place.
      expression:
        "request.operation != 'CREATE' || !has(variables.spec.nodeName) || request.userInfo.username == variables.operatorUser",
      path: 'nodeName',
      value: "variables.spec.?nodeName.orValue('')",
      remedy: quoted('leave it out: the scheduler chooses; use nodeSelector'),
    }),
    specRule({
      expression: `size(${badSelector}) == 0`,
      path: 'nodeSelector',
      value: `${badSelector}[0]`,
      remedy: quoted(`select ${known}`),
    }),
    eachRule({
      list: terms,
      wrong: `size(${inTerm}) > 0`,
      value: `'affinity.nodeAffinity: ' + ${inTerm}[0]`,
      remedy: quoted('use matchExpressions'),
    }),
    eachRule({
      list: terms,
      wrong: `i.?matchExpressions.orValue([]).exists(r, ${badRequirement})`,
      value: `'affinity.nodeAffinity: ' + i.matchExpressions.filter(r, ${badRequirement})[0].key`,
      remedy: quoted(`select ${known}`),
    }),
    eachRule({
      list: podTerms,
      wrong: `size(${inPodTerm}) > 0`,
      value: `'affinity: ' + ${inPodTerm}[0]`,
      remedy: quoted('leave it out: only pods of the own namespace can be meant'),
    }),
    eachRule({
      list: list('tolerations'),
      wrong: `!${allowedToleration}`,
      value: "'tolerations: ' + i.?key.orValue('every taint')",
      remedy: quoted('leave it out: reserved nodes are given by the owner of the site'),
    }),
    specRule({
      expression: "variables.spec.?schedulerName.orValue('default-scheduler') == 'default-scheduler'",
      path: 'schedulerName',
      value: "variables.spec.?schedulerName.orValue('')",
      remedy: quoted('leave it out'),
    }),
    specRule({
      expression: `!has(variables.spec.priorityClassName) || variables.spec.priorityClassName in variables.priorityClassNames`,
      path: 'priorityClassName',
      value: "variables.spec.?priorityClassName.orValue('')",
      remedy: quoted('leave it out, or ask the owner of the site to publish it'),
    }),
    specRule({
      expression: "variables.spec.?os.?name.orValue('linux') == 'linux'",
      path: 'os.name',
      value: "variables.spec.?os.?name.orValue('')",
      remedy: quoted('leave it out: members work on Linux'),
    }),
  ];
}

/** Tolerations that Kubernetes adds by itself, and that of the nodes kept for this virtual organization. */
const allowedToleration = [
  "(i.?key.orValue('') in ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'] && i.?effect.orValue('') == 'NoExecute')",
  "(i.?key.orValue('') == 'node.kubernetes.io/memory-pressure' && i.?effect.orValue('') == 'NoSchedule')",
  `(i.?key.orValue('') == '${dedicatedLabel}' && i.?operator.orValue('Equal') == 'Equal' && i.?value.orValue('') == ${organization})`,
]
  .join(' || ')
  .replace(/^(.*)$/s, '($1)');

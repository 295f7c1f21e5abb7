/** Which ways the network leaves open for a virtual organization: pure. */
import { gridAccessLabel } from '#crds/grid-access.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { NetworkPolicy, Node } from '#runtime/builtin.ts';
import { type AddressRange, coalesce, contains, formatRange, parseRange } from './address-range.ts';

type NetworkSpec = NonNullable<NetworkPolicy['spec']>;
type EgressRule = NonNullable<NetworkSpec['egress']>[number];

/** A NetworkPolicy to be made. */
export interface PolicyPlan {
  readonly name: string;
  readonly spec: NetworkSpec;
}

/** The pods that the gateway runs in. */
export interface GatewayPods {
  readonly namespace: string;
  readonly port: number;
}

/** The policies, and the declared destinations that were left out. */
export interface NetworkPlan {
  readonly policies: readonly PolicyPlan[];
  /** Names of entries of `spec.network.egress` that lie wholly within the site's own addresses. */
  readonly refused: readonly string[];
}

/**
 * What no declaration opens: link-local addresses, among them the metadata services of clouds (169.254.169.254, fd00:ec2::254, and Alibaba's
 * 100.100.100.200), and this node itself.
 */
const alwaysReserved = ['169.254.0.0/16', '127.0.0.0/8', '100.100.100.200/32', 'fe80::/10', 'fd00:ec2::/32', '::1/128'];

/** Ranges per family that a policy lists as exceptions at most; more are joined into larger ones, which closes more and never less. */
const exceptionsMax = 64;

/**
 * Addresses of the site itself, which pods never reach by a declaration: nodes (kubelets), pods of every node, the API server.
 * @param others - addresses of the API server, and ranges that the owner of the site names.
 */
export function reservedRanges(nodes: readonly Node[], others: readonly string[]): AddressRange[] {
  const ofNodes = nodes.flatMap((node) => [
    ...(node.status?.addresses ?? []).filter(({ type }) => type.endsWith('IP')).map(({ address }) => address),
    ...(node.spec?.podCIDRs ?? []),
  ]);
  return coalesce([...alwaysReserved, ...ofNodes, ...others].map(parseRange), exceptionsMax);
}

/** The policies of the namespace. The first denies everything both ways; the others open what is named. */
export function planNetwork(
  vo: VirtualOrganization,
  reserved: readonly AddressRange[],
  gateway: GatewayPods,
): NetworkPlan {
  const { internal, egress } = vo.spec.network;
  const refused: string[] = [];
  const rules = egress.flatMap((entry): EgressRule[] => {
    const range = parseRange(entry.cidr);
    if (reserved.some((each) => contains(each, range))) {
      refused.push(entry.name);
      return [];
    }
    const except = reserved.filter((each) => contains(range, each)).map(formatRange);
    const ipBlock = { cidr: formatRange(range), ...(except.length === 0 ? {} : { except }) };
    const ports = entry.ports.map(({ port, protocol }) => ({ port, protocol }));
    return [{ to: [{ ipBlock }], ...(ports.length === 0 ? {} : { ports }) }];
  });
  const policies: PolicyPlan[] = [
    { name: 'default-deny', spec: { podSelector: {}, policyTypes: ['Ingress', 'Egress'] } },
    { name: 'allow-dns', spec: { podSelector: {}, policyTypes: ['Egress'], egress: [dns] } },
    { name: 'grid-access', spec: toGateway(gateway) },
  ];
  if (internal) policies.push({ name: 'allow-internal', spec: internalTraffic });
  if (rules.length > 0) {
    policies.push({ name: 'declared-egress', spec: { podSelector: {}, policyTypes: ['Egress'], egress: rules } });
  }
  return { policies, refused };
}

/** Tasks that have a token for the gateway reach it, and no other pod does. */
function toGateway({ namespace, port }: GatewayPods): NetworkSpec {
  const to = {
    namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
    podSelector: { matchLabels: { 'app.kubernetes.io/name': 'xtreemos' } },
  };
  return {
    podSelector: { matchLabels: { [gridAccessLabel]: 'true' } },
    policyTypes: ['Egress'],
    egress: [{ to: [to], ports: [{ port, protocol: 'TCP' }] }],
  };
}

/**
 * The cluster's DNS, by the labels that Kubernetes itself gives it; node-local caches answer on the link-local address that they conventionally
 * take. Policies see the port of the pod, which is 5353 where the server has no right to take 53.
 */
const dns: EgressRule = {
  to: [
    {
      namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } },
      podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } },
    },
    { ipBlock: { cidr: '169.254.20.10/32' } },
  ],
  ports: [53, 5353].flatMap((port) => ['UDP', 'TCP'].map((protocol) => ({ port, protocol }))),
};

const internalTraffic: NetworkSpec = {
  podSelector: {},
  policyTypes: ['Ingress', 'Egress'],
  ingress: [{ from: [{ podSelector: {} }] }],
  egress: [{ to: [{ podSelector: {} }] }],
};

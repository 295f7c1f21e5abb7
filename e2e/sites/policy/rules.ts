/**
 * NetworkPolicy as nftables rules of one node. Written for the test sites from the API's documentation
 * (networking.k8s.io/v1) and nft(8); IPv4 only, as the sites are.
 *
 * Pods are cabled to their node (ptp), so every packet of a pod passes `forward`, or `input` when it is for the node
 * itself. What the node sends to its pods (probes of the kubelet) passes neither, as Kubernetes asks. Stricter than
 * Kubernetes asks: egress rules hold for the way to the pod's own node as well.
 */

type Labels = Readonly<Record<string, string>>;

/** A pod as far as policies look at it. */
export interface PolicyPod {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Labels;
  /** Address in the pod network. Pods without one, or in the host's network, are left out. */
  readonly ip: string;
  /** Named container ports, for policies that name them. */
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
}

interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

const tableName = 'xtreemos-policy';

/** The table of a node that enforces nothing. */
export const noRules = `table ip ${tableName}\ndelete table ip ${tableName}\n`;

interface PolicyPeer {
  readonly podSelector?: LabelSelector;
  readonly namespaceSelector?: LabelSelector;
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}

interface PolicyPort {
  readonly protocol?: string;
  readonly port?: number | string;
  readonly endPort?: number;
}

/** The spec of a NetworkPolicy, with where it is. */
export interface Policy {
  readonly namespace: string;
  readonly podSelector?: LabelSelector;
  readonly policyTypes?: readonly string[];
  readonly ingress?: readonly { readonly from?: readonly PolicyPeer[]; readonly ports?: readonly PolicyPort[] }[];
  readonly egress?: readonly { readonly to?: readonly PolicyPeer[]; readonly ports?: readonly PolicyPort[] }[];
}

/** Everything of a site that policies depend on. */
export interface PolicyWorld {
  readonly pods: readonly PolicyPod[];
  /** Namespace → its labels. */
  readonly namespaces: ReadonlyMap<string, Labels>;
  readonly policies: readonly Policy[];
}

type Direction = 'ingress' | 'egress';

/**
 * Renders the whole table of one node; loading it replaces the one before in one step.
 * @param podCidr - the node's pod addresses. One that no known pod has may neither send nor receive, so that a pod
 *   has no network before its policies are in force.
 */
export function renderRules(world: PolicyWorld, podCidr: string): string {
  const local = world.pods.filter((pod) => isInside(pod.ip, podCidr));
  const chains: string[] = [];
  const verdicts: Record<Direction, string[]> = { ingress: [], egress: [] };
  for (const pod of [...local].sort((a, b) => (a.ip < b.ip ? -1 : 1))) {
    for (const direction of ['ingress', 'egress'] as const) {
      const policies = world.policies.filter((policy) => selects(policy, pod, direction));
      if (policies.length === 0) continue;
      const chain = `${direction}_${pod.ip.replaceAll('.', '_')}`;
      const allowed = policies.flatMap((policy) => allowances(world, policy, pod, direction));
      chains.push(`  chain ${chain} {\n${[...new Set(allowed), 'drop'].map((rule) => `    ${rule}`).join('\n')}\n  }`);
      verdicts[direction].push(`${pod.ip} : jump ${chain}`);
    }
  }
  const verdictOf = (direction: Direction): string[] => {
    const field = direction === 'ingress' ? 'daddr' : 'saddr';
    return verdicts[direction].length === 0 ? [] : [`ip ${field} vmap { ${verdicts[direction].join(', ')} }`];
  };
  const known = local.map((pod) => pod.ip).sort();
  const base = (hook: string, rules: readonly string[]): string =>
    [
      `  chain ${hook} {`,
      `    type filter hook ${hook} priority filter; policy accept;`,
      '    ct state established,related accept',
      ...rules.map((rule) => `    ${rule}`),
      '  }',
    ].join('\n');
  return `${[
    `table ip ${tableName}`,
    `delete table ip ${tableName}`,
    `table ip ${tableName} {`,
    namedSet('known', 'ipv4_addr', known),
    namedSet(
      'itself',
      'ipv4_addr . ipv4_addr',
      known.map((ip) => `${ip} . ${ip}`),
    ),
    ...chains,
    base('forward', [
      `ip saddr ${podCidr} ip saddr != @known drop`,
      `ip daddr ${podCidr} ip daddr != @known drop`,
      'ip saddr . ip daddr @itself accept',
      ...verdictOf('egress'),
      ...verdictOf('ingress'),
    ]),
    base('input', [`ip saddr ${podCidr} ip saddr != @known drop`, ...verdictOf('egress')]),
    '}',
  ].join('\n')}\n`;
}

function namedSet(name: string, type: string, elements: readonly string[]): string {
  const list = elements.length === 0 ? '' : `\n    elements = { ${elements.join(', ')} }`;
  return `  set ${name} {\n    type ${type}${list}\n  }`;
}

function selects(policy: Policy, pod: PolicyPod, direction: Direction): boolean {
  const types = policy.policyTypes ?? ['Ingress', ...(policy.egress === undefined ? [] : ['Egress'])];
  const wanted = direction === 'ingress' ? 'Ingress' : 'Egress';
  return policy.namespace === pod.namespace && types.includes(wanted) && matches(policy.podSelector ?? {}, pod.labels);
}

/** The `return` rules that a policy gives a pod; `return` goes on with the other direction's rules. */
function allowances(world: PolicyWorld, policy: Policy, pod: PolicyPod, direction: Direction): string[] {
  const rules: readonly { peers: readonly PolicyPeer[]; ports: readonly PolicyPort[] }[] =
    direction === 'ingress'
      ? (policy.ingress ?? []).map(({ from, ports }) => ({ peers: from ?? [], ports: ports ?? [] }))
      : (policy.egress ?? []).map(({ to, ports }) => ({ peers: to ?? [], ports: ports ?? [] }));
  return rules.flatMap(({ peers, ports }) => {
    const addresses =
      peers.length === 0 ? [''] : peers.flatMap((peer) => addressMatches(world, policy, peer, direction));
    const anywhere = addresses.flatMap((address) => {
      const matchers = ports.length === 0 ? [''] : ports.flatMap((port) => portMatch(port, pod, direction));
      return matchers.map((port) => [address, port, 'return'].filter((part) => part !== '').join(' '));
    });
    return direction === 'egress' ? [...anywhere, ...namedEgress(world, policy, peers, ports)] : anywhere;
  });
}

function addressMatches(world: PolicyWorld, policy: Policy, peer: PolicyPeer, direction: Direction): string[] {
  const field = direction === 'ingress' ? 'ip saddr' : 'ip daddr';
  if (peer.ipBlock !== undefined) {
    const { cidr, except = [] } = peer.ipBlock;
    if (cidr.includes(':')) return [];
    const exceptions = except.filter((each) => !each.includes(':'));
    return [[`${field} ${cidr}`, ...exceptions.map((each) => `${field} != ${each}`)].join(' ')];
  }
  const ips = [...new Set(peerPods(world, policy, peer).map((pod) => pod.ip))].sort();
  return ips.length === 0 ? [] : [`${field} { ${ips.join(', ')} }`];
}

function peerPods(world: PolicyWorld, policy: Policy, peer: PolicyPeer): PolicyPod[] {
  const { namespaceSelector, podSelector } = peer;
  return world.pods.filter((pod) => {
    const isInNamespace =
      namespaceSelector === undefined
        ? pod.namespace === policy.namespace
        : matches(namespaceSelector, world.namespaces.get(pod.namespace) ?? {});
    return isInNamespace && matches(podSelector ?? {}, pod.labels);
  });
}

/** A named port means the receiver's: of this pod for ingress. Egress to named ports is `namedEgress`. */
function portMatch(port: PolicyPort, pod: PolicyPod, direction: Direction): string[] {
  const protocol = (port.protocol ?? 'TCP').toLowerCase();
  if (port.port === undefined) return [`meta l4proto ${protocol}`];
  if (typeof port.port === 'number') {
    return [`${protocol} dport ${port.endPort === undefined ? port.port : `${port.port}-${port.endPort}`}`];
  }
  return direction === 'egress' ? [] : namedPorts(pod, port).map((number) => `${protocol} dport ${number}`);
}

function namedEgress(
  world: PolicyWorld,
  policy: Policy,
  peers: readonly PolicyPeer[],
  ports: readonly PolicyPort[],
): string[] {
  const named = ports.filter((port) => typeof port.port === 'string');
  if (named.length === 0) return [];
  const selectors = peers.filter((peer) => peer.ipBlock === undefined);
  const receivers = peers.length === 0 ? world.pods : selectors.flatMap((peer) => peerPods(world, policy, peer));
  return receivers.flatMap((receiver) =>
    named.flatMap((port) => {
      const protocol = (port.protocol ?? 'TCP').toLowerCase();
      return namedPorts(receiver, port).map((number) => `ip daddr ${receiver.ip} ${protocol} dport ${number} return`);
    }),
  );
}

function namedPorts(pod: PolicyPod, wanted: PolicyPort): number[] {
  return pod.ports
    .filter((port) => port.name === wanted.port && port.protocol === (wanted.protocol ?? 'TCP'))
    .map((port) => port.port);
}

/** Label selectors as in the Kubernetes API; the empty one selects everything. */
export function matches(selector: LabelSelector, labels: Labels): boolean {
  const exact = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
  return (
    exact &&
    (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      const value = labels[key];
      switch (operator) {
        case 'In':
          return value !== undefined && values.includes(value);
        case 'NotIn':
          return value === undefined || !values.includes(value);
        case 'Exists':
          return value !== undefined;
        case 'DoesNotExist':
          return value === undefined;
        default:
          return false;
      }
    })
  );
}

/** Whether an address is in a /24, the size of every node's pod network. */
function isInside(ip: string, podCidr: string): boolean {
  return ip.startsWith(podCidr.slice(0, podCidr.lastIndexOf('.') + 1));
}

/** Configuration files of a node's programs, as text. Pure; see local paths in `node-root.ts`. */
import { stringify } from 'yaml';

import type { NodePlan, SitePlan } from './addresses.ts';
import { cniPrograms, nodePrograms } from './node-root.ts';

/** Socket of the container runtime, on the node. */
export const containerdSocket = '/run/containerd/containerd.sock';
/** Image of the process that holds a pod's namespaces. */
export const pauseImage = 'xtreemos.io/pause:1';

/** containerd, version 3 of its format. */
export function containerdConfig(): string {
  return `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile",
]

[grpc]
  address = "${containerdSocket}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "${pauseImage}"

[plugins.'io.containerd.cri.v1.runtime']
  # Lowering oom_score_adj takes a capability that a machine in a sandbox may lack.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["${cniPrograms}"]
    conf_dir = "/etc/cni/net.d"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "${nodePrograms}/runc"
      SystemdCgroup = false
`;
}

/**
 * Pod network: a cable from each pod to its node, no bridge, so that traffic between pods of one node is routed too
 * and passes the rules of the policy agent.
 */
export function cniConfig(site: SitePlan, node: NodePlan): string {
  return JSON.stringify(
    {
      cniVersion: '1.0.0',
      name: `xtreemos-${site.name}`,
      plugins: [
        {
          type: 'ptp',
          ipMasq: false,
          mtu: 1500,
          ipam: {
            type: 'host-local',
            dataDir: '/var/lib/cni/networks',
            ranges: [[{ subnet: node.podCidr }]],
            routes: [{ dst: '0.0.0.0/0' }],
          },
        },
        { type: 'portmap', capabilities: { portMappings: true }, snat: true, backend: 'nftables' },
      ],
    },
    null,
    2,
  );
}

/** The kubelet. @param cgroupRoot - the group below which pods are put. */
export function kubeletConfig(site: SitePlan, node: NodePlan, cgroupRoot: string): string {
  const pki = '/etc/kubernetes/pki';
  return stringify({
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    address: node.address,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true, cacheTTL: '10s' },
      x509: { clientCAFile: `${pki}/ca.crt` },
    },
    authorization: { mode: 'Webhook', webhook: { cacheAuthorizedTTL: '10s', cacheUnauthorizedTTL: '5s' } },
    tlsCertFile: `${pki}/kubelet.crt`,
    tlsPrivateKeyFile: `${pki}/kubelet.key`,
    containerRuntimeEndpoint: `unix://${containerdSocket}`,
    clusterDomain: 'cluster.local',
    clusterDNS: [site.dnsService],
    resolvConf: '/etc/resolv.conf',
    cgroupDriver: 'cgroupfs',
    cgroupRoot,
    failCgroupV1: false,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    makeIPTablesUtilChains: false,
    serializeImagePulls: false,
    seccompDefault: true,
    podLogsDir: '/var/log/pods',
    volumePluginDir: '/var/lib/kubelet/volumeplugins',
    // Images can't be fetched again: never collect them.
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    evictionHard: { 'memory.available': '100Mi' },
    nodeStatusUpdateFrequency: '5s',
    nodeStatusReportFrequency: '1m',
    nodeLeaseDurationSeconds: 20,
    syncFrequency: '20s',
    oomScoreAdj: 0,
    featureGates: {},
    logging: { format: 'text' },
  });
}

/** kube-proxy in nftables mode. */
export function kubeProxyConfig(site: SitePlan, node: NodePlan): string {
  return stringify({
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'nftables',
    hostnameOverride: node.name,
    clusterCIDR: site.podCidr,
    detectLocalMode: 'ClusterCIDR',
    clientConnection: { kubeconfig: '/etc/kubernetes/kube-proxy.kubeconfig' },
    healthzBindAddress: '127.0.0.1:10256',
    metricsBindAddress: '127.0.0.1:10249',
    oomScoreAdj: 0,
    conntrack: { maxPerCore: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    nodePortAddresses: ['primary'],
  });
}

/** Interfaces and routes of a node, as a shell script for inside its network namespace. Safe to repeat. */
export function nodeNetworkScript(site: SitePlan, node: NodePlan): string {
  const others = site.nodes.filter((other) => other.name !== node.name);
  return [
    'ip link set lo up',
    `ip addr replace ${node.address}/24 dev eth0`,
    'ip link set eth0 up',
    `ip route replace default via ${site.router}`,
    ...others.map((other) => `ip route replace ${other.podCidr} via ${other.address}`),
    'echo 1 > /proc/sys/net/ipv4/ip_forward',
  ].join('\n');
}

/** Pods reach the rest of the site under their own address, and other sites' gateways under their node's. */
export function masqueradeRules(site: SitePlan, node: NodePlan): string {
  return `table ip xtreemos-masquerade
delete table ip xtreemos-masquerade
table ip xtreemos-masquerade {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${node.podCidr} ip daddr != { ${site.podCidr}, ${site.subnet} } masquerade
  }
}
`;
}

/** The programs that sites are made of, and how each is built from its pinned Go module under `hack/tools/`. */

/** A Go module under `hack/tools/` and the programs built from it. */
export interface ToolGroup {
  /** Folder below `hack/tools/`. */
  readonly name: string;
  /** Program name → Go package. */
  readonly programs: Readonly<Record<string, string>>;
  /** Seconds that one program takes on two cores with nothing cached, measured; for the estimate only. */
  readonly seconds: Readonly<Record<string, number>>;
  readonly cgo?: boolean;
  readonly tags?: string;
  readonly ldflags?: string;
  /** Folders copied beside the programs: name → [module, folder in it]. */
  readonly folders?: Readonly<Record<string, readonly [string, string]>>;
}

const kubernetes = 'k8s.io/kubernetes/cmd';
const version = 'k8s.io/component-base/version';
const containerd = 'github.com/containerd/containerd/v2/cmd';
const cni = 'github.com/containernetworking/plugins/plugins';
const certManager = 'github.com/cert-manager/cert-manager';
const snapshotter = 'github.com/kubernetes-csi/external-snapshotter';

/** Kubernetes' version, as pinned in `hack/tools/kubernetes/go.mod`. */
export const kubernetesVersion = 'v1.36.3';
/** cert-manager's version, as pinned in `hack/tools/cert-manager/go.mod`. */
export const certManagerVersion = 'v1.11.5';

/** All groups, in the order in which they are built: what everything else waits for comes first. */
export const toolGroups: readonly ToolGroup[] = [
  {
    name: 'etcd',
    programs: { etcd: 'go.etcd.io/etcd/server/v3', etcdctl: 'go.etcd.io/etcd/etcdctl/v3' },
    seconds: { etcd: 30, etcdctl: 6 },
  },
  {
    name: 'kubernetes',
    programs: Object.fromEntries(
      ['kube-apiserver', 'kubectl', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kube-proxy'].map(
        (program) => [program, `${kubernetes}/${program}`],
      ),
    ),
    seconds: {
      'kube-apiserver': 230,
      kubectl: 20,
      'kube-controller-manager': 75,
      'kube-scheduler': 7,
      kubelet: 18,
      'kube-proxy': 7,
    },
    ldflags: `-X ${version}.gitVersion=${kubernetesVersion} -X ${version}.gitMajor=1 -X ${version}.gitMinor=36`,
  },
  {
    name: 'containerd',
    programs: {
      containerd: `${containerd}/containerd`,
      'containerd-shim-runc-v2': `${containerd}/containerd-shim-runc-v2`,
      ctr: `${containerd}/ctr`,
      loopback: `${cni}/main/loopback`,
      ptp: `${cni}/main/ptp`,
      'host-local': `${cni}/ipam/host-local`,
      portmap: `${cni}/meta/portmap`,
    },
    seconds: { containerd: 50, 'containerd-shim-runc-v2': 2, ctr: 4, loopback: 1, ptp: 1, 'host-local': 1, portmap: 1 },
  },
  // Without the tag every pod fails with «seccomp not supported».
  {
    name: 'runc',
    programs: { runc: 'github.com/opencontainers/runc' },
    seconds: { runc: 10 },
    cgo: true,
    tags: 'seccomp',
  },
  { name: 'coredns', programs: { coredns: 'github.com/coredns/coredns' }, seconds: { coredns: 70 } },
  { name: 'helm', programs: { helm: 'helm.sh/helm/v4/cmd/helm' }, seconds: { helm: 60 } },
  {
    name: 'cert-manager',
    programs: Object.fromEntries(
      ['controller', 'webhook', 'cainjector'].map((part) => [`cert-manager-${part}`, `${certManager}/cmd/${part}`]),
    ),
    seconds: { 'cert-manager-controller': 90, 'cert-manager-webhook': 15, 'cert-manager-cainjector': 15 },
    folders: {
      'cert-manager-chart': [certManager, 'deploy/charts/cert-manager'],
      'cert-manager-crds': [certManager, 'deploy/crds'],
    },
  },
  {
    name: 'csi-sanity',
    programs: { 'csi-sanity': 'github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity' },
    seconds: { 'csi-sanity': 20 },
  },
  {
    name: 'external-provisioner',
    programs: { 'csi-provisioner': 'github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner' },
    seconds: { 'csi-provisioner': 107 },
  },
  {
    name: 'external-snapshotter',
    programs: Object.fromEntries(
      ['csi-snapshotter', 'snapshot-controller'].map((program) => [program, `${snapshotter}/v8/cmd/${program}`]),
    ),
    seconds: { 'csi-snapshotter': 60, 'snapshot-controller': 10 },
    folders: {
      'snapshot-crds': [`${snapshotter}/client/v8`, 'config/crd'],
      'snapshot-controller-manifests': [`${snapshotter}/v8`, 'deploy/kubernetes/snapshot-controller'],
    },
  },
  { name: 'kwok', programs: { kwok: 'sigs.k8s.io/kwok/cmd/kwok' }, seconds: { kwok: 45 } },
  { name: 'kind', programs: { kind: 'sigs.k8s.io/kind' }, seconds: { kind: 5 } },
];

/** The group that a program or folder comes from. @throws when there is none. */
export function groupOf(name: string): ToolGroup {
  const group = toolGroups.find((each) => name in each.programs || name in (each.folders ?? {}));
  if (group === undefined) {
    const known = toolGroups.flatMap((each) => Object.keys(each.programs)).join(', ');
    throw new Error(`no pinned module builds ${name}; known programs: ${known}`);
  }
  return group;
}

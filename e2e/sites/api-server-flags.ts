/** Flags of kube-apiserver, and what its audit log holds. */
import { join } from 'node:path';

import type { ControlPlaneConfig } from './control-plane.ts';

/** Where the API server of a folder writes its audit log. */
export function auditLogPath(dir: string): string {
  return join(dir, 'audit.log');
}

/** Every flag of kube-apiserver, for keys and certificates as `ControlPlane` writes them. */
export function apiServerFlags(config: ControlPlaneConfig): string[] {
  const pki = (file: string): string => join(config.dir, 'pki', file);
  return [
    `--bind-address=${config.address}`,
    `--advertise-address=${config.address}`,
    `--secure-port=${config.port}`,
    ...(config.publishesAddress ? [] : ['--endpoint-reconciler-type=none']),
    `--etcd-servers=https://127.0.0.1:${config.etcdPort}`,
    `--etcd-cafile=${pki('etcd-ca.crt')}`,
    `--etcd-certfile=${pki('etcd.crt')}`,
    `--etcd-keyfile=${pki('etcd.key')}`,
    `--client-ca-file=${pki('ca.crt')}`,
    `--tls-cert-file=${pki('apiserver.crt')}`,
    `--tls-private-key-file=${pki('apiserver.key')}`,
    `--kubelet-client-certificate=${pki('apiserver-kubelet.crt')}`,
    `--kubelet-client-key=${pki('apiserver-kubelet.key')}`,
    `--kubelet-certificate-authority=${pki('ca.crt')}`,
    '--kubelet-preferred-address-types=InternalIP',
    `--requestheader-client-ca-file=${pki('front-proxy-ca.crt')}`,
    '--requestheader-allowed-names=front-proxy',
    '--requestheader-username-headers=X-Remote-User',
    '--requestheader-group-headers=X-Remote-Group',
    '--requestheader-extra-headers-prefix=X-Remote-Extra-',
    `--proxy-client-cert-file=${pki('front-proxy.crt')}`,
    `--proxy-client-key-file=${pki('front-proxy.key')}`,
    // The control plane has no kube-proxy: webhooks and extension servers are called at their pods' addresses.
    '--enable-aggregator-routing=true',
    `--service-account-issuer=https://${config.name}.sites.xtreemos.test`,
    '--api-audiences=https://kubernetes.default.svc',
    `--service-account-key-file=${pki('service-account.crt')}`,
    `--service-account-signing-key-file=${pki('service-account.key')}`,
    `--service-cluster-ip-range=${config.serviceCidr}`,
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--allow-privileged=true',
    `--audit-policy-file=${join(config.dir, 'audit-policy.yaml')}`,
    `--audit-log-path=${auditLogPath(config.dir)}`,
    '--audit-log-maxsize=100',
    '--audit-log-maxbackup=2',
    '--profiling=false',
    ...config.apiServerArgs,
  ];
}

/**
 * Who did what to which object; bodies only for our own kinds and what guards them. Leases, events and health checks
 * stay out.
 */
export const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    resources:
      - group: coordination.k8s.io
        resources: [leases]
      - group: ''
        resources: [events]
      - group: events.k8s.io
        resources: [events]
  - level: None
    nonResourceURLs: ['/healthz*', '/readyz*', '/livez*', '/openapi*', '/version', '/metrics']
  - level: Request
    verbs: [create, update, patch, delete, deletecollection]
    resources:
      - group: xtreemos.io
      - group: rbac.authorization.k8s.io
  - level: Metadata
`;

/** What the operator needs for FileSystems and Volumes: rights, a certificate, ways to the servers. */
import { group } from '#crds/kind.ts';
import { volumeClaimClass } from '#crds/volume.ts';
import { administratorUnit, fileSystemLabel, relayServiceName, serverPorts } from '#operator/storage/names.ts';
import { addCertificate } from './certificates.ts';
import { text } from './helm.ts';
import { named, namespace, selectorOf, type Add } from './shared.ts';

const read = ['get', 'list', 'watch'];
const secretName = named('storage-admin');
/** Read by the group of the pod only. */
const secretMode = 0o440;

/** Where the certificate is that the operator shows to MRCs. */
export const storageTlsFolder = '/etc/xtreemos/storage';

/** The volume of the operator's pod with it. */
export const storageVolume = { name: 'storage-tls', secret: { secretName, defaultMode: secretMode } };

const relaySecret = named('relay-tls');
/** Where the certificate of the relay is. */
export const relayTlsFolder = '/etc/xtreemos/relay';
/** The volume of the operator's pod with it. */
export const relayVolume = {
  name: 'relay-tls',
  secret: { secretName: relaySecret, defaultMode: secretMode },
};
/** Where node agents reach volumes of other sites: in the operator's pod, for node agents alone. */
export const relayPort = { port: 7444, protocol: 'TCP' };
const relayService = named('relay');
/** Its address, an expression of Helm. */
export const relayAddress = `printf "%s-relay.%s.svc:${relayPort.port}" (include "xtreemos.fullname" .) .Release.Namespace`;

/** Rights on the kinds, and on what pods name a Volume by. */
export const operatorStorageRules = [
  { apiGroups: [group], resources: ['filesystems', 'volumes'], verbs: [...read, 'patch'] },
  { apiGroups: [group], resources: ['volumes'], verbs: ['create', 'delete'] },
  {
    apiGroups: [group],
    resources: ['filesystems/status', 'volumes/status'],
    verbs: ['get', 'update', 'patch'],
  },
  { apiGroups: [group], resources: ['filesystems/finalizers', 'volumes/finalizers'], verbs: ['update'] },
  { apiGroups: [''], resources: ['persistentvolumes'], verbs: [...read, 'create', 'patch', 'delete'] },
  { apiGroups: [''], resources: ['persistentvolumeclaims'], verbs: [...read, 'create', 'patch', 'delete'] },
  { apiGroups: [''], resources: ['persistentvolumeclaims/status'], verbs: ['patch'] },
] as const;

/** Rights in the operator's own namespace, where servers run. */
export const operatorServerRules = [
  { apiGroups: ['apps'], resources: ['statefulsets'], verbs: [...read, 'create', 'patch'] },
  { apiGroups: [''], resources: ['services'], verbs: ['get', 'create', 'patch'] },
  { apiGroups: [''], resources: ['pods'], verbs: read },
  { apiGroups: ['networking.k8s.io'], resources: ['networkpolicies'], verbs: ['get', 'create', 'patch'] },
  { apiGroups: ['policy'], resources: ['poddisruptionbudgets'], verbs: ['get', 'create', 'patch'] },
] as const;

/** Where the operator goes to talk to servers. */
export const serverEgress = {
  to: [{ podSelector: { matchExpressions: [{ key: fileSystemLabel, operator: 'Exists' }] } }],
  ports: Object.values(serverPorts).map(({ rpc }) => ({ port: rpc, protocol: 'TCP' })),
};

/** The operator's certificate, and the class of the claims of Volumes. */
export function addStorage(add: Add): void {
  addCertificate(add, 'operator-storage-certificate', secretName, {
    commonName: 'operator.xtreemos.io',
    dnsNames: ['operator.xtreemos.io'],
    subject: { organizations: ['xtreemos'], organizationalUnits: [administratorUnit] },
    privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Always' },
    usages: ['digital signature', 'client auth'],
  });
  addCertificate(add, 'relay-certificate', relaySecret, {
    commonName: relayServiceName,
    dnsNames: [relayServiceName, text('printf "%s-relay.%s.svc" (include "xtreemos.fullname" .) .Release.Namespace')],
    privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Always' },
    usages: ['digital signature', 'client auth', 'server auth'],
  });
  const relay = {
    metadata: { name: relayService, namespace },
    spec: {
      selector: selectorOf('operator'),
      ports: [{ name: 'relay', port: relayPort.port, targetPort: 'relay', protocol: relayPort.protocol }],
    },
  };
  add('relay-service', 'v1', 'Service', relay, '.Values.nodeAgent.enabled');
  add('operator-storageclass', 'storage.k8s.io/v1', 'StorageClass', {
    metadata: { name: volumeClaimClass },
    // The operator binds the claims of Volumes itself, and lets them grow.
    provisioner: 'kubernetes.io/no-provisioner',
    reclaimPolicy: 'Retain',
    allowVolumeExpansion: true,
    volumeBindingMode: 'Immediate',
  });
}

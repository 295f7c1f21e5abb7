/** What a FileSystem is made of in its namespace: pure, deterministic names, so that a repeat changes nothing. */
import { type FileSystem, fileSystems } from '#crds/file-system.ts';
import { fileSystemLabel, type ServerKind, serverKinds, serverName, serverPorts } from '#operator/storage/names.ts';
import type { NetworkPolicy, PodDisruptionBudget, Service, StatefulSet } from '#runtime/builtin.ts';
import { controllerReference, defineKind } from '#runtime/kind.ts';
import type { KubeObject, Stored } from '#runtime/types.ts';
import { serverLabels, serverPod, serviceName } from './pod.ts';

/** A Certificate of cert-manager for a server. */
export interface ServerCertificate extends KubeObject {
  spec: Readonly<Record<string, unknown>>;
}

/** Certificates, as the controller of file systems writes them. */
export const serverCertificates = defineKind<ServerCertificate>({
  group: 'cert-manager.io',
  version: 'v1',
  kind: 'Certificate',
  plural: 'certificates',
  namespaced: true,
});

/** What the servers need besides the FileSystem. */
export interface ObjectTerms {
  readonly image: string;
  /** So many OSDs are to run. */
  readonly osdCount: number;
}

type Metadata = KubeObject['metadata'] & { name: string };

function metadataOf(fileSystem: Stored<FileSystem>, name: string, kind?: ServerKind): Metadata {
  const { metadata } = fileSystem;
  return {
    name,
    namespace: metadata.namespace,
    labels: kind === undefined ? { [fileSystemLabel]: metadata.name } : serverLabels(metadata.name, kind),
    ownerReferences: [controllerReference(fileSystems, fileSystem)],
  };
}

/** Stable names for every pod, also before it is ready: servers find each other while they start. */
export function serviceOf(fileSystem: Stored<FileSystem>, kind: ServerKind): Service & { metadata: Metadata } {
  const { rpc, http } = serverPorts[kind];
  return {
    metadata: metadataOf(fileSystem, serverName(fileSystem.metadata.name, kind), kind),
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: serverLabels(fileSystem.metadata.name, kind),
      ports: [
        { name: 'rpc', port: rpc, targetPort: 'rpc', protocol: 'TCP' },
        { name: 'http', port: http, targetPort: 'http', protocol: 'TCP' },
      ],
    },
  };
}

/** The servers of one kind. Their claims stay when they, or the FileSystem, go. */
export function statefulSetOf(
  fileSystem: Stored<FileSystem>,
  kind: ServerKind,
  { image, osdCount }: ObjectTerms,
): StatefulSet & { metadata: Metadata } {
  const { name } = fileSystem.metadata;
  const { storage } = kind === 'osd' ? fileSystem.spec.osds : fileSystem.spec[kind];
  const labels = serverLabels(name, kind);
  const storageClass = storage.storageClassName;
  return {
    metadata: metadataOf(fileSystem, serverName(name, kind), kind),
    spec: {
      replicas: kind === 'osd' ? osdCount : 1,
      serviceName: serverName(name, kind),
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'RollingUpdate' },
      minReadySeconds: 5,
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
      selector: { matchLabels: labels },
      template: serverPod(fileSystem, kind, image),
      volumeClaimTemplates: [
        {
          metadata: { name: 'data', labels: { [fileSystemLabel]: name } },
          spec: {
            accessModes: ['ReadWriteOnce'],
            resources: { requests: { storage: String(storage.size) } },
            ...(storageClass === undefined ? {} : { storageClassName: storageClass }),
          },
        },
      ],
    },
  };
}

/** While nodes are drained one server of a kind goes at a time. */
export function disruptionBudgetOf(
  fileSystem: Stored<FileSystem>,
  kind: ServerKind,
): PodDisruptionBudget & { metadata: Metadata } {
  const { name } = fileSystem.metadata;
  return {
    metadata: metadataOf(fileSystem, serverName(name, kind), kind),
    spec: { maxUnavailable: 1, selector: { matchLabels: serverLabels(name, kind) } },
  };
}

/** Servers talk to each other, and are talked to by the programs of the release only: never by pods of a virtual organization. */
export function networkPolicyOf(fileSystem: Stored<FileSystem>): NetworkPolicy & { metadata: Metadata } {
  const { name } = fileSystem.metadata;
  const own = { podSelector: { matchLabels: { 'app.kubernetes.io/name': 'xtreemfs', [fileSystemLabel]: name } } };
  const programs = { podSelector: { matchLabels: { 'app.kubernetes.io/name': 'xtreemos' } } };
  const tcp = (port: number): { port: number; protocol: string } => ({ port, protocol: 'TCP' });
  const rpcPorts = serverKinds.map((kind) => tcp(serverPorts[kind].rpc));
  const dns = [53, 5353].flatMap((port) => [tcp(port), { port, protocol: 'UDP' }]);
  return {
    metadata: metadataOf(fileSystem, name),
    spec: {
      podSelector: own.podSelector,
      policyTypes: ['Ingress', 'Egress'],
      ingress: [
        { from: [own, programs], ports: rpcPorts },
        // Status pages and metrics: for whoever watches over this namespace.
        { from: [{ podSelector: {} }], ports: serverKinds.map((kind) => tcp(serverPorts[kind].http)) },
      ],
      egress: [{ ports: dns }, { to: [own], ports: rpcPorts }],
    },
  };
}

/**
 * What servers of one kind prove themselves with, to clients and to each other.
 * @param issuer - in the same namespace.
 */
export function certificateOf(
  fileSystem: Stored<FileSystem>,
  kind: ServerKind,
  issuer: string,
): ServerCertificate & { metadata: Metadata } {
  const { name, namespace = '' } = fileSystem.metadata;
  const secretName = serverName(name, kind);
  return {
    metadata: metadataOf(fileSystem, secretName, kind),
    spec: {
      secretName,
      dnsNames: [`*.${secretName}.${namespace}.svc`, `${secretName}.${namespace}.svc`, serviceName(name, kind)],
      usages: ['digital signature', 'server auth', 'client auth'],
      privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Always' },
      issuerRef: { group: 'cert-manager.io', kind: 'Issuer', name: issuer },
      secretTemplate: { labels: { [fileSystemLabel]: name } },
    },
  };
}

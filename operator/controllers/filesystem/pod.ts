/** The pod of a DIR, MRC or OSD: pure. */
import { type FileSystem, fileSystemSchemes } from '#crds/file-system.ts';
import {
  administratorUnit,
  nodeServiceName,
  relayServiceName,
  serverAddress,
  serverName,
  serverPorts,
} from '#operator/storage/names.ts';
import type { ServerKind } from '#operator/storage/names.ts';
import type { StatefulSet } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/types.ts';

type PodTemplate = NonNullable<StatefulSet['spec']>['template'];

type Container = NonNullable<PodTemplate['spec']>['containers'][number];
type Environment = NonNullable<Container['env']>;

/** Runs as nobody in particular. */
const userId = 65_532;
const secretMode = 0o440;
const folders = { data: '/data', tls: '/etc/xtreemos/tls', keys: '/etc/xtreemos/keys' };

/** Names that servers prove to each other; an MRC takes names of users from those of MRC and OSDs. */
export function serviceName(fileSystem: string, kind: ServerKind): string {
  return `${kind}.${fileSystem}.file-system.xtreemos.io`;
}

/** Name of the Secret with the keys that sign capabilities. */
export function keysName(fileSystem: string): string {
  return `${fileSystem}-keys`;
}

/** Labels of everything of one kind of server. */
export function serverLabels(fileSystem: string, kind: ServerKind): Record<string, string> {
  return {
    'app.kubernetes.io/name': 'xtreemfs',
    'app.kubernetes.io/instance': fileSystem,
    'app.kubernetes.io/component': kind,
    'app.kubernetes.io/part-of': 'xtreemos',
    'app.kubernetes.io/managed-by': 'xtreemos',
    'xtreemos.io/file-system': fileSystem,
  };
}

/** @param image - of the product, for FileSystems that name none. */
export function serverPod(fileSystem: Stored<FileSystem>, kind: ServerKind, image: string): PodTemplate {
  const { name } = fileSystem.metadata;
  const { spec } = fileSystem;
  const labels = serverLabels(name, kind);
  const hasTls = spec.tls !== 'Disabled';
  const { resources } = kind === 'osd' ? spec.osds : spec[kind];
  return {
    metadata: { labels },
    spec: {
      enableServiceLinks: false,
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 60,
      securityContext: {
        ...{ runAsNonRoot: true, runAsUser: userId, runAsGroup: userId, fsGroup: userId },
        fsGroupChangePolicy: 'OnRootMismatch',
        seccompProfile: { type: 'RuntimeDefault' },
      },
      affinity: {
        podAntiAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: [
            {
              weight: 100,
              podAffinityTerm: { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: labels } },
            },
          ],
        },
      },
      containers: [
        {
          name: kind,
          image: spec.engine.image ?? image,
          args: ['xtreemfs', kind, ...serverArguments(fileSystem, kind)],
          env: serverEnvironment(name, kind),
          ports: [
            { name: 'rpc', containerPort: serverPorts[kind].rpc },
            { name: 'http', containerPort: serverPorts[kind].http },
          ],
          startupProbe: probe('/healthz', 60),
          livenessProbe: probe('/healthz', 6),
          readinessProbe: probe('/readyz', 2),
          resources: containerResources(resources),
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
          volumeMounts: [
            { name: 'data', mountPath: folders.data },
            ...(hasTls ? [{ name: 'tls', mountPath: folders.tls, readOnly: true }] : []),
            ...(kind === 'dir' ? [] : [{ name: 'keys', mountPath: folders.keys, readOnly: true }]),
          ],
        },
      ],
      volumes: [
        ...(hasTls ? [{ name: 'tls', secret: { secretName: serverName(name, kind), defaultMode: secretMode } }] : []),
        ...(kind === 'dir' ? [] : [{ name: 'keys', secret: keysVolume(name, kind) }]),
      ],
    },
  };
}

/** An OSD gets no key that signs. */
function keysVolume(fileSystem: string, kind: ServerKind): object {
  const items = [{ key: 'verify.pem', path: 'verify.pem' }];
  if (kind === 'mrc') items.push({ key: 'sign.pem', path: 'sign.pem' });
  return { secretName: keysName(fileSystem), defaultMode: secretMode, items };
}

function probe(path: string, failureThreshold: number): object {
  return { httpGet: { path, port: 'http' }, periodSeconds: 5, timeoutSeconds: 5, failureThreshold };
}

type Resources = FileSystem['spec']['dir']['resources'];

function containerResources({ requests, limits }: Resources): object {
  const texts = (amounts: Readonly<Record<string, string | number>>): Record<string, string> =>
    Object.fromEntries(Object.entries(amounts).map(([name, amount]) => [name, String(amount)]));
  return {
    ...(requests === undefined ? {} : { requests: texts(requests) }),
    ...(limits === undefined ? {} : { limits: texts(limits) }),
  };
}

function serverEnvironment(fileSystem: string, kind: ServerKind): Environment {
  const own = [{ name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }];
  if (kind === 'dir') return own;
  const secretKeyRef = { name: keysName(fileSystem), key: 'secret' };
  return [...own, { name: 'XTREEMOS_CAPABILITY_SECRET', valueFrom: { secretKeyRef } }];
}

function serverArguments({ metadata, spec }: Stored<FileSystem>, kind: ServerKind): string[] {
  const { name, namespace = '' } = metadata;
  const tls =
    spec.tls === 'Disabled'
      ? []
      : [
          `--tls-certificate=${folders.tls}/tls.crt`,
          `--tls-private-key=${folders.tls}/tls.key`,
          `--tls-trusted=${folders.tls}/ca.crt`,
        ];
  const common = [
    `--host-name=$(POD_NAME).${serverName(name, kind)}.${namespace}.svc`,
    `--scheme=${fileSystemSchemes[spec.tls]}`,
    ...tls,
  ];
  if (kind === 'dir') {
    const writers = spec.tls === 'Disabled' ? [] : dirWriters(name);
    return [...common, `--data-dir=${folders.data}`, '--no-discover', ...writers];
  }
  const member = [
    ...common,
    '--uuid=$(POD_NAME)',
    `--dir=${serverAddress(name, namespace, 'dir')}`,
    `--capability-verify-keys=${folders.keys}/verify.pem`,
  ];
  if (kind === 'osd') return [...member, `--object-dir=${folders.data}`, '--uuid-per-folder'];
  return [
    ...member,
    `--data-dir=${folders.data}`,
    `--capability-signing-key=${folders.keys}/sign.pem`,
    ...(spec.tls === 'Disabled' ? [] : mrcIdentity(name)),
  ];
}

/** Each kind of server may write of itself only; node agents, which have certificates too, of nothing. */
function dirWriters(fileSystem: string): string[] {
  const rules = (['mrc', 'osd'] as const).map(
    (kind) => `${kind}/${serverName(fileSystem, kind)}-/DNS:${serviceName(fileSystem, kind)}`,
  );
  return [`--writers=${rules.join(',')}`, `--admin-groups=${administratorUnit}`];
}

/** Who may do everything is told by a certificate, never by a name; who may speak for users too. */
function mrcIdentity(fileSystem: string): string[] {
  // Servers have no common name: 64 characters are too few for it.
  const servers = (['mrc', 'osd'] as const).map((kind) => `DNS:${serviceName(fileSystem, kind)}`);
  const services = [nodeServiceName, relayServiceName, ...servers];
  return [
    '--authentication-provider=federation-x509',
    '--super-users=',
    `--admin-groups=${administratorUnit}`,
    `--service-names=${services.join(',')}`,
  ];
}

import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import {
  certificates,
  type Certificate,
  type Issuer,
  issuers,
  selfSigned,
  selfSignedIssuer,
} from '#operator/identity/cert-manager.ts';
import { configMaps, roles, type Secret } from '#runtime/builtin.ts';
import type { Client, Informer, Runnable } from '#runtime/contracts.ts';
import { ApiError, isServerTrouble } from '#runtime/errors.ts';
import { controllerReference } from '#runtime/kind.ts';
import type { OwnerReference } from '#runtime/types.ts';
import { certificatesIn } from './login/client-certificate.ts';
import type { DeviceLogins } from './login/device-logins.ts';
import type { Logins } from './login/logins.ts';
import type { GatewayMetrics } from './metrics.ts';
import { gatewayIdentity } from './peers/peer-identity.ts';
import { gatewayLabel } from './sealed-records.ts';
import { GatewayServer, type ServerParts, type TlsMaterial } from './server.ts';
import type { Sessions } from './sessions.ts';

const tlsSecret = 'xtreemos-gateway-tls';
const authorityName = 'xtreemos-gateway-ca';
/** ConfigMap of kube-public that tells the users of the cluster where the gateway is, and which authority vouches for it. */
const publicKey = { namespace: 'kube-public', name: 'xtreemos-gateway' };
/** Material is compared so often even when nothing tells of a change, milliseconds. */
const compareMs = 5000;
const keepMs = 30_000;

/** Reads what the gateway is served with from the Secret that cert-manager keeps. */
export class ServingMaterial {
  private readonly informer: Informer<Secret>;
  private readonly namespace: string;

  /** @param informer - Secrets of the operator's namespace with the label of the gateway. */
  constructor(informer: Informer<Secret>, namespace: string) {
    this.informer = informer;
    this.namespace = namespace;
  }

  /** Certificate, key, and the authority that made them; undefined while cert-manager hasn't made them. */
  get current(): { readonly cert: string; readonly key: string; readonly authority: string } | undefined {
    const { data = {} } = this.informer.get({ namespace: this.namespace, name: tlsSecret }) ?? {};
    const decode = (name: string): string => Buffer.from(data[name] ?? '', 'base64').toString();
    const [cert, key, authority] = [decode('tls.crt'), decode('tls.key'), decode('ca.crt')];
    return cert === '' || key === '' ? undefined : { cert, key, authority };
  }
}

/** Where the gateway listens, and what it says. */
export interface ListenerParts extends ServerParts {
  readonly port: number;
  readonly material: ServingMaterial;
  readonly logins: Logins;
  /** Resolve when everything that requests read is in the caches. */
  readonly synced: (signal: AbortSignal) => Promise<void>;
}

/** Serves on every replica, from the moment that there is a certificate, and takes over a new one without closing anything. */
export class GatewayListener implements Runnable {
  readonly name = 'gateway';
  readonly needsLeader = false;
  /** Port that it listens on; undefined before. */
  port: number | undefined;
  private readonly parts: ListenerParts;

  constructor(parts: ListenerParts) {
    this.parts = parts;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, metrics, port } = this.parts;
    let server: GatewayServer | undefined;
    let used = '';
    try {
      await this.parts.synced(signal);
      while (!signal.aborted) {
        const tls = this.tls();
        if (tls !== undefined && JSON.stringify(tls) !== used) {
          used = JSON.stringify(tls);
          metrics.certificateExpiry.set(Date.parse(new X509Certificate(tls.cert).validTo) / 1000);
          if (server === undefined) {
            server = new GatewayServer(this.parts, tls);
            this.port = await server.start(port);
            log.info('Gateway listens', { port: this.port });
          } else {
            server.reload(tls);
            log.info('Gateway uses another certificate or other authorities');
          }
        }
        await clock.sleep(server === undefined ? 250 : compareMs, signal);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      await server?.stop();
    }
  }

  private tls(): TlsMaterial | undefined {
    const { material, logins } = this.parts;
    const { current } = material;
    if (current === undefined) return undefined;
    return { cert: current.cert, key: current.key, ca: logins.certificateAuthorities.flatMap(certificatesIn) };
  }
}

/** What the leader keeps for all gateways of a site. */
export interface KeeperParts {
  readonly client: Client;
  readonly material: ServingMaterial;
  readonly sessions: Sessions;
  readonly devices: DeviceLogins;
  readonly metrics: GatewayMetrics;
  readonly clock: Clock;
  readonly log: Logger;
  readonly namespace: string;
  readonly site: string;
  /** `host:port` under which users reach the gateway. */
  readonly address: string;
  /** Name of the Service in front of it. */
  readonly service: string;
  /** Under which peers know this site. */
  readonly trustDomain: string;
  readonly synced: (signal: AbortSignal) => Promise<void>;
}

/** Keeps certificate and public address of the gateway, and ends sessions and device logins that are over. */
export class GatewayKeeper implements Runnable {
  readonly name = 'gateway-keeper';
  private readonly parts: KeeperParts;
  private published = '';
  private isAsked = false;

  constructor(parts: KeeperParts) {
    this.parts = parts;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, sessions, devices, metrics } = this.parts;
    try {
      await this.parts.synced(signal);
      while (!signal.aborted) {
        try {
          await this.askForCertificate(signal);
          await this.publish(signal);
          metrics.sessions.set(await sessions.expire(signal));
          await devices.expire(signal);
        } catch (error) {
          if (!isServerTrouble(error)) throw error;
          const isMissing =
            error.message.includes('cert-manager.io') && error instanceof ApiError && error.statusCode === 404;
          const problem = isMissing
            ? 'cert-manager is not installed: the gateway has no certificate and does not listen'
            : error.message;
          log.warn('Can not keep the gateway', { problem });
        }
        await clock.sleep(this.published === '' ? 1000 : keepMs, signal);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  private async askForCertificate(signal: AbortSignal): Promise<void> {
    if (this.isAsked && this.parts.material.current !== undefined) return;
    const { client, namespace, service, address, trustDomain } = this.parts;
    const wanted = gatewayCertificates(namespace, service, hostOf(address), trustDomain);
    for (const issuer of wanted.issuers) await client.of(issuers).apply(issuer, { signal });
    for (const certificate of wanted.certificates) await client.of(certificates).apply(certificate, { signal });
    this.isAsked = true;
  }

  private async publish(signal: AbortSignal): Promise<void> {
    const { client, material, site, address, trustDomain, namespace } = this.parts;
    const caBundle = material.current?.authority;
    if (caBundle === undefined) return;
    const data = { site, namespace, address, trustDomain, caBundle };
    const ownerReferences = await this.installation(signal);
    const text = JSON.stringify([data, ownerReferences]);
    if (this.published === text && (await this.isPublished(data, signal))) return;
    await client.of(configMaps).apply({ metadata: { ...publicKey, ownerReferences }, data }, { signal });
    this.published = text;
  }

  /** What is taken away when the product is, the role by which the address is written: what the gateway told of itself goes with it. */
  private async installation(signal: AbortSignal): Promise<OwnerReference[]> {
    const key = { namespace: publicKey.namespace, name: `${this.parts.service}-address-writer` };
    const role = await this.parts.client.of(roles).find(key, { signal });
    return role === undefined ? [] : [{ ...controllerReference(roles, role), blockOwnerDeletion: false }];
  }

  private async isPublished(data: Readonly<Record<string, string>>, signal: AbortSignal): Promise<boolean> {
    const found = await this.parts.client.of(configMaps).find(publicKey, { signal });
    return Object.entries(data).every(([key, value]) => found?.data?.[key] === value);
  }
}

/** An authority for this gateway alone, and a certificate under all names that it is called by. */
export function gatewayCertificates(
  namespace: string,
  service: string,
  host: string,
  trustDomain: string,
): { readonly issuers: readonly Issuer[]; readonly certificates: readonly Certificate[] } {
  const names = [
    host,
    service,
    `${service}.${namespace}`,
    `${service}.${namespace}.svc`,
    `${service}.${namespace}.svc.cluster.local`,
    'localhost',
  ];
  const key = { algorithm: 'ECDSA', size: 256, encoding: 'PKCS8' } as const;
  const unlabelled = { labels: {} };
  return {
    issuers: [
      selfSigned(namespace),
      { metadata: { name: authorityName, namespace }, spec: { ca: { secretName: authorityName } } },
    ],
    certificates: [
      {
        metadata: { name: authorityName, namespace },
        spec: {
          secretName: authorityName,
          commonName: `${namespace} gateway authority`,
          isCA: true,
          duration: '87600h',
          usages: ['cert sign', 'digital signature'],
          // Users pin it.
          privateKey: { ...key, rotationPolicy: 'Never' },
          issuerRef: { kind: 'Issuer', name: selfSignedIssuer },
          secretTemplate: unlabelled,
        },
      },
      {
        metadata: { name: tlsSecret, namespace },
        spec: {
          secretName: tlsSecret,
          dnsNames: [...new Set(names.filter((name) => isIP(name) === 0))],
          // What it is to peers; users look at the names.
          uris: [gatewayIdentity(trustDomain)],
          ipAddresses: [...new Set([...names.filter((name) => isIP(name) !== 0), '127.0.0.1'])],
          duration: '2160h',
          renewBefore: '720h',
          usages: ['server auth', 'client auth', 'digital signature'],
          privateKey: { ...key, rotationPolicy: 'Always' },
          issuerRef: { kind: 'Issuer', name: authorityName },
          secretTemplate: { labels: { [gatewayLabel]: 'certificate' } },
        },
      },
    ],
  };
}

/** The host of `host:port`, an IPv6 address without its brackets. */
export function hostOf(address: string): string {
  return address.replace(/:[0-9]+$/, '').replace(/^\[(.*)\]$/, '$1');
}

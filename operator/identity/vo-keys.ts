import { X509Certificate } from 'node:crypto';
import { importSigningKey, type SigningKey } from '#common/identity/jws.ts';
import type { Stored as StoredVo } from '#runtime/types.ts';
import { virtualOrganizations, type VirtualOrganization } from '#crds/virtual-organization.ts';
import { type Secret, secrets } from '#runtime/builtin.ts';
import type { Client, Informer, Manager } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { controllerReference } from '#runtime/kind.ts';
import { keyOf, type Stored } from '#runtime/types.ts';
import {
  certificates,
  issuers,
  keyLabel,
  keyNames,
  nameLabel,
  organizationCertificates,
  selfSigned,
  uidLabel,
} from './cert-manager.ts';

const byUid = 'uid';
const byName = 'name';

/** A signing key, and when its certificate is over. */
export interface DatedKey extends SigningKey {
  /** Seconds since the Unix epoch. */
  readonly notAfter: number;
}

/** Keys of virtual organizations: asked of cert-manager, read from the Secrets that it keeps in the operator's namespace. */
export class VoKeys {
  /** Wakes when cert-manager has made or replaced a key. */
  readonly informer: Informer<Secret>;
  private readonly client: Client;
  private readonly namespace: string;
  private readonly parsed = new WeakMap<Stored<Secret>, Promise<DatedKey>>();
  /** Organizations whose certificates were asked for by this process. */
  private readonly ensured = new Set<string>();

  constructor(manager: Pick<Manager, 'informer' | 'client'>, namespace: string) {
    this.client = manager.client;
    this.namespace = namespace;
    this.informer = manager.informer(secrets, { namespace, labelSelector: keyLabel });
    this.informer.addIndex(byUid, ({ metadata }) => [metadata.labels?.[uidLabel] ?? '']);
    this.informer.addIndex(byName, ({ metadata }) => [metadata.labels?.[nameLabel] ?? '']);
  }

  /** Asks cert-manager for the keys, once for each process and whenever one is missing. @throws {NotFoundError} without cert-manager. */
  async ensure(vo: StoredVo<VirtualOrganization>, signal: AbortSignal): Promise<void> {
    const { name, uid } = vo.metadata;
    const names = keyNames(uid);
    const isComplete = this.informer.byIndex(byUid, uid).length >= 1 + names.signing.length;
    if (isComplete && this.ensured.has(uid)) return;
    const reference = controllerReference(virtualOrganizations, vo);
    const wanted = organizationCertificates(this.namespace, { name, uid }, reference);
    const [issuerClient, certificateClient] = [this.client.of(issuers), this.client.of(certificates)];
    for (const issuer of [selfSigned(this.namespace), ...wanted.issuers]) await issuerClient.apply(issuer, { signal });
    for (const certificate of wanted.certificates) await certificateClient.apply(certificate, { signal });
    this.ensured.add(uid);
  }

  /** The root key; undefined while cert-manager hasn't made it. */
  async root(uid: string): Promise<DatedKey | undefined> {
    const secret = this.informer.get({ namespace: this.namespace, name: keyNames(uid).root });
    return secret === undefined ? undefined : this.read(secret);
  }

  /** The signing keys that are there. */
  async signing(uid: string): Promise<DatedKey[]> {
    const found = keyNames(uid).signing.map((name) => this.informer.get({ namespace: this.namespace, name }));
    const read = await Promise.all(found.map(async (secret) => (secret === undefined ? undefined : this.read(secret))));
    return read.filter((key) => key !== undefined);
  }

  /** Removes certificates, issuer and keys of one organization. May be repeated. @returns whether there was any key. */
  async forget(uid: string, signal: AbortSignal): Promise<void> {
    const names = keyNames(uid);
    const { namespace } = this;
    this.ensured.delete(uid);
    // What asks for keys goes before the keys: else they would be made anew.
    for (const name of [names.root, ...names.signing]) {
      await ignoreNotFound(this.client.of(certificates).delete({ namespace, name }, { signal }));
    }
    await ignoreNotFound(this.client.of(issuers).delete({ namespace, name: names.issuer }, { signal }));
    for (const name of [names.root, ...names.signing]) {
      await ignoreNotFound(this.client.of(secrets).delete({ namespace, name }, { signal }));
    }
  }

  /** Uids of organizations of this name that have keys here. */
  uidsOf(name: string): string[] {
    return [...new Set(this.informer.byIndex(byName, name).map(({ metadata }) => metadata.labels?.[uidLabel] ?? ''))];
  }

  private async read(secret: Stored<Secret>): Promise<DatedKey> {
    let key = this.parsed.get(secret);
    if (key === undefined) {
      key = parse(secret);
      this.parsed.set(secret, key);
    }
    return key;
  }
}

async function parse(secret: Stored<Secret>): Promise<DatedKey> {
  const decode = (name: string): string => Buffer.from(secret.data?.[name] ?? '', 'base64').toString();
  const key = await importSigningKey(decode('tls.key')).catch((error: unknown) => {
    throw new Error(`Secret ${JSON.stringify(keyOf(secret))} holds no key: delete it, cert-manager makes it anew`, {
      cause: error,
    });
  });
  return { ...key, notAfter: Math.floor(Date.parse(new X509Certificate(decode('tls.crt')).validTo) / 1000) };
}

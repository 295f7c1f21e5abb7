/** What cert-manager is asked for. It makes every key; the operator only reads them. */
import { defineKind } from '#runtime/kind.ts';
import type { KubeObject, OwnerReference } from '#runtime/types.ts';

/** A Certificate of cert-manager, as far as it is used here. */
export interface Certificate extends KubeObject {
  spec: {
    secretName: string;
    commonName?: string;
    dnsNames?: readonly string[];
    ipAddresses?: readonly string[];
    uris?: readonly string[];
    duration: string;
    renewBefore?: string;
    isCA?: boolean;
    usages: readonly string[];
    privateKey: { algorithm: 'ECDSA'; size: 256; encoding: 'PKCS8'; rotationPolicy: 'Always' | 'Never' };
    issuerRef: { kind: 'Issuer'; name: string };
    secretTemplate: { labels: Readonly<Record<string, string>> };
  };
}

/** An Issuer of cert-manager, as far as it is used here. */
export interface Issuer extends KubeObject {
  spec: { selfSigned: object } | { ca: { secretName: string } };
}

export const certificates = defineKind<Certificate>({
  group: 'cert-manager.io',
  version: 'v1',
  kind: 'Certificate',
  plural: 'certificates',
  namespaced: true,
});
export const issuers = defineKind<Issuer>({
  group: 'cert-manager.io',
  version: 'v1',
  kind: 'Issuer',
  plural: 'issuers',
  namespaced: true,
});

/** Issuer that lets keys vouch for themselves: only for roots. */
export const selfSignedIssuer = 'xtreemos-self-signed';

/** On Secrets with keys of a virtual organization: what the key is for. */
export const keyLabel = 'xtreemos.io/vo-key';
/** The uid of the virtual organization that an object of the operator's namespace is about. */
export const uidLabel = 'xtreemos.io/virtual-organization-uid';
/** Its name. */
export const nameLabel = 'xtreemos.io/virtual-organization';

/**
 * Signing keys live for about a month, each with its own length, so that they are not replaced at the same time: one is always known everywhere
 * while the other is new.
 */
const signingHours = [720, 888] as const;
const renewBefore = '240h';
const tenYears = '87600h';

/** Names of what is kept for one virtual organization, by its uid: another one of the same name has other keys. */
export function keyNames(uid: string): {
  readonly issuer: string;
  readonly root: string;
  readonly signing: readonly string[];
} {
  return {
    issuer: `vo-${uid}`,
    root: `vo-${uid}-root`,
    signing: signingHours.map((_, index) => `vo-${uid}-signing-${index}`),
  };
}

/** The issuer of roots. */
export function selfSigned(namespace: string): Issuer {
  return { metadata: { name: selfSignedIssuer, namespace }, spec: { selfSigned: {} } };
}

/** Root key, issuer and signing keys of a virtual organization. The root key is never replaced: it is the identity. */
export function organizationCertificates(
  namespace: string,
  vo: { readonly name: string; readonly uid: string },
  owner: OwnerReference,
): { readonly issuers: readonly Issuer[]; readonly certificates: readonly Certificate[] } {
  const names = keyNames(vo.uid);
  const metadata = (name: string): KubeObject['metadata'] => ({
    name,
    namespace,
    labels: { [uidLabel]: vo.uid, [nameLabel]: vo.name },
    ownerReferences: [owner],
  });
  const labels = (use: 'root' | 'signing'): Record<string, string> => ({
    [keyLabel]: use,
    [uidLabel]: vo.uid,
    [nameLabel]: vo.name,
  });
  const key = { algorithm: 'ECDSA', size: 256, encoding: 'PKCS8' } as const;
  const root: Certificate = {
    metadata: metadata(names.root),
    spec: {
      secretName: names.root,
      commonName: `${vo.uid} root`,
      isCA: true,
      duration: tenYears,
      usages: ['cert sign', 'digital signature'],
      privateKey: { ...key, rotationPolicy: 'Never' },
      issuerRef: { kind: 'Issuer', name: selfSignedIssuer },
      secretTemplate: { labels: labels('root') },
    },
  };
  const signing = names.signing.map((name, index): Certificate => {
    return {
      metadata: metadata(name),
      spec: {
        secretName: name,
        commonName: `${vo.uid} signing ${index}`,
        duration: `${signingHours[index] ?? signingHours[0]}h`,
        renewBefore,
        usages: ['digital signature'],
        privateKey: { ...key, rotationPolicy: 'Always' },
        issuerRef: { kind: 'Issuer', name: names.issuer },
        secretTemplate: { labels: labels('signing') },
      },
    };
  });
  const issuer: Issuer = { metadata: metadata(names.issuer), spec: { ca: { secretName: names.root } } };
  return { issuers: [issuer], certificates: [root, ...signing] };
}

/** Who a peer is: told by its certificate under the trust bundle of one Site object. */
import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { describeError } from '#common/errors.ts';
import { certificatesIn } from '../login/client-certificate.ts';

const clientUse = '1.3.6.1.5.5.7.3.2';

/** The identity (SPIFFE ID) of the gateway of a trust domain. */
export function gatewayIdentity(trustDomain: string): string {
  return `spiffe://${trustDomain}/gateway`;
}

/** The trust domain that a certificate is about: its only URI is the identity of a gateway. Undefined for any other. Says nothing of who signed it. */
export function trustDomainIn(raw: Uint8Array): string | undefined {
  try {
    const names = new x509.X509Certificate(new Uint8Array(raw)).getExtension(x509.SubjectAlternativeNameExtension);
    const urls = (names?.names.items ?? []).filter(({ type }) => type === 'url');
    const [only] = urls;
    if (only === undefined || urls.length > 1) return undefined;
    return /^spiffe:\/\/([a-z0-9._-]{1,255})\/gateway$/.exec(only.value)?.[1];
  } catch {
    return undefined;
  }
}

/**
 * Verifies the certificate of a peer: identity of its trust domain, signed directly by a root of its own bundle, within its time, for the use of clients.
 * Roots of other peers are not looked at, so none can speak for another (threat 30).
 * @returns what is wrong, as a sentence; undefined when it is good.
 */
export function problemOfCertificate(
  raw: Uint8Array,
  peer: { readonly trustDomain: string; readonly trustBundle: string },
  now: number,
): string | undefined {
  try {
    const leaf = new X509Certificate(raw);
    if (trustDomainIn(raw) !== peer.trustDomain)
      return `The certificate is not that of the gateway of trust domain ${peer.trustDomain}.`;
    if (!isTimely(leaf, now)) return 'The certificate is not valid at this time.';
    // Node's name for the extended key usage.
    if (!((leaf.keyUsage as readonly string[] | undefined) ?? []).includes(clientUse))
      return 'The certificate is not for the use of clients.';
    const roots = certificatesIn(peer.trustBundle).map((pem) => new X509Certificate(pem));
    const isSigned = roots.some(
      (root) => root.ca && isTimely(root, now) && leaf.checkIssued(root) && leaf.verify(root.publicKey),
    );
    return isSigned ? undefined : 'No root of the trust bundle of the peer signed the certificate.';
  } catch (error) {
    return `The certificate can not be read: ${describeError(error).slice(0, 200)}.`;
  }
}

function isTimely(certificate: X509Certificate, now: number): boolean {
  return Date.parse(certificate.validFrom) <= now && now < Date.parse(certificate.validTo);
}

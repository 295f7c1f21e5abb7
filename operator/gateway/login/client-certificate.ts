import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import * as x509 from '@peculiar/x509';
import type { Principal } from '#common/identity/ids.ts';
import { Refusal } from '../refusal.ts';
import { principalOf } from './principal.ts';

const unknownAuthority =
  'no authority that this site knows has signed it; its owner names them in spec.local.identityProviders of the Site';
/** What codes of OpenSSL that people meet mean, and what helps. */
const meanings: Readonly<Record<string, string>> = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownAuthority,
  DEPTH_ZERO_SELF_SIGNED_CERT: unknownAuthority,
  SELF_SIGNED_CERT_IN_CHAIN: unknownAuthority,
  CERT_HAS_EXPIRED: 'its time is over, renew it',
  CERT_NOT_YET_VALID: 'its time has not begun, look at the clocks',
  INVALID_PURPOSE: 'it is not for clients (extended key usage clientAuth)',
};

/** Longer chains are not walked. */
const depthMax = 8;

/**
 * The certificate that a client came with, if TLS found it good: chain, dates, use for clients. Which authority vouches for it is asked apart for each
 * provider, so that none can speak for another's users.
 */
export interface ClientCertificate {
  readonly leaf: X509Certificate;
  /** SHA-256 fingerprints of the certificates above it, up to the root. */
  readonly authorities: ReadonlySet<string>;
}

/** Reads the certificate of a connection; undefined when there is none. @throws {Refusal} when there is one that isn't good. */
export function readClientCertificate(socket: TLSSocket): ClientCertificate | undefined {
  const peer = socket.getPeerCertificate(true) as DetailedPeerCertificate | Record<string, never>;
  if (!('raw' in peer)) return undefined;
  if (!socket.authorized || socket.isSessionReused()) {
    // The reason is a code of OpenSSL such as CERT_HAS_EXPIRED.
    const reason = socket.authorized ? 'resumed' : String(socket.authorizationError);
    const meaning = meanings[reason];
    const message = `The client certificate is not accepted (${reason})${meaning === undefined ? '' : `: ${meaning}`}.`;
    throw new Refusal('Unauthenticated', message, {
      reason: 'CertificateInvalid',
    });
  }
  const authorities = new Set<string>();
  let current: DetailedPeerCertificate = peer as DetailedPeerCertificate;
  for (let depth = 0; depth < depthMax; depth++) {
    const above = current.issuerCertificate as DetailedPeerCertificate | undefined;
    if (above === undefined) break;
    // A root is its own issuer; a leaf that is one itself counts as its own authority.
    authorities.add(above.fingerprint256);
    if (above.fingerprint256 === current.fingerprint256) break;
    current = above;
  }
  return { leaf: new X509Certificate(peer.raw), authorities };
}

/** Whether a certificate comes from one of these authorities. @param caBundle - PEM. */
export function isFrom({ authorities }: ClientCertificate, caBundle: string): boolean {
  return certificatesIn(caBundle).some((pem) => authorities.has(new X509Certificate(pem).fingerprint256));
}

/** The certificates of a bundle, PEM each. */
export function certificatesIn(bundle: string): string[] {
  return bundle.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
}

/** Who a certificate of a ClientCertificate provider stands for: its whole subject (RFC 4514), since parts of it may be shared. */
export function certificatePrincipal(provider: string, { leaf }: ClientCertificate): Principal {
  return principalOf(`x509:${provider}`, new x509.X509Certificate(leaf.raw).subject);
}

/** Who a certificate of the cluster stands for: its common name, as the API server has it. */
export function clusterUserName({ leaf }: ClientCertificate): string {
  return new x509.X509Certificate(leaf.raw).subjectName.getField('CN').at(-1) ?? '';
}

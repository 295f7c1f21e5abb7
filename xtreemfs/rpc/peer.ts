import { createHash, type X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { distinguishedName } from './distinguished-name.ts';

/** Who is at the other end of a connection, as far as it was proved. */
export interface PeerIdentity {
  /** IP address. */
  readonly address: string;
  readonly port: number;
  /** Set when the peer proved to hold the key of this certificate, which our trust anchors vouch for. */
  readonly certificate: PeerCertificate | undefined;
}

/** What a verified certificate says of its holder. Names come from the certificate only, never from a request. */
export interface PeerCertificate {
  /** Subject in RFC 4514 order as upstream writes it, for example `CN=host/osd1,OU=grid,O=ZIB`. */
  readonly subject: string;
  readonly commonName: string | undefined;
  readonly organizations: readonly string[];
  readonly organizationalUnits: readonly string[];
  /** Subject alternative names, for example `DNS:osd1` or `URI:spiffe://…`. */
  readonly alternativeNames: readonly string[];
  /** SHA-256, upper-case hex with colons. */
  readonly fingerprint: string;
  /** Names the holder in capabilities: the same after a renewal, another for each subject. 22 characters. */
  readonly holder: string;
}

/** The identity of a peer on a socket whose handshake, if any, is done. */
export function identifyPeer(socket: Socket, certificate?: X509Certificate): PeerIdentity {
  const presented = certificate ?? (socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined);
  return {
    address: plainAddress(socket.remoteAddress ?? ''),
    port: socket.remotePort ?? 0,
    certificate: presented === undefined ? undefined : describeCertificate(presented),
  };
}

/** An IPv4 address without the prefix that dual-stack sockets put before it. */
export function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}

function describeCertificate(certificate: X509Certificate): PeerCertificate {
  const name = distinguishedName(certificate.subject);
  return {
    subject: name.text,
    commonName: name.values('CN')[0],
    organizations: name.values('O'),
    organizationalUnits: name.values('OU'),
    alternativeNames: (certificate.subjectAltName ?? '').split(', ').filter((entry) => entry !== ''),
    fingerprint: certificate.fingerprint256,
    holder: holderOf(certificate),
  };
}

/** What stands for the holder of a certificate: 128 bits of a hash over subject, or alternative names where there is none. */
export function holderOf({ subject, subjectAltName, issuer }: X509Certificate): string {
  const name = distinguishedName(subject).text;
  return createHash('sha256')
    .update(`${issuer}\0${name === '' ? (subjectAltName ?? '') : name}`)
    .digest('base64url')
    .slice(0, 22);
}

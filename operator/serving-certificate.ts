/** The certificate that the metrics are served with. */
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { Clock } from '#common/clock.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const hourMs = 60 * 60 * 1000;
/** Longer than any process runs: it is made anew at every start. */
const lifetimeMs = 5 * 365 * 24 * hourMs;

/** A certificate and its key, PEM. */
export interface ServingCertificate {
  readonly cert: string;
  readonly key: string;
}

/**
 * Makes a self-signed certificate for a server inside the cluster, with a fresh key that never leaves this process. It keeps tokens of readers from
 * being read on the way; it doesn't tell readers whom they talk to, since nothing vouches for it.
 */
export async function createServingCertificate(name: string, clock: Clock): Promise<ServingCertificate> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    // Positive and of fixed length, as RFC 5280 §4.1.2.2 asks.
    serialNumber: `40${randomBytes(15).toString('hex')}`,
    name: [{ CN: [name] }],
    notBefore: new Date(clock.now() - hourMs),
    notAfter: new Date(clock.now() + lifetimeMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: name }]),
    ],
  });
  const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  return { cert: certificate.toString('pem'), key };
}

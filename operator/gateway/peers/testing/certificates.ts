/** Certificates of made-up sites. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** A certificate and its key, PEM. */
export interface MadeCertificate {
  readonly cert: string;
  readonly key: string;
  /** DER. */
  readonly raw: Uint8Array;
}

/** An authority that signs whatever it is asked for. */
export class TestAuthority {
  readonly bundle: string;
  private readonly keys: webcrypto.CryptoKeyPair;
  private readonly issuer: string;

  private constructor(bundle: string, keys: webcrypto.CryptoKeyPair, issuer: string) {
    this.bundle = bundle;
    this.keys = keys;
    this.issuer = issuer;
  }

  static async create(name: string): Promise<TestAuthority> {
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const issuer = `CN=${name} authority`;
    const root = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: '4001', name: issuer, ...validity(-1, 24), signingAlgorithm: algorithm, keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      ],
    }); // prettier-ignore
    return new TestAuthority(root.toString('pem'), keys, issuer);
  }

  /** @param uris - what the certificate says that it is. */
  async sign(
    uris: readonly string[],
    {
      fromHours = -1,
      toHours = 24,
      uses = ['serverAuth', 'clientAuth'] as readonly ('serverAuth' | 'clientAuth')[],
    } = {},
  ): Promise<MadeCertificate> {
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: '4002', subject: 'CN=gateway', issuer: this.issuer, ...validity(fromHours, toHours),
      signingAlgorithm: algorithm, publicKey: keys.publicKey, signingKey: this.keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.ExtendedKeyUsageExtension(uses.map((use) => x509.ExtendedKeyUsage[use])),
        new x509.SubjectAlternativeNameExtension([
          { type: 'dns', value: 'localhost' },
          ...uris.map((value) => ({ type: 'url' as const, value })),
        ]),
      ],
    }); // prettier-ignore
    const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
    return { cert: certificate.toString('pem'), key, raw: new Uint8Array(certificate.rawData) };
  }
}

function validity(fromHours: number, toHours: number): { notBefore: Date; notAfter: Date } {
  const at = (hours: number): Date => new Date(Date.now() + hours * 3_600_000);
  return { notBefore: at(fromHours), notAfter: at(toHours) };
}

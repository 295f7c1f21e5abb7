/** Keys and certificates for tests: an authority and what it signs. */
import { isIP } from 'node:net';
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as x509 from '@peculiar/x509';
import type { TlsFiles } from '../tls.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const year = 365 * 24 * 3600 * 1000;

/** Signs certificates of which everybody who trusts it accepts the holders. */
export interface TestAuthority {
  /** Files of a new identity. @param subject - for example `CN=osd1,O=zib`. */
  issue(subject: string, names?: readonly string[]): Promise<TlsFiles>;
}

/** A new authority with files in a temporary folder. */
export async function createAuthority(name: string): Promise<TestAuthority> {
  const folder = mkdtempSync(path.join(tmpdir(), 'certificates-'));
  const keys = await generateKeys();
  const [notBefore, notAfter] = [new Date(Date.now() - 60_000), new Date(Date.now() + year)];
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    notBefore,
    notAfter,
    signingAlgorithm: algorithm,
    extensions: [new x509.BasicConstraintsExtension(true, 1, true)],
  });
  const trustedPath = path.join(folder, 'ca.pem');
  writeFileSync(trustedPath, authority.toString('pem'));
  let serial = 1;
  return {
    issue: async (subject, names = ['localhost']) => {
      const holder = await generateKeys();
      const certificate = await x509.X509CertificateGenerator.create({
        subject,
        issuer: authority.subject,
        publicKey: holder.publicKey,
        signingKey: keys.privateKey,
        serialNumber: (++serial).toString(16).padStart(4, '0'),
        notBefore,
        notAfter,
        signingAlgorithm: algorithm,
        extensions: [
          new x509.SubjectAlternativeNameExtension(
            names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value })),
          ),
        ],
      });
      const base = path.join(folder, `holder-${serial}`);
      const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', holder.privateKey)).toString('base64');
      writeFileSync(`${base}.pem`, certificate.toString('pem'));
      writeFileSync(`${base}.key`, `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n`);
      return { certificatePath: `${base}.pem`, privateKeyPath: `${base}.key`, trustedPath };
    },
  };
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

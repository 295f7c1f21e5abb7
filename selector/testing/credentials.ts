import 'reflect-metadata';
import { generateKeyPairSync, webcrypto } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import * as x509 from '@peculiar/x509';
import { selectorServerName } from '#proto/selector/client.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** Files that a selector of one site is started with. */
export interface SiteFiles {
  readonly tlsCa: string;
  readonly tlsCertificate: string;
  readonly tlsKey: string;
  readonly siteKey: string;
  readonly siteTrust: string;
}

/** Makes a certificate authority, one selector certificate, and an Ed25519 key for each site, in `folder`. */
export async function makeCredentials(folder: string, sites: readonly string[]): Promise<Map<string, SiteFiles>> {
  x509.cryptoProvider.set(webcrypto);
  const trust = path.join(folder, 'trust');
  mkdirSync(trust, { recursive: true });
  const notBefore = new Date(Date.now() - 60_000);
  const notAfter = new Date(Date.now() + 86_400_000);
  const caKeys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: 'CN=xtreemos-test-ca',
    notBefore,
    notAfter,
    keys: caKeys,
    signingAlgorithm: algorithm,
    extensions: [new x509.BasicConstraintsExtension(true, 1, true)],
  });
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: '02',
    subject: 'CN=selector',
    issuer: ca.subject,
    notBefore,
    notAfter,
    publicKey: keys.publicKey,
    signingKey: caKeys.privateKey,
    signingAlgorithm: algorithm,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: selectorServerName }])],
  });
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const write = (name: string, content: string): string => {
    const file = path.join(folder, name);
    writeFileSync(file, content, { mode: 0o600 });
    return file;
  };
  const tlsCa = write('ca.pem', ca.toString('pem'));
  const tlsCertificate = write('tls.pem', certificate.toString('pem'));
  const tlsKey = write(
    'tls.key',
    `-----BEGIN PRIVATE KEY-----\n${pkcs8.toString('base64').replace(/(.{64})/g, '$1\n')}\n-----END PRIVATE KEY-----\n`,
  );
  const files = new Map<string, SiteFiles>();
  for (const site of sites) {
    const pair = generateKeyPairSync('ed25519');
    write(path.join('trust', `${site}.pem`), pair.publicKey.export({ type: 'spki', format: 'pem' }) as string);
    const siteKey = write(`${site}.key`, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);
    files.set(site, { tlsCa, tlsCertificate, tlsKey, siteKey, siteTrust: trust });
  }
  return files;
}

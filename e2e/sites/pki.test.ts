import { X509Certificate } from 'node:crypto';

import { describe, expect, test } from '@jest/globals';

import { createAuthority, createSigningKey, loadAuthority } from './pki.ts';

describe('an authority', () => {
  test('signs certificates that name user, groups, names and addresses', async () => {
    const authority = await createAuthority('test-ca');
    const pair = await authority.issue({
      commonName: 'system:node:n1',
      organizations: ['system:nodes', 'extra'],
      dnsNames: ['n1'],
      ipAddresses: ['10.1.2.3'],
    });
    const certificate = new X509Certificate(pair.certificate);
    expect(certificate.subject.split('\n').sort()).toEqual(['CN=system:node:n1', 'O=extra', 'O=system:nodes']);
    expect(certificate.subjectAltName).toBe('DNS:n1, IP Address:10.1.2.3');
    expect(certificate.verify(new X509Certificate(authority.certificate).publicKey)).toBe(true);
    expect(certificate.checkPrivateKey((await import('node:crypto')).createPrivateKey(pair.key))).toBe(true);
    expect(certificate.ca).toBe(false);
  });

  test('limits a login to client use', async () => {
    const pair = await (await createAuthority('test-ca')).issue({ commonName: 'alice', usages: ['client'] });
    expect(new X509Certificate(pair.certificate).keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
  });

  test('taken up from its PEM texts, goes on signing under the same name and key', async () => {
    const made = await createAuthority('test-ca');
    const again = await loadAuthority({ certificate: made.certificate, key: made.key });
    const leaf = new X509Certificate((await again.issue({ commonName: 'x' })).certificate);
    const ca = new X509Certificate(made.certificate);
    expect(leaf.checkIssued(ca)).toBe(true);
    expect(leaf.verify(ca.publicKey)).toBe(true);
  });

  test('never gives two certificates one serial number', async () => {
    const authority = await createAuthority('test-ca');
    const pairs = await Promise.all(Array.from({ length: 20 }, async () => authority.issue({ commonName: 'x' })));
    const serials = new Set(pairs.map((pair) => new X509Certificate(pair.certificate).serialNumber));
    expect(serials.size).toBe(20);
  });

  test('is not trusted for what another one of the same name signed', async () => {
    const [one, other] = [await createAuthority('same'), await createAuthority('same')];
    const leaf = new X509Certificate((await one.issue({ commonName: 'x' })).certificate);
    expect(leaf.verify(new X509Certificate(other.certificate).publicKey)).toBe(false);
  });
});

test('a signing key is a private and a public PEM text', () => {
  const { key, certificate } = createSigningKey();
  expect(key).toMatch(/^-----BEGIN PRIVATE KEY-----/);
  expect(certificate).toMatch(/^-----BEGIN PUBLIC KEY-----/);
});

import type { X509Certificate } from 'node:crypto';
import { Socket } from 'node:net';
import { expect, test } from '@jest/globals';
import { identifyPeer } from './peer.ts';

test('a certificate without a subject is known by its alternative names', () => {
  const certificate = { subject: undefined, subjectAltName: 'DNS:osd-1.example.org', fingerprint256: 'AA' };
  expect(identifyPeer(new Socket(), certificate as unknown as X509Certificate).certificate).toEqual({
    subject: '',
    commonName: undefined,
    organizations: [],
    organizationalUnits: [],
    alternativeNames: ['DNS:osd-1.example.org'],
    fingerprint: 'AA',
    holder: expect.stringMatching(/^[\w-]{22}$/),
  });
});

test('holders are told apart by subject, or by alternative names where there is none, and stay the same when renewed', () => {
  const holder = (of: { subject: string | undefined; subjectAltName?: string; issuer?: string }): string | undefined =>
    identifyPeer(new Socket(), { issuer: 'CN=grid', fingerprint256: 'AA', ...of } as unknown as X509Certificate)
      .certificate?.holder;
  const known = [
    { subject: 'CN=anna' },
    { subject: 'CN=bob' },
    { subject: undefined, subjectAltName: 'DNS:osd-1' },
    { subject: undefined, subjectAltName: 'DNS:osd-2' },
    { subject: 'CN=anna', issuer: 'CN=elsewhere' },
  ].map(holder);
  expect(new Set(known).size).toBe(5);
  expect(holder({ subject: 'CN=anna', subjectAltName: 'DNS:new' })).toBe(known[0]);
});

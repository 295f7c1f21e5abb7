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
  });
});

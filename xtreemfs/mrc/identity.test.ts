import { describe, expect, test } from '@jest/globals';
import type { PeerCertificate, PeerIdentity } from '../rpc/peer.ts';
import { PosixError } from './core/errno.ts';
import { Identities } from './identity.ts';
import type { IdentityOptions } from './identity.ts';

const options: IdentityOptions = {
  provider: 'simple-x509',
  superUsers: [],
  adminGroups: ['xtreemfs-admin'],
  serviceNames: ['node-agent'],
};
const plain: PeerIdentity = { address: '10.0.0.1', port: 1, certificate: undefined };
const holder = (certificate: Partial<PeerCertificate>): PeerIdentity => ({
  ...plain,
  certificate: {
    subject: 'CN=ann,OU=staff',
    commonName: 'ann',
    organizations: ['ZIB'],
    organizationalUnits: ['staff'],
    alternativeNames: [],
    fingerprint: '',
    holder: 'ann-of-this-test',
    ...certificate,
  },
});
const claimed = { username: 'root', groups: ['root', 'xtreemfs-admin'] };

describe('names in a request', () => {
  test('threat 26: count on a trusted network, but make nobody a superuser by themselves', () => {
    const identities = new Identities({ ...options, provider: 'request' });
    expect(identities.identify(claimed, plain, true)).toEqual({
      user: 'root',
      groups: ['root', 'xtreemfs-admin'],
      isSuper: false,
      client: '10.0.0.1',
    });
  });

  test('threat 26: make a superuser only by exact name in the configuration', () => {
    const identities = new Identities({ ...options, provider: 'request', superUsers: ['root'] });
    const isSuper = (username: string): boolean =>
      identities.identify({ username, groups: ['g'] }, plain, true).isSuper;
    expect([isSuper('root'), isSuper('Root'), isSuper('root '), isSuper('roots')]).toEqual([true, false, false, false]);
  });

  test('are needed for calls on paths and not for calls by capability', () => {
    const identities = new Identities({ ...options, provider: 'request' });
    const nobody = { username: 'xtreemfs', groups: [] };
    expect(() => identities.identify(nobody, plain, true)).toThrow(PosixError);
    expect(identities.identify(nobody, plain, false).user).toBe('xtreemfs');
  });

  test('threat 26: do not count beside a certificate', () => {
    expect(new Identities(options).identify(claimed, holder({}), true)).toMatchObject({
      user: 'CN=ann,OU=staff',
      groups: ['staff'],
      isSuper: false,
    });
    const federation = new Identities({ ...options, provider: 'federation-x509' });
    expect(federation.identify(claimed, holder({}), true)).toMatchObject({
      user: 'ann',
      groups: ['ZIB'],
      isSuper: false,
    });
  });
});

describe('certificates', () => {
  test('without one, or one without names, nobody gets in', () => {
    expect(() => new Identities(options).identify(claimed, plain, true)).toThrow('certificate is needed');
    expect(() => new Identities(options).identify(claimed, holder({ organizationalUnits: [] }), true)).toThrow(
      'names no user or group',
    );
  });

  test.each([
    ['xtreemfs-admin', true],
    ['no-xtreemfs-admin', false],
    ['xtreemfs-admin ', false],
    ['XTREEMFS-ADMIN', false],
  ])('the group %p makes a superuser: %p', (unit, isSuper) => {
    expect(new Identities(options).identify(claimed, holder({ organizationalUnits: [unit] }), true).isSuper).toBe(
      isSuper,
    );
  });

  test.each([
    [{ commonName: 'node-agent' }, 'root'],
    [{ alternativeNames: ['node-agent'] }, 'root'],
    [{ commonName: 'host/node-agent' }, 'CN=ann,OU=staff'],
    [{ commonName: 'xtreemfs-service/x' }, 'CN=ann,OU=staff'],
  ])('threat 26: the holder of %p calls as %s', (certificate, user) => {
    expect(new Identities(options).identify(claimed, holder(certificate), true).user).toBe(user);
  });
});

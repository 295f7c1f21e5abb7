import { createPublicKey, verify } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Stored } from '#runtime/types.ts';
import type { ReceiptClaims, VoAuthority } from '../vo-authority.ts';

/** What is under test, and virtual organizations to try it on. */
export interface AuthorityUnderTest {
  readonly authority: VoAuthority;
  /** A virtual organization with keys, each time another one. */
  readonly found: () => Promise<Stored<VirtualOrganization>>;
  /** A virtual organization that never had keys. */
  readonly unknown: () => Promise<Stored<VirtualOrganization>>;
}

/** Reads a receipt and checks its signature against the key that it carries. @throws when it doesn't hold. */
export function readReceipt(receipt: string): ReceiptClaims & { readonly jwk: object } {
  const [header = '', claims = '', signature = ''] = receipt.split('.');
  const decode = (part: string): unknown => JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
  const { alg, typ } = decode(header) as { alg: string; typ: string };
  const content = decode(claims) as ReceiptClaims & { readonly jwk: object };
  const key = createPublicKey({ key: content.jwk as never, format: 'jwk' });
  const isGood = verify(
    'sha256',
    Buffer.from(`${header}.${claims}`),
    { key, dsaEncoding: 'ieee-p1363' },
    Buffer.from(signature, 'base64url'),
  );
  if (!isGood || alg !== 'ES256' || typ !== 'vo-receipt+jwt') throw new Error('the receipt does not hold');
  return content;
}

const signal = new AbortController().signal;

function claimsOf(vo: Stored<VirtualOrganization>): ReceiptClaims {
  return {
    vo: { name: vo.metadata.name, uid: vo.metadata.uid },
    site: 'home',
    epoch: 7,
    stateDigest: `sha256:${'0'.repeat(64)}`,
    startedTime: '2026-01-01T00:00:00Z',
    completedTime: '2026-01-01T00:01:00Z',
    removed: [{ resource: 'pods', count: 3 }],
    data: 'Erase',
    volumes: [],
    slices: [5],
  };
}

/** What every authority of virtual organizations does, real or in memory. */
export function describeAuthority(name: string, make: () => Promise<AuthorityUnderTest>): void {
  describe(`${name} as authority of virtual organizations`, () => {
    test('publishes one final state, however often it is asked', async () => {
      const { authority, found } = await make();
      const vo = await found();
      const first = await authority.revoke(vo, signal);
      expect(first).toMatchObject({
        epoch: expect.any(Number),
        stateDigest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      });
      expect(await authority.revoke(vo, signal)).toEqual(first);
    });

    test('has nothing to revoke where there never was a key', async () => {
      const { authority, unknown } = await make();
      const vo = await unknown();
      expect(await authority.revoke(vo, signal)).toBeUndefined();
      await authority.forget(vo, signal);
    });

    test('signs receipts that anybody can check, also after the final state', async () => {
      const { authority, found } = await make();
      const vo = await found();
      await authority.revoke(vo, signal);
      const receipt = await authority.signReceipt(vo, claimsOf(vo), signal);
      const content = readReceipt(receipt);
      expect(content).toMatchObject(claimsOf(vo));
      const [header = '', , signature = ''] = receipt.split('.');
      const forged = Buffer.from(JSON.stringify({ ...content, epoch: 8 })).toString('base64url');
      expect(() => readReceipt(`${header}.${forged}.${signature}`)).toThrow('does not hold');
    });

    test('signs nothing once the keys are destroyed, which may be repeated', async () => {
      const { authority, found } = await make();
      const vo = await found();
      await authority.revoke(vo, signal);
      await authority.forget(vo, signal);
      await authority.forget(vo, signal);
      await expect(authority.signReceipt(vo, claimsOf(vo), signal)).rejects.toThrow();
    });
  });
}

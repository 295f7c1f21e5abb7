import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { Borders } from './borders.ts';
import { Profile, signedBytes, type Descriptor } from './descriptor.ts';
import { Membership } from './membership.ts';
import { settingsWith } from './settings.ts';
import { SiteSigner, TrustSet } from './trust.ts';

const keys = { lyon: generateKeyPairSync('ed25519'), berlin: generateKeyPairSync('ed25519') };
type Site = keyof typeof keys;

function aWorld(): { clock: VirtualClock; membership: Membership } {
  const clock = new VirtualClock();
  const own = aProfile('lyon', 'self', clock.now());
  const verifier = new TrustSet([
    ['lyon', keys.lyon.publicKey],
    ['berlin', keys.berlin.publicKey],
  ]);
  return { clock, membership: new Membership(own, Borders.first, verifier, clock, settingsWith({})) };
}

function aProfile(site: string, node: string, incarnation: number, cores = 4): Profile {
  return new Profile({ site, node, address: `${node}:1`, incarnation, attributes: { cores }, isOffering: true });
}

function aDescriptor(profile: Profile, stamp: number, signedBy: Site = 'berlin', isLeaving = false): Descriptor {
  const unsigned = { profile, stamp, isLeaving };
  const signer = new SiteSigner(signedBy, keys[signedBy].privateKey);
  return { ...unsigned, signature: signer.sign(() => signedBytes(unsigned)) };
}

describe('gossip poisoning (threat 50)', () => {
  test('a member signed by another site than its own is dropped', () => {
    const { clock, membership } = aWorld();
    const forged = aDescriptor(aProfile('lyon', 'forged', clock.now()), clock.now(), 'berlin');
    expect(membership.admit(forged, false)).toBe(false);
    expect(membership.pool()).toHaveLength(0);
    expect(membership.dropped.unsigned).toBe(1);
  });

  test('an attribute changed after signing is dropped', () => {
    const { clock, membership } = aWorld();
    const honest = aDescriptor(aProfile('berlin', 'b1', clock.now(), 4), clock.now());
    expect(membership.admit({ ...honest, profile: aProfile('berlin', 'b1', clock.now(), 400) }, false)).toBe(false);
    expect(membership.admit(honest, false)).toBe(true);
  });

  test('a member of a site nobody trusts is dropped', () => {
    const { clock, membership } = aWorld();
    expect(membership.admit(aDescriptor(aProfile('paris', 'p1', clock.now()), clock.now()), false)).toBe(false);
  });

  test.each([
    ['from the future', 61_000, false],
    ['within the clock skew', 59_000, true],
    ['of long ago', -601_000, false],
  ])('a stamp %s is judged by our clock', (_, offset, accepted) => {
    const { clock, membership } = aWorld();
    const profile = aProfile('berlin', 'b1', clock.now() - 3_600_000);
    expect(membership.admit(aDescriptor(profile, clock.now() + offset), false)).toBe(accepted);
  });

  test('a replayed older word changes nothing, also one of a former start', () => {
    const { clock, membership } = aWorld();
    const now = clock.now();
    const restarted = aDescriptor(aProfile('berlin', 'b1', now - 1_000, 8), now - 500);
    membership.admit(restarted, false);
    membership.admit(aDescriptor(aProfile('berlin', 'b1', now - 1_000, 8), now - 900), false);
    membership.admit(aDescriptor(aProfile('berlin', 'b1', now - 9_000, 4), now), false);
    expect(membership.pool().every((known) => known === restarted)).toBe(true);
  });

  test('a replayed goodbye does not remove a node that has spoken since; a fresh one does', () => {
    const { clock, membership } = aWorld();
    const profile = aProfile('berlin', 'b1', clock.now() - 60_000);
    const goodbye = aDescriptor(profile, clock.now() - 30_000, 'berlin', true);
    membership.admit(aDescriptor(profile, clock.now() - 10_000), false);
    membership.admit(goodbye, false);
    expect(membership.pool()).not.toHaveLength(0);
    membership.admit(aDescriptor(profile, clock.now(), 'berlin', true), false);
    expect(membership.pool()).toHaveLength(0);
  });

  test('a buried node comes back only by a later sign of life', () => {
    const { clock, membership } = aWorld();
    const profile = aProfile('berlin', 'b1', clock.now() - 60_000);
    const last = aDescriptor(profile, clock.now());
    membership.admit(last, false);
    clock.advance(5_000);
    membership.bury(last);
    expect(membership.admit(last, false)).toBe(false);
    clock.advance(10);
    expect(membership.admit(aDescriptor(profile, clock.now()), false)).toBe(true);
  });

  test('100,000 made-up members leave memory flat and the own site in view', () => {
    const { clock, membership } = aWorld();
    for (let i = 0; i < 30; i++) {
      membership.admit(aDescriptor(aProfile('lyon', `own${i}`, clock.now()), clock.now(), 'lyon'), false);
    }
    const open = new Membership(
      aProfile('lyon', 'self', clock.now()),
      Borders.first,
      { verifyDescriptor: () => true, verifyBorders: () => true },
      clock,
      settingsWith({}),
    );
    for (let i = 0; i < 100_000; i++) {
      const sybil = {
        profile: aProfile('berlin', `x${i}`, clock.now()),
        stamp: clock.now(),
        isLeaving: false,
        signature: new Uint8Array(),
      };
      open.admit(sybil, false);
      if (i % 10 === 0) open.bury(sybil);
    }
    expect(open.pool().length).toBeLessThan(150);
    expect(open.buriedCount).toBeLessThanOrEqual(512);
    expect(open.lostAddresses.length).toBeLessThanOrEqual(32);
    expect(open.view.entries.length).toBeLessThanOrEqual(10);
  }, 30_000);
});

import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { SnapConfig, xCapCodec, type XCap } from '#proto/generated/xtreemfs/global-types.ts';
import { StripingPolicyType, type Replica } from '#proto/generated/xtreemfs/global-types.ts';
import { CapabilityKeys, javaHashSetOrder, type UnsignedCapability } from './capability.ts';

const secret = 'a secret of thirty-two characters';
const nowMs = 1_700_000_000_000;

function aCapability(fields: Partial<XCap> = {}): UnsignedCapability {
  return {
    ...xCapCodec.decode(Buffer.alloc(0)),
    fileId: '6a6c3e8e-1c0b-4f3a-9d55-0a1b2c3d4e5f:42',
    accessMode: 2,
    clientIdentity: '10.0.0.1',
    expireTimeS: 1_700_000_600,
    expireTimeoutS: 600,
    snapConfig: SnapConfig.SNAPS_DISABLED,
    snapTimestamp: 1_690_000_000,
    expireTimeMs: 1_700_000_600_000,
    ...fields,
  };
}

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const signingKeyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
const verifyKeyPems = [publicKey.export({ type: 'spki', format: 'pem' }) as string];

describe.each([
  ['shared secret', new CapabilityKeys({ secrets: [secret] }), new CapabilityKeys({ secrets: [secret] })],
  [
    'key pair',
    new CapabilityKeys({ secrets: [secret], signingKeyPem }),
    new CapabilityKeys({ secrets: [secret], verifyKeyPems }),
  ],
])('with a %s', (_, mrc, osd) => {
  test('a capability that the MRC signed is valid at the OSD until the second after its time', () => {
    const cap = mrc.sign(aCapability());
    expect(osd.check(cap, nowMs)).toBe('valid');
    expect(osd.check(cap, 1_700_000_600_999)).toBe('valid');
    expect(osd.check(cap, 1_700_000_601_000)).toBe('expired');
  });

  test.each<[string, Partial<XCap>]>([
    ['another file', { fileId: 'v:1' }],
    ['more access', { accessMode: 3 }],
    ['another client', { clientIdentity: '10.0.0.2' }],
    ['a later time', { expireTimeS: 1_800_000_000 }],
    ['a longer validity', { expireTimeoutS: 601 }],
    ['another close', { replicateOnClose: true }],
    ['another epoch', { truncateEpoch: 1 }],
    ['another snapshot', { snapConfig: SnapConfig.ACCESS_SNAP }],
    ['another snapshot time', { snapTimestamp: 0 }],
    ['a larger voucher', { voucherSize: 1 }],
    ['another voucher key', { expireTimeMs: 1 }],
    ['tracing', { traceConfig: { traceRequests: false } }],
    ['a signature of nothing', { serverSignature: '' }],
    ['a signature without a key', { serverSignature: 'H1..' }],
    ['a signature of upstream', { serverSignature: 'FBDD52DCB4493ECB2D70659D071C3CA8' }],
  ])('threat 22: a capability with %s is forged, also after the true one was seen', (__, change) => {
    const cap = mrc.sign(aCapability());
    expect(osd.check(cap, nowMs)).toBe('valid');
    expect(osd.check({ ...cap, ...change }, nowMs)).toBe('forged');
  });

  test('threat 22: digits cannot move from one field into the next', () => {
    const cap = mrc.sign(aCapability({ fileId: 'VOL:15', accessMode: 1 }));
    expect(osd.check({ ...cap, fileId: 'VOL:1', accessMode: 51 }, nowMs)).toBe('forged');
  });
});

test('threat 24: an OSD that has verify keys refuses what another OSD could make with the shared secret', () => {
  const thief = new CapabilityKeys({ secrets: [secret] });
  const osd = new CapabilityKeys({ secrets: [secret], verifyKeyPems });
  expect(osd.check(thief.sign(aCapability()), nowMs)).toBe('forged');
});

test('threat 24: a signing key is changed without a moment at which capabilities fail', () => {
  const pairs = [generateKeyPairSync('ed25519'), generateKeyPairSync('ed25519')].map((pair) => ({
    private: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    public: pair.publicKey.export({ type: 'spki', format: 'pem' }) as string,
  }));
  const [before, after] = [pairs[0]!, pairs[1]!];
  const old = new CapabilityKeys({ secrets: [secret], signingKeyPem: before.private });
  const both = { secrets: [secret], verifyKeyPems: [before.public, after.public] };
  const fresh = new CapabilityKeys({ ...both, signingKeyPem: after.private });
  const osd = new CapabilityKeys(both);
  expect([old, fresh].map((mrc) => osd.check(mrc.sign(aCapability()), nowMs))).toEqual(['valid', 'valid']);
  expect(fresh.check(old.sign(aCapability()), nowMs)).toBe('valid');
  const last = new CapabilityKeys({ secrets: [secret], verifyKeyPems: [after.public] });
  expect([old, fresh].map((mrc) => last.check(mrc.sign(aCapability()), nowMs))).toEqual(['forged', 'valid']);
});

test('a secret is changed without a moment at which capabilities fail', () => {
  const [before, after] = ['the old secret of this place', 'the new secret of this place'];
  const steps = [[before], [before, after], [after, before], [after]].map((secrets) => new CapabilityKeys({ secrets }));
  for (let step = 0; step + 1 < steps.length; step++) {
    expect(steps[step + 1]!.check(steps[step]!.sign(aCapability()), nowMs)).toBe('valid');
    expect(steps[step]!.check(steps[step + 1]!.sign(aCapability()), nowMs)).toBe('valid');
  }
  expect(steps[3]!.check(steps[0]!.sign(aCapability()), nowMs)).toBe('forged');
});

test.each([
  ['no secret', { secrets: [] }, 'capabilitySecret: is missing'],
  ['a short secret', { secrets: ['short'] }, 'shorter than 16 bytes'],
  ['a key that is none', { secrets: [secret], signingKeyPem: 'x' }, 'capabilitySigningKey: is no Ed25519 private key'],
])('refuses %s', (_, options, message) => {
  expect(() => new CapabilityKeys(options)).toThrow(message);
});

test('threat 23: locations count for their file and their OSDs, in whatever order a client got them', () => {
  const keys = new CapabilityKeys({ secrets: [secret] });
  const replica = (osd: string, replicationFlags = 0): Replica => ({
    osdUuids: [osd],
    replicationFlags,
    stripingPolicy: { type: StripingPolicyType.RAID0, stripeSize: 128, width: 1 },
  });
  const xlocs = {
    replicas: [replica('a'), replica('b')],
    readOnlyFileSize: 0,
    replicaUpdatePolicy: 'WqRq',
    version: 1,
  };
  const signed = keys.signLocations('VOL:1', xlocs);
  expect(keys.checkLocations('VOL:1', { ...signed, replicas: [replica('b', 2), replica('a')] })).toBe(true);
  expect(keys.checkLocations('VOL:2', signed)).toBe(false);
  expect(keys.checkLocations('VOL:1', { ...signed, replicas: [replica('a'), replica('c')] })).toBe(false);
  expect(keys.checkLocations('VOL:1', { ...signed, version: 2 })).toBe(false);
  expect(keys.checkLocations('VOL:1', { ...signed, replicaUpdatePolicy: '' })).toBe(false);
  expect(keys.checkLocations('VOL:1', xlocs)).toBe(false);
});

test('threat 23: a server proves that it passes capabilities on, for its own certificate alone', () => {
  const [osd, other] = [new CapabilityKeys({ secrets: [secret] }), new CapabilityKeys({ secrets: [`${secret}!`] })];
  const proof = osd.relayProof('holder of osd') ?? Buffer.alloc(0);
  expect(osd.isRelay('holder of osd', proof)).toBe(true);
  expect(osd.isRelay('holder of bob', proof)).toBe(false);
  expect(other.isRelay('holder of osd', proof)).toBe(false);
});

describe("upstream's form", () => {
  const keys = new CapabilityKeys({ secrets: ['secretPassphrase'], useUpstreamForm: true });

  test('gives the signature of the reference', () => {
    const cap = keys.sign(aCapability());
    expect(cap.serverSignature).toBe('FBDD52DCB4493ECB2D70659D071C3CA8');
    expect(keys.check(cap, nowMs)).toBe('valid');
    expect(keys.check({ ...cap, accessMode: 3 }, nowMs)).toBe('forged');
  });

  const times = [1_700_000_600_000, 1_700_000_660_123, 1_700_000_720_456, 1_700_000_780_789];

  test('orders expire times as Java does', () => {
    expect(javaHashSetOrder(times.slice(0, 3), times[3]!)).toEqual([times[2], times[0], times[1], times[3]]);
  });

  test('signs vouchers as the reference does', () => {
    const statement = {
      osdUuid: 'osd-uuid-1',
      sizeInBytes: 1_048_576,
      truncateEpoch: 3,
      expireTimesMs: times.slice(0, 3),
      capExpireTimeMs: times[3]!,
    };
    expect(keys.signVouchers(statement).serverSignature).toBe('886DBDC24FDB4573FA13E759A7FDF714');
    expect(keys.checkVouchers(statement, '886DBDC24FDB4573FA13E759A7FDF714')).toBe(true);
  });
});

test('a voucher answer holds for the same set of times in any order and for nothing else', () => {
  const keys = new CapabilityKeys({ secrets: [secret] });
  const statement = { osdUuid: 'a', sizeInBytes: 1, truncateEpoch: 0, expireTimesMs: [3, 1], capExpireTimeMs: 2 };
  const { serverSignature } = keys.signVouchers(statement);
  expect(keys.checkVouchers({ ...statement, expireTimesMs: [2, 1], capExpireTimeMs: 3 }, serverSignature)).toBe(true);
  expect(keys.checkVouchers({ ...statement, sizeInBytes: 2 }, serverSignature)).toBe(false);
  expect(keys.checkVouchers({ ...statement, expireTimesMs: [3] }, serverSignature)).toBe(false);
});

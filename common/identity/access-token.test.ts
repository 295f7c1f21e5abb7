import { createHmac, createSign, generateKeyPairSync } from 'node:crypto';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { accessTokenType, allows, isInGroup, issuerOf, verifyAccessToken } from './access-token.ts';
import { type CredentialProblem, signJws } from './jws.ts';
import { startMs, TestOrganization } from './testing/organization.ts';
import { idBase, type VerifiedState } from './vo-state.ts';

let vo: TestOrganization;
let other: TestOrganization;
let state: VerifiedState;
const now = startMs / 1000;

beforeAll(async () => {
  [vo, other] = [await TestOrganization.found(), await TestOrganization.found('chemistry')];
  state = await vo.state();
});

const expectation = (changes: object = {}) => ({ state, audience: 'storage.rennes', nowMs: startMs, ...changes });
const encode = (value: object | string): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

async function problemOf(token: string, changes: object = {}): Promise<CredentialProblem> {
  const error: unknown = await verifyAccessToken(token, expectation(changes)).then(
    () => undefined,
    (refusal: unknown) => refusal,
  );
  expect(error).toMatchObject({ name: 'CredentialError' });
  return (error as { problem: CredentialProblem }).problem;
}

/** The claims of a good token, changed, and signed rightly. */
async function signed(changes: Record<string, unknown>, type = accessTokenType): Promise<string> {
  const claims = {
    iss: issuerOf(state.content.genesis),
    iat: now,
    exp: now + 3600,
    jti: 'j',
    epoch: 1,
    ...vo.member(),
    ...changes,
  };
  return signJws(vo.signing, type, claims);
}

/** A good token with another header, signed with the right key over exactly that header. */
async function withHeader(header: Record<string, unknown>): Promise<string> {
  const [, payload = ''] = (await vo.token(state)).split('.');
  const head = encode({ alg: 'ES256', typ: accessTokenType, kid: vo.signing.kid, ...header });
  const signature = await crypto.subtle.sign(
    { name: 'ECDSA', hash: 'SHA-256' },
    vo.signing.privateKey,
    Buffer.from(`${head}.${payload}`),
  );
  return `${head}.${payload}.${Buffer.from(signature).toString('base64url')}`;
}

test('a token that the gateway minted holds, and says who the member is', async () => {
  expect(await verifyAccessToken(await vo.token(state), expectation())).toMatchObject(vo.member());
});

describe('tricks with JWTs are refused (threat 32)', () => {
  test('the corpus is made rightly: with an ordinary header it passes', async () => {
    await expect(verifyAccessToken(await withHeader({}), expectation())).resolves.toBeDefined();
    await expect(verifyAccessToken(await signed({}), expectation())).resolves.toBeDefined();
  });

  test.each(['none', 'None', 'NONE', 'nOnE'])('alg %s', async (alg) => {
    const [, payload = ''] = (await vo.token(state)).split('.');
    const head = encode({ alg, typ: accessTokenType, kid: vo.signing.kid });
    for (const signature of ['', 'AA']) expect(await problemOf(`${head}.${payload}.${signature}`)).toBe('Malformed');
  });

  test.each(['HS256', 'HS512'])('%s with the public key as its secret', async (alg) => {
    const [, payload = ''] = (await vo.token(state)).split('.');
    const head = encode({ alg, typ: accessTokenType, kid: vo.signing.kid });
    for (const secret of [JSON.stringify(vo.signing.publicKey), vo.signing.publicKey.x]) {
      const mac = createHmac(alg === 'HS256' ? 'sha256' : 'sha512', secret).update(`${head}.${payload}`);
      expect(await problemOf(`${head}.${payload}.${mac.digest('base64url')}`)).toBe('Malformed');
    }
  });

  test('RS256 with a key of the attacker', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const [, payload = ''] = (await vo.token(state)).split('.');
    const head = encode({ alg: 'RS256', typ: accessTokenType, kid: vo.signing.kid });
    const signature = createSign('sha256').update(`${head}.${payload}`).sign(privateKey, 'base64url');
    expect(await problemOf(`${head}.${payload}.${signature}`)).toBe('Malformed');
  });

  test.each([
    ['kid that is a path', { kid: '../../../../dev/null' }],
    ['kid that is a URL', { kid: 'https://evil.example.org/key' }],
    ['kid that is SQL', { kid: "' UNION SELECT 'key" }],
    ['kid that is no text', { kid: 1 }],
    ['jku', { jku: 'https://evil.example.org/jwks' }],
    ['x5u', { x5u: 'https://evil.example.org/cert' }],
    ['x5c', { x5c: ['MIIB'] }],
    ['jwk', { jwk: { kty: 'EC' } }],
    ['crit', { crit: ['exp'], exp: 1 }],
    ['crit with b64', { crit: ['b64'], b64: false }],
    ['zip', { zip: 'DEF' }],
    ['another key inside typ', { typ: ['at+jwt'] }],
  ])('a header with %s', async (_, header) => {
    expect(await problemOf(await withHeader(header))).toBe('Malformed');
  });

  test('a kid of a key that the state does not name', async () => {
    expect(await problemOf(await withHeader({ kid: other.signing.kid }))).toBe('UnknownKey');
  });

  test('the root key, which signs states but no tokens', async () => {
    expect(await problemOf(await signJws(vo.root, accessTokenType, { ...vo.member() }))).toBe('UnknownKey');
  });

  test.each(['JWT', 'vo-state+jwt', 'vo-genesis+jwt', 'logout+jwt', 'application/at+jwt', 'AT+JWT'])(
    'the type %s',
    async (type) => {
      expect(await problemOf(await signed({}, type))).toBe('WrongType');
    },
  );

  test.each(['iss', 'sub', 'aud', 'exp', 'iat', 'jti', 'epoch', 'principal', 'uid', 'gid', 'groups', 'roles', 'caps'])(
    'no %s',
    async (claim) => {
      expect(await problemOf(await signed({ [claim]: undefined }))).toBe('Malformed');
    },
  );

  test.each([
    ['several audiences', { aud: ['storage.rennes', 'x'] }],
    ['an expiry that is text', { exp: `${now + 10}` }],
    ['an expiry beyond numbers', { exp: Number.MAX_VALUE }],
    ['a claim that nobody defined', { admin: true }],
    ['a prototype', { principal: JSON.parse('{"issuer":"https://a","subject":"b","__proto__":{"x":1}}') as object }],
  ])('%s', async (_, changes) => {
    expect(await problemOf(await signed(changes))).toBe('Malformed');
  });

  test('another issuer', async () => {
    expect(await problemOf(await signed({ iss: issuerOf(other.genesis.digest) }))).toBe('WrongIssuer');
  });

  test('iat in the far future, and no more than a minute of skew', async () => {
    expect(await problemOf(await signed({ iat: now + 86_400 * 365, exp: now + 86_400 * 365 + 60 }))).toBe(
      'NotYetValid',
    );
    expect(await problemOf(await signed({ iat: now + 61, exp: now + 100 }))).toBe('NotYetValid');
    await expect(
      verifyAccessToken(await signed({ iat: now + 59, exp: now + 100 }), expectation()),
    ).resolves.toBeDefined();
  });

  test('over by more than a minute of skew', async () => {
    const token = await signed({ iat: now - 100, exp: now });
    expect(await problemOf(token, { nowMs: startMs + 61_000 })).toBe('Expired');
    await expect(verifyAccessToken(token, expectation({ nowMs: startMs + 59_000 }))).resolves.toBeDefined();
  });

  test('a life of more than an hour', async () => {
    expect(await problemOf(await signed({ iat: now, exp: now + 3601 }))).toBe('OutOfRange');
  });

  test('every single bit that is flipped', async () => {
    const token = await vo.token(state);
    const [head = '', payload = '', signature = ''] = token.split('.');
    const bytes = Buffer.from(signature, 'base64url');
    for (let bit = 0; bit < bytes.length * 8; bit += 7) {
      const copy = Buffer.from(bytes);
      copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(await problemOf(`${head}.${payload}.${copy.toString('base64url')}`)).toBe('BadSignature');
    }
  });

  test.each([
    ['nothing', ''],
    ['two parts', 'a.b'],
    ['five parts, as encrypted ones have', 'a.b.c.d.e'],
    ['JSON serialization', '{"payload":"","signatures":[]}'],
    ['padding', 'eyJh==.eyJh.eyJh'],
    ['a megabyte', `${'a'.repeat(500_000)}.${'b'.repeat(500_000)}.c`],
    ['a header that is an array', `${encode('[]')}.${encode('{}')}.AA`],
    ['a header with a second alg', `${encode('{"alg":"ES256","alg":"none","typ":"at+jwt"}')}.${encode('{}')}.AA`],
    ['a header that is no UTF-8', `${Buffer.from([0xff, 0xfe]).toString('base64url')}.${encode('{}')}.AA`],
  ])('%s', async (_, token) => {
    expect(await problemOf(token)).toBe('Malformed');
  });
});

describe('a token is for what it was made for (threat 33)', () => {
  test('not for another service', async () => {
    expect(await problemOf(await vo.token(state, { aud: 'storage.nancy' }))).toBe('WrongAudience');
    expect(await problemOf(await vo.token(state), { audience: 'Storage.rennes' })).toBe('WrongAudience');
  });

  test('one that was narrowed to storage starts no job', async () => {
    const token = await verifyAccessToken(await vo.token(state, { scope: 'storage.read:/data' }), expectation());
    expect(allows(token, 'storage.read', '/data/run1')).toBe(true);
    expect(allows(token, 'storage.modify', '/data/run1')).toBe(false);
    expect(allows(token, 'compute.create')).toBe(false);
  });

  test('an ID token is no access token, though a trusted key has signed it', async () => {
    const idToken = await signJws(vo.signing, 'JWT', {
      iss: issuerOf(state.content.genesis),
      sub: 'u',
      aud: 'storage.rennes',
    });
    expect(await problemOf(idToken)).toBe('WrongType');
  });
});

describe('what a token says is no more than what is written (threat 35)', () => {
  test.each([
    ['analysis', true],
    ['analysis/higgs', false],
    ['analys', false],
    ['Analysis', false],
    ['', false],
  ])('the member of analysis is in %p: %p', async (group, expected) => {
    expect(isInGroup(await verifyAccessToken(await vo.token(state), expectation()), group)).toBe(expected);
  });

  test('the member of a child is not in the parent', async () => {
    const groups = [{ name: 'analysis/higgs', gid: idBase + 7 * 65_536 + 2 }];
    expect(isInGroup(await verifyAccessToken(await vo.token(state, { groups }), expectation()), 'analysis')).toBe(
      false,
    );
  });
});

describe('revocation', () => {
  test('of one member refuses older tokens of that member only', async () => {
    const token = await vo.token(state);
    const colleague = await vo.token(state, { uid: vo.member().uid + 1 });
    const later = await vo.state({ epoch: 2, revoked: [{ uid: vo.member().uid, minEpoch: 2, until: now + 3700 }] });
    expect(await problemOf(token, { state: later })).toBe('Revoked');
    await expect(verifyAccessToken(colleague, expectation({ state: later }))).resolves.toBeDefined();
    await expect(verifyAccessToken(await vo.token(later), expectation({ state: later }))).resolves.toBeDefined();
  });

  test('of everybody refuses all older tokens', async () => {
    expect(await problemOf(await vo.token(state), { state: await vo.state({ epoch: 2, minEpoch: 2 }) })).toBe(
      'Revoked',
    );
  });

  test('by dissolution refuses all', async () => {
    const last = await vo.state({ epoch: 9, state: 'Dissolved' });
    expect(await problemOf(await vo.token(last), { state: last })).toBe('Dissolved');
  });

  test('a key that was replaced is trusted until its time is over', async () => {
    const keys = [{ ...vo.signing.publicKey, nbf: now - 10, exp: now + 10 }];
    const rotated = await vo.state({ epoch: 2, keys });
    await expect(verifyAccessToken(await vo.token(state), expectation({ state: rotated }))).resolves.toBeDefined();
    expect(await problemOf(await vo.token(state), { state: rotated, nowMs: startMs + 71_000 })).toBe('UnknownKey');
  });
});

test('a virtual organization can not speak for ids of another (threat 42)', async () => {
  expect(await problemOf(await vo.token(state, { uid: idBase + 8 * 65_536 + 2000 }))).toBe('OutOfRange');
  expect(await problemOf(await vo.token(state, { gid: idBase }))).toBe('OutOfRange');
  expect(await problemOf(await signed({ uid: 0 }))).toBe('Malformed');
});

test('a token is checked in less than a millisecond', async () => {
  const token = await vo.token(state);
  const count = 500;
  for (let i = 0; i < 50; i++) await verifyAccessToken(token, expectation());
  const start = process.cpuUsage();
  for (let i = 0; i < count; i++) await verifyAccessToken(token, expectation());
  const { user, system } = process.cpuUsage(start);
  expect((user + system) / 1000 / count).toBeLessThan(1);
});

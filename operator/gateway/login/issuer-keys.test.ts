import { beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';
import { VirtualClock } from '#common/clock.ts';
import { IssuerKeys } from './issuer-keys.ts';

const issuer = 'https://login.example.org';
interface Pair {
  readonly kid: string;
  readonly privateKey: CryptoKey;
  readonly published: JWK;
}
let first: Pair;
let second: Pair;
let clock: VirtualClock;
let published: JWK[];
let fetches: number;
let keys: IssuerKeys;

async function pair(kid: string): Promise<Pair> {
  const { privateKey, publicKey } = await generateKeyPair('ES256');
  return { kid, privateKey, published: { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' } };
}

beforeAll(async () => {
  [first, second] = [await pair('first'), await pair('second')];
});
beforeEach(() => {
  clock = new VirtualClock();
  published = [first.published];
  fetches = 0;
  const fetchJson = async (): Promise<unknown> => {
    fetches++;
    return Promise.resolve({ keys: published });
  };
  keys = new IssuerKeys(`${issuer}/jwks`, fetchJson, clock);
});

async function verify({ kid, privateKey }: Pair, claims: object = {}): Promise<string | undefined> {
  const seconds = Math.floor(clock.now() / 1000);
  const token = await new SignJWT({
    iss: issuer,
    aud: 'xtreemos',
    sub: 'alice',
    iat: seconds,
    exp: seconds + 60,
    ...claims,
  })
    .setProtectedHeader({ alg: 'ES256', kid })
    .sign(privateKey);
  return (await keys.verify(token, issuer, 'xtreemos')).sub;
}

const unpublished = { code: 'LoginRefused', message: expect.stringContaining('a key that it does not publish') };

describe('keys of an issuer (threat 45)', () => {
  test('are fetched at once for a name that is not known, and then not for half a minute', async () => {
    await expect(verify(first)).resolves.toBe('alice');
    clock.advance(30_000);
    published = [second.published];
    await expect(verify(second)).resolves.toBe('alice');
    for (let index = 0; index < 50; index++)
      await expect(verify(await pair(`strange-${index}`))).rejects.toMatchObject(unpublished);
    expect(fetches).toBe(2);
    clock.advance(30_000);
    await expect(verify(await pair('stranger'))).rejects.toMatchObject(unpublished);
    expect(fetches).toBe(3);
  });

  test('that were withdrawn are not believed after an hour, from the first token on', async () => {
    await expect(verify(first)).resolves.toBe('alice');
    published = [second.published];
    clock.advance(3_600_001);
    await expect(verify(first)).rejects.toMatchObject(unpublished);
  });

  test('that are too many are none: those that are known stay', async () => {
    await expect(verify(first)).resolves.toBe('alice');
    published = Array.from({ length: 65 }, () => second.published);
    clock.advance(3_600_001);
    await expect(verify(second)).rejects.toMatchObject(unpublished);
    await expect(verify(first)).resolves.toBe('alice');
  });

  test.each([
    ['another audience', { aud: 'other' }],
    ['several audiences and another party', { aud: ['xtreemos', 'other'], azp: 'other' }],
    ['a time to come', { iat: 4_000_000_000, exp: 4_000_000_060 }],
    ['a time that is over', { iat: 1, exp: 2 }],
    ['another issuer', { iss: 'https://evil.example.org' }],
  ])('do not help a token with %s', async (_, claims) => {
    await expect(verify(first, claims)).rejects.toMatchObject({ code: 'LoginRefused', reason: 'TokenInvalid' });
  });
});

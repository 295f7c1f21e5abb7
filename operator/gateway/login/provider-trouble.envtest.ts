/** What logins do while a real OpenID provider over TLS is away, slow or hostile; time passes when the test says so. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import type { Principal } from '#common/identity/ids.ts';
import { aVerifier } from '../../testing/gateway-client.ts';
import { TestOpenIDProvider } from '../../testing/openid-provider.ts';
import { Refusal } from '../refusal.ts';
import { Sealer, sealKeyBytes } from '../sealing.ts';
import { openHandle } from './handles.ts';
import { OpenIDLogin } from './openid.ts';

jest.setTimeout(120_000);
const hourMs = 3_600_000;
const discovery = '/.well-known/openid-configuration';
const sealer = new Sealer(randomBytes(sealKeyBytes));
let provider: TestOpenIDProvider;
let clock: VirtualClock;
let login: OpenIDLogin;

beforeAll(() => {
  // The provider tells at length that it is set up for tests.
  for (const method of ['info', 'warn'] as const) jest.spyOn(console, method).mockImplementation(() => undefined);
});
beforeEach(async () => {
  provider = await TestOpenIDProvider.start();
  clock = new VirtualClock(Date.now());
  const { issuer, clientID, clientSecret, caBundle } = provider;
  const configured = { name: 'lab', issuer, clientID, clientSecret, scopes: ['openid'], caBundle };
  login = new OpenIDLogin(configured, clock, async () => Promise.resolve(sealer));
});
afterEach(async () => provider.stop());

/** A login by code, through the pages of the provider. */
async function logIn(subject: string): Promise<Principal> {
  const { verifier, challenge } = aVerifier();
  const pending = await login.startCode({ challenge, redirectURI: 'http://127.0.0.1:8400/callback' });
  const callbackURL = await provider.browse(pending.authorizationURL, subject);
  const handle = openHandle(sealer, pending.handle, verifier, clock.now());
  if (handle.method !== 'code') throw new Error('the handle is of another method');
  return login.finishCode(handle, callbackURL);
}

const refusalOf = async (subject: string): Promise<Refusal> => {
  const error: unknown = await logIn(subject).then(
    () => new Error('logged in'),
    (reason: unknown) => reason,
  );
  if (error instanceof Refusal) return error;
  throw error;
};

const fetches = (path: string): number => provider.requests.get(path) ?? 0;

/** Lets time pass for what is kept, and leaves the date as it is: tokens of the provider are of the real one. */
function pass(durationMs: number): void {
  clock.advance(durationMs);
  clock.step(-durationMs);
}

describe('a provider that is away (threat 45)', () => {
  test.each([
    ['keys', '/jwks'],
    ['description', discovery],
  ])('is believed for two days by the %s that is known, and not longer', async (_, path) => {
    const alice = { issuer: provider.issuer, subject: 'alice' };
    expect(await logIn('alice')).toEqual(alice);
    provider.troubles.set(path, 'fails');
    pass(47 * hourMs);
    expect(await logIn('alice')).toEqual(alice);
    pass(hourMs + 60_000);
    expect(await refusalOf('alice')).toMatchObject({ code: 'Unavailable', reason: 'ProviderUnavailable' });
    provider.troubles.clear();
    pass(2000);
    expect(await logIn('alice')).toEqual(alice);
  });

  test('is asked seldom while it is away, however many want to log in', async () => {
    await logIn('alice');
    provider.troubles.set('/jwks', 'fails').set(discovery, 'fails');
    pass(2 * hourMs);
    const before = [fetches('/jwks'), fetches(discovery)];
    for (let index = 0; index < 10; index++) await logIn(`user-${index}`);
    expect([fetches('/jwks'), fetches(discovery)]).toEqual(before.map((count) => count + 1));
  });

  test.each(['hangs', 'floods', 'trickles'] as const)(
    'or whose keys come in a way that %s stops nobody',
    async (way) => {
      await logIn('alice');
      provider.troubles.set('/jwks', way).set(discovery, way);
      pass(2 * hourMs);
      const all = await Promise.all(['alice', 'bob', 'carol'].map(async (name) => logIn(name)));
      expect(all.map(({ subject }) => subject)).toEqual(['alice', 'bob', 'carol']);
    },
  );
});

describe('a flood of tokens that are signed with keys nobody knows (threat 45)', () => {
  test('orders one request for keys in half a minute, and others log in all the while', async () => {
    await logIn('alice');
    pass(60_000);
    const before = fetches('/jwks');
    const flood = async (): Promise<void> => {
      provider.troubles.set('/token', 'signs with strange keys');
      const refusals = await Promise.all(Array.from({ length: 20 }, async (_, index) => refusalOf(`mallory-${index}`)));
      expect(new Set(refusals.map(({ code, reason }) => `${code} ${reason}`))).toEqual(
        new Set(['LoginRefused TokenInvalid']),
      );
      provider.troubles.clear();
    };
    await flood();
    expect(fetches('/jwks')).toBe(before + 1);
    expect((await logIn('alice')).subject).toBe('alice');
    pass(29_000);
    await flood();
    expect(fetches('/jwks')).toBe(before + 1);
    pass(1000);
    await flood();
    await flood();
    expect(fetches('/jwks')).toBe(before + 2);
    expect((await logIn('bob')).subject).toBe('bob');
    expect(fetches(discovery)).toBe(1);
  });

  test('delays whoever has a token of a new key by no more than that', async () => {
    await logIn('alice');
    pass(60_000);
    provider.rotateKey();
    expect((await logIn('alice')).subject).toBe('alice');
    provider.rotateKey();
    expect((await refusalOf('alice')).message).toContain('log in again');
    pass(30_000);
    expect((await logIn('alice')).subject).toBe('alice');
  });
});

import { describe, expect, test } from '@jest/globals';
import { joinRequest, pendingAnswer, sessionRequest, tokenRequest } from './gateway-api.ts';

const challenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM';
const verifier = 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk';

describe('sessionRequest', () => {
  test.each([
    ['the own users of the cluster', { method: 'kubernetes' }],
    ['a client certificate', { method: 'certificate', provider: 'grid-ca' }],
    ['the start of a device flow', { method: 'device', provider: 'lab', challenge }],
    ['a poll of it', { method: 'device', handle: 'x', verifier }],
    [
      'the start of a code flow',
      { method: 'code', provider: 'lab', challenge, redirectURI: 'http://127.0.0.1:8400/cb' },
    ],
    ['its end', { method: 'code', handle: 'x', verifier, callbackURL: 'http://127.0.0.1:8400/cb?code=a&state=b' }],
  ])('takes %s', (_, body) => {
    expect(sessionRequest.safeParse(body).success).toBe(true);
  });

  test.each([
    ['a method nobody knows', { method: 'password', user: 'a', password: 'b' }],
    ['a provider with a path in it', { method: 'certificate', provider: '../x' }],
    ['a challenge that is no SHA-256', { method: 'device', provider: 'lab', challenge: 'abc' }],
    ['a poll without the verifier', { method: 'device', handle: 'x' }],
    ['more than it knows', { method: 'kubernetes', as: 'root' }],
    [
      'a redirect to another machine',
      { method: 'code', provider: 'lab', challenge, redirectURI: 'http://127.0.0.1.example.org/cb' },
    ],
    [
      'a redirect with user information',
      { method: 'code', provider: 'lab', challenge, redirectURI: 'http://localhost@x.org/' },
    ],
  ])('refuses %s', (_, body) => {
    expect(sessionRequest.safeParse(body).success).toBe(false);
  });
});

test('a token is for one audience, and lives an hour at most', () => {
  const body = { virtualOrganization: 'physics', audience: 'xtreemfs.rennes' };
  expect(tokenRequest.safeParse(body).success).toBe(true);
  expect(tokenRequest.safeParse({ ...body, audience: 'a b' }).success).toBe(false);
  expect(tokenRequest.safeParse({ ...body, lifetimeSeconds: 3601 }).success).toBe(false);
});

test('acceptance names the digest of a text, not just yes', () => {
  expect(joinRequest.safeParse({ acceptedUse: `sha256:${'a'.repeat(64)}` }).success).toBe(true);
  expect(joinRequest.safeParse({ acceptedUse: 'yes' }).success).toBe(false);
});

test('a poll is answered without telling the code again', () => {
  const answer = { method: 'device', handle: 'x', intervalSeconds: 5, expiresAt: '2026-01-01T00:00:00Z' };
  expect(pendingAnswer.parse(answer)).toEqual(answer);
});

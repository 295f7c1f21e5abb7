import { createHash } from 'node:crypto';
import { beforeEach, describe, expect, test } from '@jest/globals';
import type { Site } from '#crds/site.ts';
import type { Secret } from '#runtime/builtin.ts';
import type { OwnSite, Sites } from '../../api/sites.ts';
import { aContext, FakeObjects } from '../../testing/fakes.ts';
import { leaveSite, setConnection } from './change.ts';
import { inviteSite } from './invite.ts';
import { joinSite } from './join.ts';

/** A root made for tests; its key is gone. */
const caBundle = `-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUMkX8VRui3U5mpCUpK/11tl8iBHUwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJdGVzdCByb290MCAXDTI2MTEyNjEzMjAzNVoYDzIxMjYxMTAy
MTMyMDM1WjAUMRIwEAYDVQQDDAl0ZXN0IHJvb3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASH5j1B2UA8gQIlQwNhzg1QPQe+jEQpfJawODdgpE1LIj+pN4BZYpSs
YorLShkf6tNKO9lPI3Q20jUicK1peig7o1MwUTAdBgNVHQ4EFgQUkF/XqHs2PbT9
e8SzpTyH9aKYmb4wHwYDVR0jBBgwFoAUkF/XqHs2PbT9e8SzpTyH9aKYmb4wDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAy5fruJ1mxoBAeMRiDuhA
pIPZdH29Tte/aEfjorUy6f0CIQCg3S2n0OyfquO9jBsVeo9qSdbANrbYGJuuWgTs
Ca+gLQ==
-----END CERTIFICATE-----
`;

interface FakeSites extends Sites {
  readonly sites: FakeObjects<Site>;
  readonly secrets: FakeObjects<Secret>;
  readonly asked: Parameters<Sites['redeem']>[];
}

function aSite(site: string, change: Partial<OwnSite> = {}): FakeSites {
  const address = `${site}.example.org:7443`;
  const own = { site, namespace: 'xtreemos-system', address, trustDomain: site, caBundle, ...change };
  const asked: Parameters<Sites['redeem']>[] = [];
  return {
    sites: new FakeObjects<Site>('Site'),
    secrets: new FakeObjects<Secret>('Secret'),
    own: async () => Promise.resolve(own),
    redeem: async (...parameters) => {
      asked.push(parameters);
      return Promise.resolve();
    },
    asked,
  };
}

let rennes: FakeSites;
let lyon: FakeSites;
let invitation: string;
const joining = {
  context: undefined, kubeconfig: undefined, fingerprint: undefined, yes: true, wait: false, timeout: 1000,
}; // prettier-ignore

beforeEach(async () => {
  [rennes, lyon] = [aSite('rennes'), aSite('lyon')];
  const context = aContext();
  await inviteSite(context, { site: 'lyon', expires: 3_600_000 }, rennes);
  invitation = context.stdout();
});

describe('inviting a site', () => {
  test('keeps only the digest of what is given away', () => {
    const [secret] = [...rennes.secrets.stored.values()];
    const text = Buffer.from(invitation.trim().slice('xos-site-1.'.length), 'base64url').toString();
    const given = (JSON.parse(text) as { invitation: string }).invitation.split('.')[1] ?? '';
    const digest = createHash('sha256').update(given).digest('hex');
    expect(Buffer.from(secret?.data?.digest ?? '', 'base64').toString()).toBe(digest);
    expect(JSON.stringify(secret)).not.toContain(given);
    expect(secret?.metadata).toMatchObject({
      namespace: 'xtreemos-system',
      labels: { 'xtreemos.io/gateway': 'invitation' },
    });
  });

  test.each<[string, string, number, FakeSites, string]>([
    ['itself', 'rennes', 3_600_000, aSite('rennes'), 'is this site itself'],
    ['what is no name', 'Lyon!', 3_600_000, aSite('rennes'), 'is no name'],
    ['for ever', 'lyon', 1e12, aSite('rennes'), 'must be from 1m to 7d'],
    [
      'from behind a Service',
      'lyon',
      3_600_000,
      aSite('rennes', { address: 'x.y.svc:7443' }),
      "can't reach the gateway",
    ],
  ])('refuses %s', async (_, site, expires, api, message) => {
    await expect(inviteSite(aContext(), { site, expires }, api)).rejects.toThrow(message);
    expect(api.secrets.stored.size).toBe(0);
  });
});

describe('joining a site', () => {
  test('makes the Site here and asks there with what this site is', async () => {
    const context = aContext();
    await joinSite(context, joining, invitation, lyon);
    expect((await lyon.sites.find({ name: 'rennes' }))?.spec).toEqual({
      type: 'Peer',
      peer: {
        ...{ address: 'rennes.example.org:7443', trustDomain: 'rennes', trustBundle: caBundle, connection: 'Open' },
        virtualOrganizations: [],
      },
    });
    expect(lyon.asked).toMatchObject([
      [{ address: 'rennes.example.org:7443' }, { site: 'lyon', address: 'lyon.example.org:7443', trustDomain: 'lyon' }],
    ]);
    expect(context.stdout()).toBe('Site rennes is a peer\n');
  });

  test('takes the Site back when the other side refuses', async () => {
    const refusing = { ...lyon, redeem: async () => Promise.reject(new Error('used')) };
    await expect(joinSite(aContext(), joining, invitation, refusing)).rejects.toThrow('used');
    expect(lyon.sites.stored.size).toBe(0);
  });

  test.each<[string, string, object, string]>([
    ['is none', 'hello', {}, 'does not begin with xos-site-1.'],
    ['is damaged', 'xos-site-1.!!!', {}, 'is damaged'],
    ['lacks something', `xos-site-1.${Buffer.from('{}').toString('base64url')}`, {}, 'is not understood'],
    ['has other roots than expected', '', { fingerprint: 'ab'.repeat(32) }, 'not the one given'],
  ])('refuses an invitation that %s, and makes nothing', async (_, text, more, message) => {
    const joined = joinSite(aContext(), { ...joining, ...more }, text === '' ? invitation : text, lyon);
    await expect(joined).rejects.toThrow(message);
    expect(lyon.sites.stored.size).toBe(0);
    expect(lyon.asked).toEqual([]);
  });

  test('refuses an invitation for another site, and one that is over', async () => {
    await expect(joinSite(aContext(), joining, invitation, aSite('paris'))).rejects.toThrow('for a site called lyon');
    const later = aContext();
    await later.clock.sleep(3_601_000, later.signal);
    await expect(joinSite(later, joining, invitation, lyon)).rejects.toThrow('was good until');
  });
});

describe('cutting off and leaving', () => {
  beforeEach(async () => joinSite(aContext(), joining, invitation, lyon));

  test('says so in the Site, once', async () => {
    const context = aContext();
    const input = { site: 'rennes', dryRun: false };
    await setConnection(context, input, 'Cut', lyon);
    expect((await lyon.sites.find({ name: 'rennes' }))?.spec).toMatchObject({ peer: { connection: 'Cut' } });
    await setConnection(context, input, 'Cut', lyon);
    expect(context.stdout()).toBe('Site rennes is cut off\nSite rennes is cut off already\n');
  });

  test('forgets the peer, but not in a dry run', async () => {
    await leaveSite(aContext(), { site: 'rennes', dryRun: true }, lyon);
    expect(lyon.sites.stored.size).toBe(1);
    await leaveSite(aContext(), { site: 'rennes', dryRun: false }, lyon);
    expect(lyon.sites.stored.size).toBe(0);
    await expect(leaveSite(aContext(), { site: 'rennes', dryRun: false }, lyon)).rejects.toThrow(
      'No Site is called rennes',
    );
  });
});

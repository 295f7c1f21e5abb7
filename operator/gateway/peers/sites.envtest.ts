/** Two sites become peers by their commands alone, each with its own API server, cert-manager and operator. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { IdBitmap } from '#operator/identity/id-bitmap.ts';
import { PeerSite } from '#operator/testing/peer-site.ts';
import type { IdentitySlice } from '#crds/identity-slice.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { KubeStatusError, waitFor } from '#sites/kube-client.ts';

jest.setTimeout(400_000);
const scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-peers-'));
let rennes: PeerSite;
let lyon: PeerSite;

beforeAll(async () => {
  rennes = await PeerSite.start('rennes', scratch);
  lyon = await PeerSite.start('lyon', scratch);
  await Promise.all([rennes.startOperator(), lyon.startOperator()]);
}, 600_000);

afterAll(async () => {
  await lyon.stop();
  await rennes.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** An invitation of rennes for a site called so. */
async function invitationFor(name: string, ...flags: string[]): Promise<string> {
  const { code, stdout, stderr } = await rennes.xos(['site', 'invite', name, ...flags]);
  expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
}

test('an invitation for another name, with another secret, or with another fingerprint makes nobody a peer', async () => {
  const forParis = await lyon.xos(['site', 'join', '-', '--yes'], await invitationFor('paris'));
  expect(forParis.stderr).toContain('The invitation is for a site called paris; this one is lyon');
  const good = await invitationFor('lyon');
  const read = JSON.parse(Buffer.from(good.trim().slice('xos-site-1.'.length), 'base64url').toString()) as {
    invitation: string;
  };
  const wrong = { ...read, invitation: `${read.invitation.slice(0, 17)}${'A'.repeat(43)}` };
  const forged = `xos-site-1.${Buffer.from(JSON.stringify(wrong)).toString('base64url')}`;
  const refused = await lyon.xos(['site', 'join', '-', '--yes'], forged);
  expect(refused).toMatchObject({ code: 4, stderr: expect.stringContaining('The invitation is not good') });
  const mistaken = await lyon.xos(['site', 'join', '-', '--fingerprint', 'ab'.repeat(32)], good);
  expect(mistaken).toMatchObject({ code: 3, stderr: expect.stringContaining('not the one given') });
  // What was begun is taken back.
  expect(await lyon.site('rennes')).toBeUndefined();
  expect(await rennes.site('lyon')).toBeUndefined();
});

test('two sites become peers with one invitation, which then is used up', async () => {
  const invitation = await invitationFor('lyon');
  const joined = await lyon.xos(['site', 'join', '-', '--yes', '--wait', '--timeout', '60s'], invitation);
  expect(joined).toMatchObject({ code: 0, stdout: 'Site rennes is a peer\n' });
  const seen = await rennes.waitForReason('lyon', 'Connected');
  expect(seen.status).toMatchObject({ nodes: { count: 0, ready: 0 } });
  expect(seen.status?.xtreemosVersion).toBe((await rennes.site('rennes'))?.status?.xtreemosVersion);
  const listed = await lyon.xos(['site', 'list']);
  expect(listed.stdout).toMatch(/rennes +Peer +True +Connected/);
  expect((await lyon.xos(['site', 'leave', 'rennes'])).code).toBe(0);
  expect((await rennes.xos(['site', 'leave', 'lyon'])).code).toBe(0);
  const again = await lyon.xos(['site', 'join', '-', '--yes'], invitation);
  expect(again).toMatchObject({ code: 4, stderr: expect.stringContaining('The invitation is not good') });
  const anew = await lyon.xos(['site', 'join', '-', '--yes', '--wait'], await invitationFor('lyon'));
  expect(anew).toMatchObject({ code: 0 });
  await rennes.waitForReason('lyon', 'Connected');
});

test('a peer that is cut off is told nothing and finds no way in, until it is opened again', async () => {
  expect((await rennes.xos(['site', 'cut', 'lyon'])).stdout).toBe('Site lyon is cut off\n');
  await rennes.waitForReason('lyon', 'Cut');
  await lyon.waitForReason('rennes', 'Unreachable');
  await waitFor('the refusal is in the audit log', () => rennes.log.includes('The peer is cut off') || undefined);
  expect((await rennes.xos(['site', 'open', 'lyon'])).code).toBe(0);
  await rennes.waitForReason('lyon', 'Connected');
  await lyon.waitForReason('rennes', 'Connected');
});

test('a peer whose operator dies is missed, and found again', async () => {
  await lyon.killOperator();
  await rennes.waitForReason('lyon', 'Unreachable');
  await lyon.startOperator();
  await rennes.waitForReason('lyon', 'Connected');
});

const api = '/apis/xtreemos.io/v1alpha1';
const merge = 'application/merge-patch+json';
const principal = { issuer: 'https://login.example.org', subject: 'ada' };
const memberPath = `${api}/namespaces/vo-physics/vomemberships/ada`;

/** A virtual organization as a site sees it. */
const physicsAt = async (site: PeerSite): Promise<VirtualOrganization | undefined> => {
  const found: unknown = await site.client.find(`${api}/virtualorganizations/physics`);
  return found as VirtualOrganization | undefined;
};
const adaAt = async (site: PeerSite): Promise<VOMembership | undefined> => {
  const found: unknown = await site.client.find(memberPath);
  return found as VOMembership | undefined;
};
const accept = async (site: PeerSite, entry: object): Promise<unknown> =>
  site.client.json('PATCH', `${api}/sites/${site.name}`, {
    body: { spec: { local: { acceptedVirtualOrganizations: [entry] } } },
    contentType: merge,
  });
const reasonOf = (object: VirtualOrganization | VOMembership | undefined, type: string): string | undefined =>
  object?.status?.conditions?.find((condition) => condition.type === type)?.reason;

test('a virtual organization that names a site is told to it, and hosted once its owner accepts it', async () => {
  const body = {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'VirtualOrganization',
    metadata: { name: 'physics' },
    spec: {
      state: 'Operational',
      homeSite: 'rennes',
      administrators: [{ issuer: 'kubernetes:rennes', subject: 'root' }],
      groups: [{ name: 'analysis' }],
    },
  };
  await rennes.client.json('POST', `${api}/virtualorganizations`, { body });
  await accept(rennes, { name: 'physics' });
  const made = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VOMembership', metadata: { name: 'ada' } };
  await waitFor('the namespace is there', async () => rennes.client.find('/api/v1/namespaces/vo-physics'), {
    limitMs: 120_000,
  });
  await rennes.client.json('POST', `${api}/namespaces/vo-physics/vomemberships`, {
    body: { ...made, spec: { principal, state: 'Active', groups: [{ name: 'analysis' }] } },
  });
  // The owner of lyon wants it, and its administrators have not named lyon yet: nothing is told.
  await accept(lyon, { name: 'physics', home: 'rennes' });
  await waitFor('lyon was refused', () => lyon.log.includes('that names your site') || undefined, { limitMs: 120_000 });
  expect(await physicsAt(lyon)).toBeUndefined();
  await rennes.client.json('PATCH', `${api}/virtualorganizations/physics`, {
    body: { spec: { sites: ['lyon'] } },
    contentType: merge,
  });
  const here = await waitFor(
    'ada has an id at lyon',
    async () => ((await adaAt(lyon))?.status?.userName === undefined ? undefined : adaAt(lyon)),
    { limitMs: 120_000 },
  );
  const home = await adaAt(rennes);
  expect(here.status?.userName).toBe(home?.status?.userName);
  expect([here.status?.uid, here.status?.gid]).toEqual([home?.status?.uid, home?.status?.gid]);
  const followed = await waitFor(
    'physics is Operational at lyon',
    async () => {
      const vo = await physicsAt(lyon);
      return reasonOf(vo, 'Ready') === 'Operational' ? vo : undefined;
    },
    { limitMs: 120_000 },
  );
  expect(reasonOf(followed, 'StatePublished')).toBe('Followed');
  const signed = await physicsAt(rennes);
  expect(followed.status).toMatchObject({
    genesis: signed?.status?.genesis,
    authority: signed?.status?.authority,
    slices: signed?.status?.slices,
    groups: signed?.status?.groups,
  });
  // Nobody signs for it here.
  const { items } = await lyon.client.list('/api/v1/namespaces/xtreemos-system/secrets');
  expect(items.map(({ metadata }) => metadata?.name).filter((name) => name?.startsWith('vo-'))).toEqual([]);
});

test('a member who is suspended at home is suspended at the peer too, and comes back (threat 39)', async () => {
  const patch = async (state: string): Promise<unknown> =>
    rennes.client.json('PATCH', memberPath, { body: { spec: { state } }, contentType: merge });
  for (const state of ['Suspended', 'Active']) {
    await patch(state);
    await waitFor(
      `ada is ${state} at lyon`,
      async () => ((await adaAt(lyon))?.status?.state === state ? true : undefined),
      { limitMs: 120_000 },
    );
  }
});

test('a member who is suspended at home can start nothing at the peer within 30 seconds, and what they run there is ended within a minute (threat 39)', async () => {
  const suspend = async (state: string): Promise<unknown> =>
    rennes.client.json('PATCH', memberPath, { body: { spec: { state } }, contentType: merge });
  const until = `${new Date(Date.now() + 3_600_000).toISOString().slice(0, 19)}Z`;
  const annotations = { 'xtreemos.io/account-until': until };
  await lyon.client.json('PATCH', memberPath, { body: { metadata: { annotations } }, contentType: merge });
  const accounts = '/api/v1/namespaces/vo-physics/serviceaccounts';
  const userName = (await adaAt(lyon))?.status?.userName ?? '';
  await waitFor('ada has an account at lyon', async () => lyon.client.find(`${accounts}/${userName}`));
  const issued = await lyon.client.json('POST', `${accounts}/${userName}/token`, { body: { spec: {} } });
  const ada = lyon.asAccount((issued.status as { token: string }).token);
  const pods = '/api/v1/namespaces/vo-physics/pods';
  const start = async (name: string): Promise<unknown> =>
    ada.json('POST', pods, {
      body: {
        ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name } },
        spec: { containers: [{ name: 'main', image: 'xtreemos.io/busybox:1', command: ['sleep', '600'] }] },
      },
    });
  const ofAda = async (): Promise<number> => (await lyon.client.list(pods)).items.length;
  try {
    await waitFor('ada starts a pod at lyon', async () => start(`${userName}-runs`));
    expect(await ofAda()).toBe(1);
    await suspend('Suspended');
    let count = 0;
    const refusal = await waitFor(
      'ada can start nothing at lyon',
      async () =>
        start(`${userName}-late-${count++}`).then(
          () => undefined,
          (error: unknown) => (error instanceof KubeStatusError ? error : undefined),
        ),
      { limitMs: 30_000, pauseMs: 500 },
    );
    expect([401, 403]).toContain(refusal.code);
    await waitFor('what she ran is gone', async () => (await ofAda()) === 0, { limitMs: 60_000 });
    await expect(start(`${userName}-later`)).rejects.toThrow();
  } finally {
    ada.close();
    await suspend('Active');
  }
});

test('what somebody changes at a peer is put right from the home, also when an operator was killed meanwhile', async () => {
  await lyon.killOperator();
  const mallory = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VOMembership', metadata: { name: 'mallory' } };
  await lyon.client.json('POST', `${api}/namespaces/vo-physics/vomemberships`, {
    body: { ...mallory, spec: { principal: { ...principal, subject: 'mallory' }, state: 'Active' } },
  });
  await rennes.client.json('PATCH', memberPath, { body: { spec: { groups: [] } }, contentType: merge });
  await lyon.startOperator();
  await waitFor(
    'mallory is gone, ada is in no group',
    async () => {
      const isGone = (await lyon.client.find(`${api}/namespaces/vo-physics/vomemberships/mallory`)) === undefined;
      return isGone && (await adaAt(lyon))?.spec.groups.length === 0 ? true : undefined;
    },
    { limitMs: 120_000 },
  );
});

test('a backup that is restored at home brings nobody back unseen: the peer reminds it, and it is frozen until somebody looked (threat 64)', async () => {
  const setState = async (state: string): Promise<unknown> =>
    rennes.client.json('PATCH', memberPath, { body: { spec: { state } }, contentType: merge });
  const evePath = `${api}/namespaces/vo-physics/vomemberships/eve`;
  const epochAt = async (site: PeerSite): Promise<number> => (await physicsAt(site))?.status?.epoch ?? 0;
  await rennes.backUp();
  const kept = await epochAt(rennes);
  await setState('Suspended');
  const eve = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VOMembership', metadata: { name: 'eve' } };
  const spec = { principal: { ...principal, subject: 'eve' }, state: 'Active' };
  // An API server that has just started takes no new objects of our kinds for a moment (503).
  await waitFor('eve is approved', async () =>
    rennes.client.json('POST', `${api}/namespaces/vo-physics/vomemberships`, { body: { ...eve, spec } }),
  );
  const lost = await waitFor(
    'lyon knows eve, that ada is suspended, and the state that revokes her tokens',
    async () => {
      const member = (await lyon.client.find(evePath)) as VOMembership | undefined;
      const isKnown = member?.status?.uid !== undefined && (await adaAt(lyon))?.status?.state === 'Suspended';
      return isKnown && (await epochAt(lyon)) > kept ? member : undefined;
    },
    { limitMs: 120_000 },
  );
  const seen = await physicsAt(lyon);
  await rennes.restore();
  expect((await adaAt(rennes))?.spec.state).toBe('Active');
  const frozen = await waitFor(
    'physics is frozen at rennes',
    async () => {
      const vo = await physicsAt(rennes);
      const isTold = reasonOf(vo, 'StatePublished') === 'Restored' && reasonOf(vo, 'Ready') === 'Frozen';
      return isTold && (await epochAt(rennes)) > (seen?.status?.epoch ?? 0) ? vo : undefined;
    },
    { limitMs: 120_000 },
  );
  const published = frozen.status?.conditions?.find(({ type }) => type === 'StatePublished');
  expect(published?.message).toContain(`Site lyon holds epoch ${seen?.status?.epoch ?? ''}, which was signed here`);
  expect(reasonOf(await adaAt(rennes), 'Ready')).toBe('OrganizationFrozen');
  await waitFor(
    'lyon follows, and is frozen',
    async () => {
      const vo = await physicsAt(lyon);
      return vo?.spec.state === 'Frozen' && vo.status?.epoch === frozen.status?.epoch ? true : undefined;
    },
    { limitMs: 120_000 },
  );
  // Nobody gets the id of eve, whom rennes does not know any more.
  const { slice, localId } = lost.spec.identity ?? { slice: -1, localId: -1 };
  const name = `slice-${String(slice).padStart(4, '0')}`;
  const record = (await rennes.client.find(`${api}/identityslices/${name}`)) as IdentitySlice | undefined;
  expect(new IdBitmap(record?.spec.issued).has(localId)).toBe(true);
  await setState('Suspended');
  await rennes.client.json('PATCH', `${api}/virtualorganizations/physics`, {
    body: { spec: { state: 'Operational' } },
    contentType: merge,
  });
  await waitFor(
    'physics goes on at both, ada is suspended at both',
    async () => {
      const both = [await physicsAt(rennes), await physicsAt(lyon)].map((vo) => reasonOf(vo, 'StatePublished'));
      const members = [await adaAt(rennes), await adaAt(lyon)].map((member) => member?.status?.state);
      return both.join() === 'Published,Followed' && members.join() === 'Suspended,Suspended' ? true : undefined;
    },
    { limitMs: 120_000 },
  );
  await setState('Active');
  await waitFor('ada is back at lyon', async () => (await adaAt(lyon))?.status?.state === 'Active', {
    limitMs: 120_000,
  });
});

test('a site that is named no more hears nothing more; its owner cuts the organization by his own word', async () => {
  await rennes.client.json('PATCH', `${api}/virtualorganizations/physics`, {
    body: { spec: { sites: [] } },
    contentType: merge,
  });
  await rennes.client.json('PATCH', memberPath, { body: { spec: { state: 'Suspended' } }, contentType: merge });
  await lyon.client.json('PATCH', `${api}/sites/lyon`, {
    body: { spec: { local: { acceptedVirtualOrganizations: [] } } },
    contentType: merge,
  });
  await waitFor(
    'physics is cut at lyon',
    async () => (reasonOf(await physicsAt(lyon), 'Accepted') === 'Cut' ? true : undefined),
    { limitMs: 120_000 },
  );
  expect((await adaAt(lyon))?.spec.state).toBe('Active');
});

test('a peer under another bundle than its own is no peer (threat 30)', async () => {
  const own = await rennes.client.json('GET', '/api/v1/namespaces/kube-public/configmaps/xtreemos-gateway');
  const trustBundle = (own as { data?: Record<string, string> }).data?.caBundle;
  const body = { spec: { peer: { trustBundle } } };
  const contentType = 'application/merge-patch+json';
  await rennes.client.json('PATCH', '/apis/xtreemos.io/v1alpha1/sites/lyon', { body, contentType });
  await rennes.waitForReason('lyon', 'Unreachable');
  await lyon.waitForReason('rennes', 'Unreachable');
});

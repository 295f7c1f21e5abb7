/** Two sites become peers by their commands alone, each with its own API server, cert-manager and operator. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { PeerSite } from '#operator/testing/peer-site.ts';
import { waitFor } from '#sites/kube-client.ts';

jest.setTimeout(240_000);
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

test('a peer under another bundle than its own is no peer (threat 30)', async () => {
  const own = await rennes.client.json('GET', '/api/v1/namespaces/kube-public/configmaps/xtreemos-gateway');
  const trustBundle = (own as { data?: Record<string, string> }).data?.caBundle;
  const body = { spec: { peer: { trustBundle } } };
  const contentType = 'application/merge-patch+json';
  await rennes.client.json('PATCH', '/apis/xtreemos.io/v1alpha1/sites/lyon', { body, contentType });
  await rennes.waitForReason('lyon', 'Unreachable');
  await lyon.waitForReason('rennes', 'Unreachable');
});

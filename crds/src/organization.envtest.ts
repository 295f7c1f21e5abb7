/** The rules of virtual organizations, memberships and slices on a real API server. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, type KubeObject } from '#sites/kube-client.ts';
import { installCrds } from './testing/install.ts';
import { collectionOf, refusalOf, refusalOfChange } from './testing/refusals.ts';

jest.setTimeout(30_000);
let plane: AloneControlPlane;
let client: KubeClient;

beforeAll(async () => {
  plane = await startControlPlane({ dir: mkdtempSync(path.join(tmpdir(), 'xtreemos-vo-')), name: 'vo-crds' });
  client = new KubeClient(plane.credentials);
  await installCrds(client);
}, 60_000);

afterAll(async () => {
  client.close();
  await plane.stop();
});

const apiVersion = 'xtreemos.io/v1alpha1';
const alice = { issuer: 'https://login.example.org', subject: '248289761001' };
const bob = { issuer: 'kubernetes:rennes', subject: 'bob' };
const vo = (fields: object, name = 'test'): KubeObject => ({
  apiVersion,
  kind: 'VirtualOrganization',
  metadata: { name },
  spec: { administrators: [alice], ...fields },
});
const member = (fields: object, name = 'test'): KubeObject => ({
  apiVersion,
  kind: 'VOMembership',
  metadata: { name },
  spec: { principal: alice, ...fields },
});
const slice = (number: number, fields: object = {}, name = `slice-${String(number).padStart(4, '0')}`): KubeObject => ({
  apiVersion,
  kind: 'IdentitySlice',
  metadata: { name },
  spec: { number, virtualOrganization: { name: 'physics', uid: 'a-uid' }, ...fields },
});
const acceptedUse = `sha256:${'0'.repeat(64)}`;

/** Stores the object and tells what comes of a change of its spec. */
async function changeOf(object: KubeObject, spec: object): Promise<string> {
  await client.json('POST', collectionOf(object), { body: object });
  return refusalOfChange(client, object, { spec });
}

let count = 0;
const fresh = (): string => `fresh-${++count}`;

describe('a VirtualOrganization', () => {
  test('gets its defaults: Forming, closed, nothing open, global ids', async () => {
    const stored = await client.json('POST', collectionOf(vo({})), { body: vo({}, fresh()) });
    expect(stored.spec).toEqual({
      administrators: [alice],
      state: 'Forming',
      groups: [],
      sites: [],
      roles: [],
      enrolment: { mode: 'Closed' },
      identity: { uidMode: 'Global' },
      isolation: { minimum: 'Namespace' },
      quota: {},
      jobs: { priorityMax: 0 },
      network: { internal: false, egress: [] },
      governance: { secondAdministrator: false, delaySeconds: 0 },
    });
  });

  test('takes as many groups as it may have, each as deep as a path can be', async () => {
    const names = Array.from({ length: 256 }, (_, index) => (index === 0 ? 'g' : `g${'/g'.repeat(index % 50)}`));
    const groups = [...new Set(names)].map((name) => ({ name }));
    const flat = Array.from({ length: 256 - groups.length }, (_, index) => ({ name: `flat-${index}` }));
    expect(await refusalOf(client, vo({ groups: [...groups, ...flat] }))).toBe('');
  });

  test.each<[string, KubeObject, RegExp]>([
    [
      'without an administrator (threat 67)',
      vo({ administrators: [] }),
      /spec\.administrators: Invalid value.*at least 1/,
    ],
    [
      'with one administrator twice',
      vo({ administrators: [alice, alice] }),
      /spec\.administrators\[1\]: Duplicate value/,
    ],
    [
      'with an administrator of Kubernetes itself (threat 41)',
      vo({ administrators: [{ ...bob, subject: 'system:admin' }] }),
      /administrators\[0\]\.subject: .*start with system:/,
    ],
    [
      'with an issuer over plain http',
      vo({ administrators: [{ ...alice, issuer: 'http://login.example.org' }] }),
      /administrators\[0\]\.issuer: Invalid value/,
    ],
    [
      'with an issuer with a fragment',
      vo({ administrators: [{ ...alice, issuer: 'https://a/#b' }] }),
      /issuer: Invalid/,
    ],
    [
      'with a subject that reads from right to left (threat 15)',
      vo({ administrators: [{ ...alice, subject: 'a\u202eb' }] }),
      /subject: Invalid value/,
    ],
    ['with a group whose parent is missing', vo({ groups: [{ name: 'a/b' }] }), /spec\.groups: .*parent of each group/],
    ['with a grandparent but no parent', vo({ groups: [{ name: 'a' }, { name: 'a/b/c' }] }), /parent of each group/],
    ['with a group path that climbs (threat 34)', vo({ groups: [{ name: 'a' }, { name: 'a/../b' }] }), /name: Invalid/],
    ['with a group path with an empty level', vo({ groups: [{ name: 'a//b' }] }), /name: Invalid/],
    ['with 257 groups', vo({ groups: Array.from({ length: 257 }, (_, n) => ({ name: `g${n}` })) }), /Too many/],
    ['with a built-in role', vo({ roles: [{ name: 'administrator' }] }), /spec\.roles: .*always exist/],
    [
      'with a capability of one word',
      vo({ roles: [{ name: 'r', capabilities: ['all'] }] }),
      /capabilities\[0\]: Invalid/,
    ],
    [
      'with addresses that are none',
      vo({ network: { egress: [{ name: 'a', cidr: '300.1.1.1/8' }] } }),
      /cidr: .*address range/,
    ],
    ['with an unknown isolation', vo({ isolation: { minimum: 'None' } }), /isolation\.minimum: Unsupported value/],
    [
      'with user namespaces, which do not hold the ids that it wants to be seen',
      vo({ isolation: { minimum: 'UserNamespace' } }),
      /isolation\.minimum: .*set identity\.uidMode to Local/,
    ],
    ['with a name that makes no namespace', vo({}, 'a'.repeat(61)), /at most 60/],
    ['with a dot in its name', vo({}, 'a.b'), /lower-case letters, digits and hyphens/],
    [
      'when one person asks for and approves its end (threat 67)',
      vo({ dissolution: { data: 'Erase', requestedBy: 'a', approvedBy: 'a' } }),
      /spec\.dissolution\.approvedBy: .*another administrator/,
    ],
    [
      'when its end is approved before anyone asked',
      vo({ dissolution: { data: 'Erase', approvedBy: 'a' } }),
      /another administrator/,
    ],
  ])('is refused %s', async (_, object, message) => {
    expect(await refusalOf(client, object)).toMatch(message);
  });

  const states = ['Forming', 'Operational', 'Frozen', 'Dissolved'];
  const allowed = new Set(['Forming Operational', 'Operational Frozen', 'Frozen Operational']);
  for (const state of states.slice(0, 3)) allowed.add(`${state} Dissolved`);
  const pairs = states.flatMap((from) => states.filter((to) => to !== from).map((to) => [from, to] as const));
  test.each(pairs)('going from %s to %s is allowed only along its life', async (from, to) => {
    const refusal = await changeOf(vo({ state: from }, fresh()), { state: to });
    if (allowed.has(`${from} ${to}`)) expect(refusal).toBe('');
    else expect(refusal).toMatch(/spec\.state: .*Dissolved, which is final/);
  });

  test('does not go back to Forming when its state is taken away', async () => {
    expect(await changeOf(vo({ state: 'Operational' }, fresh()), { state: null })).toMatch(/spec\.state/);
  });

  test.each<[string, object, object, RegExp]>([
    ['its home site', { homeSite: 'rennes' }, { homeSite: 'sophia' }, /spec\.homeSite: .*can not change/],
    ['its home site, by taking it away', { homeSite: 'rennes' }, { homeSite: null }, /spec\.homeSite/],
    [
      'how its ids appear (threat 59)',
      {},
      { identity: { uidMode: 'Local' } },
      /spec\.identity\.uidMode: .*can not change/,
    ],
    ['how its ids appear, by taking it away', { identity: { uidMode: 'Local' } }, { identity: null }, /uidMode/],
    ['its last administrator', {}, { administrators: [] }, /administrators/],
    [
      'the need for a second administrator (threat 67)',
      { governance: { secondAdministrator: true } },
      { governance: null },
      /spec\.governance\.secondAdministrator: .*taken back/,
    ],
    [
      'the delay (threat 67)',
      { governance: { delaySeconds: 60 } },
      { governance: { delaySeconds: 59 } },
      /spec\.governance\.delaySeconds: .*only become longer/,
    ],
    [
      'its state to Dissolved without the second administrator that it wants (threat 67)',
      { governance: { secondAdministrator: true }, dissolution: { data: 'Erase', requestedBy: 'a' } },
      { state: 'Dissolved' },
      /spec\.dissolution: .*second administrator must approve/,
    ],
    [
      'what becomes of its data once it is Dissolved',
      { state: 'Dissolved', dissolution: { data: 'Export' } },
      { dissolution: { data: 'Erase' } },
      /spec\.dissolution: .*carried out/,
    ],
    [
      'its mind once it is Dissolved',
      { state: 'Dissolved', dissolution: { data: 'Export' } },
      { dissolution: null },
      /spec\.dissolution: .*carried out/,
    ],
  ])('can not change %s', async (_, before, change, message) => {
    expect(await changeOf(vo(before, fresh()), change)).toMatch(message);
  });

  test('may change its administrators, and withdraw a dissolution', async () => {
    const object = vo({ dissolution: { data: 'Erase', requestedBy: 'a' } }, fresh());
    expect(await changeOf(object, { administrators: [bob], dissolution: null })).toBe('');
  });

  test('that is approved by a second administrator may be dissolved', async () => {
    const dissolution = { data: 'Erase', requestedBy: 'a', approvedBy: 'b' };
    const object = vo({ governance: { secondAdministrator: true }, dissolution }, fresh());
    expect(await changeOf(object, { state: 'Dissolved' })).toBe('');
  });
});

describe('a VOMembership', () => {
  test('gets its defaults: Requested, the role member, no groups', async () => {
    const stored = await client.json('POST', collectionOf(member({})), { body: member({}, fresh()) });
    expect(stored.spec).toEqual({
      principal: alice,
      state: 'Requested',
      roles: ['member'],
      groups: [],
      capabilities: [],
    });
  });

  test.each<[string, KubeObject, RegExp]>([
    ['without a principal', member({ principal: undefined }), /spec\.principal: Required value/],
    [
      'of a user of Kubernetes itself (threat 41)',
      member({ principal: { ...bob, subject: 'system:serviceaccount:vo-a:u-b-1' } }),
      /principal\.subject: .*start with system:/,
    ],
    ['of an unknown kind of issuer', member({ principal: { ...bob, issuer: 'ldap:a' } }), /issuer: Invalid value/],
    ['with a handle in capitals', member({ handle: 'Alice' }), /spec\.handle: Invalid value/],
    ['with a handle with a hyphen, which would hide the uid', member({ handle: 'a-1' }), /spec\.handle: Invalid value/],
    ['in 65 groups', member({ groups: Array.from({ length: 65 }, (_, n) => ({ name: `g${n}` })) }), /Too many/],
    ['with an id of a group', member({ identity: { slice: 1, localId: 1023 } }), /identity\.localId: Invalid value/],
    ['with an id beyond the users', member({ identity: { slice: 1, localId: 60_001 } }), /identity\.localId: Invalid/],
    [
      'with a slice that does not exist',
      member({ identity: { slice: 2048, localId: 1024 } }),
      /identity\.slice: Invalid/,
    ],
    ['with an acceptance that is no digest', member({ acceptedUse: 'yes' }), /spec\.acceptedUse/],
    ['with a moment that is none', member({ expirationTime: 'tomorrow' }), /spec\.expirationTime: Invalid value/],
  ])('is refused %s', async (_, object, message) => {
    expect(await refusalOf(client, object)).toMatch(message);
  });

  const states = ['Requested', 'Active', 'Suspended', 'Banned'];
  const pairs = states.flatMap((from) => states.filter((to) => to !== from).map((to) => [from, to] as const));
  test.each(pairs)('going from %s to %s follows what administrators may decide', async (from, to) => {
    const refusal = await changeOf(member({ state: from }, fresh()), { state: to });
    const isRefused = to === 'Requested' || (from === 'Banned' && to !== 'Suspended');
    if (isRefused) expect(refusal).toMatch(/spec\.state: .*only to Suspended/);
    else expect(refusal).toBe('');
  });

  const identity = { slice: 7, localId: 2000 };
  test.each<[string, object, object, RegExp]>([
    ['its principal (threat 40)', {}, { principal: bob }, /spec\.principal: .*can not change/],
    ['the subject alone (threat 40)', {}, { principal: { subject: 'other' } }, /spec\.principal: .*can not change/],
    ['its id (threat 59)', { identity }, { identity: { localId: 2001 } }, /spec\.identity: .*can not change/],
    ['its id, by taking it away (threat 59)', { identity }, { identity: null }, /spec\.identity: .*can not change/],
    [
      'its handle once it has an id',
      { identity, handle: 'alice' },
      { handle: 'bob' },
      /spec\.handle: .*can not change/,
    ],
    ['that it has no handle once it has an id', { identity }, { handle: 'bob' }, /spec\.handle: .*can not change/],
  ])('can not change %s', async (_, before, change, message) => {
    expect(await changeOf(member(before, fresh()), change)).toMatch(message);
  });

  test('may get its id and a handle as long as it has none', async () => {
    expect(await changeOf(member({}, fresh()), { handle: 'alice', identity })).toBe('');
  });

  test('is not written with its status by who makes it (threat 59)', async () => {
    const object = { ...member({ acceptedUse }, fresh()), status: { state: 'Active', uid: 2_013_265_921 } };
    const stored = await client.json('POST', collectionOf(object), { body: object });
    expect(stored.status).toBeUndefined();
    await refusalOfChange(client, object, { status: { state: 'Active' } });
    const again = await client.json('GET', `${collectionOf(object)}/${object.metadata?.name ?? ''}`);
    expect(again.status).toBeUndefined();
  });
});

describe('an IdentitySlice', () => {
  test.each<[string, KubeObject, RegExp]>([
    ['whose name is not its number', slice(7, {}, 'slice-0008'), /name must be slice- and the number/],
    ['whose name lacks digits', slice(7, {}, 'slice-7'), /name must be slice- and the number/],
    ['beyond the range', slice(2048), /spec\.number: Invalid value/],
    ['with a group that has the id of a user', slice(7, { groups: { a: 1024 } }), /spec\.groups\.a: Invalid value/],
    ['with ids that are no base64', slice(7, { issued: '%%' }), /spec\.issued: Invalid value/],
  ])('is refused %s', async (_, object, message) => {
    expect(await refusalOf(client, object)).toMatch(message);
  });

  test('takes all that can be issued', async () => {
    const groups = Object.fromEntries(Array.from({ length: 1023 }, (_, n) => [`g${n}`.padEnd(100, 'x'), n + 1]));
    const issued = Buffer.alloc(8192, 0xff).toString('base64');
    expect(await refusalOf(client, slice(9, { groups, issued, users: 58_977 }))).toBe('');
  });

  test.each<[string, number, object, object, RegExp]>([
    ['its owner', 11, {}, { virtualOrganization: { uid: 'b' } }, /never gets another owner/],
    ['its number', 12, {}, { number: 13 }, /name must be slice- and the number/],
    ['back once it is retired (threat 68)', 14, { state: 'Retired' }, { state: 'InUse' }, /never used again/],
    ['the id of a group', 15, { groups: { a: 1 } }, { groups: { a: 2 } }, /id of a group never changes/],
    [
      'the id of a group that is gone',
      16,
      { groups: { a: 1 } },
      { groups: { a: null } },
      /id of a group never changes/,
    ],
  ])('can not change %s', async (_, number, before, change, message) => {
    expect(await changeOf(slice(number, before), change)).toMatch(message);
  });

  test('exists once: who comes second is refused (threat 42)', async () => {
    expect(await changeOf(slice(20), { groups: { a: 1 } })).toBe('');
    const again = slice(20, { virtualOrganization: { name: 'biology', uid: 'b-uid' } });
    await expect(client.json('POST', collectionOf(again), { body: again })).rejects.toThrow(/already exists/);
  });
});

/** Ids, states and accounts of members against a real API server, with the controllers in this process. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { AuditLog } from '#common/audit.ts';
import { systemClock } from '#common/clock.ts';
import { parseUserName } from '#common/identity/ids.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { identitySlices } from '#crds/identity-slice.ts';
import { sites } from '#crds/site.ts';
import { installCrds } from '#crds/testing/install.ts';
import { virtualOrganizations } from '#crds/virtual-organization.ts';
import { type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import { addIdentityController } from '#operator/controllers/identity/setup.ts';
import { requestAccount, untilAnnotation } from '#operator/identity/accounts.ts';
import { createIdentities } from '#operator/identity/setup.ts';
import { useDigest } from '#operator/identity/standing.ts';
import {
  type Client,
  configMaps,
  createManager,
  findCondition,
  formatTime,
  HttpTransport,
  ignoreNotFound,
  kubeConfigCredentials,
  namespaces,
  pods,
  roleBindings,
  serviceAccounts,
  type Stored,
} from '#runtime/index.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import { Decisions } from '../decisions.ts';
import { addMembershipControllers } from './setup.ts';

jest.setTimeout(60_000);
const stop = new AbortController();
const running: Promise<void>[] = [];
let plane: AloneControlPlane;
let admin: KubeClient;
let transport: HttpTransport;
let client: Client;
const audited: string[] = [];

/** Starts the controllers as a leader of their own; two of them are a split brain. */
function startLeader(): Client {
  const manager = createManager({ name: 'xtreemos-operator', transport });
  const identities = createIdentities(manager, 'home', systemClock);
  const parts = { clock: systemClock, log: silentLogger, registry: createRegistry(), identities };
  addIdentityController(manager, parts);
  const audit: AuditLog = { record: (record) => void audited.push(`${record.what} ${record.why}`) };
  addMembershipControllers(manager, { ...parts, audit, decisions: new Decisions(audit, 'xtreemos-system') });
  running.push(manager.run(stop.signal));
  return manager.client;
}

beforeAll(async () => {
  plane = await startControlPlane({ dir: mkdtempSync(path.join(tmpdir(), 'xtreemos-members-')), name: 'members' });
  admin = new KubeClient(plane.credentials);
  await installCrds(admin);
  transport = new HttpTransport({
    credentials: kubeConfigCredentials({ file: plane.kubeconfigPath }),
    throttle: { qps: Infinity },
  });
  client = startLeader();
  await client.of(sites).create({
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'Site',
    metadata: { name: 'home' },
    spec: { type: 'Local', local: {} },
  } as never);
}, 60_000);

afterAll(async () => {
  stop.abort();
  await Promise.all(running);
  await transport.close();
  admin.close();
  await plane.stop();
});

/** Forms a virtual organization with its namespace, accepted by the site. */
async function formOrganization(name: string, spec: object = {}): Promise<void> {
  await client.of(virtualOrganizations).create({
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'VirtualOrganization',
    metadata: { name },
    spec: { state: 'Operational', administrators: [{ issuer: 'kubernetes:home', subject: 'root' }], ...spec },
  } as never);
  const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: `vo-${name}` } };
  await client.of(namespaces).create(namespace);
  await accept(name, true);
}

async function accept(name: string, isAccepted: boolean): Promise<void> {
  const site = await client.of(sites).get({ name: 'home' });
  if (site.spec.type !== 'Local') throw new Error('not local');
  const others = site.spec.local.acceptedVirtualOrganizations.filter((each) => each.name !== name);
  const acceptedVirtualOrganizations = isAccepted ? [...others, { name }] : others;
  await client
    .of(sites)
    .patch({ name: 'home' }, { type: 'merge', body: { spec: { local: { acceptedVirtualOrganizations } } } });
}

async function join(vo: string, name: string, spec: object = {}): Promise<void> {
  await client.of(voMemberships).create({
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'VOMembership',
    metadata: { name, namespace: `vo-${vo}` },
    spec: { principal: { issuer: 'https://login.example.org', subject: name }, state: 'Active', ...spec },
  } as never);
}

const member = async (vo: string, name: string): Promise<Stored<VOMembership>> =>
  client.of(voMemberships).get({ namespace: `vo-${vo}`, name });

const change = async (vo: string, name: string, spec: object): Promise<unknown> =>
  client.of(voMemberships).patch({ namespace: `vo-${vo}`, name }, { type: 'merge', body: { spec } });

const reasonOf = (membership: VOMembership): string | undefined =>
  findCondition(membership.status?.conditions, 'Ready')?.reason;

/** Waits until the condition Ready has the reason. */
async function until(vo: string, name: string, reason: string): Promise<Stored<VOMembership>> {
  return waitFor(`${name} is ${reason}`, async () => {
    const found = await member(vo, name);
    return reasonOf(found) === reason ? found : undefined;
  });
}

const accountOf = async (membership: Stored<VOMembership>): Promise<unknown> =>
  client
    .of(serviceAccounts)
    .find({ namespace: membership.metadata.namespace, name: membership.status?.userName ?? '' });

async function need(membership: Stored<VOMembership>, forMs = 60_000): Promise<void> {
  await requestAccount(client, systemClock, membership, Date.now() + forMs);
}

async function startPod(membership: Stored<VOMembership>, name: string): Promise<void> {
  const { namespace } = membership.metadata;
  await client.of(pods).create({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace },
    spec: {
      serviceAccountName: membership.status?.userName,
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 3600,
      containers: [{ name: 'a', image: 'a' }],
    },
  } as never);
}

const podsIn = async (vo: string): Promise<string[]> =>
  (await client.of(pods).list({ namespace: `vo-${vo}` })).items.map(({ metadata }) => metadata.name);

test('a virtual organization gets a slice, and its groups ids in it', async () => {
  await formOrganization('physics', { groups: [{ name: 'analysis' }, { name: 'analysis/higgs' }] });
  const vo = await waitFor('it has its ids', async () => {
    const found = await client.of(virtualOrganizations).get({ name: 'physics' });
    return found.status?.groups?.length === 2 ? found : undefined;
  });
  const [number] = vo.status?.slices ?? [];
  expect(findCondition(vo.status?.conditions, 'IdentityAllocated')).toMatchObject({
    status: 'True',
    reason: 'Allocated',
  });
  const slice = await client.of(identitySlices).get({ name: `slice-${String(number).padStart(4, '0')}` });
  expect(slice.spec).toMatchObject({
    number,
    ordinal: 0,
    state: 'InUse',
    virtualOrganization: { name: 'physics', uid: vo.metadata.uid },
  });
});

test('an approved member gets an id that stays, and the groups that are in force', async () => {
  await join('physics', 'alice', { state: 'Requested', groups: [{ name: 'analysis/higgs' }, { name: 'unknown' }] });
  expect((await until('physics', 'alice', 'Requested')).spec.identity).toBeUndefined();
  await change('physics', 'alice', { state: 'Active' });
  const alice = await until('physics', 'alice', 'Active');
  expect(parseUserName(alice.status?.userName ?? '')).toEqual({ handle: 'alice', uid: alice.status?.uid });
  expect(alice.status?.gids?.map(({ group }) => group)).toEqual(['analysis/higgs']);
  await change('physics', 'alice', { groups: [{ name: 'analysis', expirationTime: formatTime(Date.now() + 3000) }] });
  await waitFor(
    'the group is in force',
    async () => (await member('physics', 'alice')).status?.gids?.[0]?.group === 'analysis',
  );
  await waitFor('the group has ended', async () => (await member('physics', 'alice')).status?.gids?.length === 0);
  expect((await member('physics', 'alice')).spec.identity).toEqual(alice.spec.identity);
});

test('the counts of members follow, without a list of them', async () => {
  await waitFor('one is Active', async () => {
    const { status } = await client.of(virtualOrganizations).get({ name: 'physics' });
    return status?.members?.active === 1 && status.members.requested === 0;
  });
});

test('a membership ends at its moment', async () => {
  await join('physics', 'eve', { expirationTime: formatTime(Date.now() + 3000) });
  await until('physics', 'eve', 'Active');
  expect((await until('physics', 'eve', 'Expired')).status?.state).toBe('Expired');
  await change('physics', 'eve', { expirationTime: null });
  await until('physics', 'eve', 'Active');
});

test('where enrolment is Open, who asks is in once the acceptable use in force is accepted', async () => {
  await formOrganization('open', { enrolment: { mode: 'Open', acceptableUse: { text: 'Be kind.' } } });
  await join('open', 'carol', { state: 'Requested' });
  expect((await until('open', 'carol', 'AcceptanceMissing')).spec.identity).toBeUndefined();
  await change('open', 'carol', { acceptedUse: useDigest('Be kind.') });
  await until('open', 'carol', 'Active');
  const enrolment = { acceptableUse: { text: 'Be kinder.' } };
  await client.of(virtualOrganizations).patch({ name: 'open' }, { type: 'merge', body: { spec: { enrolment } } });
  expect((await until('open', 'carol', 'AcceptanceMissing')).status?.state).toBe('Requested');
});

test('a principal is a member once; the next one gets in when the first is gone, under another id', async () => {
  await join('physics', 'first', { principal: { issuer: 'https://login.example.org', subject: 'twice' } });
  const first = await until('physics', 'first', 'Active');
  await join('physics', 'second', { principal: { issuer: 'https://login.example.org', subject: 'twice' } });
  expect((await until('physics', 'second', 'DuplicatePrincipal')).spec.identity).toBeUndefined();
  await client.of(voMemberships).delete({ namespace: 'vo-physics', name: 'first' });
  const second = await until('physics', 'second', 'Active');
  expect(second.status?.uid).not.toBe(first.status?.uid);
});

test('who comes again under an old name gets another id and no old account (threat 40)', async () => {
  await join('physics', 'dave');
  const old = await until('physics', 'dave', 'Active');
  await need(old);
  await client.of(voMemberships).delete({ namespace: 'vo-physics', name: 'dave' });
  await waitFor('it is gone', async () => (await ignoreNotFound(member('physics', 'dave'))) === undefined);
  expect(await accountOf(old)).toBeUndefined();
  await join('physics', 'dave', { principal: { issuer: 'https://evil.example.org', subject: 'dave' } });
  const again = await until('physics', 'dave', 'Active');
  expect(again.status?.uid).not.toBe(old.status?.uid);
  expect(await accountOf(old)).toBeUndefined();
});

test('an account comes when it is asked for, with names and rights, and changes with the roles', async () => {
  const alice = await member('physics', 'alice');
  expect(await accountOf(alice)).toBeUndefined();
  await need(alice);
  const userName = alice.status?.userName ?? '';
  const at = { namespace: 'vo-physics', name: userName };
  expect(await client.of(serviceAccounts).get(at)).toMatchObject({
    automountServiceAccountToken: false,
    metadata: {
      labels: { 'xtreemos.io/member': 'true' },
      annotations: {
        'xtreemos.io/uid': String(alice.status?.uid),
        'xtreemos.io/gid': String(alice.status?.gid),
        'xtreemos.io/gids': '',
      },
    },
  });
  const { data } = await client.of(configMaps).get({ namespace: 'vo-physics', name: `${userName}-account` });
  expect(data?.passwd).toContain(`${userName}:x:${alice.status?.uid ?? 0}:${alice.status?.gid ?? 0}:`);
  expect(data?.group).toContain(`vo-physics:x:${alice.status?.gid ?? 0}:`);
  const binding = async (role: string): Promise<unknown> =>
    client.of(roleBindings).find({ namespace: 'vo-physics', name: `${userName}-${role}` });
  expect(await binding('member')).toMatchObject({ roleRef: { name: 'xtreemos-vo-member' } });
  await change('physics', 'alice', { roles: ['observer', 'operator'] });
  await waitFor(
    'the roles changed',
    async () => (await binding('observer')) !== undefined && (await binding('member')) === undefined,
  );
  expect(await binding('operator')).toBeUndefined();
});

test('a suspended member loses account and pods, can start nothing, and gets both back (threat 39)', async () => {
  await change('physics', 'alice', { roles: ['member'] });
  const alice = await member('physics', 'alice');
  await need(alice);
  for (const name of ['one', 'two', 'three']) await startPod(alice, name);
  await join('physics', 'bystander');
  const bystander = await until('physics', 'bystander', 'Active');
  await need(bystander);
  await startPod(bystander, 'other');
  const startedAt = Date.now();
  await change('physics', 'alice', { state: 'Suspended' });
  await waitFor('the account is gone', async () => (await accountOf(alice)) === undefined);
  await waitFor('a new pod is refused', async () =>
    startPod(alice, `late-${Date.now()}`).then(
      () => false,
      (error: unknown) => /serviceaccount.*not found/i.test(String(error)),
    ),
  );
  expect(Date.now() - startedAt).toBeLessThan(5000);
  await waitFor('only the pod of somebody else is left', async () => (await podsIn('physics')).join() === 'other');
  expect((await member('physics', 'alice')).status?.state).toBe('Suspended');
  await waitFor(
    'nothing more to look after',
    async () => (await member('physics', 'alice')).metadata.finalizers === undefined,
  );
  expect(audited).toContain('account.withdraw Suspended');
  await change('physics', 'alice', { state: 'Active' });
  const back = await until('physics', 'alice', 'Active');
  expect(back.status?.uid).toBe(alice.status?.uid);
  await need(back);
  await startPod(back, 'again');
});

test('an account that nobody needs goes once no pod bears it', async () => {
  await join('physics', 'short');
  const short = await until('physics', 'short', 'Active');
  const soon = formatTime(Date.now() + 3000);
  const body = { metadata: { annotations: { [untilAnnotation]: soon } } };
  await client.of(voMemberships).patch({ namespace: 'vo-physics', name: 'short' }, { type: 'merge', body });
  await waitFor('it comes', async () => (await accountOf(short)) !== undefined);
  await waitFor('it goes', async () => (await accountOf(short)) === undefined);
  expect((await until('physics', 'short', 'Active')).metadata.finalizers).toBeUndefined();
  await need(await member('physics', 'short'));
});

test('a virtual organization that the site cuts has no accounts and no pods any more, and gets them back', async () => {
  await accept('physics', false);
  await until('physics', 'alice', 'OrganizationNotAccepted');
  await waitFor('no account', async () => (await accountOf(await member('physics', 'alice'))) === undefined);
  await waitFor('no pods', async () => (await podsIn('physics')).length === 0);
  await accept('physics', true);
  await until('physics', 'alice', 'Active');
});

test('an id that somebody wrote by hand gives nothing: neither one of another member nor one of another slice (threat 59)', async () => {
  const alice = await member('physics', 'alice');
  await join('physics', 'thief', { identity: alice.spec.identity, handle: 'alice' });
  expect((await until('physics', 'thief', 'IdentityConflict')).status?.uid).toBeUndefined();
  await until('physics', 'alice', 'Active');
  await need(await member('physics', 'alice'));
  await startPod(alice, 'unharmed');
  await join('open', 'guest', { identity: alice.spec.identity, acceptedUse: useDigest('Be kinder.') });
  await until('open', 'guest', 'IdentityConflict');
  await change('physics', 'thief', { state: 'Suspended' });
  await until('physics', 'thief', 'Suspended');
  expect(await accountOf(alice)).toBeDefined();
  expect(await podsIn('physics')).toContain('unharmed');
});

test('another virtual organization under an old name gets another slice, and ids of the old one are not its own (threat 68)', async () => {
  const before = await client.of(virtualOrganizations).get({ name: 'open' });
  const carol = await member('open', 'carol');
  await client.of(virtualOrganizations).delete({ name: 'open' });
  const [old] = before.status?.slices ?? [];
  const oldName = `slice-${String(old).padStart(4, '0')}`;
  await waitFor(
    'the slice is retired',
    async () => (await client.of(identitySlices).get({ name: oldName })).spec.state === 'Retired',
  );
  await until('open', 'carol', 'OrganizationMissing');
  await client.of(virtualOrganizations).create({
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'VirtualOrganization',
    metadata: { name: 'open' },
    spec: { state: 'Operational', administrators: [{ issuer: 'kubernetes:home', subject: 'evil' }] },
  } as never);
  await until('open', 'carol', 'IdentityConflict');
  expect((await member('open', 'carol')).spec.identity).toEqual(carol.spec.identity);
  const after = await waitFor('it has a slice', async () => {
    const found = await client.of(virtualOrganizations).get({ name: 'open' });
    return found.status?.slices === undefined ? undefined : found;
  });
  expect(after.status?.slices).not.toContain(old);
});

test('two leaders at once give two hundred members as many ids (threat 63)', async () => {
  startLeader();
  await formOrganization('crowd');
  await Promise.all(Array.from({ length: 200 }, async (_, n) => join('crowd', `m-${n}`)));
  const members = await waitFor('all are Active', async () => {
    const { items } = await client.of(voMemberships).list({ namespace: 'vo-crowd' });
    return items.every((each) => reasonOf(each) === 'Active') ? items : undefined;
  });
  expect(new Set(members.map(({ status }) => status?.uid)).size).toBe(200);
  expect(new Set(members.map(({ status }) => status?.gid)).size).toBe(1);
});

test('a slice restored from an old backup gets back the ids that memberships carry', async () => {
  const vo = await client.of(virtualOrganizations).get({ name: 'crowd' });
  const name = `slice-${String(vo.status?.slices?.[0]).padStart(4, '0')}`;
  const slice = await client.of(identitySlices).get({ name });
  await client.of(identitySlices).patch({ name }, { type: 'merge', body: { spec: { issued: '', users: 0 } } });
  await join('crowd', 'late');
  await until('crowd', 'late', 'Active');
  await waitFor('the record has them', async () => {
    const { spec } = await client.of(identitySlices).get({ name });
    return spec.users >= slice.spec.users + 1;
  });
});

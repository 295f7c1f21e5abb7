/** Who decided what, as the audit log of a real operator tells it, with the chart's policies and real users; also when the operator dies. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { AuditRecord } from '#common/audit.ts';
import { changedByAnnotation } from '#crds/policies/changes.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, type KubeObject, waitFor } from '#sites/kube-client.ts';
import { installChart } from './testing/installed.ts';
import { OperatorProcess } from './testing/process.ts';

jest.setTimeout(90_000);

const root = '/apis/xtreemos.io/v1alpha1';
const organization = `${root}/virtualorganizations/physics`;
const members = `${root}/namespaces/vo-physics/vomemberships`;
const flags = ['--lease-name', 'xtreemos', '--lease-duration-ms', '3000', '--site-name', 'home'];
/** Texts that must not be in any record; the first would be caught by no pattern. */
const canaries = ['canary-in-plain-words', 'eyJhbGciOiJub25lIn0.eyJjYW5hcnkiOjF9.', 'xosr_canary.secret'];

let scratch: string;
let plane: AloneControlPlane;
let admin: KubeClient;
let kubeconfig: string;
const clients: KubeClient[] = [];
const operators: OperatorProcess[] = [];

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-records-'));
  plane = await startControlPlane({
    dir: path.join(scratch, 'plane'),
    name: 'records',
    withControllers: true,
    users: [{ name: 'alice' }, { name: 'bob' }],
  });
  admin = new KubeClient(plane.credentials);
  kubeconfig = await installChart(plane, admin, scratch, 'site.name=home');
  await start();
  await waitFor('the Site is there', async () => admin.find(`${root}/sites/home`), { limitMs: 30_000 });
}, 600_000);

afterAll(async () => {
  for (const operator of operators) await operator.end('SIGKILL');
  for (const client of [admin, ...clients]) client.close();
  await plane.stop();
  rmSync(scratch, { recursive: true, force: true });
});

async function start(): Promise<void> {
  operators.push(await OperatorProcess.start(kubeconfig, ...flags));
}

function as(user: string): KubeClient {
  const client = new KubeClient(plane.credentialsOf(user));
  clients.push(client);
  return client;
}

const patch = async (client: KubeClient, at: string, body: object): Promise<KubeObject> =>
  client.json('PATCH', at, { body, contentType: 'application/merge-patch+json' });

/** The records on an object, of every operator that ran. */
function recordsOn(name: string): AuditRecord[] {
  const lines = operators.flatMap(({ log }) => log.split('\n').filter((line) => line.includes('"audit":true')));
  const records = lines.map((line) => JSON.parse(line) as AuditRecord);
  return records.filter(({ on }) => Object.values(on ?? {}).includes(name));
}

const inShort = ({ what, who, outcome, why }: AuditRecord): unknown[] => [what, who, outcome, why];

/** Waits for a record, and for nothing else of its kind. */
async function recorded(name: string, ...wanted: readonly string[]): Promise<AuditRecord> {
  const isWanted = (record: AuditRecord): boolean => JSON.stringify(inShort(record)) === JSON.stringify(wanted);
  return waitFor(`${wanted.join(' ')} is recorded`, () => recordsOn(name).find(isWanted), { limitMs: 30_000 });
}

async function observed(at: string): Promise<KubeObject> {
  return waitFor(
    `${at} is looked at`,
    async () => {
      const object = await admin.json('GET', at);
      const { generation } = object.metadata as { generation?: number };
      return object.status?.observedGeneration === generation ? object : undefined;
    },
    { limitMs: 30_000 },
  );
}

async function accept(...names: readonly string[]): Promise<void> {
  const acceptedVirtualOrganizations = names.map((name) => ({ name }));
  await patch(admin, `${root}/sites/home`, { spec: { local: { acceptedVirtualOrganizations } } });
}

test('who formed it, and that the site does not accept it yet', async () => {
  const administrators = ['alice', 'bob'].map((subject) => ({ issuer: 'kubernetes:home', subject }));
  await admin.json('POST', `${root}/virtualorganizations`, {
    body: {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VirtualOrganization',
      metadata: { name: 'physics', annotations: { note: canaries[0] } },
      spec: {
        state: 'Operational',
        description: canaries.join(' '),
        administrators,
        governance: { secondAdministrator: true },
        enrolment: { mode: 'Closed' },
        groups: [{ name: 'analysis', description: canaries[0] }],
      },
    },
  });
  await recorded('physics', 'organization.form', 'admin', 'Allowed', 'Operational');
  const { policy } = await recorded('physics', 'organization.accept', 'admin', 'Refused', 'NotAccepted');
  expect(policy).toBe('site/acceptedVirtualOrganizations');
  await accept('physics');
  await recorded('physics', 'organization.accept', 'admin', 'Allowed', 'AcceptedBySite');
  await waitFor(
    'alice has rights',
    async () =>
      as('alice')
        .find(organization)
        .catch(() => undefined),
    {
      limitMs: 30_000,
    },
  );
});

test('every decision on a member is told once, with who took it', async () => {
  const alice = as('alice');
  const carol = 'vo-physics/carol';
  const at = `${members}/carol`;
  await waitFor('alice may', async () =>
    alice
      .json('POST', members, {
        body: {
          apiVersion: 'xtreemos.io/v1alpha1',
          kind: 'VOMembership',
          metadata: { name: 'carol', namespace: 'vo-physics', annotations: { [changedByAnnotation]: 'bob' } },
          spec: { principal: { issuer: 'https://id.example.org', subject: '42' }, state: 'Requested' },
        },
      })
      .catch(() => undefined),
  );
  const steps: readonly (readonly [KubeClient, object, string, string, string])[] = [
    [alice, { state: 'Active' }, 'membership.approve', 'alice', 'Active'],
    [as('bob'), { roles: ['member', 'observer'] }, 'membership.change', 'bob', 'Active'],
    [alice, { state: 'Suspended' }, 'membership.suspend', 'alice', 'Suspended'],
    [as('bob'), { state: 'Active' }, 'membership.resume', 'bob', 'Active'],
    [alice, { state: 'Banned' }, 'membership.ban', 'alice', 'Banned'],
  ];
  await observed(at);
  for (const [client, spec, what, who, why] of steps) {
    await patch(client, at, { spec });
    await observed(at);
    await recorded(carol, what, who, 'Allowed', why);
  }
  const told = recordsOn(carol).filter(({ who }) => who !== 'operator');
  expect(told.map(inShort)).toEqual([
    ['membership.create', 'alice', 'Allowed', 'Requested'],
    ...steps.map(([, , what, who, why]) => [what, who, 'Allowed', why]),
  ]);
  expect(told[2]?.message).toContain('roles member, observer; groups none');
});

test('nobody names somebody else, and a change without one of the spec leaves the name', async () => {
  const at = `${members}/carol`;
  const nameIn = ({ metadata }: KubeObject): unknown =>
    (metadata as { annotations?: Record<string, string> }).annotations?.[changedByAnnotation];
  const annotated = async (by: string | null): Promise<KubeObject> =>
    patch(as('bob'), at, { metadata: { annotations: { [changedByAnnotation]: by } } });
  expect(nameIn(await annotated('bob'))).toBe('alice');
  expect(nameIn(await annotated(null))).toBe('alice');
});

test('what was decided while the operator was away is told once, and several changes are laid at nobody', async () => {
  await operators.at(-1)?.end('SIGKILL');
  await patch(as('bob'), organization, { spec: { state: 'Frozen' } });
  await patch(as('alice'), `${members}/carol`, { spec: { state: 'Suspended' } });
  await patch(as('bob'), `${members}/carol`, { spec: { groups: [{ name: 'analysis' }] } });
  await start();
  await recorded('physics', 'organization.freeze', 'bob', 'Allowed', 'Frozen');
  const lifted = await recorded('vo-physics/carol', 'membership.suspend', 'unknown', 'Allowed', 'Suspended');
  expect(lifted.message).toContain('changed 2 times');
  await Promise.all([observed(organization), observed(`${members}/carol`)]);
  // Another one finds nothing new.
  await operators.at(-1)?.end('SIGKILL');
  await start();
  await patch(as('alice'), organization, { spec: { state: 'Operational' } });
  await recorded('physics', 'organization.operate', 'alice', 'Allowed', 'Operational');
  const what = ['organization.freeze', 'organization.form', 'membership.suspend'];
  const told = [...recordsOn('physics'), ...recordsOn('vo-physics/carol')].filter((each) => what.includes(each.what));
  expect(told.map(({ what, who }) => `${what} ${JSON.stringify(who)}`).sort()).toEqual([
    'membership.suspend "alice"',
    'membership.suspend "unknown"',
    'organization.form "admin"',
    'organization.freeze "bob"',
  ]);
});

test('the word of the owner of the site, and the end, which two administrators want', async () => {
  await accept();
  const cut = await recorded('physics', 'organization.accept', 'admin', 'Refused', 'Cut');
  expect(cut.message).toContain('no longer accepts it');
  await accept('physics');
  await waitFor('it is accepted again', () => {
    const told = recordsOn('physics').filter(({ what }) => what === 'organization.accept');
    return told.at(-1)?.why === 'AcceptedBySite';
  });
  await patch(as('alice'), organization, { spec: { dissolution: { data: 'Erase' } } });
  await recorded('physics', 'organization.dissolve', 'alice', 'Refused', 'AwaitingApproval');
  await patch(as('bob'), organization, { spec: { dissolution: { approvedBy: 'bob' } } });
  const granted = await recorded('physics', 'organization.dissolve', 'alice', 'Allowed', 'Granted');
  expect(granted.message).toBe('Asked for by alice, approved by bob.');
  await recorded('physics', 'organization.dissolve', 'operator', 'Allowed', 'Complete');
  const told = recordsOn('physics').filter(({ what }) => what === 'organization.dissolve');
  expect(told.map(({ why }) => why)).toEqual(['AwaitingApproval', 'Granted', 'Complete']);
});

test('a delay, a withdrawal, and the removal of an administrator are told with who wanted them', async () => {
  const at = `${root}/virtualorganizations/chemistry`;
  const administrators = ['alice', 'bob', 'dave'].map((subject) => ({ issuer: 'kubernetes:home', subject }));
  const governance = { secondAdministrator: true, delaySeconds: 15 };
  await admin.json('POST', `${root}/virtualorganizations`, {
    body: {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VirtualOrganization',
      metadata: { name: 'chemistry' },
      spec: { state: 'Operational', administrators, governance },
    },
  });
  await accept('chemistry');
  const [alice, bob] = [as('alice'), as('bob')];
  await waitFor('alice asks', async () =>
    patch(alice, at, { spec: { dissolution: { data: 'Export' } } }).catch(() => undefined),
  );
  await recorded('chemistry', 'organization.dissolve', 'alice', 'Refused', 'AwaitingApproval');
  await waitFor('bob approves', async () =>
    patch(bob, at, { spec: { dissolution: { approvedBy: 'bob' } } }).catch(() => undefined),
  );
  const delayed = await recorded('chemistry', 'organization.dissolve', 'alice', 'Refused', 'Delayed');
  expect(delayed.message).toContain('Asked for by alice, approved by bob.');
  await patch(bob, at, { spec: { dissolution: null } });
  await recorded('chemistry', 'organization.dissolve', 'bob', 'Refused', 'Withdrawn');

  const removed = (removal: object): object => ({
    spec: { administrators: administrators.map((each) => (each.subject === 'dave' ? { ...each, removal } : each)) },
  });
  await patch(alice, at, removed({ requestedBy: 'alice' }));
  const asked = await recorded('chemistry', 'administrator.remove', 'alice', 'Refused', 'NotGranted');
  expect(asked).toMatchObject({ on: { Administrator: 'dave of kubernetes:home' }, policy: 'vo/governance' });
  await patch(bob, at, removed({ requestedBy: 'alice', approvedBy: 'bob' }));
  const granted = await recorded('chemistry', 'administrator.remove', 'alice', 'Allowed', 'Granted');
  expect(granted.message).toContain('approved by bob');
  const { spec } = await observed(at);
  expect((spec?.administrators as { subject: string }[]).map(({ subject }) => subject)).toEqual(['alice', 'bob']);
  const told = recordsOn('chemistry').filter(({ why }) => why !== 'NotGranted');
  expect(told.filter(({ what }) => /dissolve|remove/.test(what)).map(({ why }) => why)).toEqual([
    ...['AwaitingApproval', 'Delayed', 'Withdrawn'],
    'Granted',
  ]);
});

test('no record holds what was written into objects as text, or a token (threat 65)', () => {
  const lines = operators.flatMap(({ log }) => log.split('\n').filter((line) => line.includes('"audit":true')));
  expect(lines.length).toBeGreaterThan(15);
  for (const canary of canaries) expect(lines.filter((line) => line.includes(canary))).toEqual([]);
  for (const line of lines) expect(Object.keys(JSON.parse(line) as object)).toEqual(expect.arrayContaining(['policy']));
});

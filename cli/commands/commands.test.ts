import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import { exportable, importDocuments, organizationKinds, readDocuments, toYaml } from '../api/manifests.ts';
import { chooseOrganization } from '../api/organizations.ts';
import { aCluster, aContext, aMember, anOrganization } from '../testing/fakes.ts';
import { changeMembers } from './member/change.ts';
import { inviteMember } from './member/invite.ts';
import { removeMembers } from './member/remove.ts';
import { nextSteps as memberSteps } from './member/show.ts';
import { stateChange } from './member/state.ts';
import { approveAtSite } from './vo/approve.ts';
import { createOrganization, withParents } from './vo/create.ts';
import { dissolutionAfter, dissolveOrganization } from './vo/dissolve.ts';
import { administratorsAfter, changeOrganization } from './vo/edit.ts';
import { specOf } from './vo/fields.ts';
import { groupsWith, groupsWithout } from './vo/groups.ts';
import { moveOrganization } from './vo/lifecycle.ts';

const cluster = { context: undefined, kubeconfig: undefined };
const change = { ...cluster, output: 'table' as const, dryRun: false, wait: false, timeout: 1000 };
const fields = {
  description: undefined,
  enrolment: undefined,
  acceptableUse: undefined,
  isolation: undefined,
  cpu: undefined,
  memory: undefined,
  storage: undefined,
  secondAdministrator: false,
  delay: undefined,
};
const creating = {
  ...change,
  ...fields,
  name: 'physics',
  administrator: [],
  group: [],
  uidMode: 'Global' as const,
  activate: false,
};
const condition = (type: string, status: 'True' | 'False', reason: string) => ({
  type,
  status,
  reason,
  message: '',
  lastTransitionTime: '2026-11-25T12:00:00Z',
});

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'xos-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('vo create', () => {
  test('makes the caller the owner, as the site knows them, and says what comes next', async () => {
    const api = aCluster();
    const context = aContext({ isTerminal: true });
    await createOrganization(
      context,
      { ...creating, group: ['analysis/higgs'] },
      { enrolment: { mode: 'Closed' } },
      api,
    );
    expect(api.organizations.stored.get('/physics')?.spec).toMatchObject({
      administrators: [{ issuer: 'kubernetes:rennes', subject: 'alice' }],
      groups: [{ name: 'analysis' }, { name: 'analysis/higgs' }],
    });
    expect(context.stdout()).toBe('Virtual organization physics is formed\n');
    expect(context.stderr()).toContain('xos vo approve physics');
  });

  test('asks for an owner where the caller is no person', async () => {
    const api = aCluster({ me: 'system:serviceaccount:default:robot' });
    await expect(createOrganization(aContext(), creating, {}, api)).rejects.toThrow(/--administrator: is needed/);
  });

  test('changes nothing in a dry run, and says so', async () => {
    const api = aCluster();
    const context = aContext();
    await createOrganization(context, { ...creating, dryRun: true }, {}, api);
    expect(api.organizations.stored.size).toBe(0);
    expect(context.stdout()).toContain('dry run: nothing was changed');
  });

  test.each([
    ['alice', /no ISSUER#SUBJECT, for example/],
    ['https://login.example.org#', /no ISSUER#SUBJECT/],
  ])('refuses the administrator %j with an example', async (administrator, message) => {
    const input = { ...creating, administrator: [administrator] };
    await expect(createOrganization(aContext(), input, {}, aCluster())).rejects.toThrow(message);
  });

  test('turns options into fields of the spec, and leaves out what was not given', async () => {
    const file = path.join(folder, 'use.txt');
    writeFileSync(file, 'Be kind.\n');
    expect(await specOf(fields)).toEqual({});
    expect(await specOf({ ...fields, enrolment: 'Open', acceptableUse: file, cpu: '64', delay: 3600 })).toEqual({
      enrolment: { mode: 'Open', acceptableUse: { text: 'Be kind.' } },
      quota: { cpu: '64' },
      governance: { delaySeconds: 3600 },
    });
  });
});

describe('the life of a virtual organization', () => {
  const move = { to: 'Operational', from: ['Forming'], elsewhere: 'only one that is Forming begins' } as const;

  test('goes on from the right state', async () => {
    const api = aCluster({ organizations: [anOrganization()] });
    await moveOrganization(aContext(), { ...change, name: 'physics' }, move, api);
    expect(api.organizations.stored.get('/physics')?.spec.state).toBe('Operational');
  });

  test('refuses another one and says why', async () => {
    const api = aCluster({ organizations: [anOrganization({ state: 'Frozen' })] });
    const moved = moveOrganization(aContext(), { ...change, name: 'physics' }, move, api);
    await expect(moved).rejects.toThrow('physics is Frozen: only one that is Forming begins');
  });

  test('names those there are when the name is wrong', async () => {
    const api = aCluster({ organizations: [anOrganization()] });
    const moved = moveOrganization(aContext(), { ...change, name: 'phisics' }, move, api);
    await expect(moved).rejects.toThrow('No virtual organization is called phisics; there are: physics');
  });

  test('waits until the operator has done its part, and tells what is missing when it has not', async () => {
    const status = {
      state: 'Forming' as const,
      observedGeneration: 1,
      conditions: [condition('Ready', 'False', 'NotAccepted')],
    };
    const api = aCluster({ organizations: [anOrganization({}, status)] });
    const moved = moveOrganization(aContext(), { ...change, name: 'physics', wait: true }, move, api);
    await expect(moved).rejects.toMatchObject({ reason: 'timeout', message: expect.stringContaining('NotAccepted') });
  });

  test('makes the change again when someone else was faster, and gives up in the end', async () => {
    const api = aCluster({ organizations: [anOrganization()] });
    let others = 2;
    api.organizations.onWrite = () => {
      if (others-- > 0) api.organizations.put(anOrganization({ description: 'theirs' }));
    };
    await changeOrganization(aContext(), api, { ...change, name: 'physics' }, () => ({ quota: { cpu: '1' } }));
    expect(api.organizations.stored.get('/physics')?.spec).toMatchObject({
      description: 'theirs',
      quota: { cpu: '1' },
    });
    others = 1000;
    const changed = changeOrganization(aContext(), api, { ...change, name: 'physics' }, () => ({ quota: {} }));
    await expect(changed).rejects.toMatchObject({ name: 'ConflictError' });
  });

  test('is let in by the owner of the site, whose limits for it stay', async () => {
    const api = aCluster({ organizations: [anOrganization()] });
    const input = {
      ...change,
      name: 'physics',
      cpu: '64',
      memory: undefined,
      storage: undefined,
      home: undefined,
      withdraw: false,
    };
    await approveAtSite(aContext(), input, api);
    await approveAtSite(aContext(), { ...input, cpu: undefined, memory: '1Gi' }, api);
    const accepted = () => api.sites.stored.get('/rennes')?.spec;
    expect(accepted()).toMatchObject({
      local: { acceptedVirtualOrganizations: [{ name: 'physics', limits: { cpu: '64', memory: '1Gi' } }] },
    });
    await approveAtSite(aContext(), { ...input, withdraw: true }, api);
    expect(accepted()).toMatchObject({ local: { acceptedVirtualOrganizations: [] } });
  });
});

describe('groups', () => {
  const vo = anOrganization({ groups: [{ name: 'a' }, { name: 'a/b' }, { name: 'c' }] });

  test('bring their parents, first', () => {
    expect(withParents(['x/y/z', 'x'])).toEqual(['x', 'x/y', 'x/y/z']);
    expect(groupsWith(vo, ['a/b/d'], { description: 'new' })?.groups.at(-1)).toEqual({
      name: 'a/b/d',
      description: 'new',
    });
    expect(groupsWith(vo, ['a'], {})).toBeUndefined();
  });

  test('are removed with those below only when asked to', () => {
    expect(() => groupsWithout(vo, ['a'], false)).toThrow(/a\/b lies below: name it too, or use --recursive/);
    expect(groupsWithout(vo, ['a'], true)).toEqual({ groups: [{ name: 'c' }] });
    expect(() => groupsWithout(vo, ['x'], true)).toThrow(/x is no group; there are: a, a\/b, c/);
  });
});

describe('administrators', () => {
  const alice = { issuer: 'kubernetes:rennes', subject: 'alice' };
  const bob = { issuer: 'https://login.example.org', subject: 'bob' };

  test('can not all be removed (threat 67)', () => {
    expect(() => administratorsAfter(anOrganization(), [], [alice], 'alice')).toThrow(/nobody would be left/);
    expect(administratorsAfter(anOrganization(), [bob], [alice], 'alice')).toEqual([bob]);
  });

  test('are asked to be removed where governance protects them, and the second one approves', () => {
    const governance = { secondAdministrator: true, delaySeconds: 0 };
    const vo = anOrganization({ administrators: [alice, bob], governance });
    const asked = administratorsAfter(vo, [], [bob], 'alice');
    expect(asked[1]).toEqual({ ...bob, removal: { requestedBy: 'alice' } });
    const approved = administratorsAfter(anOrganization({ administrators: asked, governance }), [], [bob], 'carol');
    expect(approved[1]).toEqual({ ...bob, removal: { requestedBy: 'alice', approvedBy: 'carol' } });
  });
});

describe('dissolution', () => {
  const none = { approve: false, withdraw: false, data: 'Erase' as const };
  const asked = anOrganization({ dissolution: { data: 'Erase', requestedBy: 'alice' } });

  test('is asked for by name, approved by another one and withdrawn', () => {
    expect(dissolutionAfter(anOrganization(), none, 'alice')).toMatchObject({ dissolution: { requestedBy: 'alice' } });
    expect(dissolutionAfter(asked, { ...none, approve: true }, 'bob')).toEqual({ dissolution: { approvedBy: 'bob' } });
    expect(dissolutionAfter(asked, { ...none, withdraw: true }, 'bob')).toEqual({ dissolution: null });
    expect(() => dissolutionAfter(asked, { ...none, approve: true }, 'alice')).toThrow(/another administrator/);
    expect(() => dissolutionAfter(anOrganization(), { ...none, approve: true }, 'bob')).toThrow(/Nobody asked/);
  });

  test('is not begun without an answer where there is no terminal', async () => {
    const api = aCluster({ organizations: [anOrganization()] });
    const input = { ...change, ...none, name: 'physics', yes: false };
    await expect(dissolveOrganization(aContext(), input, api)).rejects.toMatchObject({
      reason: 'usage',
      remedy: 'Answer with --yes.',
    });
    expect(api.organizations.stored.get('/physics')?.spec.dissolution).toBeUndefined();
  });
});

describe('members', () => {
  const input = { ...change, vo: 'physics', namespace: undefined };

  test.each([
    [{ vo: 'a', namespace: 'vo-b' }, 'vo-c', 'a'],
    [{ vo: undefined, namespace: 'vo-b' }, 'vo-c', 'b'],
    [{ vo: undefined, namespace: undefined }, 'vo-c', 'c'],
  ])('belong to the organization that is named nearest', (given, context, expected) => {
    expect(chooseOrganization(given, context)).toBe(expected);
  });

  test('need an organization', () => {
    expect(() => chooseOrganization({ vo: undefined, namespace: undefined }, 'default')).toThrow(/--vo: is needed/);
  });

  test('are invited Active, with what was said', async () => {
    const api = aCluster({ organizations: [anOrganization()] });
    const more = { name: 'bob', principal: undefined, handle: 'bob', group: ['a', 'a'], role: [], expires: '90d' };
    await inviteMember(aContext(), { ...input, ...more }, { issuer: 'https://login.example.org', subject: 'bob' }, api);
    expect(api.memberships.stored.get('vo-physics/bob')?.spec).toEqual({
      principal: { issuer: 'https://login.example.org', subject: 'bob' },
      state: 'Active',
      handle: 'bob',
      groups: [{ name: 'a' }],
      expirationTime: '2027-02-23T12:00:00Z',
    });
  });

  test('change by name or user name, and only from states that lead there', async () => {
    const status = { userName: 'u-bob-2013266945', state: 'Active' as const };
    const api = aCluster({
      memberships: [aMember('alice'), aMember('bob', {}, status), aMember('eve', { state: 'Banned' })],
    });
    const suspend = stateChange('Suspended', ['Requested', 'Active', 'Banned'], '');
    const context = aContext();
    await changeMembers(context, input, ['alice', 'u-bob-2013266945', 'eve'], suspend, api);
    expect([...api.memberships.stored.values()].map(({ spec }) => spec.state)).toEqual([
      'Suspended',
      'Suspended',
      'Suspended',
    ]);
    expect(context.stdout()).toContain('Member bob of physics is to be Suspended\n');
    const approve = stateChange('Active', ['Requested'], 'only who asked can be approved');
    await expect(changeMembers(aContext(), input, ['bob'], approve, api)).rejects.toMatchObject({
      message: 'bob is Suspended: only who asked can be approved',
      remedy: 'Let them go on: xos member resume',
    });
  });

  test('are removed', async () => {
    const api = aCluster({ memberships: [aMember('alice'), aMember('bob')] });
    await removeMembers(aContext(), { ...input, members: ['bob'], dryRun: true }, api);
    expect(api.memberships.stored.size).toBe(2);
    await removeMembers(aContext(), { ...input, members: ['bob'], wait: true }, api);
    expect([...api.memberships.stored.keys()]).toEqual(['vo-physics/alice']);
    await expect(removeMembers(aContext(), { ...input, members: ['bob'] }, api)).rejects.toThrow(/there are: alice/);
  });

  test.each(['Requested', 'AcceptanceMissing', 'Suspended', 'Banned', 'Expired', 'DuplicatePrincipal'])(
    'that are not ready for %s get a line to type',
    (reason) => {
      const member = aMember('alice', {}, { conditions: [condition('Ready', 'False', reason)] });
      expect(memberSteps(member, 'physics', 'kubectl xos')).toEqual([
        expect.stringMatching(/: kubectl xos (member|vo) /),
      ]);
    },
  );
});

describe('export and import', () => {
  const identity = { slice: 3, localId: 1024 };
  const acceptedUse = `sha256:${createHash('sha256').update('x').digest('hex')}`;
  const member = aMember('alice', { identity, acceptedUse }, { uid: 2_013_462_528 });

  test('hold what people decided and nothing else', async () => {
    const api = aCluster({
      organizations: [anOrganization({ dissolution: { data: 'Erase' } })],
      memberships: [member],
    });
    const objects = [...api.organizations.stored.values(), ...api.memberships.stored.values()];
    const text = await toYaml(objects.map(exportable));
    const [vo, vom] = parseAllDocuments(text).map((document) => document.toJS() as Record<string, unknown>);
    expect(vo).toEqual({ apiVersion: 'xtreemos.io/v1alpha1', kind: 'VirtualOrganization', ...anOrganization() });
    expect(vom).toEqual({ apiVersion: 'xtreemos.io/v1alpha1', kind: 'VOMembership', ...aMember('alice') });
  });

  test('round trip: importing an export changes nothing, and makes anew what is gone', async () => {
    const api = aCluster({ organizations: [anOrganization()], memberships: [member] });
    const file = path.join(folder, 'all.yaml');
    const objects = [...api.memberships.stored.values(), ...api.organizations.stored.values()];
    writeFileSync(file, await toYaml(objects.map(exportable)));
    const again = aContext();
    await importDocuments(again, api, await readDocuments(file, 'FILE', organizationKinds), { dryRun: false });
    expect(again.stdout()).toBe('VirtualOrganization physics unchanged\nVOMembership alice unchanged\n');
    expect(api.memberships.stored.get('vo-physics/alice')?.spec.identity).toEqual(identity);
    const empty = aCluster();
    await importDocuments(aContext(), empty, await readDocuments(file, 'FILE', organizationKinds), { dryRun: false });
    expect(empty.memberships.stored.get('vo-physics/alice')?.spec).toEqual(aMember('alice').spec);
  });

  test.each([
    ['a: [', /document 1: is not YAML/],
    ['kind: Pod', /document 1, apiVersion: undefined is not xtreemos.io\/v1alpha1/],
    ['apiVersion: xtreemos.io/v1alpha1\nkind: Site', /kind: "Site" is not VirtualOrganization or VOMembership/],
    ['apiVersion: xtreemos.io/v1alpha1\nkind: VOMembership\nmetadata: {}', /metadata.name: is missing/],
  ])('refuse %j with the place', async (text, message) => {
    const file = path.join(folder, 'bad.yaml');
    writeFileSync(file, text);
    await expect(readDocuments(file, 'FILE', organizationKinds)).rejects.toThrow(message);
  });
});

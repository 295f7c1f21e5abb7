import { beforeEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { type Execution, executions } from '#crds/execution.ts';
import { type PeerCaller, peerMessageBytesMax, type PeerMethod } from '#operator/gateway/peers/contract.ts';
import { anExecution } from '#operator/testing/jobs.ts';
import { type PutRequest, type SyncResponse, workMethods } from '#proto/site/schema.ts';
import { configMaps, leases } from '#runtime/builtin.ts';
import type { Principal } from '#common/identity/ids.ts';
import type { Client } from '#runtime/contracts.ts';
import type { Kind } from '#runtime/kind.ts';
import { HomeLeases } from './home-leases.ts';
import { HostedParts } from './host.ts';
import { hostedName, partOf } from './part.ts';
import type { HostedSelection } from './selection-service.ts';
import { memoryClient, MemoryKind } from './testing/memory-api.ts';

const alice: Principal = { issuer: 'https://login.example.org', subject: 'alice' };
const namespace = 'vo-physics';
let clock: VirtualClock;
let parts: MemoryKind<Execution>;
let methods: PeerMethod[];
let promised: Set<string>;
let asked: Kind[];

beforeEach(() => {
  clock = new VirtualClock();
  const random = new SeededRandom(1);
  parts = new MemoryKind(executions, clock, random);
  promised = new Set(['rennes/hold-1/n1/physics']);
  asked = [];
  const always = (): boolean => true;
  const kinds = memoryClient(
    new Map<Kind, object>([
      [executions, parts.client(always, (each) => parts.remove(each))],
      [leases, new MemoryKind(leases, clock, random).client(always, () => undefined)],
      [configMaps, { find: async () => Promise.resolve(undefined) }],
    ]),
  );
  const client = { of: (kind: Kind) => (asked.push(kind), kinds.of(kind)) } as unknown as Client;
  const hosted = new HostedParts({
    ...{ executions: parts.cache(), client, clock, log: silentLogger, podsOf: () => [] },
    shared: { has: (site, organization) => site === 'rennes' && organization === 'physics' },
    selection: {
      isPromised: (site: string, hold: string | undefined, node: string, organization: string) =>
        promised.has([site, hold, node, organization].join('/')),
      mayDraw: (site: string, organization: string, claim: string) =>
        `${site}/${organization}/${claim}` === 'rennes/physics/slots',
    } as unknown as HostedSelection,
    members: {
      principalOf: () => undefined,
      userNameOf: (where, { issuer, subject }) =>
        where === namespace && issuer === alice.issuer && subject === alice.subject ? 'u-alice-2013265999' : undefined,
    },
    volumes: {
      identityOf: (where, name) => (where === namespace && name === 'data' ? 'uid-of-data' : undefined),
      sitesWith: () => [],
    },
    leases: new HomeLeases(client, clock, 'system'),
  });
  methods = hosted.methods();
});

/** Calls as a peer, whom its certificate has named. */
async function call<A>(site: string, method: { readonly path: string }, request: object): Promise<A> {
  const { handle } = methods.find(({ definition }) => definition.path === method.path)!;
  const caller: PeerCaller = { site, signal: new AbortController().signal, charge: () => undefined };
  if (handle.kind !== 'answer') throw new Error('a stream');
  const answer = handle.answer(request, caller);
  answer.catch(() => undefined);
  for (let step = 0; step < 20; step++) await clock.advanceAsync(20);
  return (await answer) as A;
}

const sync = async (site: string): Promise<unknown> =>
  call(site, workMethods.Sync, { heardMs: clock.now(), parts: [{ part: 'part-1', digest: '' }] });

/** A part of a job of rennes as it tells it. */
function told(more: Partial<PutRequest> = {}, spec: object = {}, owner: Principal = alice): PutRequest {
  const placements = [{ run: 'r1', site: 'here', node: 'n1', tasks: '0', hold: 'hold-1' }];
  const text = JSON.parse(
    partOf(
      anExecution('job', { placements }),
      'here',
      owner,
      () => '',
      () => false,
    ),
  ) as object;
  return {
    ...{ virtualOrganization: 'physics', job: 'job', part: 'part-1', revision: 1, heardMs: clock.now() },
    spec: JSON.stringify({
      ...text,
      ...spec,
      placements: (spec as { placements?: object[] }).placements ?? placements,
    }),
    ...more,
  };
}

/** What a part says of one volume. @param identity - what the home takes it for. */
const withVolume = (volume: string, identity: string): object => ({
  volumes: [{ volume, mountPath: '/data', readOnly: false }],
  volumeIdentities: { [volume]: identity },
});

const put = async (site: string, request: PutRequest): Promise<unknown> => call(site, workMethods.Put, request);
const stored = (): Execution[] => [...parts.objects.values()];

describe('what a peer may submit (threat 51)', () => {
  test('is work of members of this site, under the name that this site gave them', async () => {
    await sync('rennes');
    await put('rennes', told());
    expect(stored()).toMatchObject([
      {
        metadata: { name: hostedName({ home: 'rennes', part: 'part-1', job: 'job' }), namespace },
        spec: { owner: 'u-alice-2013265999', part: 'part-1', gridJob: { site: 'rennes' } },
      },
    ]);
  });

  test.each([
    ['somebody who is no member here', told_({}, {}, { issuer: alice.issuer, subject: 'mallory' }), /no member here/],
    [
      'a member of another issuer',
      told_({}, {}, { issuer: 'https://evil.example', subject: 'alice' }),
      /no member here/,
    ],
    ['an organization that is not shared', told_({ virtualOrganization: 'biology' }), /does not share "biology"/],
    ['a node that promised nothing', told_({}, { placements: [place({ node: 'n2' })] }), /has not promised/],
    ['the hold of another', told_({}, { placements: [place({ hold: 'hold-2' })] }), /has not promised/],
    [
      'the reservation of another',
      told_({}, { placements: [place({ reservation: 'theirs' })] }),
      /draws from theirs, which is no reservation of yours/,
    ],
    ['what was under way for too long', told_({ heardMs: 0 }), /under way for too long/],
    [
      'the volume of another of that name',
      told_({}, withVolume('data', 'uid-of-other')),
      /data is not to be had at this site/,
    ],
    ['a volume that has no identity', told_({}, withVolume('data', '')), /data is not to be had/],
    [
      'a volume that this site does not have',
      told_({}, withVolume('secrets', 'uid-of-data')),
      /secrets is not to be had/,
    ],
    ['what is no part', told_({ spec: '{"owner":"u-root-0"}' }), /no part of a job/],
  ])('is not %s', async (_, request, why) => {
    await sync('rennes');
    await expect(put('rennes', request())).rejects.toThrow(why);
    expect(stored()).toEqual([]);
  });

  test('is nothing without a lease, and nothing for a site that shares nothing', async () => {
    await expect(put('rennes', told())).rejects.toMatchObject({ reason: 'Busy' });
    await sync('paris');
    await expect(put('paris', told())).rejects.toMatchObject({ reason: 'Refused' });
    expect(stored()).toEqual([]);
  });
});

test('a task gets the volumes that its home means, by name', async () => {
  await sync('rennes');
  await put('rennes', told({}, withVolume('data', 'uid-of-data')));
  expect(stored()[0]?.spec.volumes).toEqual([{ volume: 'data', mountPath: '/data', readOnly: false }]);
});

describe('what a peer may write (threat 52)', () => {
  test('is Executions of the shared organization, whatever fields and names it sends', async () => {
    await sync('rennes');
    const evil = {
      fencedTime: '2026-01-01T00:00:00Z',
      ...{ owner: alice, hostNetwork: true, metadata: { namespace: 'kube-system' }, kind: 'ClusterRoleBinding' },
      gridJob: { name: 'job', uid: 'u', site: 'here' },
    };
    await put('rennes', told({}, evil));
    const [execution] = stored();
    expect(execution).toMatchObject({ kind: 'Execution', metadata: { namespace }, spec: { volumes: [] } });
    expect(execution?.spec.gridJob.site).toBe('rennes');
    expect(Object.keys(execution?.spec ?? {})).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/fencedTime|hostNetwork|metadata|kind/)]),
    );
    expect(new Set(asked)).toEqual(new Set([leases, executions]));
  });

  test('is never an Execution of this site or of another peer', async () => {
    await sync('rennes');
    const name = hostedName({ home: 'rennes', part: 'part-1', job: 'job' });
    const own = parts.write({ ...anExecution('own'), metadata: { ...anExecution('own').metadata, name, namespace } });
    await expect(put('rennes', told())).rejects.toThrow('that is another');
    expect(stored()).toEqual([own]);
    await call('paris', workMethods.Sync, { heardMs: clock.now(), parts: [] });
    await clock.advanceAsync(120_000);
    await call('paris', workMethods.Sync, { heardMs: clock.now(), parts: [] });
    expect(stored()).toEqual([own]);
  });

  test('takes no further tasks and no other node under a run that is known', async () => {
    await sync('rennes');
    await put('rennes', told());
    promised.clear();
    await put('rennes', told({ revision: 2 }, { keepLogs: false }));
    expect(stored()[0]?.spec).toMatchObject({ revision: 2, keepLogs: false });
    for (const more of [{ tasks: '0-99' }, { node: 'n2' }])
      await expect(put('rennes', told({ revision: 3 }, { placements: [place(more)] }))).rejects.toThrow(/promised/);
    expect(stored()[0]?.spec).toMatchObject({ revision: 2, placements: [{ node: 'n1', tasks: '0' }] });
  });
});

test('news that do not fit into one message come one after the other', async () => {
  await sync('rennes');
  const names = Array.from({ length: 8 }, (_, index) => `part-${index}`);
  for (const part of names) {
    promised.add(`rennes/hold-1/n1/physics`);
    await put('rennes', told({ part, job: part }));
  }
  const message = 'x'.repeat(1_000);
  const rows = Array.from({ length: 100 }, (_, index) => ({ index, state: 'Running' as const, message }));
  const tasks = { waiting: 0, starting: 0, running: 100, succeeded: 0, failed: 0, rows };
  for (const each of parts.objects.values()) parts.write({ ...each, status: { tasks } });
  await clock.advanceAsync(1_000);
  const digests = new Map<string, string>();
  let answers = 0;
  for (; digests.size < names.length && answers < names.length; answers++) {
    const asked = names.map((part) => ({ part, digest: digests.get(part) ?? '' }));
    const answer = await call<SyncResponse>('rennes', workMethods.Sync, { heardMs: clock.now(), parts: asked });
    expect(Buffer.byteLength(JSON.stringify(answer))).toBeLessThan(peerMessageBytesMax);
    for (const { part, digest } of answer.parts) digests.set(part, digest);
  }
  expect({ told: digests.size, answers }).toEqual({ told: 8, answers: 2 });
});

describe('what was ended', () => {
  test('stays ended, older words change nothing, and ending needs no agreement', async () => {
    await sync('rennes');
    await put('rennes', told({ revision: 5 }));
    await put('rennes', told({ revision: 4, heardMs: 0 }, { isClosed: true }));
    expect(stored()[0]?.spec.isClosed).toBe(false);
    const nobody = { issuer: 'i', subject: 'left' };
    await put('rennes', told({ revision: 6 }, { isClosed: true, signal: { name: 'KILL', sequence: 1 } }, nobody));
    expect(stored()[0]?.spec).toMatchObject({ isClosed: true, signal: { name: 'KILL' }, owner: 'u-alice-2013265999' });
    await put('rennes', told({ revision: 7 }));
    expect(stored()[0]?.spec).toMatchObject({ isClosed: true, revision: 6 });
  });

  test('by the end of a lease never runs again, and other runs may', async () => {
    await sync('rennes');
    await put('rennes', told());
    const [execution] = parts.objects.values();
    const spec = { ...execution!.spec, isClosed: true, fencedTime: '2026-01-01T00:01:00Z' };
    parts.write({ ...execution!, spec });
    await put('rennes', told({ revision: 2 }));
    expect(stored()[0]?.spec).toMatchObject({ isClosed: true, revision: 1 });
    promised.add('rennes/hold-2/n1/physics');
    await put('rennes', told({ revision: 3 }, { placements: [place({ run: 'r2', hold: 'hold-2' })] }));
    expect(stored()[0]?.spec).toMatchObject({ isClosed: false, placements: [{ run: 'r2' }] });
    expect(stored()[0]?.spec.fencedTime).toBeUndefined();
  });
});

function place(more: object): object {
  return { run: 'r1', node: 'n1', tasks: '0', hold: 'hold-1', ...more };
}

/** {@link told}, when the clock is there. */
function told_(...words: Parameters<typeof told>): () => PutRequest {
  return () => told(...words);
}

import { beforeEach, describe, expect, test } from '@jest/globals';
import type { AuditRecord } from '#common/audit.ts';
import { VirtualClock } from '#common/clock.ts';
import type { Principal } from '#common/identity/ids.ts';
import { podLabels } from '#crds/execution.ts';
import { podName } from '#operator/controllers/execution/pod.ts';
import { PeerError, type PeerErrorReason } from '#operator/gateway/peers/contract.ts';
import { MemoryPeers } from '#operator/gateway/peers/testing/memory.ts';
import { Refusal } from '#operator/gateway/refusal.ts';
import { anExecution } from '#operator/testing/jobs.ts';
import { type ConnectOpen, type ConnectRequest, type ConnectResponse, workMethods } from '#proto/site/schema.ts';
import type { Pod } from '#runtime/builtin.ts';
import { ForbiddenError, NotFoundError } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { HostedStreams, windowBytes } from './hosted-streams.ts';
import { echo, goesOn, MemoryPods } from './testing/pod-connector.ts';

const alice: Principal = { issuer: 'https://login.example.org', subject: 'alice' };
const execution = anExecution('job', {
  ...{ part: 'part-1', gridJob: { name: 'job', uid: 'uid-job', site: 'home' } },
  placements: [{ run: 'r1', node: 'n1', tasks: '0-2', hold: 'h' }],
});
let clock: VirtualClock;
let peers: MemoryPeers;
let connector: MemoryPods;
let records: AuditRecord[];
let isShared: boolean;
let refusal: Refusal | undefined;
let change: () => void;
let podList: Stored<Pod>[];

/** The pod of a task. */
function aPod(index: number, state: object, labels: Record<string, string> = {}): Stored<Pod> {
  const name = podName(execution, { run: 'r1', index });
  const own = { [podLabels.run]: 'r1', [podLabels.index]: String(index), [podLabels.owner]: execution.spec.owner };
  const metadata = { name, namespace: 'vo-physics', uid: name, resourceVersion: '1', labels: { ...own, ...labels } };
  return { metadata, status: { containerStatuses: [{ name: 'task', state }] } } as unknown as Stored<Pod>;
}

beforeEach(() => {
  clock = new VirtualClock();
  peers = new MemoryPeers();
  connector = new MemoryPods();
  [records, isShared, refusal] = [[], true, undefined];
  podList = [aPod(0, { running: {} }), aPod(1, { waiting: {} }), aPod(2, { terminated: { exitCode: 4 } })];
  const streams = new HostedStreams({
    ...{ connector, clock, podsOf: () => podList },
    find: (home, part) => (home === 'home' && part === 'part-1' ? execution : undefined),
    shared: { has: (site, organization) => isShared && site === 'home' && organization === 'physics' },
    access: {
      refusal: (_, { subject }) =>
        subject === 'alice' ? refusal : new Refusal('Forbidden', 'There is no such member of physics at this site.'),
      credentials: async (_, { subject }) =>
        Promise.resolve({ load: async () => Promise.reject(new Error(`account of ${subject}`)) }),
      onChange: (listener) => ((change = listener), () => undefined),
    },
    audit: { record: (record) => void records.push(record) },
  });
  peers.join('home', 'far');
  peers.join('other', 'far');
  peers.site('far').add(streams.methods());
});

const opening: ConnectOpen = {
  ...{ virtualOrganization: 'physics', part: 'part-1', run: 'r1', index: 0, ...alice, kind: 'EXEC', command: ['sh'] },
  ...{ stdin: true, tty: false, follow: false, tailLines: 0, timestamps: false },
};

async function* asking(open: Partial<ConnectOpen>, ...more: ConnectRequest[]): AsyncGenerator<ConnectRequest> {
  yield { open: { ...opening, ...open } };
  for (const each of more) yield Promise.resolve(each);
  await new Promise(() => undefined);
}

const connect = (requests: AsyncIterable<ConnectRequest>, from = 'home'): AsyncIterableIterator<ConnectResponse> =>
  peers.site(from).channel('far').stream(workMethods.Connect, requests);

async function heard(answers: AsyncIterable<ConnectResponse>): Promise<{ text: string; exit: number | undefined }> {
  let [text, exit]: [string, number | undefined] = ['', undefined];
  for await (const { stdout, stderr, end } of answers) {
    text += Buffer.from(stdout ?? stderr ?? []).toString();
    exit = end?.exitStatus ?? exit;
  }
  return { text, exit };
}

async function refused(answers: AsyncIterable<ConnectResponse>): Promise<[PeerErrorReason, string]> {
  const error: unknown = await heard(answers).catch((thrown: unknown) => thrown);
  if (!(error instanceof PeerError)) throw new Error(`not refused but ${JSON.stringify(error)}`);
  return [error.reason, error.message];
}

describe('a member of a job of another site', () => {
  test('runs a command as their own account here, with input and exit status', async () => {
    connector.program = echo;
    const said = [{ stdin: Buffer.from('one ') }, { stdin: Buffer.from('two') }, { stdinEnd: true }];
    expect(await heard(connect(asking({}, ...said)))).toEqual({ text: 'one two', exit: 3 });
    expect(connector.asked).toMatchObject([
      {
        pod: { namespace: 'vo-physics', name: podName(execution, { run: 'r1', index: 0 }) },
        stream: { connect: { command: ['sh'], stdin: true, tty: false } },
      },
    ]);
    await expect(connector.asked[0]?.credentials.load(false)).rejects.toThrow('account of alice');
    expect(records).toMatchObject([
      {
        who: alice,
        what: 'task.exec',
        outcome: 'Allowed',
        on: { Site: 'home', VirtualOrganization: 'physics', Task: '0' },
      },
    ]);
  });

  test('tells how large their terminal is', async () => {
    connector.program = echo;
    const size = { columns: 80, rows: 24 };
    await heard(connect(asking({ tty: true }, { resize: size }, { stdinEnd: true })));
    expect(connector.sizes).toEqual([size]);
  });

  test('reads the log of a task that runs, or has ended, by which lines they want', async () => {
    connector.program = async ({ onStdout }) => {
      await onStdout(Buffer.from('line\n'));
      return undefined;
    };
    for (const index of [0, 2]) {
      const answers = connect(asking({ kind: 'LOG', command: [], index, follow: true, tailLines: 5 }));
      expect(await heard(answers)).toEqual({ text: 'line\n', exit: 0 });
    }
    expect(connector.asked.map(({ stream }) => stream)).toEqual(
      [0, 2].map(() => ({ log: { follow: true, tailLines: 5, timestamps: false } })),
    );
  });

  test('has a task wait that says more than they read', async () => {
    let said = 0;
    connector.program = async ({ onStdout }) => {
      for (; said < 20_000_000; said += 65_536) await onStdout(Buffer.alloc(65_536));
      return 0;
    };
    const answers = connect(asking({}));
    await answers.next();
    for (let turn = 0; turn < 1_000; turn++) await Promise.resolve();
    expect(said).toBeLessThan(2 * windowBytes);
    for await (const { end } of answers) expect(end?.exitStatus ?? 0).toBe(0);
    expect(said).toBeGreaterThanOrEqual(20_000_000);
  });

  test('is out as soon as they may not act here any more (threat 39)', async () => {
    connector.program = goesOn;
    const answers = connect(asking({}));
    await answers.next();
    const end = refused(answers);
    refusal = new Refusal('Forbidden', 'The membership is Suspended: ask an administrator.');
    change();
    await clock.advanceAsync(100);
    expect(await end).toEqual(['Refused', refusal.message]);
    expect(records.map(({ outcome }) => outcome)).toEqual(['Allowed', 'Refused']);
  });

  test("leaves, which ends what runs and is nobody's failure", async () => {
    let isEnded = false;
    connector.program = async (streams, signal) => {
      signal.addEventListener('abort', () => (isEnded = true), { once: true });
      return goesOn(streams, signal);
    };
    for await (const { stdout } of connect(asking({}))) {
      expect(stdout).toBeDefined();
      break;
    }
    while (!isEnded) await new Promise((resolve) => setImmediate(resolve));
    expect(records.map(({ outcome }) => outcome)).toEqual(['Allowed']);
  });

  test('is out as soon as the owner of the site does not share the organization any more', async () => {
    connector.program = goesOn;
    const answers = connect(asking({}));
    await answers.next();
    const end = refused(answers);
    isShared = false;
    change();
    await clock.advanceAsync(100);
    expect(await end).toEqual(['Refused', expect.stringContaining('does not share "physics"')]);
  });

  test('reads the words of the API server when it refuses, without where it was asked', async () => {
    const request = { method: 'GET', path: '/api/v1/secret/path?command=sh' };
    connector.program = async () =>
      Promise.reject(new ForbiddenError(request, 403, { message: 'pods "p" is not yours' }));
    expect(await refused(connect(asking({})))).toEqual(['Refused', 'pods "p" is not yours']);
    connector.program = async () => Promise.reject(new NotFoundError(request, 404, { message: 'pods "p" not found' }));
    expect((await refused(connect(asking({}))))[0]).toBe('NotFound');
    connector.program = async () => Promise.reject(new Error('a secret of the site'));
    expect((await refused(connect(asking({}))))[1]).not.toContain('secret');
  });
});

describe('what a peer may not have (threat 51)', () => {
  test.each([
    ['for somebody who is no member here', { subject: 'mallory' }, 'Refused', /no such member/],
    ['in an organization that is not shared', { virtualOrganization: 'biology' }, 'Refused', /does not share/],
    ['of a part that is another one', { part: 'part-2' }, 'NotFound', /Nothing of the job/],
    ['of a run that is another one', { run: 'r2' }, 'NotFound', /Task 0 does not run here any more/],
    ['of a task that has not started', { index: 1 }, 'NotFound', /Task 1 has not started yet/],
    ['into a task that has ended', { index: 2 }, 'NotFound', /Task 2 has ended, with exit status 4/],
    ['without a command', { command: [] }, 'Invalid', /command is empty/],
  ] satisfies [string, Partial<ConnectOpen>, PeerErrorReason, RegExp][])(
    'is a stream %s',
    async (_, open, reason, words) => {
      expect(await refused(connect(asking(open)))).toEqual([reason, expect.stringMatching(words)]);
      expect(connector.asked).toEqual([]);
      expect(records).toMatchObject([{ outcome: 'Refused', why: reason }]);
    },
  );

  test('is a task of another home', async () => {
    expect((await refused(connect(asking({}), 'other')))[0]).toBe('Refused');
    expect(connector.asked).toEqual([]);
  });

  test('is a pod that somebody else made to look like the task', async () => {
    podList = [aPod(0, { running: {} }, { [podLabels.owner]: 'u-mallory-2013265998' })];
    expect((await refused(connect(asking({}))))[0]).toBe('NotFound');
    podList = [aPod(0, { running: {} })].map((pod) => ({ ...pod, metadata: { ...pod.metadata, name: 'lookalike' } }));
    expect((await refused(connect(asking({}))))[0]).toBe('NotFound');
  });

  test('is a stream that says nothing at first, or something else', async () => {
    const silent = connect(
      (async function* (): AsyncGenerator<ConnectRequest> {
        await new Promise(() => undefined);
        yield {};
      })(),
    );
    const end = refused(silent);
    await clock.advanceAsync(11_000);
    expect(await end).toEqual(['Invalid', 'Nothing was opened.']);
    const other = connect(
      (async function* (): AsyncGenerator<ConnectRequest> {
        yield Promise.resolve({ stdinEnd: true });
      })(),
    );
    expect((await refused(other))[0]).toBe('Invalid');
  });
});

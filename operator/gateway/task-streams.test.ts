/** Users' streams to tasks at other sites, over the real server of a gateway; the other site and the API server are in memory. */
import { Readable } from 'node:stream';
import { afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { WebSocket } from 'ws';
import type { AuditRecord } from '#common/audit.ts';
import { systemClock } from '#common/clock.ts';
import type { Principal } from '#common/identity/ids.ts';
import { type TaskStream, taskStreamPath } from '#common/identity/task-stream.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { type ConnectOpen, type ConnectRequest, type ConnectResponse, workMethods } from '#proto/site/schema.ts';
import type { CredentialSource } from '#runtime/credentials.ts';
import { channels, frameOf } from '#runtime/remote-channels.ts';
import { type RemoteStreams, runRemoteCommand } from '#runtime/remote-command.ts';
import { type Authority, createAuthority, type KeyPair } from '#sites/pki.ts';
import { GatewayMetrics } from './metrics.ts';
import { streamLimits } from './open-streams.ts';
import { PeerError, streaming } from './peers/contract.ts';
import { MemoryPeers } from './peers/testing/memory.ts';
import { Refusal } from './refusal.ts';
import { GatewayServer } from './server.ts';
import type { TaskDoor } from './task-door.ts';
import { TaskStreams } from './task-streams.ts';

jest.setTimeout(60_000);

const alice: Principal = { issuer: 'https://login.example.org', subject: 'alice' };
const wanted: TaskStream = {
  ...{ virtualOrganization: 'physics', job: 'job', index: 3, run: 'r1', kind: 'exec', command: ['sh', '-c', 'x y'] },
  ...{ stdin: true, tty: false, follow: false, tailLines: undefined, timestamps: false },
};
let authority: Authority;
let serving: KeyPair;
let peers: MemoryPeers;
let server: GatewayServer;
let streams: TaskStreams;
let origin: string;
let records: AuditRecord[];
let opened: ConnectOpen[];
let refusal: Refusal | undefined;
let change: () => void;
/** What the other site does. */
let program: (requests: AsyncIterable<ConnectRequest>, signal: AbortSignal) => AsyncGenerator<ConnectResponse>;

const door: TaskDoor = {
  enter: async (_, bearer) => {
    if (bearer !== 'good')
      throw new Refusal('Unauthenticated', 'The API server does not accept the token: log in again.');
    return Promise.resolve({
      principal: alice,
      locate: async ({ job }) => {
        if (job !== 'job') throw new Refusal('NotFound', `gridjobs "${job}" not found`);
        return Promise.resolve({ site: 'far', part: 'part-1', principal: alice });
      },
      leave: async () => Promise.resolve(),
    });
  },
};

beforeAll(async () => {
  authority = await createAuthority('home');
  serving = await authority.issue({ commonName: 'gateway', dnsNames: ['localhost'] });
});

beforeEach(async () => {
  [records, opened, refusal] = [[], [], undefined];
  peers = new MemoryPeers();
  peers.join('home', 'far');
  peers.site('far').add([
    streaming(workMethods.Connect, async function* (requests, { signal }) {
      const incoming = requests[Symbol.asyncIterator]();
      const first = await incoming.next();
      if (first.done !== true && first.value.open !== undefined) opened.push(first.value.open);
      yield* program({ [Symbol.asyncIterator]: () => incoming }, signal);
    }),
  ]);
  await listen(peers);
});

async function listen(network: MemoryPeers): Promise<void> {
  const common = {
    ...{ clock: systemClock, log: silentLogger, audit: { record: (record: AuditRecord) => void records.push(record) } },
    metrics: new GatewayMetrics(createRegistry()),
  };
  const access = {
    refusal: () => refusal,
    credentials: async () => Promise.reject(new Error('unused')),
    onChange: (listener: () => void) => ((change = listener), () => undefined),
  };
  streams = new TaskStreams({ ...common, door, access, channels: network.site('home') });
  const peerDoor = { accept: () => undefined, stop: () => undefined };
  server = new GatewayServer(
    { ...common, routes: [], peers: peerDoor, upgrades: streams },
    { cert: serving.certificate, key: serving.key, ca: [] },
  );
  origin = `https://localhost:${await server.start(0, '127.0.0.1')}`;
}

afterEach(async () => server.stop());

const source = (bearer: string): CredentialSource => ({
  load: async () =>
    Promise.resolve({
      ...{ origin, basePath: '', headers: bearer === '' ? {} : { authorization: `Bearer ${bearer}` } },
      tls: { ca: authority.certificate, rejectUnauthorized: true },
    }),
});

interface Heard {
  out: string;
  err: string;
  exit?: number | undefined;
}

async function ask(more: Partial<TaskStream> = {}, streamsOf: Partial<RemoteStreams> = {}, bearer = 'good') {
  const heard: Heard = { out: '', err: '' };
  const path = taskStreamPath({ ...wanted, ...more });
  heard.exit = await runRemoteCommand(
    source(bearer),
    { path, signal: AbortSignal.timeout(60_000) },
    {
      endsStdin: true,
      onStdout: (chunk) => void (heard.out += chunk.toString()),
      onStderr: (chunk) => void (heard.err += chunk.toString()),
      ...streamsOf,
    },
  );
  return heard;
}

const echo: typeof program = async function* (requests) {
  for await (const { stdin, stdinEnd, resize } of requests) {
    if (stdin !== undefined) yield { stdout: stdin };
    if (resize !== undefined) yield { stderr: Buffer.from(`${resize.columns}x${resize.rows}`) };
    if (stdinEnd === true) break;
  }
  yield { end: { exitStatus: 9 } };
};

/** Says that it is there, and goes on. */
const goesOn: typeof program = async function* (_requests, signal) {
  yield { stdout: Buffer.from('here') };
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
};

describe('a user at the gateway of their home', () => {
  test('is connected to the task at the other site, as who they are', async () => {
    program = echo;
    const stdin = Readable.from([Buffer.from('one '), Buffer.from('two')]);
    const size = { columns: 80, rows: 24 };
    expect(await ask({}, { stdin, onConnect: (resize) => resize(size) })).toEqual({
      out: 'one two',
      err: '80x24',
      exit: 9,
    });
    expect(opened).toEqual([
      {
        ...{ virtualOrganization: 'physics', part: 'part-1', run: 'r1', index: 3, ...alice, kind: 'EXEC' },
        ...{ command: ['sh', '-c', 'x y'], stdin: true, tty: false, follow: false, tailLines: 0, timestamps: false },
      },
    ]);
    expect(records).toMatchObject([
      { who: alice, what: 'task.exec', outcome: 'Allowed', on: { GridJob: 'job', Task: '3', Site: 'far' } },
    ]);
  });

  test('sends and gets as much as there is, however large its pieces', async () => {
    program = echo;
    const chunk = Buffer.alloc(400_000, 'x');
    const { out } = await ask({}, { stdin: Readable.from(Array.from({ length: 20 }, () => chunk)) });
    expect(out.length).toBe(8_000_000);
  });

  test('reads the end of a log as its end', async () => {
    program = async function* () {
      yield { stdout: Buffer.from('line\n') };
      yield { end: { exitStatus: 0 } };
    };
    expect(await ask({ kind: 'log', command: [], stdin: false, follow: true, tailLines: 7 })).toMatchObject({
      out: 'line\n',
    });
    expect(opened[0]).toMatchObject({ kind: 'LOG', follow: true, tailLines: 7 });
  });

  test('has the other site wait while nothing is read', async () => {
    let said = 0;
    const hold = Promise.withResolvers<undefined>();
    program = async function* () {
      for (; said < 32_000_000; said += 65_536) yield { stdout: Buffer.alloc(65_536) };
      yield { end: { exitStatus: 0 } };
    };
    const asked = ask({ stdin: false }, { onStdout: async () => hold.promise });
    for (let before = -1; before !== said || said === 0;) {
      before = said;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(said).toBeLessThan(24_000_000);
    hold.resolve(undefined);
    expect((await asked).exit).toBe(0);
  });

  test('leaves, and the other site hears of it', async () => {
    const left = Promise.withResolvers<unknown>();
    program = async function* (_requests, signal) {
      signal.addEventListener('abort', () => left.resolve(undefined), { once: true });
      yield { stdout: Buffer.from('here') };
      await new Promise(() => undefined);
    };
    const stopper = new AbortController();
    const path = taskStreamPath(wanted);
    const streamsOf = {
      endsStdin: true,
      onStdout: () => stopper.abort(new Error('enough')),
      onStderr: () => undefined,
    };
    await expect(runRemoteCommand(source('good'), { path, signal: stopper.signal }, streamsOf)).rejects.toThrow(
      'enough',
    );
    await left.promise;
  });
});

describe('a user is refused', () => {
  beforeEach(() => {
    program = echo;
  });

  test.each([
    ['without a token', {}, '', 401, /Give the token of a member/],
    ['with a token that is not good', {}, 'forged', 401, /does not accept the token/],
    ['for a job that is not there', { job: 'other' }, 'good', 404, /"other" not found/],
    ['for a run that is none', { run: 'X' }, 'good', 400, /run: is not the run of a task/],
  ])('%s', async (_, more, bearer, statusCode, words) => {
    await expect(ask(more, {}, bearer)).rejects.toMatchObject({ statusCode, message: expect.stringMatching(words) });
    expect(opened).toEqual([]);
    expect(records).toMatchObject([{ outcome: 'Refused' }]);
  });

  test('in JSON, for any program', async () => {
    const { status, body } = await new Promise<{ status: number; body: string }>((resolve, reject) => {
      const socket = new WebSocket(origin.replace('https', 'wss') + taskStreamPath(wanted), {
        ca: authority.certificate,
      });
      socket.on('unexpected-response', (_request, response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      socket.on('error', reject);
    });
    const message = 'Give the token of a member for the API server: Authorization: Bearer ….';
    expect([status, JSON.parse(body)]).toMatchObject([
      401,
      { kind: 'Status', error: { code: 'Unauthenticated', message } },
    ]);
  });

  test.each([
    ['Refused', 403],
    ['NotFound', 404],
    ['Invalid', 400],
    ['Busy', 429],
    ['Unreachable', 503],
  ] as const)('in the words of the other site when that says %s', async (reason, statusCode) => {
    // eslint-disable-next-line require-yield -- it refuses
    program = async function* () {
      await Promise.resolve();
      throw new PeerError(reason, 'Words of the owner.');
    };
    await expect(ask()).rejects.toMatchObject({ statusCode, message: expect.stringContaining('Words of the owner.') });
  });

  test('when the gateway of the other site is too old, which is said', async () => {
    await server.stop();
    const old = new MemoryPeers();
    old.join('home', 'far');
    await listen(old);
    await expect(ask()).rejects.toThrow(/The gateway of far is older than this one/);
  });

  test('when the other site was cut off, at once and with that reason', async () => {
    program = goesOn;
    const connected = Promise.withResolvers<undefined>();
    const asked = ask({}, { onStdout: () => connected.resolve(undefined) });
    asked.catch(() => undefined);
    await connected.promise;
    peers.site('home').setPeer('far', 'Cut');
    await expect(asked).rejects.toThrow(/Site far is cut off/);
    await expect(ask()).rejects.toThrow(/Site far is cut off/);
  });

  test('as soon as they may not act any more (threat 39)', async () => {
    program = goesOn;
    const connected = Promise.withResolvers<undefined>();
    const asked = ask({}, { onStdout: () => connected.resolve(undefined) });
    asked.catch(() => undefined);
    await connected.promise;
    refusal = new Refusal('Forbidden', 'The membership is Suspended: ask an administrator.');
    change();
    await expect(asked).rejects.toMatchObject({ statusCode: 403, message: expect.stringContaining('Suspended') });
    await expect(ask()).rejects.toMatchObject({ statusCode: 403, message: expect.stringContaining('Suspended') });
    expect(records.map(({ outcome }) => outcome)).toEqual(['Allowed', 'Refused', 'Refused']);
  });

  test('when they have too many open, and let in again when one has ended', async () => {
    program = goesOn;
    const stopper = new AbortController();
    const path = taskStreamPath(wanted);
    const streamsOf = { endsStdin: true, onStdout: () => undefined, onStderr: () => undefined };
    const run = async (signal: AbortSignal): Promise<unknown> =>
      runRemoteCommand(source('good'), { path, signal }, streamsOf);
    const many = new AbortController();
    const open = [run(stopper.signal)];
    for (let each = 1; each < streamLimits.member; each++) open.push(run(many.signal));
    for (const each of open) each.catch(() => undefined);
    while (opened.length < streamLimits.member) await new Promise((resolve) => setTimeout(resolve, 20));
    await expect(ask()).rejects.toMatchObject({
      statusCode: 429,
      message: expect.stringContaining('At most 32 streams'),
    });
    stopper.abort(new Error('enough'));
    await open[0]?.catch(() => undefined);
    program = echo;
    for (;;) {
      const again = await ask({}, { stdin: Readable.from([Buffer.from('in')]) }).catch(() => undefined);
      if (again?.out === 'in') break;
    }
    many.abort(new Error('enough'));
  });

  test('when they say what the protocol has no word for', async () => {
    program = goesOn;
    const headers = { authorization: 'Bearer good' };
    const socket = new WebSocket(origin.replace('https', 'wss') + taskStreamPath(wanted), ['v5.channel.k8s.io'], {
      ...{ ca: authority.certificate, headers },
    });
    const code = await new Promise((resolve) => {
      socket.on('open', () => socket.send(frameOf(channels.status, Buffer.from('{}'))));
      socket.on('close', resolve);
    });
    expect(code).toBe(1002);
  });

  test('when the gateway stops, with a reason and without delay', async () => {
    program = goesOn;
    const connected = Promise.withResolvers<undefined>();
    const asked = ask({}, { onStdout: () => connected.resolve(undefined) });
    asked.catch(() => undefined);
    await connected.promise;
    await server.stop();
    await expect(asked).rejects.toThrow(/The gateway is restarted/);
  });
});

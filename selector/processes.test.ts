import { createPrivateKey } from 'node:crypto';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { credentials, type ChannelCredentials } from '@grpc/grpc-js';
import { systemClock } from '#common/clock.ts';
import { InvalidInputError } from '#common/errors.ts';
import { GrpcResourceSelection } from '#proto/selector/client.ts';
import { SelectorUnavailableError, UnknownClaimError, type Query, type Selected } from '#proto/selector/contract.ts';
import { Codec } from './api/codec.ts';
import { GrpcTransport } from './api/transport.ts';
import type { StatusPage } from './monitor/status.ts';
import { type Descriptor, Profile, signedBytes } from './overlay/descriptor.ts';
import { SiteSigner } from './overlay/trust.ts';
import { makeCredentials, type SiteFiles } from './testing/credentials.ts';

jest.setTimeout(120_000);

interface Running {
  readonly name: string;
  readonly process: ChildProcess;
  readonly port: number;
  readonly monitorPort: number;
  readonly address: string;
  readonly client: GrpcResourceSelection;
}

const everybody = ['n0', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7'];
const folder = mkdtempSync(path.join(tmpdir(), 'xtreemos-selector-'));
const running: Running[] = [];
let files: Map<string, SiteFiles>;
let clientCredentials: ChannelCredentials;

beforeAll(async () => {
  files = await makeCredentials(folder, ['lyon', 'berlin']);
  const site = files.get('lyon')!;
  const [ca, key, certificate] = [site.tlsCa, site.tlsKey, site.tlsCertificate].map((file) => readFileSync(file));
  clientCredentials = credentials.createSsl(ca, key, certificate);
  running.push(await launch(0, []));
  running.push(...(await Promise.all([1, 2, 3, 4, 5, 6, 7].map((index) => launch(index, [running[0]!.port])))));
});

afterAll(async () => {
  for (const one of running) {
    one.client.close();
    one.process.kill('SIGKILL');
  }
  rmSync(folder, { recursive: true, force: true });
});

const query = (constraints: Query['constraints'], extra: Partial<Query> = {}): Query => ({
  ...{ id: 'test', constraints, predicates: [], demand: {}, virtualOrganization: 'physics' },
  ...extra,
});

test('eight processes answer a range query whole, from any of them', async () => {
  const atLeast4 = query([{ attribute: 'cores', min: 16 }]);
  for (const asker of [running[0]!, running[5]!]) {
    await untilFound(asker, atLeast4, ['n3', 'n4', 'n5', 'n6', 'n7']);
  }
});

test('candidates refuse by live predicate and by demand, with the reason', async () => {
  await untilFound(running[1]!, query([]), everybody);
  const busy = query([], { predicates: ['free.cpu >= 6000'] });
  await untilFound(running[1]!, busy, ['n5', 'n6', 'n7'], { 'Not so now: free.cpu >= 6000': 5 });
  const large = query([], { demand: { cpu: 7_500 } });
  const short = [1, 2, 3, 4, 5, 6, 7].map((free) => `Not enough free cpu: 7500 wanted, ${free}000 free`);
  await untilFound(running[1]!, large, ['n7'], Object.fromEntries(short.map((reason) => [reason, 1])));
});

test('refuses a predicate that could run long, naming what is allowed', async () => {
  await expect(ask(running[1]!, query([], { predicates: ['"a".matches("(a+)+$")'] }))).rejects.toThrow(
    InvalidInputError,
  );
});

test('a node holds, confirms and releases, and never promises twice', async () => {
  const { client, address } = running[3]!; // 4000 millicores
  const hold = { owner: 'job-1', virtualOrganization: 'physics', ttlMs: 5_000 };
  const owner = 'job-1';
  await client.hold(address, { id: 'h1', demand: { cpu: 3_000 }, ...hold });
  expect(await client.hold(address, { id: 'h2', demand: { cpu: 2_000 }, ...hold })).toEqual({
    granted: false,
    reason: 'Not enough free cpu: 2000 wanted, 1000 free',
  });
  await client.confirm(address, { id: 'h1', owner });
  await expect(client.confirm(address, { id: 'h9', owner })).rejects.toThrow(UnknownClaimError);
  await client.release(address, { id: 'h1', owner });
  expect(await client.hold(address, { id: 'h2', demand: { cpu: 2_000 }, ...hold })).toEqual({
    granted: true,
    ttlMs: 5_000,
  });
  await client.release(address, { id: 'h2', owner });
});

test('a watcher hears at once that a predicate broke', async () => {
  const { client, address } = running[2]!;
  const abort = new AbortController();
  const updates = client.watch(address, ['free.cpu >= 99000'], abort.signal);
  const first = await updates.next();
  expect(first.value).toMatchObject({ broken: 'Not so now: free.cpu >= 99000', free: { cpu: 3_000 } });
  abort.abort();
  await updates.return(undefined);
});

test('the monitor pages show the node and its links, and nothing without TLS reaches the door', async () => {
  const { monitorPort, port } = running[0]!;
  const page = await (await fetch(`http://127.0.0.1:${monitorPort}/`)).text();
  expect(page).toContain('<svg');
  expect(page).toContain('lyon/n0');
  const json = (await (await fetch(`http://127.0.0.1:${monitorPort}/status.json`)).json()) as {
    overlay: { links: [] };
  };
  expect(json.overlay.links.length).toBeGreaterThanOrEqual(4);
  const plain = new GrpcResourceSelection(`127.0.0.1:${port}`, credentials.createInsecure());
  await expect(plain.status()).rejects.toThrow(SelectorUnavailableError);
  plain.close();
});

/** A peer with a good certificate that says what it likes; what it signs, it signs with the key of `signedBy`. */
class Liar {
  private readonly transport = new GrpcTransport(clientCredentials, new Codec(), systemClock);
  private readonly victim: Running;

  constructor(victim: Running) {
    this.victim = victim;
  }

  /** A statement of the node `lyon/NAME`, as its status page has it but for `changes`. */
  async statement(
    of: Running,
    signedBy: string,
    changes: Partial<Pick<Profile, 'attributes'>> & Partial<Descriptor>,
  ): Promise<Descriptor> {
    const { node } = await statusOf(of);
    const { address, incarnation } = node;
    const attributes = changes.attributes ?? node.attributes;
    const fields = { site: 'lyon', node: of.name, address, incarnation, attributes, isOffering: true };
    return signed(new Profile(fields), signedBy, changes);
  }

  /** Says each as if the node itself did, and passes them all on as a member of a site that is trusted. */
  say(...statements: readonly Descriptor[]): void {
    const fields = { site: 'berlin', node: 'liar', address: '127.0.0.1:9', incarnation: 1, attributes: {} };
    const self = signed(new Profile({ ...fields, isOffering: false }), 'berlin', {});
    const send = (from: Descriptor, items: readonly Descriptor[]): void =>
      this.transport.send(this.victim.address, {
        ...{ type: 'exchange', token: 1, from, mark: { id: '', mintedAt: 0 }, items, filled: new Uint32Array() },
      });
    for (const statement of statements) send(statement, []);
    for (let index = 0; index < statements.length; index += 8) send(self, statements.slice(index, index + 8));
  }

  stop(): void {
    this.transport.stop();
  }
}

function signed(
  profile: Profile,
  site: string,
  { stamp = Date.now(), isLeaving = false }: Partial<Descriptor>,
): Descriptor {
  const signer = new SiteSigner(site, createPrivateKey(readFileSync(files.get(site)!.siteKey)));
  const said = { profile, stamp, isLeaving };
  return { ...said, signature: signer.sign(() => signedBytes(said)) };
}

async function statusOf({ monitorPort }: Running): Promise<StatusPage> {
  return (await (await fetch(`http://127.0.0.1:${monitorPort}/status.json`)).json()) as StatusPage;
}

/** Waits until the node has dropped so many more statements for this reason. */
async function untilDropped(
  victim: Running,
  why: keyof StatusPage['overlay']['dropped'],
  before: StatusPage,
  atLeast: number,
): Promise<StatusPage> {
  const end = Date.now() + 40_000;
  for (;;) {
    const status = await statusOf(victim);
    const count = status.overlay.dropped[why] - before.overlay.dropped[why];
    if (count >= atLeast) return status;
    if (Date.now() > end) expect({ [why]: count }).toEqual({ [why]: atLeast });
    await sleep(100);
  }
}

test('threat 49: a node is what its own site has signed; others may claim what they like in its name', async () => {
  const [victim, claimed] = [running[1]!, running[2]!];
  const liar = new Liar(victim);
  const before = await statusOf(victim);
  const attributes = { cores: 1_024, arch: 'riscv64' };
  const lies = await Promise.all([
    liar.statement(claimed, 'berlin', { attributes }),
    liar.statement(claimed, 'berlin', { attributes, stamp: Date.now() + 1_000 }),
  ]);
  liar.say(...lies);
  await untilDropped(victim, 'unsigned', before, 4);
  await untilFound(victim, query([{ attribute: 'cores', min: 1_000 }]), []);
  await untilFound(victim, query([{ attribute: 'cores', min: 12, max: 12 }]), ['n2']);
  liar.stop();
});

test('threat 50: statements from the future, replayed good-byes and a flood of forged members change nothing', async () => {
  const [victim, gone] = [running[1]!, running[4]!];
  const liar = new Liar(victim);
  const before = await statusOf(victim);
  const { incarnation } = before.node;
  liar.say(await liar.statement(gone, 'lyon', { stamp: Date.now() + 3_600_000 }));
  await untilDropped(victim, 'future', before, 2);
  // Old good-byes, as somebody may have recorded them: the node has been heard of since.
  liar.say(await liar.statement(gone, 'lyon', { isLeaving: true, stamp: incarnation - 700_000 }));
  liar.say(await liar.statement(gone, 'lyon', { isLeaving: true, stamp: (await statusOf(gone)).node.incarnation }));
  const forged = Array.from({ length: 1_000 }, (_, index) => {
    const fields = { site: 'lyon', node: `s${index}`, address: `127.0.0.1:${1 + index}`, incarnation };
    const profile = new Profile({ ...fields, attributes: { cores: 4 }, isOffering: true });
    return { profile, stamp: Date.now(), isLeaving: index % 2 === 0, signature: new Uint8Array(64).fill(index) };
  });
  for (let index = 0; index < forged.length; index += 200) {
    liar.say(...forged.slice(index, index + 200));
    await untilDropped(victim, 'unsigned', before, 2 * (index + 200));
  }
  const { overlay } = await statusOf(victim);
  const known = [...overlay.links, ...overlay.randomView].map(({ id }) => id.split('/')[1]);
  expect([...new Set(known)].filter((name = '') => ![...everybody, 'liar'].includes(name))).toEqual([]);
  expect(overlay.buried).toBeLessThanOrEqual(before.overlay.buried + 2);
  for (const asker of [victim, running[6]!]) await untilFound(asker, query([]), everybody);
  liar.stop();
}, 180_000);

test('after half of them are killed, queries are whole again, and a restarted one is found through any peer', async () => {
  for (const victim of running.splice(4, 4)) {
    victim.client.close();
    victim.process.kill('SIGKILL');
  }
  await untilFound(running[0]!, query([]), ['n0', 'n1', 'n2', 'n3']);
  running.push(await launch(6, [running[2]!.port]));
  await untilFound(running[1]!, query([{ attribute: 'cores', min: 28 }]), ['n6']);
});

async function launch(index: number, peers: readonly number[]): Promise<Running> {
  const site = index % 2 === 0 ? 'lyon' : 'berlin';
  const name = `n${index}`;
  const { tlsCa, tlsCertificate, tlsKey, siteKey, siteTrust } = files.get(site)!;
  const options = {
    ...{
      site,
      node: name,
      listen: '127.0.0.1:0',
      advertise: '127.0.0.1:0',
      monitor: '127.0.0.1:0',
      'health-port': '0',
    },
    ...{ attributes: `cores=${4 * (index + 1)},arch=${index % 2 === 0 ? 'amd64' : 'arm64'}` },
    ...{ allocatable: `cpu=${1_000 * (index + 1)}`, 'gossip-period-ms': '500', 'log-level': 'info' },
    ...{ peers: peers.map((port) => `127.0.0.1:${port}`).join(',') },
    ...{ 'tls-ca': tlsCa, 'tls-certificate': tlsCertificate, 'tls-key': tlsKey },
    ...{ 'site-key': siteKey, 'site-trust': siteTrust },
  };
  const flags = Object.entries(options).flatMap(([flag, value]) => [`--${flag}`, value]);
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'main.ts'), ...flags], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { port, monitorPort } = await listening(child);
  const address = `127.0.0.1:${port}`;
  return {
    name,
    process: child,
    port,
    monitorPort,
    address,
    client: new GrpcResourceSelection(address, clientCredentials),
  };
}

async function listening(child: ChildProcess): Promise<{ port: number; monitorPort: number }> {
  let text = '';
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    text += chunk.toString();
    const line = text.split('\n').find((candidate) => candidate.includes('"Listening"'));
    if (line === undefined) continue;
    return JSON.parse(line) as { port: number; monitorPort: number };
  }
  throw new Error(`The selector ended before it listened: ${text}`);
}

async function ask(asker: Running, asked: Query): Promise<{ names: string[]; refusals: Record<string, number> }> {
  const selected: Selected[] = [];
  for await (const message of asker.client.select(asked, { wanted: 100, timeoutMs: 5_000 })) selected.push(message);
  const names = selected.flatMap((message) => ('offer' in message ? [message.offer.id.split('/')[1] ?? ''] : []));
  const refusals = selected.flatMap((message) => ('summary' in message ? [message.summary.refusals] : []));
  return { names: names.sort(), refusals: { ...refusals[0] } };
}

/** Asks until the answer is what it should be, for at most 40 s: a link, or the machine, may be slow for a moment. */
async function untilFound(
  asker: Running,
  asked: Query,
  expected: readonly string[],
  refusals?: Readonly<Record<string, number>>,
): Promise<void> {
  const end = Date.now() + 40_000;
  for (;;) {
    const answer = await ask(asker, asked).catch((error: unknown) => {
      if (!(error instanceof SelectorUnavailableError) || Date.now() > end) throw error;
      return { names: [error.message], refusals: {} };
    });
    const wanted = { names: expected, refusals: refusals ?? answer.refusals };
    if (isDeepStrictEqual(answer, wanted)) return;
    if (Date.now() > end) expect(answer).toEqual(wanted);
    await sleep(500);
  }
}

/** Gateways that are killed in the middle of a login or a refresh: real operators, a real API server, keys of a real cert-manager, `xos`. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { type PendingAnswer, pendingAnswer } from '#common/identity/gateway-api.ts';
import { waitFor } from '#sites/kube-client.ts';
import { type Finished, runXos, startXos } from '../../cli/testing/processes.ts';
import { aVerifier, type GatewayAnswer, GatewayClient } from '../testing/gateway-client.ts';
import { GatewaySite, systemNamespace } from '../testing/gateway-site.ts';
import { TestOpenIDProvider } from '../testing/openid-provider.ts';
import { freePort, OperatorProcess } from '../testing/process.ts';

jest.setTimeout(180_000);

/** What stands between users and the gateway of the moment, as a Service does; it may keep answers back. */
class Door {
  /** Where connections go. */
  target = 0;
  /** Whether what the gateway says to a request is thrown away. */
  keepsBack = false;
  readonly port: number;
  private readonly server: Server;
  private readonly open = new Set<Socket>();

  private constructor(server: Server, port: number) {
    this.server = server;
    this.port = port;
    server.on('connection', (user) => this.pass(user));
  }

  static async start(): Promise<Door> {
    const port = await freePort();
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    return new Door(server, port);
  }

  breakAll(): void {
    for (const socket of this.open) socket.destroy();
  }

  async stop(): Promise<void> {
    this.breakAll();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private pass(user: Socket): void {
    const gateway = connect(this.target, '127.0.0.1');
    // What the user sends after the gateway has spoken ends the handshake, and is the request (TLS 1.3).
    let hasAnswered = false;
    let isRequest = false;
    user.on('data', (chunk: Buffer) => {
      isRequest ||= hasAnswered;
      gateway.write(chunk);
    });
    gateway.on('data', (chunk: Buffer) => {
      hasAnswered = true;
      if (!(isRequest && this.keepsBack)) user.write(chunk);
    });
    for (const [socket, peer] of [
      [user, gateway],
      [gateway, user],
    ] as const) {
      this.open.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.open.delete(socket);
        peer.destroy();
      });
    }
  }
}

let folder: string;
let site: GatewaySite;
let lab: TestOpenIDProvider;
let door: Door;
let operator: OperatorProcess;
let gateway: GatewayClient;
let env: Record<string, string>;

beforeAll(async () => {
  for (const method of ['info', 'warn'] as const) jest.spyOn(console, method).mockImplementation(() => undefined);
  folder = mkdtempSync(path.join(tmpdir(), 'xtreemos-gateway-crash-'));
  door = await Door.start();
  lab = await TestOpenIDProvider.start({ gateways: [`127.0.0.1:${door.port}`] });
  const openIDConnect = {
    issuer: lab.issuer,
    clientID: lab.clientID,
    clientSecret: { name: 'idp-lab', key: 'secret' },
    caBundle: lab.caBundle,
  };
  site = await GatewaySite.start({ identityProviders: [{ name: 'lab', type: 'OpenIDConnect', openIDConnect }] });
  const data = { secret: Buffer.from(lab.clientSecret).toString('base64') };
  const body = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'idp-lab' }, data };
  await site.client.json('POST', `/api/v1/namespaces/${systemNamespace}/secrets`, { body });
  await start();
  const caBundle = await site.caBundle();
  lab.gateways.set(`127.0.0.1:${door.port}`, { port: door.port, caBundle });
  gateway = new GatewayClient(door.port, caBundle);
  writeFileSync(path.join(folder, 'ca.pem'), caBundle);
  env = { HOME: folder, XDG_STATE_HOME: path.join(folder, 'state'), KUBECONFIG: site.plane.kubeconfigPath };
}, 240_000);

afterAll(async () => {
  await door.stop();
  await operator.end('SIGKILL');
  await site.stop();
  await lab.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Starts an operator, whose gateway gets the connections from then on, and waits until it listens. */
async function start(): Promise<void> {
  const port = await freePort();
  const flags = ['--site-name', 'rennes', '--namespace', systemNamespace, '--lease-name', 'xtreemos'];
  const address = ['--gateway-port', String(port), '--gateway-address', `127.0.0.1:${door.port}`];
  operator = await OperatorProcess.start(site.plane.kubeconfigPath, ...flags, ...address);
  await waitFor(
    'the gateway listens',
    async () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
        socket.on('connect', () => socket.destroy());
      }),
    { limitMs: 90_000 },
  );
  door.target = port;
}

/** Kills the gateway once it has written what `isWritten` looks for; whoever asked gets no answer. */
async function killOnce(isWritten: () => Promise<boolean>): Promise<void> {
  await waitFor('the gateway has written', isWritten, { limitMs: 30_000 });
  await operator.end('SIGKILL');
  door.breakAll();
  door.keepsBack = false;
}

const xos = async (...words: string[]): Promise<Finished> => runXos(words, env);
const file = (): string => path.join(folder, 'state/xos/rennes.json');
const stored = (): { refreshToken: string } => JSON.parse(readFileSync(file(), 'utf8')) as { refreshToken: string };
const versions = async (): Promise<string> =>
  JSON.stringify((await site.sessions()).map(({ metadata }) => [metadata?.name, metadata?.resourceVersion]));

async function begin(body: object): Promise<GatewayAnswer> {
  return gateway.call('POST', '/v1/sessions', { body });
}

/** A login by the provider that waits for the browser. */
async function pending<M extends PendingAnswer['method']>(method: M, more: object = {}) {
  const { verifier, challenge } = aVerifier();
  const answer = pendingAnswer.parse((await begin({ method, provider: 'lab', challenge, ...more })).body);
  if (answer.method !== method) throw new Error('another method was answered');
  return { verifier, answer: answer as Extract<PendingAnswer, { method: M }> };
}

test('killed after a refresh was written and before it was answered: the session goes on, a thief ends it (threat 38)', async () => {
  const at = ['--gateway', `127.0.0.1:${door.port}`, '--ca', path.join(folder, 'ca.pem')];
  const login = await xos('login', '--kubernetes', '--skip-contexts', ...at);
  expect({ code: login.code, stderr: login.stderr }).toEqual({ code: 0, stderr: '' });
  const before = stored();
  writeFileSync(file(), JSON.stringify({ ...before, sessionTokenExpiresAt: new Date(0).toISOString() }));

  const written = await versions();
  door.keepsBack = true;
  const asking = startXos(['whoami'], env);
  await killOnce(async () => (await versions()) !== written);
  await start();
  asking.kill('SIGKILL');
  const again = await xos('whoami');
  expect({ code: again.code, stderr: again.stderr }).toEqual({ code: 0, stderr: '' });
  expect(stored().refreshToken).not.toBe(before.refreshToken);

  const attempt = randomBytes(32).toString('base64url');
  const body = { refreshToken: before.refreshToken, attempt };
  expect((await gateway.call('POST', '/v1/sessions/refresh', { body })).status).toBe(401);
  const ended = await xos('whoami');
  expect(ended.code).toBe(3);
  expect(ended.stderr).toMatch(/session has ended[^]*xos login/);
});

test('killed while the browser is open: another one finishes the login by code and by device', async () => {
  const device = await pending('device');
  const code = await pending('code', { redirectURI: 'http://127.0.0.1:8400/callback' });
  await operator.end('SIGKILL');
  await start();
  await lab.browse(device.answer.verificationURIComplete ?? '', 'alice');
  const byDevice = { method: 'device', handle: device.answer.handle, verifier: device.verifier };
  expect((await begin(byDevice)).status).toBe(201);
  const callbackURL = await lab.browse(code.answer.authorizationURL, 'bob');
  expect(
    (await begin({ method: 'code', handle: code.answer.handle, verifier: code.verifier, callbackURL })).status,
  ).toBe(201);
});

test('killed after a login was written and before it was answered: it is refused afterwards, and a new one works', async () => {
  const code = await pending('code', { redirectURI: 'http://127.0.0.1:8400/callback' });
  const callbackURL = await lab.browse(code.answer.authorizationURL, 'carol');
  const finish = { method: 'code', handle: code.answer.handle, verifier: code.verifier, callbackURL };
  const written = await versions();
  door.keepsBack = true;
  const lost = begin(finish).catch(() => 'no answer');
  await killOnce(async () => (await versions()) !== written);
  expect(await lost).toBe('no answer');
  await start();
  const { status, body } = await begin(finish);
  expect([status, body.error]).toEqual([
    403,
    expect.objectContaining({ code: 'LoginRefused', message: expect.stringContaining('log in again') }),
  ]);
  const next = await pending('code', { redirectURI: 'http://127.0.0.1:8400/callback' });
  const callback = await lab.browse(next.answer.authorizationURL, 'carol');
  const { handle } = next.answer;
  expect((await begin({ method: 'code', handle, verifier: next.verifier, callbackURL: callback })).status).toBe(201);
});

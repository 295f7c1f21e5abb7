/** Logging in and out as processes of their own, against a gateway that speaks HTTPS. */
import { execFile, spawn } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { FakeGateway } from '../../testing/fake-gateway.ts';
import { type Finished, runXos, startXos } from '../../testing/processes.ts';

jest.setTimeout(120_000);
const run = promisify(execFile);

let folder: string;
let gateway: FakeGateway;
let env: Record<string, string>;

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'xos-'));
  gateway = await FakeGateway.start();
  env = { HOME: folder, XDG_STATE_HOME: path.join(folder, 'state'), KUBECONFIG: path.join(folder, 'config') };
  writeFileSync(path.join(folder, 'ca.pem'), gateway.caBundle);
});
afterEach(async () => {
  await gateway.stop();
  rmSync(folder, { recursive: true });
});

const at = (): string[] => ['--gateway', gateway.address, '--ca', path.join(folder, 'ca.pem')];
const xos = async (...words: string[]): Promise<Finished> => runXos(words, env);
const lines = (): string[] => gateway.arrived.map(({ line }) => line);
const stored = (): string => readFileSync(path.join(folder, 'state/xos/rennes.json'), 'utf8');

describe('the device flow', () => {
  test('shows code and address, waits, and sets up kubectl', async () => {
    const { code, stdout, stderr } = await xos('login', '--device', ...at());
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stderr).toContain('https://login.example.org/device');
    expect(stderr).toContain('WDJB-MJHT');
    expect(stdout).toContain('You are logged in at rennes as alice (https://login.example.org)');
    expect(stdout).toContain('xos-rennes-physics');
    expect(lines().filter((line) => line === 'POST /v1/sessions')).toHaveLength(4);
    expect(statSync(path.join(folder, 'state/xos/rennes.json')).mode & 0o777).toBe(0o600);
    expect(statSync(path.join(folder, 'state/xos')).mode & 0o777).toBe(0o700);
    expect(readFileSync(path.join(folder, 'config'), 'utf8')).toContain('kube-credential');
  });

  test('says nothing secret (threat 65)', async () => {
    const { stdout, stderr } = await xos('login', '--device', ...at());
    for (const secret of ['session-1', 'refresh-1', 'kubernetes-']) expect(stdout + stderr).not.toContain(secret);
  });

  test('on a terminal tells how long it waits, and leaves no progress behind', async () => {
    gateway.devicePolls = 3;
    const main = path.resolve(import.meta.dirname, '../../main.ts');
    const line = [process.execPath, main, 'login', '--device', ...at()].join(' ');
    const typed = await new Promise<string>((resolve) => {
      const child = spawn('script', ['-qec', line, '/dev/null'], {
        env: { PATH: process.env.PATH ?? '', TERM: 'xterm', ...env },
      });
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      child.on('close', () => resolve(text));
      child.stdin.end();
    });
    expect(typed).toMatch(/Waiting for the browser, (1m|\d+s)/);
    expect(typed).toContain('    WDJB-MJHT');
    // eslint-disable-next-line no-control-regex -- what a terminal shows in the end: each line after its last erasure
    const shown = typed.split(/\r?\n/).map((text) => text.split(/\r\u001b\[2K/).at(-1) ?? '');
    expect(shown.join('\n')).not.toContain('Waiting for the browser');
    expect(shown.join('\n')).toContain('You are logged in at rennes as alice');
  });

  test('asks for the organizations of --vo alone', async () => {
    expect(await xos('login', '--device', '--vo', 'physics', ...at())).toMatchObject({ code: 0 });
    const [first] = gateway.arrived.filter(({ line }) => line === 'POST /v1/sessions');
    expect(first?.body).toMatchObject({ method: 'device', virtualOrganizations: ['physics'] });
  });

  test('gives up when nobody types the code', async () => {
    gateway.devicePolls = 1000;
    const { code, stderr } = await xos('login', '--device', '--timeout', '2s', ...at());
    expect(code).toBe(3);
    expect(stderr).toContain('Nobody typed the code in time');
  });
});

test('the code flow comes back to a port of this machine', async () => {
  const browser = path.join(folder, 'browser');
  const come = `const back = new URL(process.argv[2]).searchParams.get('redirect_uri');
await fetch(new URL('/favicon.ico', back)); await fetch(back + '?code=c&state=s');`;
  writeFileSync(browser, `#!${process.execPath}\n${come}`, { mode: 0o755 });
  env.BROWSER = browser;
  writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  const { code, stderr } = await xos('login', '--issuer', 'example', ...at());
  expect({ code, stderr }).toMatchObject({ code: 0 });
  const last = gateway.arrived.filter(({ line }) => line === 'POST /v1/sessions').at(-1);
  expect(last?.body).toMatchObject({
    method: 'code',
    callbackURL: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/callback\?code=c&state=s$/),
  });
});

describe('a gateway', () => {
  test('is trusted by the fingerprint of its certificate', async () => {
    const { fingerprint256, raw } = new X509Certificate(gateway.caBundle);
    const right = ['--gateway', gateway.address, '--ca-fingerprint', fingerprint256];
    expect((await xos('login', '--device', '--skip-contexts', ...right)).code).toBe(0);
    const wrong = createHash('sha256').update(raw).update('x').digest('hex');
    const { code, stderr } = await xos('login', '--device', '--gateway', gateway.address, '--ca-fingerprint', wrong);
    expect(code).toBe(3);
    expect(stderr).toContain('No certificate of');
  });

  test('is not trusted without roots, nor with those of another', async () => {
    expect((await xos('login', '--device', '--gateway', gateway.address)).stderr).toContain('--ca-fingerprint');
    const other = await FakeGateway.start();
    await other.stop();
    writeFileSync(path.join(folder, 'ca.pem'), other.caBundle);
    const { code, stderr } = await xos('login', '--device', ...at());
    expect(code).toBe(1);
    expect(stderr).toMatch(/certificate[^]*roots/);
  });
});

describe('a session', () => {
  beforeEach(async () => {
    gateway.devicePolls = 0;
    gateway.sessionTokenSeconds = 1;
    expect((await xos('login', '--device', ...at())).code).toBe(0);
    gateway.sessionTokenSeconds = 600;
    gateway.arrived.length = 0;
  });

  test('is refreshed once by two processes at the same time (threat 38)', async () => {
    const all = await Promise.all([xos('whoami'), xos('whoami'), xos('whoami')]);
    expect(all.map(({ code, stderr }) => [code, stderr])).toEqual(all.map(() => [0, '']));
    expect(lines().filter((line) => line.endsWith('refresh'))).toHaveLength(1);
    expect(all[0].stdout).toMatch(/Issuer: +https:\/\/login.example.org\nSubject: +alice/);
    expect(all[0].stdout).toContain('u-alice-2013265921');
  });

  test('gives kubectl a credential without asking the gateway while it is fresh', async () => {
    const { stdout, code } = await xos('kube-credential', '--site', 'rennes', '--vo', 'physics');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      apiVersion: 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      status: { token: expect.stringMatching(/^kubernetes-/), expirationTimestamp: expect.any(String) },
    });
    expect(lines()).toEqual([]);
  });

  test('goes on when the gateway dies before it answers, and when this program does (threat 38)', async () => {
    gateway.lost = 1;
    expect(await xos('whoami')).toMatchObject({ code: 0, stderr: '' });
    const session = JSON.parse(stored()) as object;
    expect(session).not.toHaveProperty('refreshAttempt');
    const past = new Date(0).toISOString();
    writeFileSync(
      path.join(folder, 'state/xos/rennes.json'),
      JSON.stringify({ ...session, sessionTokenExpiresAt: past }),
    );
    const dying = startXos(['whoami'], env);
    gateway.lost = 1;
    gateway.onLost = () => dying.kill('SIGKILL');
    await once(dying, 'exit');
    expect(JSON.parse(stored())).toMatchObject({ sessionTokenExpiresAt: past, refreshAttempt: expect.any(String) });
    expect(await xos('whoami')).toMatchObject({ code: 0, stderr: '' });
  });

  test('that was revoked is removed, and the message says to log in', async () => {
    const used = JSON.parse(stored()) as { refreshToken: string };
    await fetchRefresh(used.refreshToken);
    const { code, stderr } = await xos('whoami');
    expect(code).toBe(3);
    expect(stderr).toMatch(/session has ended[^]*xos login/);
    expect(readdirSync(path.join(folder, 'state/xos'))).toEqual(['rennes.lock']);
  });

  test('ends at the gateway and here', async () => {
    const { code, stdout } = await xos('logout');
    expect(code).toBe(0);
    expect(stdout).toContain('removed xos-rennes-physics from the kubeconfig');
    expect(lines()).toContain('DELETE /v1/sessions');
    expect(readFileSync(path.join(folder, 'config'), 'utf8')).not.toContain('xos');
    expect((await xos('whoami')).stderr).toContain('You are not logged in at any site');
  });

  test('ends here also when the gateway is gone', async () => {
    await gateway.stop();
    const { code, stderr } = await xos('logout');
    expect(code).toBe(0);
    expect(stderr).toMatch(/could not be told[^]*It ends by itself at/);
    gateway = await FakeGateway.start();
  });

  test('joins after the acceptable use was accepted by its digest, and never without', async () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    gateway.acceptableUse = { text: 'Be kind.\u001b[2J', digest };
    const asked = await xos('vo', 'join', 'physics');
    expect(asked.code).toBe(2);
    expect(asked.stderr).toContain('Be kind.\\x1b[2J');
    expect(asked.stderr).toContain(`--accept ${digest}`);
    expect((await xos('vo', 'join', 'physics', '--accept', digest)).stdout).toBe(
      'You are Active in physics. You can begin.\n',
    );
  });

  /** Uses the refresh token behind the back of the program. */
  async function fetchRefresh(refreshToken: string): Promise<void> {
    const body = JSON.stringify({ refreshToken, attempt: 'x'.repeat(43) });
    const ca = path.join(folder, 'ca.pem');
    await run('curl', ['-sf', '--cacert', ca, '-d', body, `https://${gateway.address}/v1/sessions/refresh`]);
  }
});

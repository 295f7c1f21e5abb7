import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { removeContexts, writeContexts } from './contexts.ts';
import { chooseContext, contextCredentials } from './credentials.ts';
import { execRunner } from './exec.ts';
import { replacePrivateFile } from './files.ts';
import { readKubeconfig } from './kubeconfig.ts';
import { withLock } from './lock.ts';
import { formatPrincipal, parsePrincipal } from './principals.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'xos-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: string): string => {
  const full = path.join(folder, name);
  writeFileSync(full, content);
  return full;
};
const surroundings = (env: Record<string, string> = {}) => ({ env, homeDir: folder });
const base64 = (text: string): string => Buffer.from(text).toString('base64');

const config = `# mine
apiVersion: v1
kind: Config
current-context: work
clusters:
- name: work
  cluster: {server: "https://10.0.0.1:6443/prefix", certificate-authority: ca.pem}
users:
- name: me # not yours
  user: {token: secret}
contexts:
- name: work
  context: {cluster: work, user: me, namespace: mine}
`;

describe('a kubeconfig', () => {
  test('is read with paths beside it, and chosen by name or as current', async () => {
    file('ca.pem', 'CA');
    const named = file('config', config);
    const chosen = chooseContext(await readKubeconfig(named, surroundings()), undefined);
    expect(chosen).toMatchObject({ name: 'work', namespace: 'mine' });
    const credentials = await contextCredentials(chosen, execRunner(surroundings(), 'xos')).load(false);
    expect(credentials).toMatchObject({
      origin: 'https://10.0.0.1:6443',
      basePath: '/prefix',
      headers: { authorization: 'Bearer secret' },
      tls: { ca: 'CA', rejectUnauthorized: true },
    });
  });

  test('of several files gives each name to the first that has it', async () => {
    const first = file('a', 'contexts:\n- name: x\n  context: {cluster: a, user: a}\n');
    const second = file(
      'b',
      `current-context: x\ncontexts:\n- name: x\n  context: {cluster: b, user: b}\n- name: y\n  context: {cluster: b, user: b}\n`,
    );
    const merged = await readKubeconfig(
      undefined,
      surroundings({ KUBECONFIG: `${first}:${path.join(folder, 'none')}:${second}` }),
    );
    expect([merged.currentContext, merged.contexts.get('x')?.cluster, merged.contexts.get('y')?.cluster]).toEqual([
      'x',
      'a',
      'b',
    ]);
  });

  test.each([
    ['no context', 'clusters: []', undefined, /no current context in .*: log in with xos login/],
    ['an unknown context', config, 'home', /--context: "home" is not in the kubeconfig; it has: work/],
    [
      'a missing cluster',
      'contexts:\n- name: x\n  context: {cluster: c, user: u}',
      'x',
      /cluster c of context x is missing/,
    ],
    ['no YAML', 'a: [', undefined, /is not YAML/],
    ['something else', '- 1', undefined, /is not a kubeconfig/],
  ])('with %s is refused with what to do', async (_, text, context, message) => {
    const named = file('config', text);
    await expect(async () => chooseContext(await readKubeconfig(named, surroundings()), context)).rejects.toThrow(
      message,
    );
  });

  test('runs credential plug-ins with what they need, and asks again when refused', async () => {
    const plugin = file(
      'plugin.mjs',
      `import { existsSync, writeFileSync } from 'node:fs';
       const again = existsSync(process.env.MARK); writeFileSync(process.env.MARK, '');
       const { kind, spec } = JSON.parse(process.env.KUBERNETES_EXEC_INFO);
       console.log(JSON.stringify({ kind, status: { token: [again ? 'second' : 'first', spec.cluster.server].join(' ') } }));`,
    );
    const exec = {
      command: process.execPath,
      args: [plugin],
      env: [{ name: 'MARK', value: path.join(folder, 'mark') }],
    };
    const chosen = {
      name: 'x',
      namespace: 'default',
      cluster: { server: 'https://c' },
      user: { exec: { ...exec, provideClusterInfo: true } },
    };
    const source = contextCredentials(chosen, execRunner(surroundings(), 'xos'));
    const tokenOf = async (renew: boolean) => (await source.load(renew)).headers.authorization;
    expect(await tokenOf(false)).toBe('Bearer first https://c');
    expect(await tokenOf(false)).toBe('Bearer first https://c');
    expect(await tokenOf(true)).toBe('Bearer second https://c');
  });

  test('with a plug-in that is missing says how to get it', async () => {
    const user = { exec: { command: path.join(folder, 'none'), installHint: 'Get it from us.' } };
    const chosen = { name: 'x', namespace: 'default', cluster: { server: 'https://c' }, user };
    const loaded = contextCredentials(chosen, execRunner(surroundings(), 'xos')).load(false);
    await expect(loaded).rejects.toMatchObject({ message: expect.stringContaining('none'), remedy: 'Get it from us.' });
  });
});

describe('contexts of sessions', () => {
  const credential = { server: 'https://10.1.0.1:6443', caBundle: 'PEM', namespace: 'vo-physics' };
  const session = { site: 'rennes', virtualOrganization: 'physics', credential };

  test('are written beside the entries of others, which stay with their comments', async () => {
    const named = file('config', config);
    await writeContexts(named, [session], { command: '/bin/xos', makeCurrent: true });
    const text = readFileSync(named, 'utf8');
    expect(text).toContain('# mine');
    expect(text).toContain('name: me # not yours');
    const written = parse(text) as Record<string, { name: string }[]>;
    expect(written['current-context']).toBe('xos-rennes-physics');
    expect(written.clusters).toContainEqual({
      name: 'xos-rennes',
      cluster: { server: credential.server, 'certificate-authority-data': base64('PEM') },
    });
    expect(written.users?.[1]).toMatchObject({
      name: 'xos-rennes-physics',
      user: { exec: { command: '/bin/xos', args: ['kube-credential', '--site', 'rennes', '--vo', 'physics'] } },
    });
    expect(statSync(named).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['config']);
    expect(await removeContexts(named, 'rennes')).toEqual(['xos-rennes-physics']);
    const after = parse(readFileSync(named, 'utf8')) as object;
    expect(after).toEqual({ ...(parse(config) as object), 'current-context': '' });
  });

  test('written twice are the same as written once', async () => {
    const named = path.join(folder, 'new', 'config');
    await writeContexts(named, [session], { command: 'xos', makeCurrent: false });
    const once = readFileSync(named, 'utf8');
    await writeContexts(named, [session], { command: 'xos', makeCurrent: false });
    expect(readFileSync(named, 'utf8')).toBe(once);
  });

  test('leave a file alone that kubectl is changing, or that is no kubeconfig', async () => {
    const named = file('config', config);
    file('config.lock', '');
    await expect(writeContexts(named, [session], { command: 'xos', makeCurrent: false })).rejects.toThrow(
      /config.lock exists/,
    );
    rmSync(path.join(folder, 'config.lock'));
    writeFileSync(named, 'a: [');
    await expect(writeContexts(named, [session], { command: 'xos', makeCurrent: false })).rejects.toThrow(
      /no kubeconfig/,
    );
    expect(readFileSync(named, 'utf8')).toBe('a: [');
  });
});

describe('files', () => {
  test('are replaced where a symbolic link points, and the link stays', async () => {
    mkdirSync(path.join(folder, 'real'));
    const target = file('real/config', 'old');
    const link = path.join(folder, 'link');
    symlinkSync(target, link);
    await replacePrivateFile(link, 'new');
    expect(readFileSync(target, 'utf8')).toBe('new');
    expect(readdirSync(path.join(folder, 'real'))).toEqual(['config']);
  });
});

describe('the lock', () => {
  test('lets one in after the other', async () => {
    const lock = path.join(folder, 'lock');
    const order: string[] = [];
    const work = (name: string) => async (): Promise<void> => {
      order.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 50));
      order.push(`${name} ends`);
    };
    await Promise.all([withLock(lock, 5000, work('a')), withLock(lock, 5000, work('b'))]);
    expect(order.map((entry) => entry.slice(2))).toEqual(['begins', 'ends', 'begins', 'ends']);
    expect(statSync(lock).mode & 0o777).toBe(0o600);
  });

  test('is not waited for without end', async () => {
    const lock = path.join(folder, 'lock');
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const held = withLock(lock, 5000, async () => promise);
    await expect(withLock(lock, 100, async () => 1)).rejects.toThrow(/another xos process holds it/);
    resolve(undefined);
    await held;
    expect(await withLock(lock, 100, async () => 2)).toBe(2);
  });
});

test('principals are written and read the same', () => {
  const principal = { issuer: 'https://login.example.org/a', subject: 'x#y:z' };
  expect(parsePrincipal(formatPrincipal(principal), '--principal')).toEqual(principal);
  expect(() => parsePrincipal('#x', '--principal')).toThrow(/--principal/);
});

import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { certManagerVersion, groupOf, kubernetesVersion, toolGroups } from './tools-catalog.ts';
import { ensureTools, groupDir } from './tools.ts';

const modules = join(import.meta.dirname, '../../hack/tools');
let dir: string;
let cacheDir: string;
const path = process.env.PATH;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tools-test-'));
  cacheDir = join(dir, 'cache');
});
afterEach(() => {
  process.env.PATH = path;
  rmSync(dir, { recursive: true, force: true });
});

/** Puts a `go` on PATH that writes its arguments into the file that follows `-o`. */
function fakeGo(extra = ''): void {
  const bin = join(dir, 'bin');
  mkdirSync(bin, { recursive: true });
  const script = `#!/bin/sh
echo "$@" >> ${dir}/calls
[ "$1" = env ] && { echo go1.26.0; exit 0; }
${extra}
while [ "$1" != -o ]; do shift; done
echo built > "$2"
`;
  writeFileSync(join(bin, 'go'), script);
  chmodSync(join(bin, 'go'), 0o755);
  process.env.PATH = `${bin}:${path ?? ''}`;
}

const calls = (): string[] =>
  existsSync(join(dir, 'calls')) ? readFileSync(join(dir, 'calls'), 'utf8').trim().split('\n') : [];
const builds = (): string[] => calls().filter((call) => call.startsWith('build'));

describe('looking for programs', () => {
  test('takes the given folder first, then the cache, and builds what neither has', async () => {
    fakeGo();
    const toolsDir = join(dir, 'given');
    const etcdDir = groupDir(cacheDir, groupOf('etcd'));
    for (const [folder, name] of [[toolsDir, 'kubectl'], [etcdDir, 'etcd'], [toolsDir, 'etcd']] as const) {
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, name), '');
    } // prettier-ignore
    writeFileSync(join(etcdDir, 'etcdctl'), '');
    const tools = await ensureTools(['kubectl', 'etcd', 'etcdctl', 'ctr'], {
      toolsDir,
      cacheDir,
      report: () => undefined,
    });
    expect(tools.path('kubectl')).toBe(join(toolsDir, 'kubectl'));
    expect(tools.path('etcd')).toBe(join(toolsDir, 'etcd'));
    expect(tools.path('etcdctl')).toBe(join(etcdDir, 'etcdctl'));
    expect(readFileSync(tools.path('ctr'), 'utf8')).toBe('built\n');
    expect(builds()).toHaveLength(1);
    expect(() => tools.path('helm')).toThrow(/helm wasn't among the programs asked for/);
  });

  test('builds once for two that ask at the same time', async () => {
    fakeGo('sleep 0.2');
    const ask = async (): Promise<unknown> => ensureTools(['ctr'], { toolsDir: '', cacheDir, report: () => undefined });
    await Promise.all([ask(), ask()]);
    expect(builds()).toHaveLength(1);
  });

  test('never shows a program whose build broke off, and sweeps up what it left', async () => {
    fakeGo('while [ "$1" != -o ]; do shift; done; echo half > "$2"; echo "no space left" >&2; exit 1');
    const ask = async (): Promise<unknown> => ensureTools(['ctr'], { toolsDir: '', cacheDir, report: () => undefined });
    await expect(ask()).rejects.toThrow(/go build failed in .*containerd.*no space left/s);
    const folder = groupDir(cacheDir, groupOf('ctr'));
    expect(existsSync(join(folder, 'ctr'))).toBe(false);
    rmSync(join(dir, 'bin'), { recursive: true });
    fakeGo();
    await ask();
    expect(readdirSync(folder)).toEqual(['ctr']);
  });

  test('says what to do when Go is missing or too old', async () => {
    process.env.PATH = join(dir, 'nothing');
    const ask = async (): Promise<unknown> => ensureTools(['ctr'], { toolsDir: '', cacheDir, report: () => undefined });
    await expect(ask()).rejects.toThrow(/Go isn't on PATH.*Install Go 1.26 or newer.*XTREEMOS_TOOLS_DIR/);
    fakeGo();
    writeFileSync(join(dir, 'bin/go'), '#!/bin/sh\necho go1.25.9\n');
    await expect(ask()).rejects.toThrow(/Go is go1.25.9, which is too old/);
  });

  test('tells how far it is and how long it may take', async () => {
    fakeGo();
    const lines: string[] = [];
    await ensureTools(['etcd', 'etcdctl'], { toolsDir: '', cacheDir, report: (line) => lines.push(line) });
    expect(lines).toEqual([
      expect.stringMatching(/^Building etcd \(1 of 2, about \d+ s left\)$/),
      expect.stringMatching(/^Building etcdctl \(2 of 2, about \d+ s left\)$/),
    ]);
  });
});

describe('the catalog', () => {
  test('names the versions that the modules pin', () => {
    const mod = (group: string): string => readFileSync(join(modules, group, 'go.mod'), 'utf8');
    expect(mod('kubernetes')).toContain(`k8s.io/kubernetes ${kubernetesVersion}`);
    expect(mod('cert-manager')).toContain(`cert-manager ${certManagerVersion}`);
  });

  test('knows every package that a module pins, and no other', () => {
    for (const group of toolGroups) {
      const pinned = [...readFileSync(join(modules, group.name, 'tools.go'), 'utf8').matchAll(/_ "([^"]+)"/g)].map(
        ([, name]) => name,
      );
      expect([group.name, Object.values(group.programs).sort()]).toEqual([group.name, pinned.sort()]);
      expect(Object.keys(group.seconds).sort()).toEqual(Object.keys(group.programs).sort());
    }
  });

  test('gives a group another folder when its flags or modules change', () => {
    const group = groupOf('runc');
    expect(groupDir('/c', { ...group, tags: '' })).not.toBe(groupDir('/c', group));
    expect(groupDir('/c', { ...group, ldflags: '-X a=b' })).not.toBe(groupDir('/c', group));
    expect(groupDir('/c', group)).toMatch(/^\/c\/runc-[0-9a-f]{16}$/);
  });

  test('says which programs there are when asked for another', () => {
    expect(() => groupOf('nginx')).toThrow(/no pinned module builds nginx; known programs: etcd, /);
  });
});

/**
 * Finds the programs that sites are made of: in the folder named by `XTREEMOS_TOOLS_DIR`, in the user's cache, or by
 * building them from the pinned modules in `hack/tools/`.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { availableParallelism, homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { withLock } from './lock.ts';
import { checkBuildPrerequisites } from './prerequisites.ts';
import { groupOf, type ToolGroup, toolGroups } from './tools-catalog.ts';

const run = promisify(execFile);
const modulesDir = resolve(dirname(fileURLToPath(import.meta.url)), '../../hack/tools');
/** Changes whenever the layout of a cache folder or the fixed flags below do. */
const cacheFormat = '1';

/** Where the programs asked for are. */
export interface Tools {
  /** Absolute path of a program or folder. @throws when it wasn't asked for. */
  path(name: string): string;
}

/** What `ensureTools` takes from its surroundings; each has a default. */
export interface ToolsEnvironment {
  /** A folder with ready programs, used first. Default: `XTREEMOS_TOOLS_DIR`. */
  readonly toolsDir?: string | undefined;
  /** Default: `$XDG_CACHE_HOME/xtreemos/tools`, else `~/.cache/xtreemos/tools`. */
  readonly cacheDir?: string;
  /** Receives one line per step; standard error by default. */
  readonly report?: (line: string) => void;
}

/** The user's cache of this project. */
export function cacheRoot(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base !== undefined && base !== '' ? base : join(homedir(), '.cache'), 'xtreemos');
}

/**
 * Makes sure that each named program is there, building what isn't. Safe to run twice at once (one builds, the other
 * waits), and to kill: finished programs stay, half-made ones are never seen.
 * @throws with the mending command when Go, a C compiler, a package, disk or memory is missing.
 */
export async function ensureTools(names: readonly string[], environment: ToolsEnvironment = {}): Promise<Tools> {
  const toolsDir = environment.toolsDir ?? process.env.XTREEMOS_TOOLS_DIR;
  const cacheDir = environment.cacheDir ?? join(cacheRoot(), 'tools');
  const report = environment.report ?? ((line) => process.stderr.write(`${line}\n`));
  const paths = new Map<string, string>();
  const missing: string[] = [];
  for (const name of new Set(names)) {
    const group = groupOf(name);
    const given = toolsDir === undefined || toolsDir === '' ? undefined : join(resolve(toolsDir), name);
    if (given !== undefined && existsSync(given)) paths.set(name, given);
    else {
      const path = join(groupDir(cacheDir, group), name);
      paths.set(name, path);
      if (!existsSync(path)) missing.push(name);
    }
  }
  if (missing.length > 0) await build(missing, cacheDir, report);
  return {
    path: (name) => {
      const path = paths.get(name);
      if (path === undefined) throw new Error(`${name} wasn't among the programs asked for`);
      return path;
    },
  };
}

/** Folder of a group's programs; its name changes with anything that changes them. */
export function groupDir(cacheDir: string, group: ToolGroup): string {
  const hash = createHash('sha256');
  for (const part of [cacheFormat, process.platform, process.arch, group.cgo ?? false, group.tags, group.ldflags]) {
    hash.update(`${String(part)}\0`);
  }
  hash.update(JSON.stringify([group.programs, group.folders]));
  for (const file of ['go.mod', 'go.sum']) hash.update(readFileSync(join(modulesDir, group.name, file)));
  return join(cacheDir, `${group.name}-${hash.digest('hex').slice(0, 16)}`);
}

async function build(missing: readonly string[], cacheDir: string, report: (line: string) => void): Promise<void> {
  const groups = toolGroups.filter((group) => missing.some((name) => groupOf(name) === group));
  mkdirSync(cacheDir, { recursive: true });
  await checkBuildPrerequisites({ cacheDir, needsC: groups.some((group) => group.cgo === true), report });
  const progress = new Progress(
    groups.flatMap((group) => missing.filter((name) => groupOf(name) === group)),
    report,
  );
  for (const group of groups) {
    const dir = groupDir(cacheDir, group);
    const work = async (): Promise<void> => {
      mkdirSync(dir, { recursive: true });
      for (const file of readdirSync(dir)) {
        if (file.endsWith('.part')) rmSync(join(dir, file), { recursive: true, force: true });
      }
      for (const name of missing.filter((each) => groupOf(each) === group)) {
        if (existsSync(join(dir, name))) progress.skip(name);
        else await progress.measure(name, async () => make(group, name, dir));
      }
    };
    await withLock(`${dir}.lock`, work, {
      onWait: (holder) => report(`Waiting for process ${holder}, which is building ${group.name}`),
    });
  }
}

async function make(group: ToolGroup, name: string, dir: string): Promise<void> {
  const part = join(dir, `.${name}.${process.pid}.part`);
  const cwd = join(modulesDir, group.name);
  const folder = group.folders?.[name];
  if (folder !== undefined) {
    const [module, path] = folder;
    await go(cwd, group, ['mod', 'download', module]);
    const root = (await go(cwd, group, ['list', '-m', '-f', '{{.Dir}}', module])).trim();
    cpSync(join(root, path), part, { recursive: true });
    await run('chmod', ['-R', 'u+w', part]);
  } else {
    const target = group.programs[name] ?? '';
    const flags = ['-mod=readonly', '-buildvcs=false', '-trimpath', '-tags', group.tags ?? ''];
    await go(cwd, group, ['build', ...flags, '-ldflags', `-s -w ${group.ldflags ?? ''}`, '-o', part, target]);
  }
  renameSync(part, join(dir, name));
}

async function go(cwd: string, group: ToolGroup, args: readonly string[]): Promise<string> {
  const env = { ...process.env, CGO_ENABLED: group.cgo === true ? '1' : '0', GOFLAGS: '', GOWORK: 'off' };
  try {
    return (await run('go', [...args], { cwd, env, maxBuffer: 16 * 1024 * 1024 })).stdout;
  } catch (error) {
    const text = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
    const lines = text.trimEnd().split('\n').slice(-20).join('\n');
    throw new Error(`go ${args[0] ?? ''} failed in ${cwd}. Its last lines:\n${lines}`, { cause: error });
  }
}

/** Tells how far the build is and how long it may take, from measured times scaled to this machine. */
class Progress {
  private readonly total: number;
  private readonly report: (line: string) => void;
  private readonly waiting: Map<string, number>;
  private expected = 0;
  private spent = 0;

  constructor(names: readonly string[], report: (line: string) => void) {
    const scale = Math.max(0.25, 2 / availableParallelism());
    this.waiting = new Map(names.map((name) => [name, (groupOf(name).seconds[name] ?? 1) * scale]));
    this.total = names.length;
    this.report = report;
  }

  skip(name: string): void {
    this.waiting.delete(name);
  }

  async measure(name: string, work: () => Promise<void>): Promise<void> {
    const left = [...this.waiting.values()].reduce((sum, seconds) => sum + seconds, 0);
    // Once something was built, this machine's own pace counts.
    const pace = this.spent > 5 ? this.spent / this.expected : 1;
    const number = this.total - this.waiting.size + 1;
    this.report(`Building ${name} (${number} of ${this.total}, ${about(left * pace)} left)`);
    const started = performance.now();
    await work();
    this.spent += (performance.now() - started) / 1000;
    this.expected += this.waiting.get(name) ?? 0;
    this.waiting.delete(name);
  }
}

function about(seconds: number): string {
  return seconds < 90 ? `about ${Math.max(1, Math.round(seconds))} s` : `about ${Math.round(seconds / 60)} min`;
}

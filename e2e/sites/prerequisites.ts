/** What the machine must offer, checked before anything starts, each with the command that mends it. */
import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { TerminalError } from '#common/errors.ts';

const run = promisify(execFile);
const GiB = 1024 ** 3;
/** The go directive of the modules in `hack/tools/`. */
const goMinimum = [1, 26] as const;

/** Something on PATH or known to pkg-config, and the Debian package that brings it. */
export interface Need {
  readonly what: { readonly command: string } | { readonly library: string } | { readonly file: string };
  readonly debianPackage: string;
}

const buildNeedsC: readonly Need[] = [
  { what: { command: 'gcc' }, debianPackage: 'gcc' },
  { what: { file: '/usr/include/stdio.h' }, debianPackage: 'libc6-dev' },
  { what: { command: 'pkg-config' }, debianPackage: 'pkg-config' },
  { what: { library: 'libseccomp' }, debianPackage: 'libseccomp-dev' },
];

/** What a running site needs from the machine. */
export const siteNeeds: readonly Need[] = [
  { what: { command: 'ip' }, debianPackage: 'iproute2' },
  { what: { command: 'tc' }, debianPackage: 'iproute2' },
  { what: { command: 'nft' }, debianPackage: 'nftables' },
  { what: { command: 'conntrack' }, debianPackage: 'conntrack' },
  { what: { command: 'nsenter' }, debianPackage: 'util-linux' },
  { what: { command: 'setpriv' }, debianPackage: 'util-linux' },
  { what: { command: 'mount' }, debianPackage: 'mount' },
  { what: { command: 'mkfs.ext4' }, debianPackage: 'e2fsprogs' },
  { what: { file: '/bin/busybox' }, debianPackage: 'busybox-static' },
];

/** What tests of mounted file systems look at extended attributes with. */
const mountNeeds: readonly Need[] = [
  { what: { command: 'setfattr' }, debianPackage: 'attr' },
  { what: { command: 'getfattr' }, debianPackage: 'attr' },
  { what: { command: 'setfacl' }, debianPackage: 'acl' },
  { what: { command: 'getfacl' }, debianPackage: 'acl' },
];

/** What `checkBuildPrerequisites` looks at. */
export interface BuildCheck {
  readonly cacheDir: string;
  readonly needsC: boolean;
  readonly report: (line: string) => void;
}

/** @throws {TerminalError} listing everything that is missing for building, with the mending commands. */
export async function checkBuildPrerequisites({ cacheDir, needsC, report }: BuildCheck): Promise<void> {
  const problems = [await goProblem(), await diskProblem(cacheDir, 12, 'build'), memoryProblem(2, 'build')];
  if (needsC) problems.push(await ensurePackages(buildNeedsC, report));
  throwProblems(problems);
}

/** @throws {TerminalError} listing everything that is missing for running sites. */
export async function checkSitePrerequisites(
  stateDir: string,
  memoryGiB: number,
  report: (line: string) => void,
): Promise<void> {
  if (process.platform !== 'linux')
    throwProblems([`Sites need Linux; this is ${process.platform}. Use a Linux machine or VM.`]);
  if (process.getuid?.() !== 0) {
    throwProblems([
      'Sites make network namespaces, mounts and cgroups: run as root, for example `sudo -E make sites`.',
    ]);
  }
  throwProblems([
    await diskProblem(stateDir, 4, 'run sites'),
    memoryProblem(memoryGiB, 'run sites of this size'),
    await ensurePackages(siteNeeds, report),
  ]);
  throwProblems([await namespaceProblem()]);
}

/** @throws {TerminalError} listing the commands that tests of mounted file systems miss. */
export async function checkMountPrerequisites(report: (line: string) => void): Promise<void> {
  throwProblems([await ensurePackages(mountNeeds, report)]);
}

async function namespaceProblem(): Promise<string | undefined> {
  try {
    await run('unshare', [
      '--net',
      '--mount',
      '--uts',
      '--propagation',
      'private',
      'mount',
      '-t',
      'tmpfs',
      'tmpfs',
      '/mnt',
    ]);
    return undefined;
  } catch {
    return 'This root may not make namespaces or mounts (a container?). Run on the machine itself, or in a container started with --privileged.';
  }
}

function throwProblems(problems: readonly (string | undefined)[]): void {
  const found = problems.filter((problem) => problem !== undefined);
  if (found.length > 0) throw new TerminalError(found.join('\n'));
}

async function goProblem(): Promise<string | undefined> {
  const mend =
    `Install Go ${goMinimum.join('.')} or newer (https://go.dev/doc/install), or set XTREEMOS_TOOLS_DIR to a folder ` +
    'that holds the ready programs.';
  try {
    const { stdout } = await run('go', ['env', 'GOVERSION'], { env: process.env });
    const [, major, minor] = /^go(\d+)\.(\d+)/.exec(stdout) ?? [];
    const found = Number(major) * 1000 + Number(minor);
    if (found >= goMinimum[0] * 1000 + goMinimum[1]) return undefined;
    return `Go is ${stdout.trim()}, which is too old to build the test programs. ${mend}`;
  } catch {
    return `Go isn't on PATH; the test programs are built with it. ${mend}`;
  }
}

async function diskProblem(dir: string, needGiB: number, purpose: string): Promise<string | undefined> {
  let existing = dir;
  while (!existsSync(existing)) existing = join(existing, '..');
  const { bavail, bsize } = await statfs(existing);
  const freeGiB = (bavail * bsize) / GiB;
  if (freeGiB >= needGiB) return undefined;
  return `${existing} has ${freeGiB.toFixed(1)} GiB free, ${needGiB} are needed to ${purpose}. Free some (\`go clean -cache\` helps), or point XDG_CACHE_HOME or XTREEMOS_SITES_DIR elsewhere.`;
}

function memoryProblem(needGiB: number, purpose: string): string | undefined {
  const [, kib] = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? [];
  const freeGiB = (Number(kib) * 1024) / GiB;
  if (!(freeGiB < needGiB)) return undefined;
  return `${freeGiB.toFixed(1)} GiB of memory are available, ${needGiB} are needed to ${purpose}. End other programs, or ask for fewer SITES or NODES.`;
}

/** Installs missing packages as root on Debian. @returns a sentence naming what is still missing, with the command. */
async function ensurePackages(needs: readonly Need[], report: (line: string) => void): Promise<string | undefined> {
  const missing = await missingPackages(needs);
  if (missing.length === 0) return undefined;
  const command = `apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  const isDebian = existsSync('/etc/debian_version');
  if (isDebian && process.getuid?.() === 0) {
    report(`Installing ${missing.join(', ')}`);
    await aptInstall(missing);
    const still = await missingPackages(needs);
    return still.length === 0 ? undefined : `Still missing after installing: ${still.join(', ')}. Try: ${command}`;
  }
  const how = isDebian
    ? `Run: sudo ${command}`
    : `Install what your distribution calls the Debian packages ${missing.join(', ')}.`;
  return `Missing on this machine: ${missing.join(', ')}. ${how}`;
}

async function missingPackages(needs: readonly Need[]): Promise<string[]> {
  const missing = new Set<string>();
  for (const need of needs) if (!(await has(need))) missing.add(need.debianPackage);
  return [...missing].sort();
}

async function has({ what }: Need): Promise<boolean> {
  if ('file' in what) return existsSync(what.file);
  if ('command' in what) return findCommand(what.command) !== undefined;
  try {
    await run('pkg-config', ['--exists', what.library]);
    return true;
  } catch {
    return false;
  }
}

/** Absolute path of a command, looked up in PATH and the folders of system programs. */
export function findCommand(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return folders
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

async function aptInstall(packages: readonly string[]): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = async (): Promise<unknown> =>
    run('apt-get', ['-o', 'DPkg::Lock::Timeout=300', 'install', '-y', '--no-install-recommends', ...packages], { env });
  try {
    await install();
  } catch {
    // The package lists may be absent or old: renew them and try once more.
    await run('apt-get', ['-o', 'DPkg::Lock::Timeout=300', 'update'], { env }).catch(() => undefined);
    await install().catch(() => undefined);
  }
}

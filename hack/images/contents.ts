/** Where the files of our images come from: this machine's own programs and the libraries they load. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';

import { TerminalError } from '#common/errors.ts';

import type { LayerEntry } from './layer.ts';

/** Identity of the non-root user in every image; Kubernetes' own images use the same number. */
export const nonRoot = 65532;

/**
 * Programs with every shared library they load, each at its own path.
 * @param programs - source on this machine → path in the image.
 * @throws {TerminalError} when a library isn't found.
 */
export function programEntries(programs: Readonly<Record<string, string>>): LayerEntry[] {
  const entries = new Map<string, LayerEntry>();
  for (const [source, path] of Object.entries(programs)) {
    const real = realpathSync(source);
    entries.set(path, { type: 'file', path, source: real, mode: 0o755 });
    for (const library of librariesOf(real)) {
      entries.set(library, { type: 'file', path: library, source: realpathSync(library), mode: 0o755 });
    }
  }
  return [...entries.values()];
}

/** Absolute paths of the shared libraries that the dynamic loader maps for a program; empty for a static one. */
export function librariesOf(program: string): string[] {
  let listing: string;
  try {
    listing = execFileSync('/usr/bin/ldd', [program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return []; // ldd ends with 1 for a static program
  }
  const missing = /^\s*(\S+) => not found/m.exec(listing);
  if (missing !== null) throw new TerminalError(`${program} needs ${missing[1] ?? ''}, which this machine lacks`);
  return [...listing.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path]) => path ?? '').sort();
}

/** What a base system needs besides programs: names of users, a world-writable /tmp, host look-ups by file, then DNS. */
export function baseEntries(): LayerEntry[] {
  const passwd = `root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:${nonRoot}:${nonRoot}:nonroot:/home/nonroot:/sbin/nologin\n`;
  return [
    { type: 'content', path: '/etc/passwd', content: passwd },
    { type: 'content', path: '/etc/group', content: `root:x:0:\nnonroot:x:${nonRoot}:\n` },
    { type: 'content', path: '/etc/nsswitch.conf', content: 'passwd: files\ngroup: files\nhosts: files dns\n' },
    { type: 'directory', path: '/tmp', mode: 0o1777 },
    { type: 'directory', path: '/root', mode: 0o700 },
    { type: 'directory', path: '/home/nonroot', mode: 0o755, uid: nonRoot, gid: nonRoot },
    { type: 'directory', path: '/proc' },
    { type: 'directory', path: '/sys' },
    { type: 'directory', path: '/dev' },
    { type: 'directory', path: '/run' },
    { type: 'directory', path: '/var/tmp', mode: 0o1777 },
  ];
}

/** A shell and the usual small programs: Debian's static busybox with a link per program it plays. */
export function busyboxEntries(busybox = '/bin/busybox'): LayerEntry[] {
  if (!existsSync(busybox)) throw new TerminalError(`${busybox} is missing: apt-get install -y busybox-static`);
  if (librariesOf(busybox).length > 0) {
    throw new TerminalError(`${busybox} isn't static: apt-get install -y busybox-static`);
  }
  const applets = execFileSync(busybox, ['--list'], { encoding: 'utf8' }).split('\n');
  return [
    { type: 'file', path: '/bin/busybox', source: busybox, mode: 0o755 },
    ...applets
      .filter((name) => name !== '' && name !== 'busybox')
      .map((name): LayerEntry => ({ type: 'link', path: `/bin/${name}`, target: 'busybox' })),
  ];
}

/** Every file below a folder of this machine, under `path` in the image. Times and owners are left out. */
export function folderEntries(source: string, path: string): LayerEntry[] {
  return readdirSync(source, { withFileTypes: true }).flatMap((item): LayerEntry[] => {
    const [from, to] = [join(source, item.name), `${path}/${item.name}`];
    if (item.isDirectory()) return folderEntries(from, to);
    if (!item.isFile() && !statSync(from).isFile()) return [];
    const mode = (statSync(from).mode & 0o111) === 0 ? 0o644 : 0o755;
    return [{ type: 'file', path: to, source: realpathSync(from), mode }];
  });
}

interface PackageFile {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/**
 * Installed npm packages with everything they depend on, for what can't be bundled (native code).
 * Optional dependencies come along when they are installed, that is: those of this platform.
 */
export function packageEntries(root: string, names: readonly string[], path: string): LayerEntry[] {
  const seen = new Set<string>();
  const queue = [...names];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    const folder = join(root, 'node_modules', name);
    if (seen.has(name) || !existsSync(folder)) continue;
    seen.add(name);
    queue.push(...dependenciesOf(folder));
  }
  const missing = names.filter((name) => !seen.has(name));
  if (missing.length > 0) throw new TerminalError(`not installed: ${missing.join(', ')}; run npm ci`);
  return [...seen]
    .sort()
    .flatMap((name) => folderEntries(join(root, 'node_modules', name), `${path}/node_modules/${name}`));
}

/** What a package needs, and what those inside its own `node_modules` need: that may lie beside it. */
function dependenciesOf(folder: string): string[] {
  const file = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as PackageFile;
  const inside = join(folder, 'node_modules');
  const nested = existsSync(inside) ? readdirSync(inside).filter((name) => !name.startsWith('.')) : [];
  const packages = nested.flatMap((name) =>
    name.startsWith('@') ? readdirSync(join(inside, name)).map((each) => join(name, each)) : [name],
  );
  return [
    ...Object.keys({ ...file.dependencies, ...file.optionalDependencies }),
    ...packages.flatMap((name) => dependenciesOf(join(inside, name))),
  ];
}

/** The program bundles of `make bundle`: `dist/NAME.mjs`. */
export function bundleNames(distDir: string): string[] {
  if (!existsSync(distDir)) return [];
  return readdirSync(distDir)
    .filter((file) => file.endsWith('.mjs'))
    .map((file) => basename(file, '.mjs'))
    .sort();
}

import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { TerminalError } from '#common/errors.ts';

import {
  baseEntries,
  bundleNames,
  busyboxEntries,
  folderEntries,
  nonRoot,
  packageEntries,
  programEntries,
} from './contents.ts';
import type { LayerEntry } from './layer.ts';
import type { ImageRecipe } from './layout.ts';

/** Folder of the checkout. */
export const projectDir = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
/** Folder of the bundles. */
export const distDir = join(projectDir, 'dist');
const user = `${nonRoot}:${nonRoot}`;

/** Version of the product, from package.json; the tag of its image. */
export function productVersion(): string {
  const file = JSON.parse(readFileSync(join(projectDir, 'package.json'), 'utf8')) as { version: string };
  return file.version;
}

/** Name of the product's image. */
export function productImage(): string {
  return `xtreemos.io/xtreemos:${productVersion()}`;
}

/** A shell and small programs, for jobs and tests. Runs as any user. */
export function busyboxRecipe(): ImageRecipe {
  return {
    name: 'xtreemos.io/busybox:1',
    layers: [[...baseEntries(), ...busyboxEntries()]],
    entrypoint: [],
    command: ['/bin/sh'],
  };
}

/** A shell and Node.js, for jobs and tests. Runs as any user. */
export function nodeJobRecipe(): ImageRecipe {
  return {
    name: 'xtreemos.io/node-job:1',
    layers: [[...baseEntries(), ...busyboxEntries()], nodeLayer()],
    entrypoint: [],
    command: ['/usr/local/bin/node'],
  };
}

/** Waits, and collects orphans of pods that share a process namespace. */
export function pauseRecipe(): ImageRecipe {
  const wait = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done";
  return {
    name: 'xtreemos.io/pause:1',
    layers: [[...baseEntries(), ...busyboxEntries()]],
    entrypoint: ['/bin/sh', '-c', wait],
    user,
  };
}

/**
 * All our programs in one image, chosen by the first argument. No shell. Non-root, except where a pod says otherwise:
 * the node agent mounts, and brings `mount` and `umount` for that.
 * @throws {TerminalError} when nothing has been bundled.
 */
export function productRecipe(): ImageRecipe {
  const programs = bundleNames(distDir);
  if (programs.length === 0) throw new TerminalError(`${distDir} holds no bundles: run make bundle`);
  const application: LayerEntry[] = [
    { type: 'content', path: '/app/main.mjs', content: dispatcher(programs) },
    ...programs.map((name): LayerEntry => {
      return { type: 'file', path: `/app/${name}.mjs`, source: join(distDir, `${name}.mjs`), mode: 0o644 };
    }),
    // Protocol descriptions are read at run time, from where the bundle expects the sources' layout.
    ...folderEntries(join(projectDir, 'proto'), '/app/proto').filter(({ path }) => path.endsWith('.proto')),
  ];
  const natives = packageEntries(projectDir, ['lmdb', 'etcd3'], '/app');
  const tools = programEntries({ '/bin/mount': '/usr/bin/mount', '/bin/umount': '/usr/bin/umount' });
  const known = new Set(tools.map(({ path }) => path));
  return {
    name: productImage(),
    layers: [[...baseEntries(), ...tools, ...nodeLayer().filter(({ path }) => !known.has(path))], natives, application],
    entrypoint: ['/usr/local/bin/node', '/app/main.mjs'],
    command: ['operator'],
    user,
    workingDir: '/app',
    env: { NODE_ENV: 'production' },
    labels: { 'org.opencontainers.image.version': productVersion(), 'org.opencontainers.image.licenses': 'Apache-2.0' },
  };
}

/** An image with one static program, as any user. */
export function programRecipe(name: string, layer: readonly LayerEntry[], program: string): ImageRecipe {
  return { name, layers: [layer], entrypoint: [program], user };
}

/** The Node.js that runs this, with its libraries. */
function nodeLayer(): LayerEntry[] {
  return programEntries({ [process.execPath]: '/usr/local/bin/node' });
}

/** Runs the program that the first argument names, with the arguments that follow. */
function dispatcher(programs: readonly string[]): string {
  return `const programs = ${JSON.stringify(programs)};
const [node, , program, ...args] = process.argv;
if (!programs.includes(program)) {
  console.error(\`usage: \${programs.join(' | ')} [flags]; not \${program}\`);
  process.exit(2);
}
const file = new URL(\`./\${program}.mjs\`, import.meta.url);
process.argv = [node, file.pathname, ...args];
await import(file.href);
`;
}

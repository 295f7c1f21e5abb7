/** Images that every node has before anything is installed: pause, CoreDNS, cert-manager, and the shells for jobs. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { writeArchive, writeLayout } from '../../hack/images/layout.ts';
import { busyboxRecipe, pauseRecipe, programRecipe } from '../../hack/images/recipes.ts';
import { baseEntries, programEntries } from '../../hack/images/contents.ts';
import type { ImageRecipe } from '../../hack/images/layout.ts';
import { withLock } from './lock.ts';
import { cacheRoot, type Tools } from './tools.ts';
import { certManagerVersion } from './tools-catalog.ts';

/** Programs that run as pods in every site. */
export const podTools = [
  'coredns',
  'cert-manager-controller',
  'cert-manager-webhook',
  'cert-manager-cainjector',
] as const;

/** Changes whenever the recipes below, or those they use, change what they make. */
const recipeVersion = '1';

/** Full name of the image that holds one of `podTools`. */
export function podImage(program: (typeof podTools)[number]): string {
  return `xtreemos.io/${program}:${program === 'coredns' ? 'v1.15.0' : certManagerVersion}`;
}

/** Archives to import, in this order. */
export interface SystemImages {
  /** Pause, CoreDNS, busybox: small, and needed before the first pod. */
  readonly base: string;
  readonly certManager: string;
}

/** Makes the archives, or finds them in the user's cache. */
export async function ensureSystemImages(tools: Tools, report: (line: string) => void): Promise<SystemImages> {
  const recipe = (program: (typeof podTools)[number]): ImageRecipe => {
    const path = `/usr/local/bin/${program}`;
    return programRecipe(
      podImage(program),
      [...baseEntries(), ...programEntries({ [tools.path(program)]: path })],
      path,
    );
  };
  const { coredns, certManager } = { coredns: podTools.slice(0, 1), certManager: podTools.slice(1) };
  return {
    base: await archive(
      'base',
      tools,
      [...coredns],
      () => [pauseRecipe(), busyboxRecipe(), ...coredns.map(recipe)],
      report,
    ),
    certManager: await archive('cert-manager', tools, [...certManager], () => certManager.map(recipe), report),
  };
}

async function archive(
  name: string,
  tools: Tools,
  programs: readonly string[],
  recipes: () => ImageRecipe[],
  report: (line: string) => void,
): Promise<string> {
  const hash = createHash('sha256').update(recipeVersion);
  for (const program of programs) hash.update(await digestOf(tools.path(program)));
  const path = join(cacheRoot(), 'images', `${name}-${hash.digest('hex').slice(0, 16)}.tar`);
  await withLock(`${path}.lock`, async () => {
    if (existsSync(path)) return;
    report(`Building images: ${name}`);
    mkdirSync(dirname(path), { recursive: true });
    for (const old of readdirSync(dirname(path))) {
      if (old.startsWith(`${name}-`) && old.endsWith('.tar')) rmSync(join(dirname(path), old));
    }
    const layout = `${path}.layout`;
    await writeLayout(layout, recipes());
    await writeArchive(layout, path);
    rmSync(layout, { recursive: true });
  });
  return path;
}

/** The Go build id stands for the content: reading a hundred bytes is cheaper than hashing a hundred megabytes. */
async function digestOf(program: string): Promise<string> {
  const id = readFileSync(program).subarray(0, 64 * 1024);
  return createHash('sha256').update(id).digest('hex');
}

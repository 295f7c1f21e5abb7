/** `make images`: builds our images into `dist/images/`, imports them into running sites, pushes them when asked. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { describeError } from '#common/errors.ts';

import { instanceNames } from '../../e2e/sites/instance.ts';
import { localProvider } from '../../e2e/sites/provider.ts';
import { writeArchive, writeLayout } from './layout.ts';
import { parsePushTarget, pushLayout } from './push.ts';
import { writeTree } from './tree.ts';
import { busyboxRecipe, distDir, nodeJobRecipe, productRecipe } from './recipes.ts';

const help = `Builds the images of the product and of jobs, without a daemon.

usage: node hack/images/main.ts [flags]

  --push REGISTRY/PREFIX  also push them (PUSH_USER and PUSH_PASSWORD log in)
  --rootfs DIR            write the product's files into DIR instead (for hack/images/Dockerfile)
  --no-import             don't import them into the sites that run on this machine
  -h, --help              this text

Writes an OCI layout to dist/images/layout/ and the same as one file to dist/images/images.tar.`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    allowNegative: true,
    options: {
      push: { type: 'string' },
      rootfs: { type: 'string' },
      import: { type: 'boolean', default: true },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return;
  }
  if (values.rootfs !== undefined) {
    writeTree(values.rootfs, productRecipe().layers);
    return;
  }
  const target = values.push === undefined || values.push === '' ? undefined : parsePushTarget(values.push);
  const layout = join(distDir, 'images', 'layout');
  const archive = join(distDir, 'images', 'images.tar');
  const images = await writeLayout(layout, [productRecipe(), busyboxRecipe(), nodeJobRecipe()]);
  for (const image of images) console.log(`${image.name}@${image.digest}  ${(image.sizeBytes / 1e6).toFixed(0)} MB`);
  await writeArchive(layout, archive);
  if (values.import) await importEverywhere(archive);
  if (target === undefined) return;
  const { PUSH_USER: user, PUSH_PASSWORD: password } = process.env;
  const login = user === undefined || password === undefined ? {} : { login: { user, password } };
  const pushed = await pushLayout(layout, target, { report: (line) => process.stderr.write(`${line}\n`), ...login });
  console.log(pushed.join('\n'));
}

async function importEverywhere(archive: string): Promise<void> {
  for (const name of instanceNames()) {
    const { sites } = await localProvider.open(name);
    await Promise.all(sites.map(async (site) => site.loadImages(archive)));
    console.log(`Imported into every node of ${name}`);
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 1;
}

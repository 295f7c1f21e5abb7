import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import YAML from 'yaml';
import type { KubeObject } from '#runtime/types.ts';

const folder = fileURLToPath(new URL('../../samples/', import.meta.url));

/** The manifests of crds/samples by file name, for tests. Each file holds one object. */
export function readSamples(): [name: string, object: KubeObject & { spec: unknown }][] {
  const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
  return names.map((name) => [name, YAML.parse(readFileSync(path.join(folder, name), 'utf8')) as never]);
}

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type KubeClient, type KubeObject, waitFor } from '#sites/kube-client.ts';
import YAML from 'yaml';

const folder = fileURLToPath(new URL('../../manifests/', import.meta.url));
const collection = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

/** The generated CustomResourceDefinitions, as they are checked in. */
export function readManifests(): KubeObject[] {
  const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
  return names.map((name) => YAML.parse(readFileSync(path.join(folder, name), 'utf8')) as KubeObject);
}

/** Installs every kind of the project on an API server and waits until it is served. For tests. */
export async function installCrds(client: KubeClient): Promise<void> {
  for (const manifest of readManifests()) {
    const name = manifest.metadata?.name ?? '';
    await client.apply(`${collection}/${name}`, manifest);
    const spec = manifest.spec as { group: string; names: { plural: string }; versions: { name: string }[] };
    const served = `/apis/${spec.group}/${spec.versions[0]?.name ?? ''}/${spec.names.plural}`;
    await waitFor(`${name} is served`, async () => client.list(served), { limitMs: 20_000 });
  }
}

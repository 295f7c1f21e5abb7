/** OCI image layouts (image-spec v1.1): images as files, made without a daemon. */
import { createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

import { pack } from 'tar-stream';

import { type Layer, type LayerEntry, writeLayer } from './layer.ts';

/** What an image is to hold and how it starts. Layers with the same entries are stored once. */
export interface ImageRecipe {
  /** Full name with tag, for example `xtreemos.io/busybox:1`. */
  readonly name: string;
  readonly layers: readonly (readonly LayerEntry[])[];
  readonly entrypoint: readonly string[];
  readonly command?: readonly string[];
  /** `UID:GID` as numbers, so that `runAsNonRoot` can be checked. Root when absent. */
  readonly user?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly workingDir?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A reference to a blob, as in the image specification. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly os: string; readonly architecture: string };
  readonly annotations?: Readonly<Record<string, string>>;
}

/** An image as written. */
export interface BuiltImage {
  readonly name: string;
  /** Digest of the manifest: what `name@digest` refers to. */
  readonly digest: string;
  readonly sizeBytes: number;
}

/** The parts of a manifest that are read back. */
export interface Manifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

const mediaTypes = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
} as const;

/** Architecture in the words of the image specification. */
export function imageArchitecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch;
}

/** Writes a layout with the given images into `dir`, replacing what was there. Same recipes, same digests. */
export async function writeLayout(dir: string, recipes: readonly ImageRecipe[]): Promise<BuiltImage[]> {
  rmSync(dir, { recursive: true, force: true });
  const blobsDir = join(dir, 'blobs', 'sha256');
  mkdirSync(blobsDir, { recursive: true });
  const written = new Map<readonly LayerEntry[], Layer>();
  const images: BuiltImage[] = [];
  const manifests: Descriptor[] = [];
  for (const recipe of recipes) {
    const layers: Layer[] = [];
    for (const entries of recipe.layers) {
      const layer = written.get(entries) ?? (await writeLayer(blobsDir, entries));
      written.set(entries, layer);
      layers.push(layer);
    }
    const manifest = writeManifest(blobsDir, recipe, layers);
    manifests.push(manifest);
    const sizeBytes = layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
    images.push({ name: recipe.name, digest: manifest.digest, sizeBytes });
  }
  writeFileSync(join(dir, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  writeFileSync(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.index, manifests }));
  return images;
}

function writeManifest(blobsDir: string, recipe: ImageRecipe, layers: readonly Layer[]): Descriptor {
  const platform = { os: 'linux', architecture: imageArchitecture() };
  const config = writeJson(blobsDir, mediaTypes.config, {
    ...platform,
    created: '1970-01-01T00:00:00Z',
    config: {
      ...(recipe.user === undefined ? {} : { User: recipe.user }),
      Env: Object.entries({ PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', ...recipe.env }).map(
        ([name, value]) => `${name}=${value}`,
      ),
      Entrypoint: recipe.entrypoint,
      ...(recipe.command === undefined ? {} : { Cmd: recipe.command }),
      WorkingDir: recipe.workingDir ?? '/',
      ...(recipe.labels === undefined ? {} : { Labels: recipe.labels }),
    },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.digest) },
    history: layers.map(() => ({ created: '1970-01-01T00:00:00Z', created_by: 'make images' })),
  });
  const manifest = writeJson(blobsDir, mediaTypes.manifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config,
    layers: layers.map((layer) => ({ mediaType: mediaTypes.layer, digest: layer.digest, size: layer.sizeBytes })),
  });
  return {
    ...manifest,
    platform,
    // containerd's importer names the image by this annotation.
    annotations: { 'io.containerd.image.name': recipe.name, 'org.opencontainers.image.ref.name': tagOf(recipe.name) },
  };
}

function writeJson(blobsDir: string, mediaType: string, value: unknown): Descriptor {
  const bytes = Buffer.from(JSON.stringify(value));
  const hex = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(join(blobsDir, hex), bytes);
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
}

/** The tag of an image name: what follows the last colon. */
export function tagOf(name: string): string {
  return name.slice(name.lastIndexOf(':') + 1);
}

/** The manifests that a layout's index lists. */
export function readIndex(dir: string): Descriptor[] {
  const index = JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
  return index.manifests;
}

/** Path of a blob in a layout. */
export function blobPath(dir: string, digest: string): string {
  return join(dir, 'blobs', ...digest.split(':'));
}

/** Packs a layout into one tar file, as `ctr images import` takes it. The file appears complete or not at all. */
export async function writeArchive(dir: string, path: string): Promise<void> {
  const digests = new Set<string>();
  for (const manifest of readIndex(dir)) {
    digests.add(manifest.digest);
    const { config, layers } = JSON.parse(readFileSync(blobPath(dir, manifest.digest), 'utf8')) as Manifest;
    for (const blob of [config, ...layers]) digests.add(blob.digest);
  }
  const files = [
    'oci-layout',
    'index.json',
    ...[...digests].sort().map((digest) => `blobs/${digest.replace(':', '/')}`),
  ];
  const tar = pack();
  const temporary = `${path}.${process.pid}.part`;
  const written = pipeline(tar, createWriteStream(temporary));
  for (const name of files) {
    const source = join(dir, name);
    await new Promise<void>((resolve, reject) => {
      const sink = tar.entry({ name, size: statSync(source).size, mode: 0o644, mtime: new Date(0) }, (error) => {
        if (error) reject(error);
        else resolve();
      });
      createReadStream(source, { highWaterMark: 1 << 20 })
        .once('error', reject)
        .pipe(sink);
    });
  }
  tar.finalize();
  await written;
  renameSync(temporary, path);
}

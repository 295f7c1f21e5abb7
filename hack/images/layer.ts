import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { pack, type Pack } from 'tar-stream';

/** One path of a layer. `path` is absolute, as the container sees it; owners are numbers and default to root. */
export type LayerEntry = {
  readonly path: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
} & (
  | { readonly type: 'directory' }
  | { readonly type: 'link'; readonly target: string }
  | { readonly type: 'content'; readonly content: string | Buffer }
  | { readonly type: 'file'; readonly source: string }
);

/** A layer as written to a layout. Uncompressed, so its digest is its diff id as well. */
export interface Layer {
  readonly digest: string;
  readonly sizeBytes: number;
}

/**
 * Writes a layer into `blobsDir`, under its digest. The same entries give the same bytes: sorted by path, parents
 * added, all times 0, no names of users.
 * @throws when two entries have one path but aren't both directories.
 */
export async function writeLayer(blobsDir: string, entries: readonly LayerEntry[]): Promise<Layer> {
  mkdirSync(blobsDir, { recursive: true });
  const temporary = join(blobsDir, `.layer.${process.pid}.${Math.random().toString(36).slice(2)}.part`);
  const hash = createHash('sha256');
  let sizeBytes = 0;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, callback): void {
      hash.update(chunk);
      sizeBytes += chunk.length;
      callback(null, chunk);
    },
  });
  const tar = pack();
  const written = pipeline(tar, meter, createWriteStream(temporary));
  for (const entry of withParents(entries)) await addEntry(tar, entry);
  tar.finalize();
  await written;
  const hex = hash.digest('hex');
  renameSync(temporary, join(blobsDir, hex));
  return { digest: `sha256:${hex}`, sizeBytes };
}

/** Sorts by path and adds the directories that lead there. */
export function withParents(entries: readonly LayerEntry[]): LayerEntry[] {
  const byPath = new Map<string, LayerEntry>();
  for (const entry of entries) {
    if (!/^\/[^/]/.test(entry.path) || entry.path.split('/').includes('..')) {
      throw new Error(`layer entry ${entry.path}: must be an absolute path without ".."`);
    }
    const known = byPath.get(entry.path);
    if (known !== undefined && (known.type !== 'directory' || entry.type !== 'directory')) {
      throw new Error(`layer entry ${entry.path}: is given twice`);
    }
    byPath.set(entry.path, entry);
  }
  for (const entry of entries) {
    const parts = entry.path.split('/').slice(1, -1);
    for (let length = 1; length <= parts.length; length++) {
      const path = `/${parts.slice(0, length).join('/')}`;
      const known = byPath.get(path);
      if (known === undefined) byPath.set(path, { type: 'directory', path });
      else if (known.type !== 'directory') throw new Error(`layer entry ${entry.path}: ${path} is not a directory`);
    }
  }
  return [...byPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function addEntry(tar: Pack, entry: LayerEntry): Promise<void> {
  const name = entry.path.slice(1);
  const base = { name, mtime: new Date(0), uid: entry.uid ?? 0, gid: entry.gid ?? 0 };
  await new Promise<void>((resolve, reject) => {
    const done = (error?: Error | null): void => {
      if (error) reject(error);
      else resolve();
    };
    switch (entry.type) {
      case 'directory':
        tar.entry({ ...base, name: `${name}/`, type: 'directory', mode: entry.mode ?? 0o755 }, done);
        break;
      case 'link':
        tar.entry({ ...base, type: 'symlink', linkname: entry.target, mode: 0o777 }, done);
        break;
      case 'content':
        tar.entry({ ...base, mode: entry.mode ?? 0o644 }, entry.content, done);
        break;
      case 'file': {
        const { size } = statSync(entry.source);
        const sink = tar.entry({ ...base, size, mode: entry.mode ?? 0o755 }, done);
        createReadStream(entry.source, { highWaterMark: 1 << 20 })
          .once('error', reject)
          .pipe(sink);
        break;
      }
    }
  });
}

import { chmodSync, chownSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type LayerEntry, withParents } from './layer.ts';

/** Writes layers as plain files into a folder, which must be empty: for a Dockerfile that starts from scratch. Needs root. */
export function writeTree(dir: string, layers: readonly (readonly LayerEntry[])[]): void {
  mkdirSync(dir, { recursive: true });
  for (const entry of layers.flatMap((entries) => withParents(entries))) {
    const path = join(dir, entry.path);
    switch (entry.type) {
      case 'directory':
        mkdirSync(path, { recursive: true });
        chmodSync(path, entry.mode ?? 0o755);
        break;
      case 'link':
        symlinkSync(entry.target, path);
        continue;
      case 'content':
        writeFileSync(path, entry.content);
        chmodSync(path, entry.mode ?? 0o644);
        break;
      case 'file':
        copyFileSync(entry.source, path);
        chmodSync(path, entry.mode ?? 0o755);
        break;
    }
    chownSync(path, entry.uid ?? 0, entry.gid ?? 0);
  }
}

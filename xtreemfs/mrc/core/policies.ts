import { z } from 'zod';
import { attributeKey } from './keys.ts';
import type { Inode, Striping } from './records.ts';
import { inodeFlags } from './records.ts';
import type { Tx } from './tx.ts';
import type { Replication, Volume } from './volume.ts';
import { replicationSchema } from './volume.ts';

/** Owner under which the MRC keeps its own attributes of an object; no user has an empty name. */
const systemOwner = '';

const stripingSchema = z.object({ stripeSizeKb: z.number().int().min(1), width: z.number().int().min(1) });

function readOwn<T>(tx: Tx, directory: Inode, name: 'sp' | 'rp', schema: z.ZodType<T>): T | undefined {
  if ((directory.flags & inodeFlags.hasPolicies) === 0) return undefined;
  const bytes = tx.get(attributeKey(directory.volume, directory.ino, systemOwner, name));
  return bytes === undefined ? undefined : schema.parse(JSON.parse(Buffer.from(bytes).toString()));
}

/** Sets or (undefined) clears a directory's own policy. */
export function setDirectoryPolicy(
  tx: Tx,
  directory: Inode,
  name: 'sp' | 'rp',
  policy: Striping | Replication | undefined,
): void {
  const key = attributeKey(directory.volume, directory.ino, systemOwner, name);
  if (policy === undefined) tx.remove(key);
  else tx.put(key, Buffer.from(JSON.stringify(policy)));
  directory.flags |= inodeFlags.hasPolicies;
  directory.ctimeNs = tx.nowNs;
  tx.touch(directory);
}

/** A directory's own striping policy, if it has one. */
export function ownStriping(tx: Tx, directory: Inode): Striping | undefined {
  return readOwn(tx, directory, 'sp', stripingSchema);
}

/** A directory's own replication policy, if it has one. */
export function ownReplication(tx: Tx, directory: Inode): Replication | undefined {
  return readOwn(tx, directory, 'rp', replicationSchema);
}

/** How a new file in `directory` is striped: by the directory's own policy, else the volume's. */
export function stripingOf(tx: Tx, volume: Volume, directory: Inode): Striping {
  return ownStriping(tx, directory) ?? volume.striping;
}

/** How a new file in `directory` is replicated: by the directory's own policy, else the volume's. */
export function replicationOf(tx: Tx, volume: Volume, directory: Inode): Replication {
  return ownReplication(tx, directory) ?? volume.replication;
}

import type { DirectoryEntry } from '#proto/generated/xtreemfs/mrc.ts';
import type { Key } from '../store/kv.ts';
import { demand, rights, rightsOf } from './access.ts';
import { statOf } from './attributes.ts';
import { refuse } from './errno.ts';
import { entriesPrefix, fromBinary } from './keys.ts';
import type { Operation } from './operation.ts';
import { resolveExisting } from './operation.ts';
import type { Inode } from './records.ts';
import { decodeEntry, etagOf, isDirectory } from './records.ts';
import type { Volume } from './volume.ts';

/** Entries of one answer at most: bounds its memory and keeps it below the 32 MiB of a message. */
export const pageEntriesMax = 100_000;
/** Positions remembered at most. */
const positionsMax = 20_000;

/**
 * Where clients stand in the directories they are listing. The wire names a position by the number of entries seen; counting
 * them again for every page would make a listing quadratic, and would skip names when an earlier one is removed. Losing a position
 * costs only that count.
 */
export class ListingPositions {
  private readonly lastKeys = new Map<string, Key>();

  remember(position: string, lastKey: Key): void {
    this.lastKeys.delete(position);
    this.lastKeys.set(position, lastKey);
    if (this.lastKeys.size <= positionsMax) return;
    const oldest = this.lastKeys.keys().next().value;
    if (oldest !== undefined) this.lastKeys.delete(oldest);
  }

  find(position: string): Key | undefined {
    return this.lastKeys.get(position);
  }
}

/** What a client asks of a directory (procedure 10). */
export interface ListArguments {
  readonly volumeName: string;
  readonly path: string;
  readonly knownEtag: number;
  /** 0: all. */
  readonly limit: number;
  readonly namesOnly: boolean;
  /** Entries to skip, `..` and `.` counted. */
  readonly seen: number;
}

/** Procedure 10: `..`, `.`, then the children in byte order of their names (section 8.2). */
export function readdir(op: Operation, args: ListArguments, positions: ListingPositions): DirectoryEntry[] {
  const { tx, caller } = op;
  const { volume, inode: directory } = resolveExisting(op, args.volumeName, args.path);
  if (!isDirectory(directory)) refuse('ENOTDIR', `${args.path} is not a directory`);
  demand(tx, volume, directory, caller, rights.read);
  if (args.seen < 0 || args.limit < 0) refuse('EINVAL', "seen_directory_entries_count and limit can't be negative");
  const withStat = !args.namesOnly && (rightsOf(tx, volume, directory, caller) & rights.execute) !== 0;
  const entries: DirectoryEntry[] = [];
  const add = (name: string, inode: Inode): void => {
    entries.push(withStat ? { name, stbuf: statOf(volume, inode) } : { name });
  };
  const limit = Math.min(args.limit === 0 ? pageEntriesMax : args.limit, pageEntriesMax);
  if (args.seen === 0) add('..', directory.parent === 0 ? directory : tx.inode(volume.number, directory.parent));
  if (args.knownEtag !== 0 && args.knownEtag === etagOf(directory)) return entries;
  if (args.seen <= 1 && entries.length < limit) add('.', directory);
  const room = limit - entries.length;
  const isCapped = args.limit === 0 || args.limit > pageEntriesMax;
  const page = { volume, directory, seen: Math.max(0, args.seen - 2), room, isCapped, withStat };
  if (room > 0) listChildren(op, page, positions, entries);
  return entries;
}

function listChildren(
  op: Operation,
  page: { volume: Volume; directory: Inode; seen: number; room: number; isCapped: boolean; withStat: boolean },
  positions: ListingPositions,
  entries: DirectoryEntry[],
): void {
  const { tx } = op;
  const { volume, directory } = page;
  const prefix = entriesPrefix(volume.number, directory.ino);
  const positionOf = (seen: number): string => `${op.caller.client} ${op.caller.user} ${prefix} ${seen}`;
  const remembered = page.seen === 0 ? undefined : positions.find(positionOf(page.seen));
  const skip = page.seen > 0 && remembered === undefined ? page.seen : 0;
  const found = tx.scan({
    prefix,
    limit: page.room + skip,
    ...(remembered === undefined ? {} : { after: remembered }),
  });
  const shown = skip === 0 ? found : found.slice(skip);
  if (shown.length === page.room && page.isCapped) {
    refuse(
      'EINVAL',
      `limit_directory_entries_count: the directory is large, ask for at most ${pageEntriesMax} entries`,
    );
  }
  for (const { key, value } of shown) {
    const name = fromBinary(key.slice(prefix.length));
    const inode = page.withStat ? tx.findInode(volume.number, decodeEntry(value).ino) : undefined;
    entries.push(inode === undefined ? { name } : { name, stbuf: statOf(volume, inode) });
  }
  const last = shown.at(-1);
  if (last !== undefined) positions.remember(positionOf(page.seen + shown.length), last.key);
}

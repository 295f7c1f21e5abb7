/** One file to or from a volume: nothing half-written bears its name, and nothing counts as copied whose digest differs. */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { CommandError } from '../../frame/exit.ts';
import type { Session } from './session.ts';

/** A file and where it goes. */
export interface Item {
  readonly local: string;
  /** In the session. */
  readonly remote: string;
  readonly sizeBytes: number;
  /** SHA-256 of the source, hexadecimal. */
  readonly digest: string;
  /** Permissions of the source. */
  readonly mode: number;
}

/** Whether it was copied, or was there already. */
export type Copied = 'copied' | 'same';

/** Statuses of the scripts; others are those of the tools. */
const statuses = { changed: 8, same: 9 } as const;

/** Digest of `$1`. */
const digestOf = (file: string): string => `"$(sha256sum < ${file} | cut -c 1-64)"`;

const takeScript = `part="$1.xos-part"
if [ -d "$1" ]; then echo 'a folder is in its place' >&2; exit 1; fi
if [ -f "$1" ] && [ ${digestOf('"$1"')} = "$2" ]; then exit ${statuses.same}; fi
mkdir -p "$(dirname "$1")" && head -c "$3" > "$part" || exit 1
[ ${digestOf('"$part"')} = "$2" ] || { rm -f "$part"; exit ${statuses.changed}; }
chmod "$4" "$part" && mv -f "$part" "$1"`;

const describeScript = `sha256sum < "$1" | cut -c 1-64 && wc -c < "$1" && [ -x "$1" ] && echo x || [ -r "$1" ]`;

/** Sends a file. @throws {CommandError} naming it. */
export async function upload(session: Session, item: Item, onBytes: (count: number) => void): Promise<Copied> {
  const { local, remote, digest, sizeBytes, mode } = item;
  const counted = async function* (): AsyncGenerator<Buffer> {
    for await (const chunk of createReadStream(local)) {
      onBytes((chunk as Buffer).length);
      yield chunk as Buffer;
    }
  };
  const args = [remote, digest, String(sizeBytes), mode.toString(8)];
  const { status, words } = await session.run(takeScript, args, { stdin: counted() });
  if (status === 0) return 'copied';
  if (status === statuses.same) return 'same';
  const why = status === statuses.changed ? 'it changed while it was copied: copy it again' : words;
  throw new CommandError('failure', `${local} was not copied: ${why || `the shell ended with status ${status}`}`);
}

/** Fetches a file. @throws {CommandError} naming it. */
export async function download(session: Session, item: Item, onBytes: (count: number) => void): Promise<Copied> {
  const { local, remote, digest, mode } = item;
  if ((await localDigest(local).catch(() => undefined)) === digest) return 'same';
  mkdirSync(path.dirname(local), { recursive: true });
  const part = `${local}.xos-part`;
  rmSync(part, { force: true });
  const file = openSync(part, 'wx', mode);
  const hash = createHash('sha256');
  try {
    const { status, words } = await session.run('exec cat "$1"', [remote], {
      // Written at once: what has not reached the disk is not taken from the network.
      onStdout: (chunk) => {
        for (let done = 0; done < chunk.length;) done += writeSync(file, chunk, done);
        hash.update(chunk);
        onBytes(chunk.length);
      },
    });
    if (status !== 0) throw new CommandError('failure', `${remote} was not copied: ${words || `status ${status}`}`);
    if (hash.digest('hex') !== digest) {
      throw new CommandError('failure', `${remote} was not copied: it changed while it was copied: copy it again`);
    }
    fsyncSync(file);
    renameSync(part, local);
    return 'copied';
  } finally {
    closeSync(file);
    rmSync(part, { force: true });
  }
}

/** SHA-256 of a file on this machine, hexadecimal. */
export async function localDigest(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** A file on this machine, to be sent. */
export async function describeLocal(local: string, remote: string): Promise<Item> {
  const { size, mode } = await stat(local);
  return { local, remote, sizeBytes: size, mode: mode & 0o777, digest: await localDigest(local) };
}

/** A file on the volume, to be fetched. @throws {CommandError} naming it. */
export async function describeRemote(session: Session, remote: string, local: string): Promise<Item> {
  const { status, words, answer } = await session.ask(describeScript, [remote]);
  const [digest = '', size = '', executable] = answer.toString('latin1').trim().split('\n');
  if (status !== 0 || !/^[0-9a-f]{64}$/.test(digest) || !/^ *[0-9]+$/.test(size)) {
    throw new CommandError('failure', `${remote} can not be read: ${words || `status ${status}`}`);
  }
  return { local, remote, digest, sizeBytes: Number(size), mode: executable === 'x' ? 0o777 : 0o666 };
}

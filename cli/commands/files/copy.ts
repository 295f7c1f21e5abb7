import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { InvalidInputError } from '#common/errors.ts';
import { inParallel } from '#common/parallel.ts';
import type { JobApi } from '../../api/job-api.ts';
import { withJobs } from '../../api/jobs.ts';
import type { OrganizationInput } from '../../api/organizations.ts';
import type { Context } from '../../frame/context.ts';
import { CommandError } from '../../frame/exit.ts';
import { escapeControls } from '../../output/escape.ts';
import { parsePlace, requirePlace, seenAt, type VolumePlace } from './place.ts';
import { Progress } from './progress.ts';
import { type Session, withSession } from './session.ts';
import { type Copied, describeLocal, describeRemote, download, type Item, upload } from './transfer.ts';

interface ImageInput extends OrganizationInput {
  readonly image: string;
}

/** Options of `xos ls`. */
export interface ListInput extends ImageInput {
  readonly place: string;
  readonly long: boolean;
}

/** Options of `xos cp`. */
export interface CopyInput extends ImageInput {
  readonly source: string;
  readonly target: string;
  readonly recursive: boolean;
}

/** Commands at once. */
const atOnce = 4;
const filesMax = 100_000;
/** A file whose connection broke is taken up again so often. */
const attemptsMax = 3;

/** `xos ls`. */
export async function list(context: Context, input: ListInput): Promise<void> {
  return withJobs(context, input, async (api) => listPlace(context, input, api));
}

/** Prints what is in a folder of a volume. */
export async function listPlace(context: Context, input: ListInput, api: JobApi): Promise<void> {
  const place = requirePlace(input.place, 'VOLUME');
  const { volume } = place;
  await withSession(context, api, { volume, readOnly: true, image: input.image }, async (session) => {
    const { status, words, answer } = await session.ask(`ls -A${input.long ? 'l' : ''} "$1"`, [seenAt(place)]);
    if (status !== 0) throw new CommandError('failure', `${input.place} can not be listed: ${words}`);
    const text = answer.toString('utf8');
    if (text !== '') context.terminal.print(escapeControls(text, '\n'));
  });
}

/** `xos cp`. */
export async function copy(context: Context, input: CopyInput): Promise<void> {
  const direction = directionOf(input);
  return withJobs(context, input, async (api) => copyFiles(context, input, direction, api));
}

/** Which side is the volume. */
export type Direction =
  { readonly from: string; readonly to: VolumePlace } | { readonly from: VolumePlace; readonly to: string };

/** Pure. @throws {InvalidInputError} unless exactly one of them is on a volume. */
export function directionOf({ source, target }: Pick<CopyInput, 'source' | 'target'>): Direction {
  const [from, to] = [parsePlace(source, 'SOURCE'), parsePlace(target, 'TARGET')];
  if (from !== undefined && to === undefined) return { from, to: target };
  if (from === undefined && to !== undefined) return { from: source, to };
  const both = from === undefined ? 'none of them' : 'both';
  throw new InvalidInputError('SOURCE and TARGET', `name a volume: ${both}; give one of them as VOLUME:PATH`);
}

/** Copies, and says how many files were copied. @throws {CommandError} after all have been tried, when some failed. */
export async function copyFiles(context: Context, input: CopyInput, direction: Direction, api: JobApi): Promise<void> {
  const { from, to } = direction;
  const place = typeof from === 'string' ? (to as VolumePlace) : from;
  const readOnly = typeof from !== 'string';
  await withSession(context, api, { volume: place.volume, readOnly, image: input.image }, async (session) => {
    const progress = new Progress(context);
    const plans =
      typeof from === 'string'
        ? await planUpload(context, session, from, place, input.recursive)
        : await planDownload(session, from, to as string, input.recursive);
    const items = await inParallel(plans, atOnce, async (plan, index) => {
      progress.prepare(index, plans.length);
      return plan();
    });
    progress.begin(items);
    const send = typeof from === 'string' ? upload : download;
    const problems: string[] = [];
    const results = await inParallel(items, atOnce, async (item) =>
      attempt(context, async () => send(session, item, (count) => progress.add(count)))
        .catch((error: unknown) => {
          context.signal.throwIfAborted();
          problems.push((error as Error).message);
          return undefined;
        })
        .finally(() => progress.done()),
    );
    report(context, results, problems);
  });
}

function report({ terminal }: Context, results: readonly (Copied | undefined)[], problems: readonly string[]): void {
  const count = (wanted: Copied): number => results.filter((result) => result === wanted).length;
  const same = count('same') === 0 ? '' : `; ${count('same')} were there already`;
  const copied = count('copied');
  const said = `${copied} ${copied === 1 ? 'file' : 'files'} copied${same}`;
  terminal.clear();
  if (problems.length === 0) terminal.hint(said);
  else
    throw new CommandError('failure', [...problems.slice(0, 10), said].join('\n'), 'Copy again: what is there stays.');
}

type Plan = () => Promise<Item>;

/** Like cp: into the target when that is a folder, else under its name. */
async function planUpload(
  context: Context,
  session: Session,
  from: string,
  place: VolumePlace,
  recursive: boolean,
): Promise<Plan[]> {
  const source = await stat(from).catch((error: unknown) => {
    throw new CommandError('notFound', `${from} can not be read: ${(error as Error).message}`, undefined, {
      cause: error,
    });
  });
  if (source.isDirectory() && !recursive) throw needsRecursive(from);
  const seen = seenAt(place).replace(/\/+$/, '');
  const isFolder = place.path.endsWith('/') || (await session.run('[ -d "$1" ]', [seen])).status === 0;
  const target = isFolder ? `${seen}/${path.basename(path.resolve(from))}` : seen;
  if (!source.isDirectory()) return [async () => describeLocal(from, target)];
  const entries = await readdir(from, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const left = entries.length - files.length - entries.filter((entry) => entry.isDirectory()).length;
  if (left > 0) context.terminal.warn(`${left} links, sockets and devices are left out`);
  checkCount(files.length);
  return files.map(({ parentPath, name }) => {
    const local = path.join(parentPath, name);
    return async () => describeLocal(local, `${target}/${path.relative(from, local)}`);
  });
}

const findScript = `if [ -d "$1" ]; then printf d; find "$1" -type f -print0
elif [ -f "$1" ]; then printf 'f%s' "$1"
else ls -d "$1"; exit 7; fi`;

async function planDownload(session: Session, place: VolumePlace, to: string, recursive: boolean): Promise<Plan[]> {
  const seen = seenAt(place).replace(/\/+$/, '');
  const { status, words, answer } = await session.ask(findScript, [seen]);
  const text = answer.toString('utf8');
  if (status !== 0) throw new CommandError('notFound', `${place.volume}:${place.path} can not be read: ${words}`);
  const isFolder = text.startsWith('d');
  if (isFolder && !recursive) throw needsRecursive(`${place.volume}:${place.path}`);
  const isInto =
    to.endsWith('/') ||
    (await stat(to).then(
      (found) => found.isDirectory(),
      () => false,
    ));
  const target = isInto ? path.join(to, path.basename(place.path === '' ? place.volume : seen)) : to;
  if (!isFolder) return [async () => describeRemote(session, seen, target)];
  const files = text
    .slice(1)
    .split('\0')
    .filter((name) => name !== '');
  checkCount(files.length);
  return files.map((remote) => {
    const name = path.posix.relative(seen, remote);
    // The image of the session is whatever was named: its word is checked like any other.
    if (!remote.startsWith(`${seen}/`) || name.startsWith('..')) {
      throw new CommandError('failure', `${JSON.stringify(remote)} is not below ${seen}`);
    }
    return async () => describeRemote(session, remote, path.join(target, name));
  });
}

const needsRecursive = (what: string): CommandError =>
  new CommandError('usage', `${what} is a folder`, 'Copy folders with --recursive (-r).');

function checkCount(count: number): void {
  if (count > filesMax) {
    throw new CommandError('usage', `There are ${count} files: copy at most ${filesMax} at once, or pack them first`);
  }
}

/** Once more when the connection broke: a file is whole or not there. */
async function attempt({ signal }: Context, action: () => Promise<Copied>): Promise<Copied> {
  for (let turn = 1; ; turn++) {
    try {
      return await action();
    } catch (error) {
      signal.throwIfAborted();
      if (turn >= attemptsMax || !(error instanceof Error) || error.name !== 'ConnectionError') throw error;
    }
  }
}

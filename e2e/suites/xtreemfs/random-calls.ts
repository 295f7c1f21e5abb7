/** Random calls on a file system, and what they gave, for comparing two of them. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';

/** One call on names below a folder. */
export type Call =
  | { kind: 'mkdir' | 'rmdir' | 'unlink' | 'read' | 'list' | 'stat'; a: string }
  | { kind: 'rename' | 'link' | 'symlink'; a: string; b: string }
  | { kind: 'write'; a: string; flags: 'w' | 'wx' | 'a' | 'r+'; at: number; length: number; fill: number }
  | { kind: 'truncate' | 'chmod'; a: string; n: number };

const path = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }).map((names) => names.join('/'));
const one = <K extends string>(...kinds: K[]): fc.Arbitrary<{ kind: K; a: string }> =>
  fc.record({ kind: fc.constantFrom(...kinds), a: path });
/** Any call; names collide often. */
export const anyCall: fc.Arbitrary<Call> = fc.oneof(
  { weight: 4, arbitrary: one('mkdir', 'rmdir', 'unlink', 'read', 'list', 'stat') },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('rename', 'link', 'symlink'), a: path, b: path }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      a: path,
      flags: fc.constantFrom('w', 'wx', 'a', 'r+'),
      at: fc.constantFrom(0, 1, 4095, 131_071, 200_000),
      length: fc.constantFrom(1, 100, 5000, 140_000),
      fill: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('truncate', 'chmod'),
      a: path,
      n: fc.constantFrom(0, 0o644, 0o400, 131_072, 262_145),
    }),
  },
);

async function perform(root: string, step: Call): Promise<unknown> {
  const at = (name: string): string => join(root, name);
  switch (step.kind) {
    case 'mkdir':
      await fs.mkdir(at(step.a));
      return undefined;
    case 'rmdir': {
      await fs.rmdir(at(step.a));
      return;
    }
    case 'unlink': {
      await fs.unlink(at(step.a));
      return;
    }
    case 'read':
      return (await fs.readFile(at(step.a))).toString('latin1');
    case 'list':
      return (await fs.readdir(at(step.a))).sort();
    case 'stat': {
      const stat = await fs.lstat(at(step.a));
      return [stat.isDirectory() ? 0 : stat.size, stat.mode, stat.nlink];
    }
    case 'rename': {
      await fs.rename(at(step.a), at(step.b));
      return;
    }
    case 'link': {
      await fs.link(at(step.a), at(step.b));
      return;
    }
    case 'symlink': {
      await fs.symlink(step.a, at(step.b));
      return;
    }
    case 'truncate': {
      await fs.truncate(at(step.a), step.n);
      return;
    }
    case 'chmod': {
      await fs.chmod(at(step.a), step.n & 0o777);
      return;
    }
    case 'write': {
      const file = await fs.open(at(step.a), step.flags);
      try {
        const position = step.flags === 'a' ? undefined : step.at;
        return (await file.write(Buffer.alloc(step.length, step.fill), 0, step.length, position)).bytesWritten;
      } finally {
        await file.close();
      }
    }
  }
}

/** What the call gave: its result, or the name of its error. */
export async function outcome(root: string, step: Call): Promise<unknown> {
  try {
    return await perform(root, step);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

/** Everything below a folder: types, modes, contents. */
export function tree(root: string): unknown {
  return readdirSync(root)
    .sort()
    .map((name) => {
      const at = join(root, name);
      const stat = lstatSync(at);
      if (stat.isDirectory()) return [name, stat.mode, stat.nlink, tree(at)];
      if (stat.isSymbolicLink()) return [name, readlinkSync(at)];
      return [name, stat.mode, stat.nlink, readFileSync(at).toString('latin1')];
    });
}

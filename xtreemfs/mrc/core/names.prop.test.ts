import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { aCaller, aWorld, makeTestVolume, root } from '../testing/fixtures.ts';
import { linksOf } from '../testing/harness.ts';
import { PosixModel } from '../testing/posix-model.ts';
import type { Engine } from '../engine.ts';
import type { Caller } from './access.ts';
import { getattr, setattr, setattrs } from './attributes.ts';
import { openFlags } from './capabilities.ts';
import { PosixError } from './errno.ts';
import { open } from './files.ts';
import { ListingPositions, readdir } from './listing.ts';
import { link, mkdir, readlink, rename, rmdir, symlink, unlink } from './names.ts';
import type { Operation } from './operation.ts';

const callers = [root, aCaller('ann', ['staff', 'both']), aCaller('bob', ['guests', 'both'])];
const caller = fc.constantFrom(...callers);
const name = fc.constantFrom('a', 'b');
// Few names, so that calls meet each other's objects.
const path = fc.array(name, { minLength: 1, maxLength: 3, size: 'max' }).map((names) => names.join('/'));
const mode = fc.oneof(fc.constantFrom(0o755, 0o777, 0o1777, 0o2777, 0o700, 0o644), fc.integer({ min: 0, max: 0o7777 }));
const none = { mode: 0, userId: '', groupId: '', size: 0, truncateEpoch: 0, atimeNs: 0n, mtimeNs: 0n, ctimeNs: 0n };

/** One call: how the MRC does it, and how the model does. */
interface Step {
  readonly text: string;
  readonly caller: Caller;
  readonly real: (op: Operation) => unknown;
  readonly model: (model: PosixModel) => string;
}

const step: fc.Arbitrary<Step> = fc
  .tuple(caller, path, path, mode, fc.boolean(), fc.nat(9), fc.constantFrom('ann', 'bob'))
  .map(([who, one, two, bits, flag, kind, user]): Step => {
    const made = (text: string, real: Step['real'], model: Step['model']): Step => ({
      text: `${who.user} ${text}`,
      caller: who,
      real,
      model,
    });
    const flags = openFlags.create | openFlags.readWrite | (flag ? openFlags.exclusive : 0);
    switch (kind) {
      case 0:
      case 1:
        return made(
          `mkdir ${one}`,
          (op) => mkdir(op, 'vol', one, bits),
          (m) => m.mkdir(who, one, bits),
        );
      case 2:
      case 3:
        return made(
          `open ${one}`,
          (op) =>
            open(op, {
              volumeName: 'vol',
              path: one,
              flags,
              mode: bits & 0o777,
              attributes: 0,
              coordinates: undefined,
            }),
          (m) => m.open(who, one, bits & 0o777, flag),
        );
      case 4:
        return made(
          `link ${one} ${two}`,
          (op) => link(op, 'vol', one, two),
          (m) => m.link(who, one, two),
        );
      case 5:
        return made(
          `symlink ${two}`,
          (op) => symlink(op, 'vol', one, two),
          (m) => m.symlink(who, one, two),
        );
      case 6:
        return made(
          `${flag ? 'rmdir' : 'unlink'} ${one}`,
          (op) => (flag ? rmdir(op, 'vol', one) : unlink(op, 'vol', one)),
          (m) => (flag ? m.rmdir(who, one) : m.unlink(who, one)),
        );
      case 7:
        return made(
          `chmod ${bits.toString(8)} ${one}`,
          (op) => setattr(op, 'vol', one, { ...none, mode: bits }, setattrs.mode),
          (m) => m.chmod(who, one, bits),
        );
      case 8:
        return made(
          `chown ${user} ${one}`,
          (op) => setattr(op, 'vol', one, { ...none, userId: user }, setattrs.uid),
          (m) => m.chown(who, one, user),
        );
      default:
        return made(
          `rename ${one} ${two}`,
          (op) => rename(op, 'vol', one, two),
          (m) => m.rename(who, one, two),
        );
    }
  });

async function outcomeOf(engine: Engine, { caller: who, real }: Step): Promise<string> {
  try {
    await engine.run(who, real);
    return 'done';
  } catch (error) {
    if (error instanceof PosixError) return error.code;
    throw error;
  }
}

const kinds = new Map([
  [0x4000, 'dir'],
  [0x8000, 'file'],
  [0xa000, 'link'],
]);

async function dump(engine: Engine): Promise<string[]> {
  const lines: string[] = [];
  const visit = async (at: string): Promise<void> => {
    const stat = await engine.run(root, (op) => getattr(op, 'vol', at, 0));
    if (stat === undefined) throw new Error('no stat');
    const kind = kinds.get(stat.mode & 0xf000) ?? '?';
    const target = kind === 'link' ? await engine.run(root, (op) => readlink(op, 'vol', at)) : '';
    const shown = at === '' ? '' : `/${at}`;
    lines.push(
      `${shown} ${kind} ${(stat.mode & 0o7777).toString(8)} ${stat.userId} ${stat.groupId} ${linksOf(stat)} ${target}`,
    );
    if (kind !== 'dir') return;
    const args = { volumeName: 'vol', path: at, knownEtag: 0, limit: 0, namesOnly: true, seen: 0 };
    for (const entry of await engine.run(root, (op) => readdir(op, args, new ListingPositions()))) {
      if (entry.name !== '.' && entry.name !== '..') await visit(at === '' ? entry.name : `${at}/${entry.name}`);
    }
  };
  await visit('');
  return lines.sort();
}

test('any sequence of calls gives the results, errors and tree that POSIX says', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 120, size: 'max' }), async (steps) => {
      const { engine } = aWorld();
      await makeTestVolume(engine);
      const model = new PosixModel();
      for (const [at, one] of steps.entries()) {
        const real = await outcomeOf(engine, one);
        expect(`${at} ${one.text}: ${real}`).toBe(`${at} ${one.text}: ${one.model(model)}`);
      }
      expect(await dump(engine)).toEqual(model.dump());
      const counters = engine.runNow(root, (op) => op.tx.readCounters(1));
      const lines = model.dump().map((line) => line.split(' '));
      expect(counters.directories).toBe(lines.filter(([, kind]) => kind === 'dir').length);
    }),
    { numRuns: 300 },
  );
}, 60_000);

import { expect, test } from '@jest/globals';
import { proposeUserIds } from '#common/identity/ids.ts';
import { SeededRandom } from '#common/random.ts';
import type { IdBitmap } from './id-bitmap.ts';
import { IdIssuer } from './id-issuer.ts';
import { IdsExhaustedError, SliceBook } from './slice-book.ts';
import { IdWorld } from './testing/id-world.ts';

const owner = { name: 'physics', uid: 'uid-physics' };

/** Carries out requests until the promise is settled. */
async function settle<T>(world: IdWorld, promise: Promise<T>): Promise<T> {
  let isSettled = false;
  const mark = (): void => void (isSettled = true);
  promise.then(mark, mark);
  while (!isSettled) await world.step();
  return promise;
}

function make(isCarried = false): { world: IdWorld; issuer: IdIssuer; book: SliceBook } {
  const world = new IdWorld(new SeededRandom(1));
  const book = new SliceBook(world.leader(1).parts);
  return { world, book, issuer: new IdIssuer(book, () => isCarried) };
}

test('2^20 names of an attacker: those that propose the id of the victim get others (threat 42)', async () => {
  const { world, issuer } = make();
  const victim = { issuer: 'https://login.example.org', subject: 'victim' };
  const id = await settle(world, issuer.issueUserId(owner, victim, {}));
  const colliding: { issuer: string; subject: string }[] = [];
  for (let n = 0; n < 2 ** 20; n++) {
    const candidate = { issuer: 'https://evil.example.org', subject: n.toString(36) };
    if (proposeUserIds(owner.uid, candidate).next().value === id.localId) colliding.push(candidate);
  }
  expect(colliding.length).toBeGreaterThan(3);
  const ids = await settle(world, Promise.all(colliding.map(async (each) => issuer.issueUserId(owner, each, {}))));
  const given = [id, ...ids].map(({ slice, localId }) => `${slice}/${localId}`);
  expect(new Set(given).size).toBe(given.length);
}, 60_000);

test('who asks while a record is being written shares the next write', async () => {
  const { world, issuer, book } = make();
  const many = Array.from({ length: 500 }, async (_, n) =>
    issuer.issueUserId(owner, { issuer: 'i', subject: `${n}` }, {}),
  );
  const ids = await settle(world, Promise.all(many));
  expect(new Set(ids.map(({ localId }) => localId)).size).toBe(500);
  const [slice] = book.slicesOf(owner);
  expect(slice?.spec.users).toBe(500);
  // One creation, one write for the first, one for the 499 others.
  expect(slice?.metadata.generation).toBeLessThanOrEqual(3);
});

test('an id that only a membership knows of is not given again', async () => {
  const { world, issuer } = make();
  const id = await settle(world, issuer.issueUserId(owner, { issuer: 'i', subject: 'a' }, {}));
  const fresh = new IdWorld(new SeededRandom(2));
  const later = new IdIssuer(new SliceBook(fresh.leader(1).parts), (_, { localId }) => localId === id.localId);
  const other = await settle(fresh, later.issueUserId(owner, { issuer: 'i', subject: 'a' }, {}));
  expect(other.localId).not.toBe(id.localId);
});

test('a full slice is followed by another one, and the last by an error that says so', async () => {
  const { world, issuer, book } = make();
  await settle(world, issuer.issueGroupIds(owner, [], {}));
  const fill = async (at: number): Promise<void> => {
    const slice = book.slicesOf(owner)[at];
    if (slice === undefined) throw new Error('no such slice');
    const all = (_: unknown, issued: IdBitmap): boolean => {
      for (let localId = 1024; localId <= 60_000; localId++) issued.add(localId);
      return true;
    };
    await settle(world, book.change(slice, all, {}));
  };
  await fill(0);
  const second = await settle(world, issuer.issueUserId(owner, { issuer: 'i', subject: 'a' }, {}));
  expect(book.slicesOf(owner).map(({ spec }) => spec.ordinal)).toEqual([0, 1]);
  expect(second.slice).toBe(book.slicesOf(owner)[1]?.spec.number);
  for (let at = 1; at < 10; at++) {
    await fill(at);
    if (at < 9) await settle(world, issuer.issueUserId(owner, { issuer: 'i', subject: `${at}` }, {}));
  }
  await expect(settle(world, issuer.issueUserId(owner, { issuer: 'i', subject: 'z' }, {}))).rejects.toThrow(
    IdsExhaustedError,
  );
}, 30_000);

test('groups keep their ids, also one called constructor, and the last of them is an error', async () => {
  const { world, issuer } = make();
  const first = await settle(world, issuer.issueGroupIds(owner, ['constructor', 'a/b'], {}));
  expect([...first.keys()].sort()).toEqual(['a/b', 'constructor']);
  const many = Array.from({ length: 1021 }, (_, n) => `g${n}`);
  const all = await settle(world, issuer.issueGroupIds(owner, many, {}));
  expect(all.get('a/b')).toEqual(first.get('a/b'));
  expect(new Set([...all.values()].map(({ localId }) => localId)).size).toBe(1023);
  await expect(settle(world, issuer.issueGroupIds(owner, ['one-more'], {}))).rejects.toThrow(
    /no group id is left for one-more/,
  );
});

test('an id in a slice of somebody else is not confirmed', async () => {
  const { world, issuer } = make();
  const id = await settle(world, issuer.issueUserId(owner, { issuer: 'i', subject: 'a' }, {}));
  const other = { name: 'physics', uid: 'uid-of-another-physics' };
  expect(await settle(world, issuer.confirmUserId(other, id, {}))).toBe(false);
  expect(await settle(world, issuer.confirmUserId(owner, id, {}))).toBe(true);
  expect(await settle(world, issuer.confirmUserId(owner, { ...id, localId: 5 }, {}))).toBe(false);
});

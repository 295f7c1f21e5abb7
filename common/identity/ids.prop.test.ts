import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  buildUserName,
  globalId,
  groupRange,
  handleFrom,
  idBase,
  isUserLocalId,
  organizationLocalId,
  parseUserName,
  proposeGroupIds,
  proposeSlices,
  proposeUserIds,
  sliceCount,
  sliceIdOf,
  sliceSize,
  userRange,
} from './ids.ts';

const slice = fc.integer({ min: 0, max: sliceCount - 1 });
const userLocalId = fc.integer({ min: userRange.first, max: userRange.last });
const handle = fc.stringMatching(/^[a-z0-9]{1,16}$/);

describe('ids', () => {
  test('the range ends where Kubernetes does', () => {
    expect(globalId({ slice: 0, localId: organizationLocalId })).toBe(idBase);
    expect(globalId({ slice: sliceCount - 1, localId: sliceSize - 1 })).toBe(2 ** 31 - 1);
  });

  test('two different places never share an id, and the place can be read from it', () => {
    fc.assert(
      fc.property(slice, fc.integer({ min: 0, max: sliceSize - 1 }), (number, localId) => {
        expect(sliceIdOf(globalId({ slice: number, localId }))).toEqual({ slice: number, localId });
      }),
    );
  });

  test.each([0, 1000, 65_534, idBase - 1, 2 ** 31, 2 ** 32 - 1, -1, 1.5, Number.NaN])('%d lies in no slice', (id) => {
    expect(sliceIdOf(id)).toBeUndefined();
  });

  test.each([
    [{ slice: -1, localId: 0 }, /slice -1/],
    [{ slice: sliceCount, localId: 0 }, /slice 2048/],
    [{ slice: 0, localId: sliceSize }, /local id 65536/],
    [{ slice: 0.5, localId: 0 }, /slice 0.5/],
  ])('%j makes no id', (place, message) => {
    expect(() => globalId(place)).toThrow(message);
  });
});

describe('user names', () => {
  test('what was built is parsed to the same, fits an account and a label, and shows the uid after the last hyphen', () => {
    fc.assert(
      fc.property(handle, slice, userLocalId, (word, number, localId) => {
        const uid = globalId({ slice: number, localId });
        const name = buildUserName(word, uid);
        expect(parseUserName(name)).toEqual({ handle: word, uid });
        expect(name.length).toBeLessThanOrEqual(32);
        expect(name).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
        expect(Number(name.slice(name.lastIndexOf('-') + 1))).toBe(uid);
      }),
    );
  });

  test('no name is the beginning of another one with a hyphen after it, whatever the handles are', () => {
    fc.assert(
      fc.property(handle, handle, slice, userLocalId, userLocalId, (one, other, number, first, second) => {
        const names = [
          buildUserName(one, globalId({ slice: number, localId: first })),
          buildUserName(other, globalId({ slice: number, localId: second })),
        ] as const;
        expect(names[0].startsWith(`${names[1]}-`)).toBe(false);
        expect(names[1].startsWith(`${names[0]}-`)).toBe(false);
      }),
    );
  });

  test.each([
    'u-alice-1000',
    'u-alice-2013265920', // the organization itself
    'u-alice-2013266943', // the last group
    'u-alice-2013325921', // beyond the users
    'u-alice-02013266944',
    'u-Alice-2013266944',
    'u--2013266944',
    'u-a-b-2013266944',
    'alice-2013266944',
    'u-alice-2013266944-x',
    'u-alice-2013266944\n',
  ])('%j is none', (name) => {
    expect(parseUserName(name)).toBeUndefined();
  });

  test('a handle is made from any name that an object may have', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z0-9]([-a-z0-9.]{0,60}[a-z0-9])?$/), (name) => {
        expect(handleFrom(name)).toMatch(/^[a-z0-9]{1,16}$/);
      }),
    );
  });

  test('a name for what is no user is refused', () => {
    expect(() => buildUserName('alice', idBase)).toThrow(/No user name/);
    expect(() => buildUserName('a-b', idBase + userRange.first)).toThrow(/No user name/);
  });
});

describe('proposals', () => {
  const principal = fc.record({ issuer: fc.string(), subject: fc.string() });

  test('come in the same order each time, within the range, and reach every id', () => {
    fc.assert(
      fc.property(fc.string(), principal, (uid, who) => {
        const proposals = [...proposeUserIds(uid, who)];
        expect([...proposeUserIds(uid, who)]).toEqual(proposals);
        expect(proposals.every(isUserLocalId)).toBe(true);
        expect(new Set(proposals).size).toBe(userRange.last - userRange.first + 1);
      }),
      { numRuns: 10 },
    );
    expect(new Set(proposeGroupIds('uid', 'a/b')).size).toBe(groupRange.last - groupRange.first + 1);
    expect(new Set(proposeSlices('uid')).size).toBe(sliceCount);
  });

  test('moving a letter from the issuer to the subject makes another order (threat 22)', () => {
    const one = proposeUserIds('uid', { issuer: 'https://a', subject: 'bc' }).next().value;
    const other = proposeUserIds('uid', { issuer: 'https://ab', subject: 'c' }).next().value;
    expect(one).not.toBe(other);
  });

  test('are spread: 1,000 principals propose at least 950 different ids first', () => {
    const first = Array.from({ length: 1000 }, (_, n) =>
      proposeUserIds('uid', { issuer: 'i', subject: `${n}` }).next(),
    );
    expect(new Set(first.map(({ value }) => value)).size).toBeGreaterThan(950);
  });
});

import { describe, expect, test } from '@jest/globals';
import { globalId } from '#common/identity/ids.ts';
import { issuedIds, type IdentityRecords } from './issued-ids.ts';

const id = (slice: number, localId: number): number => globalId({ slice, localId });

/** An organization `physics` with slice 3, a member, a group; parts can be replaced. */
function records(
  change: { userName?: string; uid?: number; gid?: number; owner?: string; uidMode?: string } = {},
): IdentityRecords {
  const uid = change.uid ?? id(3, 2000);
  const memberships = [
    {
      metadata: { name: 'alice', namespace: 'vo-physics', uid: 'm1' },
      status: { userName: change.userName ?? `u-alice-${uid}`, uid, gid: id(3, 0) },
    },
  ];
  const organizations = [
    {
      metadata: { name: 'physics', uid: 'o1' },
      spec: { identity: { uidMode: change.uidMode ?? 'Global' } },
      status: { state: 'Operational', slices: [3], groups: [{ name: 'analysis/higgs', gid: change.gid ?? id(3, 7) }] },
    },
  ];
  const slices = [{ spec: { number: 3, virtualOrganization: { name: 'physics', uid: change.owner ?? 'o1' } } }];
  return { memberships, organizations, slices } as unknown as IdentityRecords;
}

describe('issuedIds', () => {
  test('writes members and groups under the names that pods know', () => {
    const alice = id(3, 2000);
    expect(issuedIds(records())).toEqual({
      users: `u-alice-${alice}:x:${alice}:${id(3, 0)}:::\n`,
      groups: `vo-physics/analysis/higgs:x:${id(3, 7)}:\nvo-physics:x:${id(3, 0)}:\n`,
    });
  });

  test.each([
    ['an id of a slice of someone else', { uid: id(4, 2000) }],
    ['an id that is no user', { uid: id(3, 5) }],
    ['root', { uid: 0, userName: 'u-alice-2013462488' }],
    ['a name that holds another id', { userName: `u-alice-${id(3, 2001)}` }],
    ['the name root', { userName: 'root' }],
  ])('leaves out a membership that claims %s', (_, change) => {
    expect(issuedIds(records(change)).users).toBe('');
  });

  test('leaves out groups whose id lies elsewhere, and all of an organization that does not own its slice', () => {
    expect(issuedIds(records({ gid: id(9, 7) })).groups).toBe(`vo-physics:x:${id(3, 0)}:\n`);
    expect(issuedIds(records({ owner: 'o2' }))).toEqual({ users: '', groups: '' });
  });

  test('has nobody of an organization whose pods see other numbers', () => {
    expect(issuedIds(records({ uidMode: 'Local' }))).toEqual({ users: '', groups: '' });
  });
});

import { expect, test } from '@jest/globals';
import type { ReplicaStatus } from '#proto/generated/xtreemfs/osd.ts';
import { authoritativeState, isMatching, planReset } from './replica-state.ts';

function aStatus(
  versions: Record<number, number>,
  truncates: [number, number][] = [],
  truncateEpoch = 0,
): ReplicaStatus {
  const objectVersions = Object.entries(versions).map(([object, objectVersion]) => ({
    objectNumber: Number(object),
    objectVersion,
  }));
  const records = truncates.map(([version, lastObjectNumber]) => ({ version, lastObjectNumber }));
  const maxObjVersion = Math.max(0, ...Object.values(versions));
  return { truncateEpoch, fileSize: 0, maxObjVersion, primaryEpoch: 0, objectVersions, truncateLog: { records } };
}

function stateOf(statuses: Record<string, ReplicaStatus>) {
  return authoritativeState(new Map(Object.entries(statuses)));
}

test('takes the newest version of each object and who has it', () => {
  const state = stateOf({ a: aStatus({ 0: 5, 1: 2 }), b: aStatus({ 0: 4, 1: 2 }), c: aStatus({ 2: 1 }) });
  expect(state.objectVersions).toEqual([
    { objectNumber: 0, objectVersion: 5, osdUuids: ['a'] },
    { objectNumber: 1, objectVersion: 2, osdUuids: ['a', 'b'] },
    { objectNumber: 2, objectVersion: 1, osdUuids: ['c'] },
  ]);
  expect(state.maxObjVersion).toBe(5);
});

test('drops what a later truncate cut off, and keeps what was written after it', () => {
  const state = stateOf({ a: aStatus({ 0: 6 }, [[6, 0]], 2), b: aStatus({ 0: 1, 1: 5, 2: 7 }) });
  expect(state.objectVersions.map(({ objectNumber, objectVersion }) => [objectNumber, objectVersion])).toEqual([
    [0, 6],
    [2, 7],
  ]);
  expect(state).toMatchObject({ truncateEpoch: 2, truncateLog: { records: [{ version: 6, lastObjectNumber: 0 }] } });
});

test('has a replica remove what is gone, fetch what is missing or other, and keep what is newer', () => {
  const state = stateOf({ a: aStatus({ 0: 5, 1: 5, 3: 4 }), b: aStatus({}) });
  const plan = planReset(aStatus({ 0: 3, 1: 9, 2: 2, 3: 4 }), state);
  expect(plan.remove).toEqual([2]);
  expect(plan.fetch.map(({ objectNumber }) => objectNumber)).toEqual([0]);
});

test('finds nothing to do for a replica that matches, and something for one whose truncates differ', () => {
  const status = aStatus({ 0: 6 }, [[6, 0]], 2);
  const state = stateOf({ a: status });
  expect(isMatching(planReset(status, state))).toBe(true);
  expect(isMatching(planReset(aStatus({ 0: 6 }, [], 2), state))).toBe(false);
});

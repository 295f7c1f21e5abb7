import { describe, expect, test } from '@jest/globals';
import { type FileSystem, fileSystemScaled, type FileSystemStatus } from '#crds/file-system.ts';
import type { DrainReport } from '#operator/storage/installation.ts';
import type { PersistentVolumeClaim, Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/types.ts';
import { drainedAnnotation, isOsdOf, leavingOsds, osdCount, type ShrinkSight } from './shrink.ts';
import { computeStatus, type FileSystemScope } from './status.ts';

/** @param wanted - `osds.count`. @param claims - ordinals; those with a `!` were found empty. */
function aSight(wanted: number, running: number, claims: readonly string[]): ShrinkSight {
  const metadata = { name: 'main', namespace: 'xtreemos-system', uid: 'u', resourceVersion: '1', generation: 3 };
  const fileSystem = { metadata, spec: { osds: { count: wanted } } } as unknown as Stored<FileSystem>;
  const claim = (text: string): [number, Stored<PersistentVolumeClaim>] => {
    const ordinal = Number.parseInt(text, 10);
    const annotations = text.endsWith('!') ? { [drainedAnnotation]: `main-osd-${ordinal}` } : {};
    const name = `data-main-osd-${ordinal}`;
    const creationTimestamp = '2026-01-01T00:00:00Z';
    return [ordinal, { metadata: { name, uid: name, resourceVersion: '1', creationTimestamp, annotations } }];
  };
  return { fileSystem, running, claims: new Map(claims.map(claim)), pods: new Map<number, Stored<Pod>>() };
}

describe('how many OSDs there are to be', () => {
  test.each<[string, ShrinkSight, number, number[]]>([
    ['as declared', aSight(2, 2, []), 2, []],
    ['more, when more are declared', aSight(3, 2, []), 3, []],
    ['as before, while those that are to go have files', aSight(1, 3, ['0', '1', '2']), 3, [2, 1]],
    ['without the last one once it is empty', aSight(1, 3, ['0', '1', '2!']), 2, [1]],
    ['as declared once all are empty', aSight(1, 3, ['0', '1!', '2!']), 1, []],
    ['not more again while the claim of an empty one is there', aSight(3, 2, ['0', '1', '2!']), 2, []],
    ['without one whose claim was never made', aSight(1, 2, ['0']), 1, []],
    ['as before when the count is set back in time', aSight(3, 3, ['0', '1', '2']), 3, []],
  ])('%s', (_, sight, count, leaving) => {
    expect(osdCount(sight)).toBe(count);
    expect(leavingOsds(sight)).toEqual(leaving);
  });

  test('an OSD is told by the name of its pod, also when its folder was replaced', () => {
    expect(isOsdOf('main-osd-1', 'main-osd-1')).toBe(true);
    expect(isOsdOf('main-osd-1.0a0b0c0d', 'main-osd-1')).toBe(true);
    expect(isOsdOf('main-osd-11', 'main-osd-1')).toBe(false);
  });
});

describe('the condition Scaled', () => {
  const statusWith = (drains: Record<string, DrainReport>, isRemoving = false, wanted = 2): FileSystemStatus => {
    const server = { ready: [0], wanted: 1, isUpdating: false };
    const scope: FileSystemScope = {
      fileSystem: aSight(1, wanted, []).fileSystem,
      servers: { dir: server, mrc: server, osd: { ready: [0, 1].slice(0, wanted), wanted, isUpdating: false } },
      certificates: { isNeeded: false, missing: [], hasManager: true },
      unboundClaims: [],
      osds: [
        { uuid: 'main-osd-0', lastSeenS: 9, freeBytes: 5, totalBytes: 9, takesFiles: true },
        { uuid: 'main-osd-1', lastSeenS: 0, freeBytes: 1, totalBytes: 9, takesFiles: true },
        { uuid: 'main-osd-1.0a0b0c0d', lastSeenS: 9, freeBytes: 2, totalBytes: 9, takesFiles: false },
      ],
      shrink: { drains: new Map(Object.entries(drains)), isRemoving },
      volumes: 1,
      namespace: 'xtreemos-system',
      now: 0,
    };
    return computeStatus(scope);
  };
  const scaled = (status: FileSystemStatus): { reason?: string; message?: string } =>
    status.conditions?.find(({ type }) => type === fileSystemScaled.type) ?? {};

  test('says that files move, and the OSD how many are left', () => {
    const status = statusWith({ 'main-osd-1': { isEmpty: false, filesLeft: 12, problem: '' } });
    expect(scaled(status)).toMatchObject({
      reason: 'Draining',
      message: 'Files move from main-osd-1 to the other OSDs; status.osds tells how many are left.',
    });
    expect(status.osds?.map(({ uuid, state, filesLeft }) => [uuid, state, filesLeft])).toEqual([
      ['main-osd-0', 'Available', undefined],
      ['main-osd-1.0a0b0c0d', 'Draining', 12],
    ]);
  });

  test('says what is in the way', () => {
    const problem = 'Volume vol-1 has snapshots, and their files can not move: delete them first';
    expect(scaled(statusWith({ 'main-osd-1': { isEmpty: false, filesLeft: 1, problem } }))).toMatchObject({
      reason: 'DrainBlocked',
      message: `Files stay on main-osd-1: ${problem}`,
    });
  });

  test('says that empty OSDs go, until their claims are gone', () => {
    expect(scaled(statusWith({ 'main-osd-1': { isEmpty: true, filesLeft: 0, problem: '' } }, true))).toMatchObject({
      reason: 'Shrinking',
    });
    expect(scaled(statusWith({}, true, 1))).toMatchObject({ reason: 'Shrinking' });
    expect(scaled(statusWith({}, false, 1))).toMatchObject({ status: 'True', reason: 'AsDeclared' });
  });
});

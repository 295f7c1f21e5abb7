import { describe, expect, test } from '@jest/globals';
import {
  addKeptLogs,
  cutMark,
  hasRoomFor,
  keptLogBounds,
  type KeptLog,
  keptLogsData,
  keptLogsName,
  keptLogTasksMax,
  readKeptLogs,
  tailOf,
} from './kept-logs.ts';

const own = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'Execution', name: 'job', uid: 'uid-1', controller: true };
const aLog = (index: number, more: Partial<KeptLog> = {}): KeptLog => ({
  ...{ index, run: 'r1', isFailed: false, text: `says ${index}\n` },
  ...more,
});
const sizeOf = (logs: readonly KeptLog[]): number => Buffer.byteLength(JSON.stringify(logs.map(({ text }) => text)));

describe('kept logs', () => {
  test('are read as they were written, by index', () => {
    const logs = [aLog(10, { isFailed: true }), aLog(2, { run: 'b7' })];
    const object = { metadata: { name: keptLogsName('job'), ownerReferences: [own] }, data: keptLogsData(logs) };
    expect(readKeptLogs(object, 'uid-1')).toEqual([logs[1], logs[0]]);
  });

  test.each([
    ['nobody', []],
    ['an earlier Execution of this name', [{ ...own, uid: 'uid-0' }]],
    ['an Execution that is not its controller', [{ ...own, controller: false }]],
  ])('are not read from a ConfigMap that belongs to %s', (_, ownerReferences) => {
    const object = { metadata: { name: 'job-logs', ownerReferences }, data: keptLogsData([aLog(0)]) };
    expect(readKeptLogs(object, 'uid-1')).toEqual([]);
  });

  test('leave out keys that are not those of a task', () => {
    const data = {
      ...keptLogsData([aLog(0)]),
      'x.r1.failed': 'a',
      '1.R1.failed': 'b',
      '1.r1.odd': 'c',
      __proto__: 'd',
    };
    const object = { metadata: { name: 'job-logs', ownerReferences: [own] }, data };
    expect(readKeptLogs(object, 'uid-1')).toEqual([aLog(0)]);
  });
});

describe('adding to kept logs', () => {
  test('replaces the run before of the same task', () => {
    const logs = addKeptLogs([aLog(0, { isFailed: true }), aLog(1)], [aLog(0, { run: 'r2', text: 'better' })]);
    expect(new Map(logs.map((log) => [log.index, log.text]))).toEqual(
      new Map([
        [0, 'better'],
        [1, 'says 1\n'],
      ]),
    );
  });

  test('cuts each log to its share, so that all together stay within the bounds', () => {
    const long = `${'x'.repeat(79)}\n`.repeat(2_000);
    const [alone] = addKeptLogs([], [aLog(0, { text: long })]);
    expect(Buffer.byteLength(alone!.text)).toBeLessThanOrEqual(keptLogBounds.taskMaxBytes);
    expect(Buffer.byteLength(alone!.text)).toBeGreaterThan(0.9 * keptLogBounds.taskMaxBytes);
    let logs: KeptLog[] = [];
    for (let index = 0; index < 300; index++) logs = addKeptLogs(logs, [aLog(index, { text: long })]);
    expect(logs).toHaveLength(keptLogTasksMax);
    expect(sizeOf(logs)).toBeLessThanOrEqual(keptLogBounds.totalBytes * 1.01);
  });

  test('keeps those that failed when there are too many', () => {
    const many = Array.from({ length: keptLogTasksMax }, (_, index) => aLog(index));
    expect(hasRoomFor(many, { index: 500, isFailed: false })).toBe(false);
    expect(hasRoomFor(many, { index: 500, isFailed: true })).toBe(true);
    expect(hasRoomFor(many, { index: 3, isFailed: false })).toBe(true);
    const logs = addKeptLogs(many, [aLog(500, { isFailed: true })]);
    expect(logs).toHaveLength(keptLogTasksMax);
    expect(logs.some(({ index }) => index === 500)).toBe(true);
  });
});

describe('the end of a text', () => {
  test('begins with a line and says that it is only the end', () => {
    const text = `${'x'.repeat(100)}one\ntwo\nthree\n`;
    expect(tailOf(text, cutMark.length + 16)).toBe(`${cutMark}two\nthree\n`);
    expect(tailOf('short\n', 100)).toBe('short\n');
  });

  test('is marked once, however often it is cut', () => {
    const once = tailOf('line\n'.repeat(100), 200);
    expect(tailOf(once, 100).split(cutMark)).toHaveLength(2);
  });

  test.each([
    ['control characters', '\u001b'.repeat(1_000)],
    ['characters of four bytes', '🌍'.repeat(1_000)],
    ['half characters and quotes', '\ud800"\\\n'.repeat(1_000)],
    ['one endless line', 'y'.repeat(5_000)],
  ])('stays within its bytes of JSON for %s', (_, text) => {
    const tail = tailOf(text, 300);
    expect(Buffer.byteLength(JSON.stringify(tail)) - 2).toBeLessThanOrEqual(300);
    expect(tail.length).toBeGreaterThan(cutMark.length);
    expect(tail.isWellFormed()).toBe(text.isWellFormed());
  });
});

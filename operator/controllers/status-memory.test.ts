import { describe, expect, test } from '@jest/globals';
import type { Execution } from '#crds/execution.ts';
import { anExecution } from '#operator/testing/jobs.ts';
import type { Stored } from '#runtime/types.ts';
import { StatusMemory } from './status-memory.ts';

const status = (running: number): NonNullable<Execution['status']> => ({
  tasks: { waiting: 0, starting: 0, running, succeeded: 0, failed: 0, rows: [] },
});
const at = (version: string, running?: number): Stored<Execution> => {
  const { metadata, spec } = anExecution('a');
  const object = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'Execution', metadata, spec };
  const versioned = { ...object, metadata: { ...metadata, resourceVersion: version } };
  return running === undefined ? versioned : { ...versioned, status: status(running) };
};
const running = (object: Stored<Execution>): number | undefined => object.status?.tasks?.running;

describe('a status that was written', () => {
  test('is known until the cache has it, and no longer', () => {
    const memory = new StatusMemory<Execution>();
    memory.wrote(at('9', 2), 0);
    expect(running(memory.written(at('5', 1)))).toBe(2);
    expect(running(memory.written(at('10', 3)))).toBe(3);
    expect(running(memory.newest(at('10', 3)))).toBe(3);
  });

  test('is not that of another object of the same name', () => {
    const memory = new StatusMemory<Execution>();
    memory.wrote(at('9', 2), 0);
    const other = at('5', 1);
    expect(running(memory.newest({ ...other, metadata: { ...other.metadata, uid: 'another' } }))).toBe(1);
  });

  test.each([
    ['of one task is followed by the next at once', 1, 0],
    ['of some tasks is followed by the next after as many milliseconds', 40, 30],
    ['of many tasks is followed by the next within a second', 10_000, 990],
  ])('%s', (_, tasks, pauseMs) => {
    const memory = new StatusMemory<Execution>();
    expect(memory.pauseMs(at('9'), tasks, 110)).toBe(0);
    memory.wrote(at('9', 2), 100);
    expect(memory.pauseMs(at('9'), tasks, 110)).toBe(pauseMs);
  });
});

describe('a status that is held', () => {
  test('is told, is newer than what was written, and is held since the first one', () => {
    const memory = new StatusMemory<Execution>();
    const told: string[] = [];
    memory.onHeld(({ metadata }) => told.push(metadata.name));
    expect(memory.hold(at('5'), status(1), 100)).toBe(100);
    expect(memory.hold(at('5'), status(2), 200)).toBe(100);
    expect([running(memory.newest(at('5'))), running(memory.written(at('5')))]).toEqual([2, undefined]);
    expect(told).toHaveLength(2);
    memory.wrote(at('6', 3), 300);
    expect([running(memory.newest(at('5'))), memory.heldSince(at('5'))]).toEqual([3, undefined]);
  });

  test('gives way to the one that is being written as soon as there is word of that, also before the answer comes', () => {
    const memory = new StatusMemory<Execution>();
    memory.hold(at('5'), status(1), 0);
    memory.writing(at('5'));
    expect(running(memory.newest(at('5')))).toBe(1);
    expect(running(memory.newest(at('6', 0)))).toBe(0);
  });
});

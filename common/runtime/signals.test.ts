import { EventEmitter } from 'node:events';
import { expect, test } from '@jest/globals';
import { terminationSignal } from './signals.ts';

test.each(['SIGTERM', 'SIGINT'])('%s aborts, and a second signal is left to its default', (name) => {
  const source = new EventEmitter();
  const { signal } = terminationSignal(source);
  source.emit(name, name);
  expect([signal.aborted, (signal.reason as Error).message]).toEqual([true, `Got ${name}`]);
  expect(source.listenerCount('SIGTERM') + source.listenerCount('SIGINT')).toBe(0);
});

test('disposing takes the handlers away', () => {
  const source = new EventEmitter();
  terminationSignal(source).dispose();
  expect(source.listenerCount('SIGTERM')).toBe(0);
});

import { expect, test } from '@jest/globals';
import { anExecution } from '#operator/testing/jobs.ts';
import type { PartState } from '#proto/site/schema.ts';
import { isOver, type Part } from './part-state.ts';

const placements = [{ run: 'r1', site: 'far', node: 'n1', tasks: '0', hold: 'h1' }];
const rows = (state: 'Running' | 'Killed', running: number): string =>
  JSON.stringify({ waiting: 0, starting: 0, running, succeeded: 0, failed: 0, rows: [{ index: 0, run: 'r1', state }] });
const ended: PartState = {
  ...{ part: 'p', isKnown: true, isFenced: false, runs: ['r1'], live: [], refusal: '', digest: '' },
  ...{ tasks: rows('Killed', 0), settledRevision: 3 },
};

test.each([
  ['its end was told', {}, true],
  ['its pod is gone, and not written down yet what became of it', { tasks: rows('Running', 1) }, false],
  ['a pod is left', { live: ['r1'] }, false],
  ['the site has not acted on the last word', { settledRevision: 2 }, false],
  ['the site does not know it', { isKnown: false, tasks: '', runs: [], settledRevision: 0 }, true],
])('a closed part may be forgotten or not when %s', (_, more, expected) => {
  const execution = anExecution('job', { placements, isClosed: true, keepLogs: false });
  const part: Part = {
    givenUp: new Map(),
    ...{ told: '', revision: 3, toldGeneration: 1, toldAt: 0, refusal: undefined, logsOf: '', logTries: 0 },
    state: { ...ended, ...more },
  };
  expect(isOver(part, execution)).toBe(expected);
  expect(isOver(part, anExecution('job', { placements, keepLogs: false }))).toBe(false);
});

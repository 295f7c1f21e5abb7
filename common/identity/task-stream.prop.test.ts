import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readTaskStream, type TaskStream, taskStreamKinds, taskStreamPath } from './task-stream.ts';

const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/);
const stream: fc.Arbitrary<TaskStream> = fc
  .record({
    ...{ virtualOrganization: name, job: name, index: fc.nat(99_999), run: fc.stringMatching(/^[a-z0-9]{1,8}$/) },
    kind: fc.constantFrom(...taskStreamKinds),
    command: fc.array(fc.string({ unit: 'grapheme' }), { minLength: 1, maxLength: 5 }),
    ...{ stdin: fc.boolean(), tty: fc.boolean(), follow: fc.boolean(), timestamps: fc.boolean() },
    tailLines: fc.option(fc.nat(), { nil: undefined }),
  })
  .map((each) => ({ ...each, command: each.kind === 'exec' ? each.command : [] }));

describe('the path of a stream of a task', () => {
  test('is read as it was written', () => {
    fc.assert(fc.property(stream, (each) => expect(readTaskStream(taskStreamPath(each))).toEqual(each)));
  });

  test('is not mistaken for another, whatever is asked for', () => {
    fc.assert(
      fc.property(fc.webPath(), (path) => {
        expect(readTaskStream(path)).toBeUndefined();
      }),
    );
  });

  const path = '/v1/virtual-organizations/physics/jobs/a/tasks/0';
  test.each([
    ['a run that is none', 'log?run=../x', /^run: /],
    ['no run', 'log', /^run: /],
    ['exec without a command', 'exec?run=r1', /^command: /],
    ['a command for a log', 'log?run=r1&command=sh', /^command: /],
    ['a command that is too long', `exec?run=r1&command=${'x'.repeat(20_000)}`, /^command: .*use stdin/],
    ['lines that are no number', 'log?run=r1&tailLines=-1', /^tailLines: /],
    ['too many lines', 'log?run=r1&tailLines=99999999999', /^tailLines: /],
  ])('says what is wrong with %s', (_, rest, message) => {
    expect(() => readTaskStream(`${path}/${rest}`)).toThrow(message);
  });
});

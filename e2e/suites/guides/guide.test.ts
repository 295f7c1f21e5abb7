import { describe, expect, test } from '@jest/globals';
import { Comparison, readSteps, Terminal } from './guide.ts';

const guide = `# A guide
Some words with \`code\`.
\`\`\`sh
first one
second one
\`\`\`
\`\`\`text
hello
\`\`\`
## Later
\`\`\`yaml
kind: Nothing
\`\`\`
\`\`\`sh
third one
\`\`\`
`;

describe('the steps of a guide', () => {
  test('are its commands, each with the heading over it and what it prints', () => {
    expect(readSteps(guide)).toEqual([
      { heading: 'A guide', script: 'first one\nsecond one', printed: 'hello' },
      { heading: 'Later', script: 'third one' },
    ]);
  });

  test('print something only where there are commands', () => {
    expect(() => readSteps('```text\nhello\n```')).toThrow('what prints this? hello');
  });
});

describe('what was printed', () => {
  const missing = (shown: string, printed: string): string | undefined => new Comparison().missing(shown, printed);

  test('may have other times, ages, counts and columns', () => {
    expect(missing('NAME   AGE\ncarol  40s  3 pods', 'NAME AGE\ncarol  1m2s  17 pods\n')).toBeUndefined();
    expect(missing('until 2026-12-03T20:31:48.275Z', 'until 2027-01-01T00:00:00Z')).toBeUndefined();
  });

  test('must have every line in its place, and no other', () => {
    expect(missing('one\ntwo', 'one')).toBe('two');
    expect(missing('one\ntwo', 'one\nwarning: three\ntwo')).toBe('two');
    expect(missing('one', 'one\ntwo')).toBe('(nothing, but there was: two)');
    expect(missing('carol Active', 'carol Pending')).toBe('carol Active');
  });

  test('may have anything where the guide has a line of dots', () => {
    expect(missing('…\nrefused', 'Error one\nError two\nrefused')).toBeUndefined();
    expect(missing('…\nrefused', 'Error one')).toBe('refused');
  });

  test('has one user id wherever the guide has one, from block to block', () => {
    const comparison = new Comparison();
    expect(
      comparison.missing('uid=2086300717(u-carol-2086300717)', 'uid=3000000001(u-carol-3000000001)'),
    ).toBeUndefined();
    expect(comparison.missing('2086300717 sleep', '3000000001 sleep')).toBeUndefined();
    expect(comparison.missing('2086300717 sleep', '3000000002 sleep')).toBe('2086300717 sleep');
    expect(comparison.missing('2086300717 sleep', '2086300717 sleep')).toBe('2086300717 sleep');
  });
});

describe('a terminal', () => {
  test('keeps variables from block to block, and tells output and status', async () => {
    const terminal = new Terminal({ cwd: '/', env: process.env });
    try {
      expect(await terminal.type('NAME=carol', 30_000)).toEqual({ printed: '', status: 0 });
      expect(await terminal.type('echo $NAME; echo wrong >&2; false', 30_000)).toEqual({
        printed: 'carol\nwrong',
        status: 1,
      });
      await expect(terminal.type('exit 3', 30_000)).rejects.toThrow('the shell ended in this');
    } finally {
      terminal.close();
    }
  });
});

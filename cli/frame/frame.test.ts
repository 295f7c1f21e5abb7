import { describe, expect, test } from '@jest/globals';
import { areas } from '../commands/areas.ts';
import { aContext } from '../testing/fakes.ts';
import { type AnyCommand, defineCommand } from './command.ts';
import { complete, type FindNames } from './completion.ts';
import { CommandError, endingOf, exitStatuses } from './exit.ts';
import { choice, duration, flag, optional, required, several, word, words } from './options.ts';
import { runProgram } from './program.ts';
import { referencePage } from './reference.ts';

const commands: readonly AnyCommand[] = areas.flatMap((area) => area.commands);

/** Runs one declared command with a body of the test. */
async function run(
  argv: readonly string[],
  body: (input: unknown) => Promise<number | undefined> = async () => undefined,
) {
  const given = aContext();
  const command = defineCommand({
    path: 'try',
    about: 'Try',
    args: { first: required('One'), rest: optional('More') },
    options: {
      loud: flag('Be loud', { short: 'l' }),
      name: word('Name', 'NAME'),
      tags: words('Tags', 'TAG'),
      limit: duration('Limit', '60s'),
      mode: choice('Mode', 'MODE', ['Open', 'Closed'], 'Open'),
    },
    examples: [{ does: 'try', line: 'try it' }],
    load: async () => async (_, input) => body(input),
  });
  const context = { ...given, areas: [{ commands: [command] }] };
  const code = await runProgram(argv, context, () => false);
  return { code, out: context.stdout(), err: context.stderr() };
}

describe('a command', () => {
  test('gets its arguments and options by name, with defaults', async () => {
    let seen: unknown;
    await run(['try', 'one', '-l', '--tags', 'a,b', '--tags=c', '--mode', 'closed'], async (input) => {
      seen = input;
      return undefined;
    });
    expect(seen).toEqual({
      first: 'one',
      rest: undefined,
      loud: true,
      name: undefined,
      tags: ['a', 'b', 'c'],
      limit: 60_000,
      mode: 'Closed',
    });
  });

  test('decides the exit status', async () => {
    expect((await run(['try', 'one'], async () => 42)).code).toBe(42);
    expect((await run(['try', 'one'])).code).toBe(0);
  });

  test.each([
    ['an unknown option', ['try', 'one', '--nmae', 'x'], /unknown option '--nmae'[^]*--name/],
    ['a missing argument', ['try'], /missing required argument 'FIRST'/],
    ['a wrong word', ['try', 'one', '--mode', 'ajar'], /--mode: "ajar" is not one of Open, Closed/],
    ['a wrong duration', ['try', 'one', '--limit', '5'], /--limit: "5" is not a duration: write it like 90s/],
    ['an unknown command', ['tyr'], /unknown command 'tyr'[^]*try/],
  ])('is not run for %s, and the message says why', async (_, argv, message) => {
    const { code, err, out } = await run(argv, async () => 0);
    expect(code).toBe(exitStatuses.usage.code);
    expect(err).toMatch(message);
    expect(out).toBe('');
  });

  test('shows help with examples on stdout', async () => {
    const { code, out } = await run(['try', '--help']);
    expect(code).toBe(0);
    expect(out).toContain('Examples:\n  # try\n  $ xos try it');
  });
});

const apiError = (statusCode: number, message: string, causes: object[] = []): object =>
  Object.assign(new Error(`PATCH /apis/x: ${message}`), { statusCode, details: { causes } });

test.each([
  ['no credentials', apiError(401, 'Unauthorized'), 3, /does not accept the credentials/, /xos login/],
  ['no right', apiError(403, 'vos "x" is forbidden'), 4, /^vos "x" is forbidden/, /xos whoami/],
  ['nothing there', apiError(404, 'vos "x" not found'), 5, /^vos "x" not found/, undefined],
  [
    'no such kind',
    apiError(404, 'the server could not find the requested resource'),
    5,
    /could not find/,
    /not installed/,
  ],
  ['a conflict', apiError(409, 'modified'), 1, /modified/, /same time/],
  ['a timeout', new CommandError('timeout', 'Still waiting'), 124, /Still waiting/, undefined],
  ['anything else', new Error('broken'), 1, /broken/, undefined],
])('ends with the status for %s and says what to do', (_, error, code, message, remedy) => {
  const ending = endingOf(error, false);
  expect(ending.code).toBe(code);
  expect(ending.message).toMatch(message);
  if (remedy === undefined) expect(ending.remedy).toBeUndefined();
  else expect(ending.remedy).toMatch(remedy);
});

test('names each field that the API server refused', () => {
  const causes = [
    { field: 'spec.groups', message: 'the parent of each group must be listed too' },
    { field: 'spec.state', message: 'state can not go back' },
  ];
  const { message } = endingOf(apiError(422, 'is invalid', causes), false);
  expect(message).toBe('spec.groups: the parent of each group must be listed too\nspec.state: state can not go back');
});

test('an interruption ends with 130, whatever it broke', () => {
  expect(endingOf(new Error('aborted'), true).code).toBe(130);
});

describe('every command', () => {
  test.each(commands.map((command): [string, AnyCommand] => [command.path, command]))(
    '%s can be loaded and shows examples that parse',
    async (_, command) => {
      expect(typeof (await command.load())).toBe('function');
      for (const { line } of command.examples) {
        expect(line.startsWith(command.path)).toBe(true);
        const tokens = line.split(' ').slice(command.path.split(' ').length);
        for (const token of tokens.filter((one) => one.startsWith('--') && one !== '--')) {
          const known = Object.keys(command.options).map(
            (key) => `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`,
          );
          expect(known).toContain(token);
        }
      }
    },
  );

  test('is in the reference, unless it is hidden', () => {
    const page = referencePage(areas);
    for (const { path, isHidden } of commands) expect(page.includes(`### xos ${path}\n`)).toBe(isHidden !== true);
  });

  test('that destroys something has --dry-run', () => {
    const destroys = ['vo dissolve', 'vo approve', 'vo remove-group', 'vo remove-role', 'vo freeze', 'vo import'];
    const members = ['suspend', 'ban', 'remove', 'set-groups', 'set-roles', 'expire', 'import'].map(
      (verb) => `member ${verb}`,
    );
    for (const path of [...destroys, ...members]) {
      expect(commands.find((command) => command.path === path)?.options).toHaveProperty('dryRun');
    }
  });
});

describe('completion', () => {
  const findNames: FindNames = async (what, options) => [
    { value: `${what}-1`, about: [...options].map(([key, value]) => `${key}=${value}`).join(' ') },
  ];
  const at = async (...line: string[]): Promise<string[]> => (await complete(areas, line, findNames)).split('\n');

  test('offers commands, then those of a group', async () => {
    expect(await at('')).toContain('vo\tVirtual organizations: form, change, join, end');
    expect((await at('vo', 'fr'))[0]).toMatch(/^freeze\t/);
    expect(await at('')).not.toContainEqual(expect.stringMatching(/^__complete/));
  });

  test('offers options, their words and names from the server', async () => {
    expect(await at('vo', 'list', '--con')).toEqual([expect.stringMatching(/^--context\t/), ':4']);
    expect(await at('vo', 'list', '-o', 'js')).toEqual(['json\t', ':4']);
    expect(await at('vo', 'list', '--output=ya')).toEqual(['yaml\t', ':4']);
    expect(await at('vo', 'list', '--output', '=', 'ya')).toEqual(['yaml\t', ':4']);
    expect(await at('vo', 'show', '')).toEqual(['vo-1\t', ':4']);
    expect(await at('member', 'show', '--vo', 'physics', '')).toEqual(['member-1\tvo=physics', ':4']);
    expect(await at('vo', 'remove-group', 'physics', '')).toEqual(['group-1\tvo=physics', ':4']);
    expect(await at('member', 'approve', 'alice', '')).toEqual(['member-1\t', ':4']);
  });

  test('leaves files to the shell', async () => {
    expect(await at('vo', 'import', '')).toEqual([':0']);
    expect(await at('login', '--certificate', '')).toEqual([':0']);
  });

  test('never lets a name break the line (threat 54)', async () => {
    const answer = await complete(areas, ['vo', 'show', ''], async () => [{ value: 'a', about: 'x\n:0\u001b[2J' }]);
    expect(answer).toBe('a\tx\\n:0\\x1b[2J\n:4');
  });
});

test('several words are one argument', () => {
  expect(several('x')).toMatchObject({ isVariadic: true, isRequired: true });
});

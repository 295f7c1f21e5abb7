import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { aContext } from '../testing/fakes.ts';
import { escapeControls } from './escape.ts';
import { serialize } from './print.ts';
import { formatFacts, formatTable } from './table.ts';
import { formatSpan, parseMoment } from './times.ts';

/** What a terminal must never get. */
// eslint-disable-next-line no-control-regex -- that is what it is about
const obeyed = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/;
const nasty = 'a\u001b]52;c;ZXZpbA==\u0007\u009b2J\u202egnp.exe\r\nb\u0000';

describe('text of others (threat 54)', () => {
  test('is shown with every control character escaped', () => {
    expect(escapeControls(nasty)).toBe('a\\x1b]52;c;ZXZpbA==\\x07\\x9b2J\\u202egnp.exe\\r\\nb\\x00');
  });

  test.each(['json', 'yaml'] as const)(
    'reads back as it was from %s, which holds no control character',
    async (format) => {
      const text = await serialize(format, { name: nasty, lines: 'one\ntwo\n', list: [nasty] });
      expect(text).not.toMatch(obeyed);
      expect(parse(text)).toEqual({ name: nasty, lines: 'one\ntwo\n', list: [nasty] });
    },
  );

  test('is escaped in tables, facts, errors and hints', () => {
    const { terminal, stderr } = aContext({ isTerminal: true });
    terminal.error(nasty, nasty);
    terminal.hint(nasty);
    terminal.warn(nasty);
    const table = formatTable([nasty], [{ name: 'name', value: (text) => text }], { isWide: true });
    const facts = formatFacts([['Name', nasty]]);

    for (const text of [stderr(), table, facts]) expect(text).not.toMatch(obeyed);
  });
});

describe('a table', () => {
  const columns = [
    { name: 'name', value: (row: { name: string }) => row.name },
    { name: 'uid', isWide: true, value: () => 7 },
    { name: 'state', value: () => undefined },
  ];

  test('lines its columns up and shows a dash for what is missing', () => {
    const text = formatTable([{ name: 'alice' }, { name: 'bo' }], columns, { isWide: false });
    expect(text).toBe('NAME    STATE\nalice   -\nbo      -');
  });

  test('shows the other columns when it is wide', () => {
    expect(formatTable([{ name: 'alice' }], columns, { isWide: true })).toBe('NAME    UID   STATE\nalice   7     -');
  });

  test('cuts a cell that would push the others away, but not when it is wide', () => {
    const long = 'x'.repeat(200);
    expect(formatTable([{ name: long }], columns, { isWide: false }).length).toBeLessThan(160);
    expect(formatTable([{ name: long }], columns, { isWide: true })).toContain(long);
  });
});

describe('the terminal', () => {
  test('says nothing of progress and hints in a pipe', () => {
    const { terminal, stderr } = aContext();
    terminal.progress('working');
    terminal.hint('next');
    expect(stderr()).toBe('');
  });

  test('takes progress away before anything else is said', () => {
    const { terminal, stderr } = aContext({ isTerminal: true });
    terminal.progress('working');
    terminal.say('done');
    expect(
      stderr().endsWith('working\u001b[22m\r\u001b[2Kdone\n') || stderr().endsWith('working\r\u001b[2Kdone\n'),
    ).toBe(true);
  });

  test.each([
    ['a terminal', { isTerminal: true, env: {} }, true],
    ['NO_COLOR', { isTerminal: true, env: { NO_COLOR: '1' } }, false],
    ['a dumb terminal', { isTerminal: true, env: { TERM: 'dumb' } }, false],
    ['a pipe', { isTerminal: false, env: {} }, false],
    ['FORCE_COLOR in a pipe', { isTerminal: false, env: { FORCE_COLOR: '1' } }, true],
  ])('colours errors as they should be for %s', (_, options, isColoured) => {
    const { terminal, stderr } = aContext(options);
    terminal.error('no');
    expect(stderr().includes('\u001b[')).toBe(isColoured);
  });
});

describe('moments and spans', () => {
  const now = Date.parse('2026-11-25T12:00:00Z');

  test.each([
    ['2027-01-31', '2027-01-31T23:59:59Z'],
    ['2027-01-31T12:00:00+01:00', '2027-01-31T11:00:00Z'],
    ['90d', '2027-02-23T12:00:00Z'],
    ['1h30m', '2026-11-25T13:30:00Z'],
  ])('reads %s', (text, expected) => {
    expect(parseMoment(text, '--expires', now)).toBe(expected);
  });

  test.each(['tomorrow', '2027-13-01', '5', '5 days', ''])('refuses %j and says what is understood', (text) => {
    expect(() => parseMoment(text, '--expires', now)).toThrow(/--expires.*(such as|like) 9/);
  });

  test.each([
    [0, '0s'],
    [59, '59s'],
    [90 * 60, '1h30m'],
    [50 * 3600, '2d2h'],
    [15 * 86_400, '15d'],
  ])('shows %i seconds', (seconds, expected) => {
    expect(formatSpan(seconds)).toBe(expected);
  });
});

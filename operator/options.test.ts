import { describe, expect, test } from '@jest/globals';
import { helpText, parseOptions } from '#common/options.ts';
import { operatorOptions } from './options.ts';

const parse = (...argv: string[]): ReturnType<typeof parseOptions<typeof operatorOptions>>['values'] =>
  parseOptions(operatorOptions, argv, {}).values;

describe('the options of the operator', () => {
  test('have defaults that are valid', () => {
    expect(parse()).toMatchObject({ siteName: 'local', siteAttributes: {}, metricsPort: 8080, leaderElect: true });
  });

  test('read attributes as pairs', () => {
    expect(parse('--site-attributes', 'country=FR, organization=Example University').siteAttributes).toEqual({
      country: 'FR',
      organization: 'Example University',
    });
  });

  test.each<[string, string[], string]>([
    ['a site name in capitals', ['--site-name', 'Home'], '--site-name: "Home" is not valid: use lower-case letters'],
    ['a port out of range', ['--metrics-port', '70000'], '--metrics-port: "70000" is not valid: use 0 (any free port)'],
    ['a port in words', ['--health-port', 'http'], '--health-port: "http" is not valid: use a port number'],
    ['a lease too short', ['--lease-duration-ms', '10'], '--lease-duration-ms: "10" is not valid: use at least 3000'],
    ['a lease of half seconds', ['--lease-duration-ms', '15500'], 'use whole seconds, such as 15000'],
    [
      'an unknown level',
      ['--log-level', 'loud'],
      '--log-level: "loud" is not valid: use one of error, warn, info, debug',
    ],
    ['an attribute without a value', ['--site-attributes', 'country'], '"country" is not name=value'],
    ['an attribute twice', ['--site-attributes', 'a=1,a=2'], 'a is given twice'],
    ['a country in words', ['--site-attributes', 'country=France'], 'country must be two capital letters'],
    ['a range that is none', ['--reserved-ranges', '10.0.0.0/8,host/24'], '"host/24" is no address range such as'],
    ['an unknown flag', ['--leader'], "Unknown option '--leader'"],
  ])('refuse %s, naming the flag and the remedy', (_, argv, message) => {
    expect(() => parse(...argv)).toThrow(message);
  });

  test('are all in the help, each with a sentence', () => {
    const text = helpText('operator', 'x', operatorOptions);
    for (const spec of Object.values(operatorOptions)) {
      expect(text).toContain(spec.about);
      expect(spec.about).toMatch(/^[A-Z].*[^.]$/);
    }
  });
});

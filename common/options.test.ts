import { describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import { helpText, option, parseOptions } from './options.ts';

const specs = {
  port: option({
    schema: z.coerce.number().int('use a whole number').min(1).max(65535),
    about: 'TCP port to listen on',
    default: '8080',
    value: 'PORT',
  }),
  leaderElect: option({ schema: z.boolean(), about: 'Wait for leadership', default: 'true', isBoolean: true }),
  site: option({ schema: z.string().min(1), about: 'Name of this site', value: 'NAME' }),
  apiSecret: option({ schema: z.string().max(3), about: 'Shared secret', default: '', isSecret: true }),
};

describe('parseOptions', () => {
  test('a flag beats the environment, which beats the default', () => {
    const env = { XTREEMOS_PORT: '9000', XTREEMOS_SITE: 'from-env' };
    expect(parseOptions(specs, ['--port', '9001'], env).values).toMatchObject({ port: 9001, site: 'from-env' });
    expect(parseOptions(specs, [], env).values).toMatchObject({ port: 9000, leaderElect: true });
  });

  test('boolean flags can be turned off', () => {
    expect(parseOptions(specs, ['--no-leader-elect', '--site', 'a'], {}).values.leaderElect).toBe(false);
  });

  test('words that are no flags are returned', () => {
    expect(parseOptions(specs, ['up', '--site', 'a'], {}).words).toEqual(['up']);
  });

  test.each([
    ['a missing required option', [], '--site: is required (or set XTREEMOS_SITE)'],
    ['a value the schema refuses', ['--site', 'a', '--port', 'x'], '--port: "x" is not valid'],
    ['an unknown flag', ['--site', 'a', '--prot', '1'], "Unknown option '--prot'"],
    ['a flag without its value', ['--site'], "'--site <value>' argument missing"],
  ])('names the flag and the remedy for %s', (_, argv, message) => {
    expect(() => parseOptions(specs, argv, {})).toThrow(message);
  });

  test('never shows a refused secret', () => {
    expect(() => parseOptions(specs, ['--site', 'a', '--api-secret', 'canary'], {})).toThrow(/^(?!.*canary)/);
  });

  test('a boolean variable must be a boolean', () => {
    expect(() => parseOptions(specs, ['--site', 'a'], { XTREEMOS_LEADER_ELECT: 'yes' })).toThrow('use true or false');
  });
});

test('the help text names each flag, variable and default', () => {
  const text = helpText('operator [options]', 'Reconciles.', specs);
  expect(text).toContain('--port PORT');
  expect(text).toContain('[XTREEMOS_PORT, default 8080]');
  expect(text).toContain('[XTREEMOS_SITE, required]');
});

import { describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { Predicates, type LiveState } from './predicate.ts';

const state: LiveState = {
  free: { cpu: 2_000, memory: 4 * 2 ** 30 },
  live: { load1: 0.5 },
  node: { 'cpu.model': 'epyc-64', cores: 64 },
};
const predicates = new Predicates(systemClock);

describe('a predicate', () => {
  test.each([
    'free.cpu >= 1500 && live.load1 < 2.0',
    'node["cpu.model"].startsWith("epyc") && node.cores >= 64',
    '!("nvidia.com/gpu" in free) || free["nvidia.com/gpu"] > 0',
    '["epyc-64", "xeon-8"].exists(model, model == node["cpu.model"])',
  ])('holds: %s', (text) => {
    expect(predicates.evaluate([text], state)).toEqual({ holds: true });
  });

  test.each([
    ['that is false', 'free.cpu > 9000', 'Not so now: free.cpu > 9000'],
    ['that needs a value the node lacks', 'free.gpus > 0', 'Can not tell: free.gpus > 0'],
  ])('%s does not hold, and says so', (_, text, reason) => {
    expect(predicates.evaluate(['true', text], state)).toMatchObject({
      holds: false,
      reason: expect.stringContaining(reason),
    });
  });
});

describe('an expensive or wrong expression is refused before it runs (threat 61)', () => {
  test.each([
    ['a regular expression', '"aaaa".matches("(a+)+$")', 'calls matches, which is not allowed'],
    ['a value that doubles', 'cel.bind(a, "xx", a + a) == ""', 'not allowed'],
    ['a built list', '[1, 2].map(x, x * 2).size() > 1', 'calls map, which is not allowed'],
    ['a loop in a loop', '[1, 2].all(x, [1, 2].all(y, x == y))', 'loops within a loop'],
    ['a deep expression', `${'('.repeat(40)}true${')'.repeat(40)}`, 'maxDepth'],
    ['many nodes', Array.from({ length: 90 }, () => 'true').join(' && '), 'maxAstNodes'],
    ['a long list', `1 in [${Array.from({ length: 80 }, (_, i) => i).join(',')}]`, 'maxListElements'],
    ['a long text', `"${'x'.repeat(1_100)}" == ""`, 'at most 1024 characters'],
    ['an unknown name', 'secret.key == 1', 'Unknown variable: secret'],
    ['no truth value', 'free.cpu + 1', 'it must be true or false'],
    ['nonsense', 'free.cpu >', 'is no CEL expression'],
  ])('%s', (_, text, message) => {
    expect(() => predicates.check([text])).toThrow(message);
    expect(predicates.evaluate([text], state)).toMatchObject({ holds: false });
  });

  test('more than four', () => {
    expect(() => predicates.check(['true', 'true', 'true', 'true', 'true'])).toThrow('at most 4 predicates, not 5');
  });

  test('ten thousand different ones keep memory flat and time short', () => {
    const begin = performance.now();
    for (let i = 0; i < 10_000; i++) predicates.evaluate([`free.cpu > ${i}`], state);
    expect(performance.now() - begin).toBeLessThan(10_000);
  });
});

import { describe, expect, test } from '@jest/globals';

import { planInstance } from './addresses.ts';
import { backboneRules } from './backbone.ts';
import { parseRecord } from './instance.ts';
import { apiCutRules } from './site.ts';

const record = {
  format: 1,
  name: 'dev',
  index: 0,
  sites: 2,
  nodes: 2,
  createdAt: '2026-01-01T00:00:00Z',
  cuts: [['a', 'b']],
  apiCuts: ['dev-a-1'],
  slowLinks: [{ from: 'a', to: 'b', kbitPerSecond: 100 }],
};

describe('the record of an instance', () => {
  test('is read back as it was written', () => {
    expect(parseRecord(JSON.stringify(record), 'instance.json')).toEqual(record);
  });

  test.each([
    ['half written', JSON.stringify(record).slice(0, 40)],
    ['empty', ''],
    ['of another version', JSON.stringify({ ...record, format: 2 })],
    ['of an impossible number', JSON.stringify({ ...record, index: 99 })],
    ['with a field that this version does not know', JSON.stringify({ ...record, extra: true })],
  ])('%s, is refused with what to do', (_what, text) => {
    expect(() => parseRecord(text, '/x/instance.json')).toThrow(
      /^\/x\/instance.json is damaged.*make sites-down clears it/,
    );
  });
});

describe('rules of faults', () => {
  const plan = planInstance('dev', 0, 3, 1);

  test('between sites let machines meet and nothing else', () => {
    const rules = backboneRules(plan, []);
    expect(rules).toContain('policy drop;');
    expect(rules.match(/^ {4}ip .*$/gm)).toEqual(['    ip saddr 10.160.0.0/16 ip daddr 10.160.0.0/16 accept']);
  });

  test('of a cut drop both ways before anything is accepted', () => {
    expect(backboneRules(plan, [['a', 'c']]).match(/^ {4}ip .*$/gm)).toEqual([
      '    ip saddr 10.160.0.0/24 ip daddr 10.160.2.0/24 drop',
      '    ip saddr 10.160.2.0/24 ip daddr 10.160.0.0/24 drop',
      '    ip saddr 10.160.0.0/16 ip daddr 10.160.0.0/16 accept',
    ]);
  });

  test('of a link that is cut one way drop that way alone', () => {
    expect(backboneRules(plan, [], [{ from: 'b', to: 'a' }]).match(/^ {4}ip .*$/gm)).toEqual([
      '    ip saddr 10.160.1.0/24 ip daddr 10.160.0.0/24 drop',
      '    ip saddr 10.160.0.0/16 ip daddr 10.160.0.0/16 accept',
    ]);
  });

  test('of a node cut off its API server name the node and its pods', () => {
    const rules = apiCutRules(plan.sites[0]!.nodes);
    expect(rules).toContain('ip saddr { 10.160.0.11, 10.176.0.0/24 } drop');
    expect(rules).toContain('ip daddr { 10.160.0.11, 10.176.0.0/24 } drop');
    expect(apiCutRules([])).not.toContain('drop');
  });
});

import { describe, expect, test } from '@jest/globals';
import { chooseVictims, type GivingWay, victimsMax } from './preemption.ts';

interface Named extends GivingWay {
  readonly name: string;
}
const work = (name: string, node: string, more: Partial<GivingWay> = {}): Named => ({
  ...{ name, node, priority: 0, startedAt: 0, demand: { cpu: 500, memory: 100 } },
  ...more,
});
const full = (...nodes: string[]): { node: string; free: Record<string, number> }[] =>
  nodes.map((node) => ({ node, free: { cpu: 0, memory: 1_000 } }));
const one = { demand: { cpu: 500, memory: 100 }, tasks: 1, gangMinimum: 0 };
const names = (victims: readonly Named[]): string[] => victims.map(({ name }) => name);

describe('what gives way', () => {
  test('is of the lowest priority, and began last', () => {
    const running = [work('old', 'n1'), work('new', 'n1', { startedAt: 9 }), work('dear', 'n2', { priority: 3 })];
    expect(names(chooseVictims(one, full('n1', 'n2'), running))).toEqual(['new']);
  });

  test('is as little as can be: the node that needs the fewest, and of it no more than needed', () => {
    const running = [work('a', 'n1'), work('b', 'n1'), work('large', 'n2', { demand: { cpu: 1_000, memory: 1 } })];
    const large = { ...one, demand: { cpu: 1_000, memory: 100 } };
    expect(names(chooseVictims(large, full('n1', 'n2'), running))).toEqual(['large']);
    const sized = [work('small', 'n1', { demand: { cpu: 100, memory: 1 } }), work('enough', 'n1', { startedAt: -1 })];
    expect(names(chooseVictims(one, full('n1'), sized))).toEqual(['enough']);
  });

  test('counts with what is free already', () => {
    const nodes = [{ node: 'n1', free: { cpu: 400, memory: 1_000 } }];
    const small = { demand: { cpu: 100, memory: 1 } };
    const running = [work('a', 'n1', small), work('b', 'n1', small)];
    expect(names(chooseVictims(one, nodes, running))).toEqual(['a']);
    expect(chooseVictims(one, [{ node: 'n1', free: { cpu: 500, memory: 1_000 } }], running)).toEqual([]);
  });

  test('is nothing where it would not be enough, on other nodes, or for a part of a gang', () => {
    const running = [work('a', 'n1'), work('b', 'n1')];
    expect(chooseVictims({ ...one, demand: { cpu: 1_500 } }, full('n1'), running)).toEqual([]);
    expect(chooseVictims({ ...one, demand: { cpu: 500, 'example.org/gpu': 1 } }, full('n1'), running)).toEqual([]);
    expect(chooseVictims(one, full('n2'), running)).toEqual([]);
    expect(chooseVictims({ ...one, tasks: 3, gangMinimum: 3 }, full('n1'), running)).toEqual([]);
    const gang = { ...one, tasks: 3, gangMinimum: 2 };
    expect(names(chooseVictims(gang, full('n1'), running))).toEqual(['a', 'b']);
  });

  test('makes room for several tasks, within bounds', () => {
    const running = Array.from({ length: 200 }, (_, i) => work(`w${i}`, `n${i % 20}`));
    const nodes = full(...Array.from({ length: 20 }, (_, i) => `n${i}`));
    expect(chooseVictims({ ...one, tasks: 5 }, nodes, running)).toHaveLength(5);
    expect(chooseVictims({ ...one, tasks: 10_000 }, nodes, running)).toHaveLength(16);
    expect(chooseVictims({ ...one, tasks: 100, gangMinimum: 100 }, nodes, running)).toEqual([]);
    expect(chooseVictims({ ...one, tasks: 64, gangMinimum: 64 }, nodes, running)).toHaveLength(victimsMax);
  });
});

import { describe, expect, test } from '@jest/globals';
import { aLocalSite, aNode, aPeerSite } from '#operator/testing/builders.ts';
import { isAvailable, roleOf, summarizeNodes } from './phases.ts';

describe('roleOf', () => {
  test.each([
    ['the Site of this cluster is local', aLocalSite('home'), 'local'],
    ['a Local one of another name is foreign', aLocalSite('other'), 'foreign'],
    ['a Peer is a peer', aPeerSite('other'), 'peer'],
    ['a Peer under the name of this cluster takes the name', aPeerSite('home'), 'nameTaken'],
  ] as const)('%s', (_, site, role) => {
    expect(roleOf(site, 'home')).toBe(role);
  });
});

describe('isAvailable', () => {
  test.each([
    ['a ready node is', {}, true],
    ['one that is not ready is not', { isReady: false }, false],
    ['a cordoned one is not', { isCordoned: true }, false],
    ['one that is being deleted is not', { isDeleting: true }, false],
  ] as const)('%s', (_, facts, expected) => {
    expect(isAvailable(aNode('n', facts))).toBe(expected);
  });

  test('a node that has said nothing yet is not', () => {
    expect(isAvailable({ metadata: { name: 'n' } })).toBe(false);
  });
});

describe('summarizeNodes', () => {
  test('adds up capacity over all nodes and allocatable over the available ones', () => {
    const nodes = [
      aNode('b', { isReady: false, capacity: { cpu: '2', memory: '4Gi' } }),
      aNode('a', {
        capacity: { cpu: '4', memory: '8Gi', 'example.org/gpu': '2' },
        allocatable: { cpu: '3500m', memory: '7Gi' },
      }),
    ];
    expect(summarizeNodes(nodes)).toEqual({
      count: 2,
      ready: 1,
      unavailable: ['b'],
      capacity: { cpu: '6', memory: '12Gi', 'example.org/gpu': '2' },
      allocatable: { cpu: '3500m', memory: '7Gi' },
    });
  });

  test('a cluster without nodes has nothing', () => {
    expect(summarizeNodes([])).toEqual({ count: 0, ready: 0, unavailable: [], capacity: {}, allocatable: {} });
  });

  test('reports at most as many resources as a Site can hold', () => {
    const capacity = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`r${100 + index}`, '1']));
    expect(Object.keys(summarizeNodes([aNode('a', { capacity })]).capacity)).toHaveLength(64);
  });
});

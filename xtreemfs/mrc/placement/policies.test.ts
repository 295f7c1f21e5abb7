import { describe, expect, test } from '@jest/globals';
import { SeededRandom } from '#common/random.ts';
import { volumeSchema } from '../core/volume.ts';
import type { Volume } from '../core/volume.ts';
import { anOsd } from '../testing/fixtures.ts';
import { DatacenterMap, parseDatacenterMap } from './datacenter-map.ts';
import type { Osd } from './osd-catalogue.ts';
import { formatCoordinates, OsdCatalogue, parseCoordinates } from './osd-catalogue.ts';
import { ChainPlacement } from './placement.ts';

const nowS = Date.UTC(2026, 0, 1) / 1000;

function choose(
  osds: Osd[],
  osdPolicies: number[],
  policyAttributes: Record<string, string> = {},
  request: {
    count?: number;
    client?: string;
    path?: string;
    without?: string[];
    at?: [number, number];
    datacenters?: DatacenterMap;
  } = {},
): string[] {
  const catalogue = new OsdCatalogue();
  catalogue.replace(osds);
  const placement = new ChainPlacement({
    catalogue,
    random: new SeededRandom(7),
    nowMs: () => nowS * 1000,
    datacenters: request.datacenters ?? DatacenterMap.empty,
  });
  const volume: Volume = volumeSchema.parse({
    number: 1,
    id: 'v',
    name: 'v',
    createdMs: 0,
    accessPolicy: 2,
    striping: { stripeSizeKb: 128, width: 1 },
    osdPolicies,
    policyAttributes,
  });
  const [xCoordinate, yCoordinate] = request.at ?? [];
  return placement.choose(volume, {
    count: request.count ?? 100,
    client: request.client ?? '10.0.0.1',
    coordinates:
      xCoordinate === undefined || yCoordinate === undefined ? undefined : { xCoordinate, yCoordinate, localError: 0 },
    path: request.path ?? '',
    without: request.without ?? [],
  });
}

const abc = [anOsd('c'), anOsd('a'), anOsd('b')];
const sortedByUuid = 3998;

describe('filters', () => {
  test.each<[string, Partial<Osd>]>([
    ['is silent for more than 300 s', { lastUpdatedS: nowS - 301 }],
    ['said good-bye', { lastUpdatedS: 0 }],
    ['has less than 2 GiB', { usableBytes: 2 ** 31 - 1 }],
    ['is locked', { status: 1 }],
    ['was removed', { status: 2 }],
    ['has a failed disk', { health: 2 }],
  ])('the default drops an OSD that %s', (_, fault) => {
    expect(choose([anOsd('good'), anOsd('bad', fault)], [1000])).toEqual(['good']);
  });

  test('the default follows its attributes', () => {
    const osds = [
      anOsd('a', { config: new Map([['rack', '1']]) }),
      anOsd('b', { config: new Map([['rack', '2']]), health: 1 }),
    ];
    expect(choose(osds, [1000], { '1000.rack': '2' })).toEqual(['b']);
    expect(choose(osds, [1000], { 'not.rack': '2' })).toEqual(['a']);
    expect(choose(osds, [1000], { osd_health_check: 'warning' })).toEqual(['a']);
    expect(choose([anOsd('old', { lastUpdatedS: nowS - 500 })], [1000], { offline_time_secs: '600' })).toEqual(['old']);
    expect(choose([anOsd('small', { usableBytes: 10 })], [1000], { free_capacity_bytes: '5' })).toEqual(['small']);
  });

  test('by domain, uuid and path prefix', () => {
    const osds = [anOsd('a', { address: 'h.berlin.example' }), anOsd('b', { address: 'h.paris.example' })];
    expect(choose(osds, [1001], { domains: '*.berlin.example' })).toEqual(['a']);
    expect(choose(osds, [1001], { domains: 'paris.example' })).toEqual(['b']);
    expect(choose(abc, [1002, sortedByUuid], { uuids: 'a, c' })).toEqual(['a', 'c']);
    const rules = { '1004.filenamePrefix': '/logs a b; /logs/old c' };
    expect(choose(abc, [1004, sortedByUuid], rules, { path: 'logs/new' })).toEqual(['a', 'b']);
    expect(choose(abc, [1004, sortedByUuid], rules, { path: 'logs/old/1' })).toEqual(['c']);
    expect(choose(abc, [1004, sortedByUuid], rules, { path: 'else' })).toEqual(['a', 'b', 'c']);
  });

  test('OSDs that hold a replica are not chosen again', () => {
    expect(choose(abc, [1000, sortedByUuid], {}, { without: ['a'], count: 1 })).toEqual(['b']);
  });
});

describe('order', () => {
  test('by uuid, reversed, and by last heartbeat', () => {
    expect(choose(abc, [sortedByUuid])).toEqual(['a', 'b', 'c']);
    expect(choose(abc, [sortedByUuid, 3999])).toEqual(['c', 'b', 'a']);
    expect(choose([anOsd('old', { lastUpdatedS: nowS - 50 }), anOsd('new')], [3005])).toEqual(['new', 'old']);
  });

  test('the preferred OSD comes first', () => {
    expect(choose(abc, [1003], { '1003.preferredUUID': 'b' })[0]).toBe('b');
  });

  test('chance reaches every OSD', () => {
    expect(choose(abc, [3002]).sort()).toEqual(['a', 'b', 'c']);
  });

  test('by shared domain with the client', () => {
    const osds = [anOsd('far', { address: 'x.other' }), anOsd('near', { address: 'x.lab.example' })];
    expect(choose(osds, [3001], {}, { client: 'me.lab.example' })).toEqual(['near', 'far']);
    expect(choose(osds, [2001], {}, { client: 'me.lab.example', count: 1 })).toEqual(['near']);
  });

  test('by network coordinates; OSDs without any come last', () => {
    const at = (x: number): Osd['coordinates'] => ({ xCoordinate: x, yCoordinate: 0, localError: 0 });
    const osds = [anOsd('none'), anOsd('far', { coordinates: at(9) }), anOsd('near', { coordinates: at(2) })];
    expect(choose(osds, [3003], {}, { at: [1, 0] })).toEqual(['near', 'far', 'none']);
  });

  test('round robin spans every host before it takes a second OSD of one', () => {
    const osds = ['a1', 'a2', 'a3', 'b1', 'c1'].map((uuid) => anOsd(uuid, { address: `host-${uuid.charAt(0)}` }));
    const hosts = choose(osds, [3004], {}, { count: 3 }).map((uuid) => uuid.charAt(0));
    expect(hosts.sort()).toEqual(['a', 'b', 'c']);
  });
});

describe('datacenter map', () => {
  const map = parseDatacenterMap(
    '# sites\ndatacenters=B,P\ndistance.B-P=10\naddresses.B=10.1.0.0/16,host.b\naddresses.P=10.2.0.7\n',
  );
  const osds = [
    anOsd('p', { address: '10.2.0.7' }),
    anOsd('b1', { address: '10.1.3.4' }),
    anOsd('b2', { address: 'host.b' }),
    anOsd('x', { address: '10.9.9.9' }),
  ];

  test('sorts by distance, unknown places last', () => {
    expect(choose(osds, [sortedByUuid, 3000], {}, { client: '10.2.0.7', datacenters: map })).toEqual([
      'p',
      'b1',
      'b2',
      'x',
    ]);
  });

  test('keeps one datacenter that has enough OSDs', () => {
    const request = { client: '10.2.0.7', datacenters: map, count: 2 };
    expect(choose(osds, [sortedByUuid, 2000], {}, request)).toEqual(['b1', 'b2']);
  });

  test.each([
    ['datacenters', 'not a setting'],
    ['datacenters=A\ndistance.A-B=x', 'not a distance'],
    ['datacenters=A\naddresses.A=10.0.0.0/x', 'not an address'],
  ])('names what is wrong in %p', (text, message) => {
    expect(() => parseDatacenterMap(text)).toThrow(message);
  });
});

test('coordinates have their least significant nibble first (protocol reference, section 20)', () => {
  const text = '0000000000008FF3000000000000000CA999999999999BF3';
  expect(parseCoordinates(text)).toEqual({ xCoordinate: 1.5, yCoordinate: -2, localError: 0.1 });
  expect(formatCoordinates({ xCoordinate: 1.5, yCoordinate: -2, localError: 0.1 })).toBe(text);
});

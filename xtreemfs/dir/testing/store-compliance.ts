import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { ServiceType, type AddressMapping, type Service } from '#proto/generated/xtreemfs/dir.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { Directory } from '../directory.ts';
import type { DirStore } from '../store.ts';

/** A service as a test needs it. */
export function aService(fields: Partial<Service> = {}): Service {
  const blank = { type: ServiceType.OSD, uuid: 'osd-1', version: 0, name: 'OSD @ osd-1', lastUpdatedS: 0 };
  return { ...blank, data: { data: [{ key: 'free', value: '1' }] }, ...fields };
}

function aMapping(fields: Partial<AddressMapping> = {}): AddressMapping {
  const blank = { uuid: 'osd-1', version: 0, protocol: 'pbrpc', address: 'host', port: 32_640, matchNetwork: '*' };
  return { ...blank, ttlS: 3_600, uri: 'pbrpc://host:32640', ...fields };
}

const conflict = { posixErrno: PosixErrno.EAGAIN };
const invalid = { posixErrno: PosixErrno.EINVAL };

/**
 * What every store, and the directory over it, must do.
 * @param open - gives an empty store, or with `again` one over what the last one kept.
 */
export function describeStore(name: string, open: (again: boolean) => Promise<DirStore>, survives: boolean): void {
  describe(`a directory over ${name}`, () => {
    let store: DirStore;
    let directory: Directory;
    const clock = new VirtualClock(1_700_000_000_000);

    beforeAll(async () => {
      store = await open(false);
      directory = new Directory(store, clock);
    });
    afterAll(async () => store.close());

    describeVersions(() => directory);
    describeServices(() => directory, clock);
    describeMappings(() => directory);

    test('of many writers of one version exactly one wins', async () => {
      const writes = await Promise.allSettled(
        Array.from({ length: 20 }, async (_, index) =>
          directory.registerService(aService({ uuid: 'race', name: `writer ${index}` })),
        ),
      );
      const won = writes.flatMap((write, index) => (write.status === 'fulfilled' ? [index] : []));
      expect(won).toHaveLength(1);
      expect(await directory.service('race')).toMatchObject({ version: 1, name: `writer ${won[0]}` });
    });

    test('names with slashes, dots and characters beyond ASCII are kept apart', async () => {
      const names = ['a', 'a/b', 'a/b/c', '../a', 'ä', '日本', 'a b'];
      for (const uuid of names)
        await directory.setConfiguration({ uuid, version: 0, parameter: [{ key: 'k', value: uuid }] });
      for (const uuid of names)
        expect((await directory.configuration(uuid)).parameter).toEqual([{ key: 'k', value: uuid }]);
      expect((await directory.configurations()).map(({ uuid }) => uuid)).toEqual(expect.arrayContaining(names));
    });

    if (survives) {
      test('records are there when the store is opened again', async () => {
        await directory.registerService(aService({ uuid: 'kept' }));
        await store.close();
        store = await open(true);
        directory = new Directory(store, clock);
        expect(await directory.service('kept')).toMatchObject({ uuid: 'kept', version: 1 });
      });
    }
  });
}

function describeVersions(directory: () => Directory): void {
  test('a record is written with the stored version only, and each write adds one', async () => {
    const service = aService({ uuid: 'versions' });
    await expect(directory().registerService({ ...service, version: 1 })).rejects.toMatchObject(conflict);
    expect(await directory().registerService(service)).toBe(1);
    await expect(directory().registerService(service)).rejects.toMatchObject(conflict);
    expect(await directory().registerService({ ...service, version: 1 })).toBe(2);
    expect(await directory().service('versions')).toMatchObject({ version: 2 });
  });

  test('a record that was removed begins with version 0 again; removing it twice is no error', async () => {
    await directory().registerService(aService({ uuid: 'gone' }));
    await directory().deregisterService('gone');
    await directory().deregisterService('gone');
    expect(await directory().service('gone')).toBeUndefined();
    expect(await directory().registerService(aService({ uuid: 'gone' }))).toBe(1);
  });

  test.each(['', 'x'.repeat(513), 'a\0b'])('a UUID of no use is refused (%#)', async (uuid) => {
    await expect(directory().registerService(aService({ uuid }))).rejects.toMatchObject(invalid);
    await expect(directory().setConfiguration({ uuid, version: 0, parameter: [] })).rejects.toMatchObject(invalid);
  });

  test('a negative version is refused', async () => {
    await expect(directory().registerService(aService({ version: -1 }))).rejects.toMatchObject(invalid);
  });
}

function describeServices(directory: () => Directory, clock: VirtualClock): void {
  test('a registered service carries the time, and its age when it is asked for by type', async () => {
    await directory().registerService(aService({ uuid: 'aged', type: ServiceType.MRC, name: 'MRC @ aged' }));
    clock.advance(7_000);
    const [service] = await directory().servicesByType(ServiceType.MRC);
    expect(service).toMatchObject({ uuid: 'aged', lastUpdatedS: Math.floor(clock.now() / 1000) - 7 });
    expect(service?.data.data).toContainEqual({ key: 'seconds_since_last_update', value: '7' });
    expect((await directory().service('aged'))?.data.data).toEqual([{ key: 'free', value: '1' }]);
  });

  test('type MIXED gives the services of every type', async () => {
    const types = new Set((await directory().servicesByType(ServiceType.MIXED)).map(({ type }) => type));
    expect(types).toEqual(new Set([ServiceType.OSD, ServiceType.MRC]));
  });

  test('a service is found by its whole name', async () => {
    expect(await directory().servicesByName('MRC @ aged')).toMatchObject([{ uuid: 'aged' }]);
    expect(await directory().servicesByName('MRC')).toEqual([]);
  });

  test('an administrator may write a service without touching its time', async () => {
    const data = {
      data: [
        { key: 'static.do_not_set_last_updated', value: 'true' },
        { key: 'static.status', value: '2' },
      ],
    };
    await directory().registerService(aService({ uuid: 'locked', lastUpdatedS: 5, data }));
    expect(await directory().service('locked')).toMatchObject({
      lastUpdatedS: 5,
      data: { data: [{ key: 'static.status', value: '2' }] },
    });
  });

  test('a service that goes offline has no time; an unknown one is no error', async () => {
    await directory().setOffline('aged');
    expect(await directory().service('aged')).toMatchObject({ lastUpdatedS: 0, version: 2 });
    await directory().setOffline('nobody');
  });

  test('coordinates of clients are kept for ten minutes, of 32 clients at most', async () => {
    const coordinates = { xCoordinate: 1, yCoordinate: 2, localError: 0.1 };
    for (let client = 0; client < 40; client++) directory().reportVivaldi(`10.0.0.${client}`, coordinates);
    expect(directory().vivaldiClients()).toHaveLength(32);
    clock.advance(600_001);
    expect(directory().vivaldiClients()).toEqual([]);
  });
}

function describeMappings(directory: () => Directory): void {
  test('mappings are written as a set with one version and read back', async () => {
    const set = [aMapping(), aMapping({ protocol: 'pbrpcu', uri: 'pbrpcu://host:32640' })];
    expect(await directory().setAddressMappings({ mappings: set })).toBe(1);
    expect((await directory().addressMappings('osd-1')).mappings).toEqual(
      set.map((mapping) => ({ ...mapping, version: 1 })),
    );
    await expect(directory().setAddressMappings({ mappings: set })).rejects.toMatchObject(conflict);
  });

  test('an unknown UUID has no mappings, an empty one gives those of all services', async () => {
    await directory().setAddressMappings({ mappings: [aMapping({ uuid: 'osd-2' })] });
    expect(await directory().addressMappings('nobody')).toEqual({ mappings: [] });
    expect((await directory().addressMappings('')).mappings).toHaveLength(3);
    await directory().removeAddressMappings('osd-2');
    expect((await directory().addressMappings('')).mappings).toHaveLength(2);
  });

  test.each([
    ['an empty set', []],
    ['a set of two services', [aMapping(), aMapping({ uuid: 'osd-9' })]],
    ['a set of two versions', [aMapping({ version: 1 }), aMapping({ version: 2 })]],
    ['a set without a UUID', [aMapping({ uuid: '' })]],
  ])('%s is refused', async (_, mappings) => {
    await expect(directory().setAddressMappings({ mappings })).rejects.toMatchObject(invalid);
  });

  test('the configuration of an unknown service is empty', async () => {
    expect(await directory().configuration('nobody')).toEqual({ uuid: '', parameter: [], version: 0 });
  });
}

import { describe, expect, test } from '@jest/globals';
import type { Volume } from '#crds/volume.ts';
import { aContext, FakeObjects } from '../../testing/fakes.ts';
import { changeVolume, removeVolumes } from './change.ts';
import { type CreateInput, createVolume, specOf } from './create.ts';
import { grantsWith, grantsWithout, parseGrant } from './grants.ts';
import { formatBytes, usedOf } from './printing.ts';
import { factsOf } from './show.ts';

const cluster = { context: undefined, kubeconfig: undefined, vo: undefined, namespace: undefined };
const change = { ...cluster, output: 'table' as const, dryRun: false, wait: false, timeout: 1000 };
const creating: CreateInput = {
  ...change,
  ...{ name: 'data', size: '1Gi', fileSystem: undefined, width: undefined, stripeSize: undefined },
  ...{ replication: undefined, replicas: undefined, group: undefined, mode: undefined, grant: [], reclaim: undefined },
};
const chemistry = { virtualOrganization: 'chemistry', access: 'Read' } as const;

function aVolume(spec: object = {}, status?: object): Volume {
  return {
    metadata: { name: 'data', namespace: 'vo-physics', generation: 0 },
    spec: {
      size: '1Gi',
      striping: { width: 1, stripeSizeKiB: 128 },
      replication: { policy: 'None', replicas: 1 },
      mode: '0770',
      grants: [],
      reclaimPolicy: 'Retain',
      ...spec,
    },
    ...(status === undefined ? {} : { status }),
  } as unknown as Volume;
}

const anApi = (...volumes: Volume[]) => ({
  vo: 'physics',
  namespace: 'vo-physics',
  volumes: new FakeObjects<Volume>('Volume', volumes),
});
const isReady = (type: string, generation: number) => ({
  observedGeneration: generation,
  conditions: [{ type, status: 'True', reason: 'x', message: '', lastTransitionTime: '' }],
});

describe('making a volume', () => {
  test('says only what was asked for, so that the server fills in the rest', () => {
    expect(JSON.parse(JSON.stringify(specOf(creating)))).toEqual({ size: '1Gi' });
  });

  test('takes every option', () => {
    const input = {
      ...{ ...creating, fileSystem: 'xtreemos-system/main', width: 4, stripeSize: 256, replication: 'Quorum' as const },
      ...{ replicas: 3, group: 'detector', mode: '0750', grant: ['chemistry:WRITE'], reclaim: 'Delete' as const },
    };
    expect(specOf(input)).toEqual({
      size: '1Gi',
      fileSystem: { namespace: 'xtreemos-system', name: 'main' },
      striping: { width: 4, stripeSizeKiB: 256 },
      replication: { policy: 'Quorum', replicas: 3 },
      group: 'detector',
      mode: '0750',
      grants: [{ virtualOrganization: 'chemistry', access: 'Write' }],
      reclaimPolicy: 'Delete',
    });
  });

  test.each(['main', 'a/b/c', '/main'])('refuses %j as a file system', (fileSystem) => {
    expect(() => specOf({ ...creating, fileSystem })).toThrow(/--file-system: .* is not NAMESPACE\/NAME/);
  });

  test('changes nothing in a dry run, and says what is missing when it waited in vain', async () => {
    const api = anApi();
    const dry = aContext();
    await createVolume(dry, { ...creating, dryRun: true, wait: true }, specOf(creating), api);
    expect(dry.stdout()).toBe('Volume data of physics is made (dry run: nothing was changed)\n');
    expect(api.volumes.stored.size).toBe(0);
    const waiting = createVolume(aContext(), { ...creating, wait: true }, specOf(creating), api);
    await expect(waiting).rejects.toThrow('Still waiting for data to be Ready: the operator has not looked at it yet');
  });
});

describe('grants', () => {
  test.each([
    ['chemistry', chemistry],
    ['chemistry:read', chemistry],
    ['chemistry:Write', { ...chemistry, access: 'Write' }],
  ])('%j is one', (text, expected) => {
    expect(parseGrant(text, '--grant')).toEqual(expected);
  });

  test.each(['', ':read', 'chemistry:own', 'a:read:b'])('%j is none', (text) => {
    expect(() => parseGrant(text, '--grant')).toThrow(/--grant: .* is not VO, VO:read or VO:write/);
  });

  test('are changed where they differ, and taken away by name', () => {
    const write = { ...chemistry, access: 'Write' } as const;
    const biology = { virtualOrganization: 'biology', access: 'Read' } as const;
    expect(grantsWith([biology], [chemistry])).toEqual([biology, chemistry]);
    expect(grantsWith([chemistry], [write])).toEqual([write]);
    expect(grantsWith([chemistry], [chemistry])).toBeUndefined();
    expect(grantsWithout([chemistry, biology], ['chemistry'])).toEqual([biology]);
    expect(grantsWithout([biology], ['chemistry'])).toBeUndefined();
  });
});

describe('changing a volume', () => {
  const input = { ...change, volume: 'data' };
  const grow = {
    did: 'Volume data has the size 2Gi',
    wanted: ['Sized'],
    decide: ({ spec }: Volume) => (spec.size === '2Gi' ? undefined : { size: '2Gi' }),
  };

  test('says when it is so already', async () => {
    const api = anApi(aVolume());
    for (const expected of ['Volume data has the size 2Gi\n', 'Volume data has the size 2Gi already\n']) {
      const context = aContext();
      await changeVolume(context, api, input, grow);
      expect(context.stdout()).toBe(expected);
    }
    expect(api.volumes.stored.get('vo-physics/data')?.spec.size).toBe('2Gi');
  });

  test('waits for what is declared now, not for what was observed before', async () => {
    const api = anApi(aVolume({}, isReady('Sized', 1)));
    await expect(changeVolume(aContext(), api, { ...input, wait: true }, grow)).rejects.toThrow(
      'Still waiting for data to be Sized',
    );
  });

  test('has waited when it is as declared', async () => {
    const api = anApi(aVolume({ size: '2Gi' }, isReady('Sized', 1)));
    const context = aContext();
    await changeVolume(context, api, { ...input, wait: true, output: 'name' }, grow);
    expect(context.stdout()).toBe('volume.xtreemos.io/data\n');
  });

  test('names those there are when there is none of the name', async () => {
    const other = { ...input, volume: 'dat' };
    await expect(changeVolume(aContext(), anApi(aVolume()), other, grow)).rejects.toThrow(
      'No volume is called dat; there are: data',
    );
  });
});

test.each([
  ['Retain', 'its files stay as vol-1 for the owner of the site'],
  ['Delete', 'its files are erased'],
])('deleting one with %s says what becomes of its files', async (reclaimPolicy, files) => {
  const api = anApi(aVolume({ reclaimPolicy }, { volumeName: 'vol-1' }));
  const removing = { ...cluster, volumes: ['data'], wait: true, timeout: 1000 };
  const dry = aContext();
  await removeVolumes(dry, { ...removing, dryRun: true }, api);
  expect(dry.stdout()).toBe(`Volume data of physics is deleted; ${files} (dry run: nothing was changed)\n`);
  expect(api.volumes.stored.size).toBe(1);
  await removeVolumes(aContext(), { ...removing, dryRun: false }, api);
  expect(api.volumes.stored.size).toBe(0);
});

test.each([
  [0, '0'],
  [1023, '1023'],
  [1024, '1.0Ki'],
  [1.5 * 2 ** 30, '1.5Gi'],
  [2 ** 70, '1048576.0Pi'],
])('%d bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test('shows what is used of the size in force', () => {
  expect(usedOf(aVolume())).toBeUndefined();
  expect(usedOf(aVolume({}, { usedBytes: 2 ** 29 }))).toBe('512.0Mi (50%)');
  expect(usedOf(aVolume({}, { usedBytes: 2 ** 29, sizeBytes: 2 ** 31 }))).toBe('512.0Mi (25%)');
  const facts = new Map(factsOf(aVolume({ grants: [chemistry], replication: { policy: 'All', replicas: 2 } })));
  expect(facts.get('Granted to')).toBe('chemistry (Read)');
  expect(facts.get('Replication')).toBe('All x2');
});

import { describe, expect, test } from '@jest/globals';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Volume } from '#crds/volume.ts';
import type { Lister } from '#runtime/contracts.ts';
import { MirroredVolumes } from './volumes.ts';

const namespace = 'vo-physics';

interface World {
  /** Home of the virtual organization; the own site is `here`. */
  readonly homeSite?: string;
  readonly volumes?: Readonly<Record<string, object>>;
}

const kept = (more: object = {}, spec: object = {}): object => ({ metadata: { uid: 'uid-here', ...more }, spec });
const mirrored = (site: string): object => kept({}, { remote: { site, volumeUID: 'uid-there' } });

function volumesOf({ homeSite, volumes = {} }: World): MirroredVolumes {
  const organization = { spec: { ...(homeSite === undefined ? {} : { homeSite }), sites: ['lyon', 'bologna'] } };
  return new MirroredVolumes(
    { get: ({ name }: { name: string }) => volumes[name] } as unknown as Lister<Volume>,
    { get: () => organization } as unknown as Lister<VirtualOrganization>,
    'here',
  );
}

describe('a volume that tasks at every site find', () => {
  test.each<[string, World, string | undefined]>([
    ['is kept by the home, here', { homeSite: 'here', volumes: { data: kept() } }, 'uid-here'],
    ['is kept by the home, elsewhere', { homeSite: 'rennes', volumes: { data: mirrored('rennes') } }, 'uid-there'],
    [
      'is not one that was made at another site than the home',
      { homeSite: 'rennes', volumes: { data: kept() } },
      undefined,
    ],
    [
      'is not one of a site that is not the home',
      { homeSite: 'rennes', volumes: { data: mirrored('paris') } },
      undefined,
    ],
    [
      'is not one that was made for a claim',
      { homeSite: 'here', volumes: { data: kept({ labels: { 'xtreemos.io/provisioned': 'true' } }) } },
      undefined,
    ],
    [
      'is not one that is being deleted',
      { homeSite: 'here', volumes: { data: kept({ deletionTimestamp: 'now' }) } },
      undefined,
    ],
    ['is there', { homeSite: 'here' }, undefined],
  ])('%s', (_, world, identity) => {
    expect(volumesOf(world).identityOf(namespace, 'data')).toBe(identity);
  });

  test('lets a job go to every site of its virtual organization; one that is not, keeps it', () => {
    const world = { homeSite: 'rennes', volumes: { data: mirrored('rennes'), own: kept() } };
    const volumes = volumesOf(world);
    expect(volumes.sitesWith(namespace, ['data'])).toEqual(['here', 'rennes', 'lyon', 'bologna']);
    expect(volumes.sitesWith(namespace, ['data', 'own'])).toEqual(['here']);
    expect(volumes.sitesWith(namespace, ['data', 'missing'])).toEqual(['here']);
  });
});

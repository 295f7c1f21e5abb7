import { describe, expect, test } from '@jest/globals';
import { virtualOrganizationDefinition, type VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Volume } from '#crds/volume.ts';
import { owner } from '#operator/testing/jobs.ts';
import type { Client, Lister } from '#runtime/contracts.ts';
import { AlreadyExistsError, ForbiddenError } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { Homes } from './homes.ts';

const signal = new AbortController().signal;
const request = { method: 'POST', path: '/volumes' };
const namespace = 'vo-physics';
const name = `home-${owner}`;
const membership = { metadata: { name: 'alice', namespace, uid: 'uid-alice' } } as unknown as Stored<VOMembership>;
const administrators = [{ issuer: 'kubernetes:home', subject: 'carol' }];

function organization(homeVolumes?: object, homeSite = 'here'): Stored<VirtualOrganization> {
  const spec = virtualOrganizationDefinition.spec.parse({ administrators, homeVolumes, homeSite });
  return { metadata: { name: 'physics' }, spec } as unknown as Stored<VirtualOrganization>;
}

interface Condition {
  type: string;
  status: string;
  reason: string;
  message: string;
}

const condition = (type: string, status: string, reason: string): Condition => ({
  ...{ type, status, reason, message: `because of ${reason}` },
});

/** A namespace with the Volume, if any, and what is made in it. */
function homes(volume?: object, failure?: Error): { homes: Homes; made: Volume[] } {
  const made: Volume[] = [];
  const create = async (object: Volume): Promise<void> => {
    await Promise.resolve();
    if (failure !== undefined) throw failure;
    made.push(object);
  };
  const client = { of: () => ({ create }) } as unknown as Client;
  const get = (key: object): unknown => {
    expect(key).toEqual({ namespace, name });
    return volume;
  };
  return { homes: new Homes(client, { get } as unknown as Lister<Volume>, 'here'), made };
}

const withConditions = (...conditions: Condition[]): object => ({ metadata: { name }, status: { conditions } });
const task = { owner, volumes: [] };

describe('the home of a member', () => {
  test('is made before its first use: theirs alone, and gone with the membership', async () => {
    const world = homes();
    const given = organization({ size: '5Gi', reclaimPolicy: 'Delete' });
    expect(await world.homes.of(membership, given, task, signal)).toEqual({ status: 'waiting' });
    expect(world.made).toMatchObject([
      {
        metadata: { name, namespace, ownerReferences: [{ kind: 'VOMembership', name: 'alice', uid: 'uid-alice' }] },
        spec: { owner, mode: '0700', size: '5Gi', reclaimPolicy: 'Delete', grants: [] },
      },
    ]);
  });

  test('is not made where the virtual organization gives none', async () => {
    const world = homes();
    const answer = await world.homes.of(membership, organization(), task, signal);
    expect(answer).toEqual({ status: 'ready', home: undefined });
    expect(world.made).toEqual([]);
  });

  test('is that of the home of the virtual organization at every site: no other one is made', async () => {
    const elsewhere = organization({ size: '5Gi' }, 'rennes');
    const none = { status: 'ready', home: undefined };
    const world = homes();
    expect(await world.homes.of(membership, elsewhere, task, signal)).toEqual(none);
    expect(world.made).toEqual([]);
    const ready = withConditions(condition('Ready', 'True', 'Available'));
    const madeHere = { ...ready, spec: {} };
    expect(await homes(madeHere).homes.of(membership, elsewhere, task, signal)).toEqual(none);
    const mirrored = { ...ready, spec: { remote: { site: 'rennes' } } };
    const home = { volume: name, mountPath: `/home/${owner}` };
    expect(await homes(mirrored).homes.of(membership, elsewhere, task, signal)).toEqual({ status: 'ready', home });
  });

  test('of somebody else is refused, with or without own homes', async () => {
    const named = { owner, volumes: [{ volume: 'home-u-bob-2013300124', mountPath: '/x', readOnly: true }] };
    for (const given of [organization(), organization({})]) {
      expect(await homes().homes.of(membership, given, named, signal)).toEqual({
        status: 'refused',
        reason: 'volumes: home-u-bob-2013300124 is the home of another member: leave it out.',
      });
    }
  });

  test.each<[string, object, string]>([
    ['it is ready', withConditions(condition('Ready', 'True', 'Available')), 'ready'],
    ['nothing is known of it', { metadata: { name } }, 'waiting'],
    ['it is being made', withConditions(condition('Ready', 'False', 'Creating')), 'waiting'],
    [
      'its claim is being bound',
      withConditions(condition('Ready', 'False', 'NotClaimed'), condition('Claimed', 'False', 'Binding')),
      'waiting',
    ],
    [
      'another claim has its name',
      withConditions(condition('Ready', 'False', 'NotClaimed'), condition('Claimed', 'False', 'NameTaken')),
      'because of NameTaken',
    ],
    ['no file system may be used', withConditions(condition('Ready', 'False', 'NotAllowed')), 'because of NotAllowed'],
    [
      'it is being deleted',
      {
        ...withConditions(condition('Ready', 'True', 'Available')),
        metadata: { name, deletionTimestamp: '2026-01-01T00:00:00Z' },
      },
      'because of Available',
    ],
  ])('when %s', async (_, volume, expected) => {
    const answer = await homes(volume).homes.of(membership, organization({}), task, signal);
    if (expected === 'ready') {
      expect(answer).toEqual({ status: 'ready', home: { volume: name, mountPath: `/home/${owner}` } });
    } else if (expected === 'waiting') expect(answer).toEqual({ status: 'waiting' });
    else expect(answer).toEqual({ status: 'refused', reason: `Home volume ${name} can not be mounted: ${expected}` });
  });

  test('that can not be made says why; one that was just made is waited for', async () => {
    const asked = async (failure: Error): Promise<object> =>
      homes(undefined, failure).homes.of(membership, organization({}), task, signal);
    expect(await asked(new ForbiddenError(request, 403, { message: 'exceeded quota: volumes' }))).toMatchObject({
      status: 'refused',
      reason: expect.stringMatching(/can not be made: .*exceeded quota/),
    });
    expect(await asked(new AlreadyExistsError(request, 409, {}))).toEqual({ status: 'waiting' });
  });
});

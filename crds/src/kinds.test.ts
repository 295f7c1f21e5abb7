import { expect, test } from '@jest/globals';
import { claims } from './claim.ts';
import { executions } from './execution.ts';
import { fileSystems } from './file-system.ts';
import { gridJobs } from './grid-job.ts';
import { identitySlices } from './identity-slice.ts';
import { kinds } from './kinds.ts';
import { reservations } from './reservation.ts';
import { sites } from './site.ts';
import { virtualOrganizations } from './virtual-organization.ts';
import { volumes } from './volume.ts';
import { voMemberships } from './vo-membership.ts';

test('every kind can be read and written with the runtime', () => {
  const known = [
    sites,
    virtualOrganizations,
    voMemberships,
    identitySlices,
    claims,
    gridJobs,
    executions,
    reservations,
    fileSystems,
    volumes,
  ].map(({ plural }) => plural);
  expect(kinds.map(({ plural }) => plural)).toEqual(known);
});

test('no two kinds share a word that kubectl knows them by', () => {
  const words = kinds.flatMap(({ plural, singular, shortNames }) => [plural, singular, ...shortNames]);
  expect(new Set(words).size).toBe(words.length);
});

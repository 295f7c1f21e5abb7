import type { z } from 'zod';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import { groupPathMax, virtualOrganizationNameMax } from './organization.ts';
import { choice, dictionary, dnsLabel, integer, object, text } from './vocabulary.ts';

/** 65,536 bits in base64 with padding. */
const bitmapLength = 10_924;

const spec = object(
  'Whose the slice is and what of it was given out.',
  {
    number: integer('Number of the slice: ids start at 2013265920 + 65536 times it.', { min: 0, max: 2047 }),
    virtualOrganization: object(
      'The owner. Can not change.',
      {
        name: dnsLabel('Name of the VirtualOrganization.', { maxLength: virtualOrganizationNameMax }),
        uid: text('Its `metadata.uid`: another one of the same name is not the owner.', {
          minLength: 1,
          maxLength: 64,
          pattern: /^[-A-Za-z0-9]+$/,
          patternMeans: 'is no uid',
        }),
      },
      { rules: [{ rule: 'self == oldSelf', message: 'a slice never gets another owner' }] },
    ),
    state: choice('Whether ids are still given out of it. Retired is final.', {
      InUse: 'they are.',
      Retired: 'the virtual organization is gone; no id of the slice is ever given again.',
    }).default('InUse'),
    issued: text(
      'Which local ids were ever given out: base64 of 65,536 bits, the lowest bit of the first byte for id 0. A bit that is set stays set.',
      { maxLength: bitmapLength, pattern: /^[A-Za-z0-9+/]*={0,2}$/, patternMeans: 'is no base64' },
    ).default(''),
    ordinal: integer(
      'Which slice of its owner it is: 0 for the first, whose id 0 is the primary group of every member. Can not change.',
      { min: 0, max: 63 },
    ).default(0),
    users: integer('How many user ids were given out.', { min: 0, max: 65_536 }).default(0),
    groups: dictionary(
      'Local ids of groups by path. A group that is gone keeps its id.',
      integer('Local id of the group.', { min: 1, max: 1023 }),
      {
        maxProperties: 1023,
        keyMaxLength: groupPathMax,
        rules: [
          {
            rule: 'oldSelf.all(path, path in self && self[path] == oldSelf[path])',
            message: 'the id of a group never changes, also when the group is gone',
          },
        ],
      },
    ).default({}),
  },
  {
    rules: [
      {
        rule: "self.state == oldSelf.state || oldSelf.state == 'InUse'",
        message: 'a retired slice is never used again',
        fieldPath: '.state',
      },
      {
        rule: 'self.ordinal == oldSelf.ordinal',
        message: 'ordinal can not change: it tells whose primary group is which',
        fieldPath: '.ordinal',
      },
    ],
  },
);

/** A range of 65,536 ids and who owns it. */
export const identitySliceDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'IdentitySlice',
  plural: 'identityslices',
  singular: 'identityslice',
  shortNames: ['islice'],
  categories: ['xtreemos'],
  namespaced: false,
  about:
    'An IdentitySlice records that a range of 65,536 user and group ids belongs to one VirtualOrganization and which of them were given out. Only the operator writes it. It stays after the virtual organization is dissolved, so that nobody ever gets an id of a former member. Never delete one.',
  spec,
  status: undefined,
  rules: [
    {
      rule: "self.metadata.name.matches('^slice-[0-9]{4}$') && int(self.metadata.name.substring(6)) == self.spec.number",
      message: 'the name must be slice- and the number with four digits: that makes a slice unique',
    },
  ],
  columns: [
    { name: 'Number', type: 'integer', jsonPath: '.spec.number', description: 'Number of the slice.' },
    {
      name: 'Organization',
      type: 'string',
      jsonPath: '.spec.virtualOrganization.name',
      description: 'The VirtualOrganization that owns it.',
    },
    { name: 'State', type: 'string', jsonPath: '.spec.state', description: 'Whether ids are still given out of it.' },
    { name: 'Users', type: 'integer', jsonPath: '.spec.users', description: 'How many user ids were given out.' },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When the object was made.' },
  ],
  conditions: [],
});

/** The recorded state of an IdentitySlice. */
export type IdentitySliceSpec = z.infer<typeof spec>;

/** An IdentitySlice object. */
export interface IdentitySlice extends KubeObject {
  spec: IdentitySliceSpec;
}

/** The kind IdentitySlice, for the runtime. */
export const identitySlices: Kind<IdentitySlice> = runtimeKind<IdentitySlice>(identitySliceDefinition);

import type { z } from 'zod';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import { conditions, defineCondition } from './conditions.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import { capabilities, digest, groupPath, issuedId, principalFields, roleName } from './organization.ts';
import { choice, generation, integer, listMap, listSet, object, text, timestamp } from './vocabulary.ts';

/** The summary of a VOMembership. */
export const membershipReady = defineCondition('Ready', 'Summary: the member can log in and work.', {
  Active: 'Surfaces when the member is Active and has an id.',
  Requested: 'Surfaces while an administrator has to approve: set `spec.state` to Active.',
  AcceptanceMissing:
    'Surfaces while the member has not accepted the acceptable use that is in force: they do by logging in, or by `xos vo join`.',
  Suspended: 'Surfaces while the member is suspended: an administrator sets `spec.state` to Active to go on.',
  Expired: 'Surfaces once `spec.expirationTime` is over: an administrator moves it to go on.',
  Banned: 'Surfaces while the member is banned: an administrator can lift that to Suspended.',
  DuplicatePrincipal:
    'Surfaces when an older membership of the same principal exists here; this one gets no id. Delete one of them.',
  IdentityConflict:
    'Surfaces when `spec.identity` names an id that is not the own one: it lies in a slice of someone else, or another membership has it. Delete this membership and make it anew without `spec.identity`.',
  IdsExhausted: 'Surfaces when no id and no slice is left; see `IdentityAllocated` of the VirtualOrganization.',
  OrganizationMissing:
    'Surfaces when the namespace belongs to no VirtualOrganization: memberships live in `vo-` and the name of theirs.',
  OrganizationForming: 'Surfaces while the VirtualOrganization is Forming: its administrators make it Operational.',
  OrganizationFrozen: 'Surfaces while the VirtualOrganization is Frozen: its administrators make it Operational.',
  OrganizationNotAccepted:
    'Surfaces when this site does not accept the VirtualOrganization: the owner of the site adds it to `acceptedVirtualOrganizations` of the local Site.',
  OrganizationDissolved: 'Surfaces once the VirtualOrganization is Dissolved.',
});

const memberGroup = object('A group that the member is in.', {
  name: groupPath('Path of the group, as the VirtualOrganization lists it.'),
  expirationTime: timestamp('When the member leaves the group.').optional(),
});

const identity = object('The id that was issued. Only the operator writes it, once; backups keep it.', {
  slice: integer('Number of the slice.', { min: 0, max: 2047 }),
  localId: integer('Id within the slice.', { min: 1024, max: 60_000 }),
});

const spec = object(
  'Who the member is and may be.',
  {
    principal: object('Who they are. Can not change: someone else is another member.', principalFields, {
      rules: [
        {
          rule: 'self == oldSelf',
          message: 'principal can not change: make a membership of its own for someone else',
        },
      ],
    }),
    handle: text(
      'Word in the user name, `u-HANDLE-UID`; when absent, made from the name of the object. Can not change once an id is issued.',
      {
        minLength: 1,
        maxLength: 16,
        pattern: /^[a-z0-9]+$/,
        patternMeans: 'use 1 to 16 lower-case letters and digits',
      },
    ).optional(),
    state: choice('What the administrators decided. Nothing leads back to Requested, and from Banned only Suspended.', {
      Requested: 'asks to join.',
      Active: 'takes part.',
      Suspended: 'may do nothing for now.',
      Banned: 'may do nothing and can not ask again.',
    }).default('Requested'),
    groups: listMap('Groups that the member is in. None implies another.', memberGroup, {
      maxItems: 64,
      keys: ['name'],
    }).default([]),
    roles: listSet('Roles that the member has.', roleName('Name of the role.'), { maxItems: 32 }).default(['member']),
    capabilities: capabilities('What the member may do besides what the roles give.').default([]),
    expirationTime: timestamp('When the membership ends.').optional(),
    acceptedUse: digest(
      'SHA-256 of the acceptable use that the member accepted. Only the member can set it.',
    ).optional(),
    identity: identity.optional(),
  },
  {
    rules: [
      {
        rule: "self.state == oldSelf.state || self.state in ['Suspended', 'Banned'] && !(oldSelf.state == 'Banned' && self.state == 'Banned') || (self.state == 'Active' && oldSelf.state in ['Requested', 'Suspended'])",
        message: 'state can not go back to Requested, and from Banned only to Suspended',
        fieldPath: '.state',
      },
      {
        rule: '!has(oldSelf.identity) || (has(self.identity) && self.identity == oldSelf.identity)',
        message: 'identity can not change once it is issued',
        fieldPath: '.identity',
      },
      {
        rule: '!has(oldSelf.identity) || (has(self.handle) == has(oldSelf.handle) && (!has(self.handle) || self.handle == oldSelf.handle))',
        message: 'handle can not change once an id is issued: the user name holds it',
        fieldPath: '.handle',
      },
    ],
  },
);

const status = object('What the operator observes. Only the operator writes it.', {
  observedGeneration: generation('The `metadata.generation` that this status is about.').optional(),
  conditions: conditions.optional(),
  state: choice('The state in force.', {
    Requested: 'waits for approval, or for the acceptance of the acceptable use.',
    Active: 'takes part.',
    Suspended: 'may do nothing for now.',
    Expired: 'may do nothing: the membership ended.',
    Banned: 'may do nothing and can not ask again.',
  }).optional(),
  userName: text('Name of the user on every site, and of the ServiceAccount.', { maxLength: 32 }).optional(),
  uid: issuedId('User id.').optional(),
  gid: issuedId('Group id of the virtual organization, the primary group of every member.').optional(),
  gids: listMap(
    'Groups in force and their ids.',
    object('A group and its id.', { group: groupPath('Path of the group.'), gid: issuedId('Its group id.') }),
    { maxItems: 64, keys: ['group'] },
  ).optional(),
  acceptance: text('The acceptance of the acceptable use, signed by the gateway (JWS).', {
    maxLength: 8192,
  }).optional(),
});

/** The membership of one principal in one virtual organization. */
export const voMembershipDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'VOMembership',
  plural: 'vomemberships',
  singular: 'vomembership',
  shortNames: ['vom'],
  categories: ['xtreemos'],
  namespaced: true,
  about:
    'A VOMembership makes one principal a member of the VirtualOrganization whose namespace it lies in. The operator issues the user id, which is never given to anyone else.',
  spec,
  status,
  rules: [],
  columns: [
    { name: 'State', type: 'string', jsonPath: '.status.state', description: 'The state in force.' },
    { name: 'User', type: 'string', jsonPath: '.status.userName', description: 'Name of the user on every site.' },
    {
      name: 'Subject',
      type: 'string',
      jsonPath: '.spec.principal.subject',
      description: 'What the issuer calls them.',
    },
    {
      name: 'Ready',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].status',
      description: 'Whether the member can log in and work.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Why they can or can not.',
    },
    {
      name: 'Issuer',
      type: 'string',
      jsonPath: '.spec.principal.issuer',
      description: 'Who says who they are.',
      priority: 1,
    },
    { name: 'UID', type: 'integer', jsonPath: '.status.uid', description: 'User id.', priority: 1 },
    { name: 'Roles', type: 'string', jsonPath: '.spec.roles', description: 'Roles of the member.', priority: 1 },
    {
      name: 'Groups',
      type: 'string',
      jsonPath: '.spec.groups[*].name',
      description: 'Groups of the member.',
      priority: 1,
    },
    {
      name: 'Expires',
      type: 'string',
      jsonPath: '.spec.expirationTime',
      description: 'When the membership ends.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When the object was made.' },
  ],
  conditions: [membershipReady],
});

/** The desired state of a VOMembership. */
export type VOMembershipSpec = z.infer<typeof spec>;
/** The observed state of a VOMembership. */
export type VOMembershipStatus = z.infer<typeof status>;

/** A VOMembership object. */
export interface VOMembership extends KubeObject {
  spec: VOMembershipSpec;
  status?: VOMembershipStatus | undefined;
}

/** The kind VOMembership, for the runtime. */
export const voMemberships: Kind<VOMembership> = runtimeKind<VOMembership>(voMembershipDefinition);

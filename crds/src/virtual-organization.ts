import type { z } from 'zod';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import { conditions, defineCondition } from './conditions.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import {
  builtInRoles,
  capabilities,
  digest,
  groupPath,
  groupsMax,
  isolationLevel,
  issuedId,
  jobPriorityLimit,
  limitFields,
  principalFields,
  roleName,
  virtualOrganizationNameMax,
} from './organization.ts';
import { accepted, dissolutionStatus, dissolved, tenancyReady } from './tenancy.ts';
import {
  choice,
  dnsLabel,
  flag,
  generation,
  integer,
  listMap,
  listSet,
  object,
  quantity,
  text,
  timestamp,
} from './vocabulary.ts';

/** The summary of a VirtualOrganization. */
export const virtualOrganizationReady = defineCondition('Ready', 'Summary: members can log in and work here.', {
  Operational:
    'Surfaces when the virtual organization is Operational, accepted by this site and has all it needs here.',
  Forming: 'Surfaces while it is Forming: set `spec.state` to Operational when its members and groups are as wanted.',
  Frozen: 'Surfaces while it is Frozen: nothing new starts. Set `spec.state` to Operational to go on.',
  Dissolving: 'Surfaces while it is being dissolved; `Dissolved` says how far that is.',
  Dissolved: 'Surfaces once it is Dissolved.',
  NotAccepted:
    'Surfaces when this site does not accept it: the owner of the site adds it to `acceptedVirtualOrganizations` of the local Site.',
  NotSetUp: 'Surfaces while something that it needs here is missing; another condition says what.',
});

/** Whether a slice of ids belongs to the virtual organization. */
export const identityAllocated = defineCondition('IdentityAllocated', 'It owns a slice of user and group ids.', {
  Allocated: 'Surfaces when its slices are recorded as IdentitySlices.',
  AwaitingHome: 'Surfaces while its home has not told its slices yet.',
  SliceConflict:
    'Surfaces when a slice that its home gave it belongs to another virtual organization at this site: it can not be hosted here.',
  NoFreeSlice:
    'Surfaces when every slice is taken or touches `reservedIds` of the local Site. Its owner frees a range, or the virtual organization is formed elsewhere.',
  GroupIdsExhausted:
    'Surfaces when no group id is left: ids of groups that are gone are never given again. Remove groups that have no id yet.',
});

/** Whether the signed state can be trusted to be the newest. */
export const statePublished = defineCondition('StatePublished', 'Its newest state is signed and published.', {
  Published: 'Surfaces when the newest state is in ConfigMap `vo-state` of its namespace and at the gateway.',
  Final: 'Surfaces when its final state is published: no credential holds any longer.',
  Followed: 'Surfaces when its home is another site, whose newest state was verified here and is followed.',
  NotFollowed: 'Surfaces when its home is another site and what comes from there is not taken; the message says why.',
  HomeAway:
    'Surfaces when its home was not heard of for longer than its state allows, or tells this site nothing more: nothing new starts here.',
  AwaitingSlice: 'Surfaces while it has no slice of ids; see `IdentityAllocated`.',
  AwaitingKeys: 'Surfaces while cert-manager makes its keys; see the Certificates in the namespace of the operator.',
  CertManagerMissing: 'Surfaces while cert-manager is not installed: the owner of the site installs it.',
  Restored:
    'Surfaces when another site holds a newer state than this one, its home: a backup was restored. It was frozen; look through its members, then set `spec.state` to Operational.',
  RootKeyChanged:
    'Surfaces when its root key is another one than it was founded with. Nothing is signed: restore the Secret from a backup, or form it anew under another name.',
});

const organizationGroup = object('A group.', {
  name: groupPath('Path of the group, for example `analysis/higgs`. A member of it is not thereby in `analysis`.'),
  description: text('What the group is for.', { maxLength: 1024 }).optional(),
  expirationTime: timestamp('When the group ends for everyone in it.').optional(),
});

const role = object('A role.', {
  name: roleName('Name of the role.'),
  capabilities: capabilities('What its holders may do.').default([]),
});

const enrolment = object('How someone becomes a member.', {
  mode: choice('Who decides.', {
    Closed: 'administrators make memberships; nobody can ask.',
    Approval: 'anyone whom an accepted issuer knows can ask; an administrator approves.',
    Open: 'whoever asks is in.',
  }).default('Closed'),
  acceptableUse: object('What members promise. A member becomes Active only after accepting the text in force.', {
    text: text('The text.', { minLength: 1, maxLength: 16_384 }),
  }).optional(),
});

const homeVolumes = object(
  'A home for each member: a Volume `home-` and the user name, made before the first job of the member, and mounted in all their jobs at `/home/` and the user name, where HOME points. It belongs to the member, with mode 0700. What is said here holds for homes that are made from then on; when it is taken away, jobs have none, and the Volumes stay.',
  {
    size: quantity('How much each may keep.').default('1Gi'),
    reclaimPolicy: choice('What becomes of the files when the membership or the Volume is deleted.', {
      Retain: 'they stay at the MRC, for the owner of the site.',
      Delete: 'they are erased.',
    }).default('Retain'),
  },
);

const egress = object('A destination that pods may reach.', {
  name: dnsLabel('Name of the rule.'),
  cidr: text('Addresses, for example `192.0.2.0/24`.', {
    minLength: 4,
    maxLength: 49,
    pattern: /^[0-9a-fA-F:.]+\/[0-9]{1,3}$/,
    patternMeans: 'use an address range such as 192.0.2.0/24 or 2001:db8::/32',
    rules: [{ rule: 'isCIDR(self)', message: 'use an address range such as 192.0.2.0/24 or 2001:db8::/32' }],
  }),
  ports: listMap(
    'Ports; when none is given, all.',
    object('A port.', {
      port: integer('Number of the port.', { min: 1, max: 65_535 }),
      protocol: choice('Protocol.', { TCP: 'TCP.', UDP: 'UDP.', SCTP: 'SCTP.' }).default('TCP'),
    }),
    { maxItems: 32, keys: ['port', 'protocol'] },
  ).default([]),
});

const network = object('Which ways are open; both ways are closed otherwise. DNS always works.', {
  internal: flag('Whether pods of the virtual organization may talk to each other.').default(false),
  egress: listMap('Destinations outside that pods may reach.', egress, { maxItems: 32, keys: ['name'] }).default([]),
});

const governance = object(
  'What destructive acts need: dissolving, and removing an administrator. Can be tightened but not loosened.',
  {
    secondAdministrator: flag('Whether a second administrator must approve.').default(false),
    delaySeconds: integer('How long the act can still be withdrawn.', { min: 0, max: 2_592_000 }).default(0),
  },
  {
    rules: [
      {
        rule: '!oldSelf.secondAdministrator || self.secondAdministrator',
        message: 'can not be taken back: whoever could, would not need a second administrator',
        fieldPath: '.secondAdministrator',
      },
      {
        rule: 'self.delaySeconds >= oldSelf.delaySeconds',
        message: 'can only become longer: whoever could shorten it would not need to wait',
        fieldPath: '.delaySeconds',
      },
    ],
  },
);

const userName = (about: string): z.ZodString => text(about, { minLength: 1, maxLength: 512 });

const dissolution = object(
  'Asks to dissolve the virtual organization. May be withdrawn until it is carried out.',
  {
    data: choice('What becomes of its data.', {
      Erase: 'erased.',
      Export: 'set aside for the owner of the site; Volumes, homes among them, as their `reclaimPolicy` says.',
    }),
    requestedBy: userName('Who asked; must be the user who writes it.').optional(),
    approvedBy: userName('Who approved; must be the user who writes it, and another one than asked.').optional(),
  },
  {
    rules: [
      {
        rule: '!has(self.approvedBy) || (has(self.requestedBy) && self.approvedBy != self.requestedBy)',
        message: 'who approves must be another administrator than the one who asked',
        fieldPath: '.approvedBy',
      },
    ],
  },
);

const removal = object(
  'Asks to remove this administrator; needed where `governance` demands approval or a delay. The operator removes it once that is fulfilled; until then it may be withdrawn.',
  {
    requestedBy: userName('Who asked; must be the user who writes it.').optional(),
    approvedBy: userName('Who approved; must be the user who writes it, and another one than asked.').optional(),
  },
  {
    rules: [
      {
        rule: '!has(self.approvedBy) || (has(self.requestedBy) && self.approvedBy != self.requestedBy)',
        message: 'who approves must be another administrator than the one who asked',
        fieldPath: '.approvedBy',
      },
    ],
  },
);

const parentListed =
  "self.all(g, !g.name.contains('/') || self.exists(p, p.name == g.name.substring(0, g.name.lastIndexOf('/'))))";

const spec = object(
  'What the virtual organization is.',
  {
    description: text('What it is for.', { maxLength: 1024 }).optional(),
    state: choice('Where it stands in its life. Forming leads to Operational or Dissolved; Dissolved is final.', {
      Forming: 'it is being set up; nothing runs.',
      Operational: 'members work.',
      Frozen: 'nothing new starts.',
      Dissolved: 'it is gone; its ids are never used again.',
    }).default('Forming'),
    homeSite: dnsLabel('Site that signs for it; when absent, the one it was formed at. Can not change.').optional(),
    sites: listSet(
      'Sites besides its home that may take part, by the names of their Site objects there: the home tells them who its members are. Each has to accept it besides.',
      dnsLabel('Name of a Site.'),
      { maxItems: 63 },
    ).default([]),
    administrators: listMap(
      'Who owns it; each may do everything in it. At least one.',
      object('An administrator.', { ...principalFields, removal: removal.optional() }),
      { minItems: 1, maxItems: 32, keys: ['issuer', 'subject'] },
    ),
    groups: listMap(
      'Its groups. A path makes a tree, in which every parent is listed; being in a group never means being in its parent or child.',
      organizationGroup,
      {
        maxItems: groupsMax,
        keys: ['name'],
        rules: [{ rule: parentListed, message: 'the parent of each group must be listed too' }],
      },
    ).default([]),
    roles: listMap('Its roles, besides `administrator`, `member` and `observer`, which always exist.', role, {
      maxItems: 32,
      keys: ['name'],
      rules: [
        {
          rule: `self.all(role, !(role.name in [${builtInRoles.map((name) => `'${name}'`).join(', ')}]))`,
          message: 'administrator, member and observer always exist and can not be defined anew',
        },
      ],
    }).default([]),
    enrolment: enrolment.default({ mode: 'Closed' }),
    identity: object('How its ids appear.', {
      uidMode: choice('Which number a pod sees. Can not change.', {
        Global: 'the issued one, the same on every site.',
        Local: 'its lower 16 bits, in a user namespace; only on sites that have them.',
      }).default('Global'),
    }).default({ uidMode: 'Global' }),
    isolation: object('How far its members are kept apart at least.', {
      minimum: isolationLevel('The weakest way that it accepts.').default('Namespace'),
    }).default({ minimum: 'Namespace' }),
    quota: object(
      'What it gives itself on each site. The limits of the site hold besides; the smaller one counts.',
      limitFields,
    ).default({}),
    jobs: object('What its members may ask for their jobs.', {
      priorityMax: integer(
        'The highest `priority` that members may give their jobs. Administrators may give any. Jobs that have more already keep it.',
        { min: 0, max: jobPriorityLimit },
      ).default(0),
    }).default({ priorityMax: 0 }),
    homeVolumes: homeVolumes.optional(),
    network: network.default({ internal: false, egress: [] }),
    governance: governance.default({ secondAdministrator: false, delaySeconds: 0 }),
    dissolution: dissolution.optional(),
  },
  {
    rules: [
      {
        rule: "self.state == oldSelf.state || (self.state == 'Operational' && oldSelf.state in ['Forming', 'Frozen']) || (self.state == 'Frozen' && oldSelf.state == 'Operational') || (self.state == 'Dissolved')",
        message:
          'state may go from Forming to Operational, between Operational and Frozen, and from each to Dissolved, which is final',
        fieldPath: '.state',
      },
      {
        rule: '!has(oldSelf.homeSite) || (has(self.homeSite) && self.homeSite == oldSelf.homeSite)',
        message: 'homeSite can not change',
        fieldPath: '.homeSite',
      },
      {
        rule: 'self.identity.uidMode == oldSelf.identity.uidMode',
        message: 'uidMode can not change: files bear the ids already',
        fieldPath: '.identity.uidMode',
      },
      {
        rule: "self.identity.uidMode != 'Global' || self.isolation.minimum != 'UserNamespace'",
        message:
          'user namespaces hold 65,536 ids, issued ones lie above: set identity.uidMode to Local, or demand Sandbox or DedicatedNode',
        fieldPath: '.isolation.minimum',
      },
      {
        rule: "self.state != 'Dissolved' || !self.governance.secondAdministrator || (has(self.dissolution) && has(self.dissolution.approvedBy))",
        message: 'a second administrator must approve the dissolution first (dissolution.approvedBy)',
        fieldPath: '.dissolution',
      },
      {
        rule: '!(oldSelf.governance.secondAdministrator || oldSelf.governance.delaySeconds > 0) || oldSelf.administrators.all(old, self.administrators.exists(each, each.issuer == old.issuer && each.subject == old.subject) || (has(old.removal) && (!oldSelf.governance.secondAdministrator || has(old.removal.approvedBy))))',
        message: 'governance protects administrators: ask for the removal first (administrators[].removal)',
        fieldPath: '.administrators',
      },
      {
        rule: "oldSelf.state != 'Dissolved' || (has(self.dissolution) == has(oldSelf.dissolution) && (!has(self.dissolution) || self.dissolution == oldSelf.dissolution))",
        message: 'a dissolution that is carried out can not be changed',
        fieldPath: '.dissolution',
      },
    ],
  },
);

const count = (about: string): z.ZodInt => integer(about, { min: 0, max: 2_147_483_647 });

const status = object('What the operator observes. Only the operator writes it.', {
  observedGeneration: generation('The `metadata.generation` that this status is about.').optional(),
  generationTime: timestamp(
    'When the operator first saw this generation of the spec; the delay of `governance` counts from here.',
  ).optional(),
  conditions: conditions.optional(),
  state: choice('The state in force on this site.', {
    Forming: 'it is being set up.',
    Operational: 'members work.',
    Frozen: 'nothing new starts.',
    Dissolved: 'it is gone.',
  }).optional(),
  epoch: generation('Number of the signed state; it grows with every change.').optional(),
  stateDigest: digest('Digest of the signed state.').optional(),
  genesis: digest(
    'Digest of the founding document: with the uid the identity of the virtual organization, unlike its name.',
  ).optional(),
  authority: text('Thumbprint of its root key (RFC 7638, SHA-256, base64url).', { maxLength: 43 }).optional(),
  slices: listSet(
    'Numbers of its slices, in the order in which they were taken.',
    integer('A number.', { min: 0, max: 2047 }),
    {
      maxItems: 64,
    },
  ).optional(),
  groups: listMap(
    'Its groups and their ids.',
    object('A group and its id.', { name: groupPath('Path of the group.'), gid: issuedId('Its group id.') }),
    { maxItems: groupsMax, keys: ['name'] },
  ).optional(),
  members: object('How many memberships there are in each state.', {
    active: count('Active.'),
    requested: count('Requested.'),
    suspended: count('Suspended.'),
    expired: count('Expired.'),
    banned: count('Banned.'),
  }).optional(),
  sites: listMap(
    'Sites that take part.',
    object('A site.', {
      name: dnsLabel('Name of the Site.'),
      accepted: flag('Whether the site accepts the virtual organization.'),
      state: text('Where it stands there.', { maxLength: 32 }).optional(),
      receipt: text('What is gone there after the dissolution, signed with the root key (JWS).', {
        maxLength: 65_536,
      }).optional(),
    }),
    { maxItems: 64, keys: ['name'] },
  ).optional(),
  dissolution: dissolutionStatus.optional(),
});

/** People of several organizations who share machines of several owners. */
export const virtualOrganizationDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'VirtualOrganization',
  plural: 'virtualorganizations',
  singular: 'virtualorganization',
  shortNames: ['vo'],
  categories: ['xtreemos'],
  namespaced: false,
  about:
    'A VirtualOrganization is a group of people of several organizations who share machines of several owners. On each site that accepts it, it has the namespace `vo-` and its name. Its members are VOMemberships in that namespace.',
  spec,
  status,
  rules: [
    {
      rule: `self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= ${virtualOrganizationNameMax}`,
      message: `the name makes a namespace, so it must have at most ${virtualOrganizationNameMax} lower-case letters, digits and hyphens`,
    },
  ],
  columns: [
    { name: 'State', type: 'string', jsonPath: '.spec.state', description: 'What its administrators want it to be.' },
    {
      name: 'Ready',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].status',
      description: 'Whether members can log in and work here.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Why they can or can not.',
    },
    {
      name: 'Members',
      type: 'integer',
      jsonPath: '.status.members.active',
      description: 'How many members are Active.',
    },
    {
      name: 'Requests',
      type: 'integer',
      jsonPath: '.status.members.requested',
      description: 'How many wait for approval.',
    },
    {
      name: 'Enrolment',
      type: 'string',
      jsonPath: '.spec.enrolment.mode',
      description: 'How someone becomes a member.',
      priority: 1,
    },
    { name: 'Home', type: 'string', jsonPath: '.spec.homeSite', description: 'Site that signs for it.', priority: 1 },
    {
      name: 'Epoch',
      type: 'integer',
      jsonPath: '.status.epoch',
      description: 'Number of its signed state.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When the object was made.' },
  ],
  conditions: [virtualOrganizationReady, accepted, tenancyReady, identityAllocated, statePublished, dissolved],
});

/** The desired state of a VirtualOrganization. */
export type VirtualOrganizationSpec = z.infer<typeof spec>;
/** The observed state of a VirtualOrganization. */
export type VirtualOrganizationStatus = z.infer<typeof status>;

/** A VirtualOrganization object. */
export interface VirtualOrganization extends KubeObject {
  spec: VirtualOrganizationSpec;
  status?: VirtualOrganizationStatus | undefined;
}

/** The kind VirtualOrganization, for the runtime. */
export const virtualOrganizations: Kind<VirtualOrganization> =
  runtimeKind<VirtualOrganization>(virtualOrganizationDefinition);

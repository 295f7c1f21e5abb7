import type { z } from 'zod';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import { conditions, defineCondition } from './conditions.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import { isolationLevel, limitFields, providerNameMax, virtualOrganizationNameMax } from './organization.ts';
import {
  choice,
  dictionary,
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
  union,
  variant,
} from './vocabulary.ts';

/** Highest id that Kubernetes takes (apimachinery, `IsValidUserID`). */
const idMax = 2_147_483_647;

/** Room for some ten root certificates with long keys. */
const trustBundleMaxLength = 65_536;

/** Whether all nodes of a site do what they should. */
export const nodesReady = defineCondition('NodesReady', 'Every node of the site is ready and takes new work.', {
  AllNodesReady: 'Surfaces when every node is ready and schedulable.',
  SomeNodesNotReady:
    'Surfaces when at least one node is ready and schedulable and at least one is not; the message names some.',
  NoNodesReady: 'Surfaces when the cluster has nodes, but none is both ready and schedulable.',
  NoNodes: 'Surfaces when the cluster has no node at all.',
  PeerAway: 'Surfaces on a peer that is not connected: its nodes are not known.',
  NotThisSite: 'Surfaces on a Local site that is not the one of this cluster: nothing is known of it here.',
});

/** Whether the site keeps the network of virtual organizations closed. */
export const networkIsolated = defineCondition(
  'NetworkIsolated',
  'The network of the site does what NetworkPolicy says, on which the closed network of virtual organizations rests. The operator tests it with two pods when it begins to act, and every six hours.',
  {
    Enforced:
      'Surfaces when a pod for which everything is denied could neither be reached nor reach others, and both were possible before and afterwards.',
    NotEnforced:
      'Surfaces when a pod for which everything is denied was reached, or reached others, in two tests one after the other: nothing new of virtual organizations starts. Install a network plug-in that enforces NetworkPolicy, or say in `spec.local.networkIsolation` that it is not offered.',
    NotOffered: 'Surfaces when the owner of the site says so in `spec.local.networkIsolation`: nothing is tested.',
    NotTested: 'Surfaces until the first test has ended.',
    Inconclusive:
      'Surfaces when the test could not be carried out to its end; the message says why, and it is tried again. It does not stand in for `NotEnforced`, which stays until a test says otherwise.',
  },
);

/** The summary of a Site. */
export const siteReady = defineCondition('Ready', 'Summary: the site can run work.', {
  NodesAvailable: 'Surfaces when at least one node is ready and schedulable.',
  NoNodesAvailable: 'Surfaces when no node is both ready and schedulable, or there are none; see `NodesReady`.',
  Connected: 'Surfaces on a peer that answers, under its own trust bundle.',
  Connecting: 'Surfaces on a peer that was not greeted yet.',
  Unreachable:
    'Surfaces on a peer that does not answer, or whose certificate its trust bundle does not vouch for; the message says more.',
  Refused:
    'Surfaces on a peer that answers and does not want to: it knows this site by another name, or speaks no common version of the protocol.',
  Cut: 'Surfaces on a peer that the owner of this site cut off (`spec.peer.connection`).',
  NameTaken:
    'Surfaces on a Site of type Peer that bears the name which the operator was given for the local site (`--site-name`). Delete it: the operator then makes the local Site.',
  NotThisSite:
    'Surfaces on a Site of type Local whose name is not the one that the operator was given (`--site-name`, chart value `site.name`). Delete it, or use type Peer.',
});

const resources = (about: string): ReturnType<typeof dictionary<ReturnType<typeof quantity>>> =>
  dictionary(about, quantity('How much of the resource, as a Kubernetes quantity.'), {
    maxProperties: 64,
    keyMaxLength: 317,
  });

const attributes = dictionary(
  'What the site says of itself, by attribute name; jobs and placement rules select on it. Well known are `country` (two capital letters, ISO 3166-1) and `organization`.',
  text('Value of the attribute.', { maxLength: 253 }),
  {
    maxProperties: 32,
    keyMaxLength: 63,
    rules: [
      {
        rule: "self.all(key, key.size() > 63 || key.matches('^[a-z][A-Za-z0-9]*([._-][A-Za-z0-9]+)*$'))",
        message:
          'each attribute name must start with a lower-case letter and consist of letters and digits, with single dots, underscores or hyphens between them',
      },
      {
        rule: "!('country' in self) || self['country'].matches('^[A-Z]{2}$')",
        message: 'country must be two capital letters (ISO 3166-1 alpha-2), for example FR',
      },
    ],
  },
);

const acceptedVirtualOrganization = object('A virtual organization that may use this site.', {
  name: dnsLabel('Name of the VirtualOrganization.', { maxLength: virtualOrganizationNameMax }),
  home: dnsLabel(
    'Name of the peer that it was formed at; when absent, it was formed here. This site follows what the home tells of it.',
  ).optional(),
  limits: object(
    'What the virtual organization may use of this site at most. What is left out is not limited here.',
    limitFields,
  ).optional(),
});

const isolation = listSet(
  'Ways to keep pods of different members apart that this site offers, from weakest to strongest. A virtual organization states the least it wants.',
  isolationLevel('One way.'),
  { maxItems: 4 },
);

const pem = (about: string): z.ZodString =>
  text(about, {
    minLength: 1,
    maxLength: trustBundleMaxLength,
    pattern: /^-----BEGIN CERTIFICATE-----\r?\n/,
    patternMeans: 'use PEM, starting with -----BEGIN CERTIFICATE-----',
  });

const providerNameField = dnsLabel('Name of the provider, as `xos login --provider` takes it.', {
  maxLength: providerNameMax,
});

const identityProvider = union('Someone who says who a user is.', 'type', [
  object('An OpenID provider.', {
    name: providerNameField,
    type: variant('OpenIDConnect', 'an OpenID provider; principals bear its issuer.'),
    openIDConnect: object('How to reach the provider, and as whom.', {
      issuer: text('Its issuer, exactly as in its discovery document: an https URL without query or fragment.', {
        minLength: 9,
        maxLength: 255,
        pattern: /^https:\/\/[^\s?#]+$/,
        patternMeans: 'use an https URL without query or fragment',
      }),
      clientID: text('Client that the gateway is registered as.', {
        minLength: 1,
        maxLength: 255,
        pattern: /^[!-~]+$/,
        patternMeans: 'use printable ASCII without spaces',
      }),
      clientSecret: object(
        'Secret in the namespace of the operator that holds the client secret. A public client has none.',
        {
          name: text('Name of the Secret.', {
            minLength: 1,
            maxLength: 253,
            pattern: /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/,
            patternMeans: 'use lower-case letters, digits, hyphens and dots',
          }),
          key: text('Key in the Secret.', {
            minLength: 1,
            maxLength: 253,
            pattern: /^[-._a-zA-Z0-9]+$/,
            patternMeans: 'use letters, digits, hyphens, dots and underscores',
          }),
        },
      ).optional(),
      scopes: listSet(
        'Scopes to ask for; `openid` must be among them.',
        text('One scope.', {
          minLength: 1,
          maxLength: 128,
          pattern: /^[!#-[\]-~]+$/,
          patternMeans: 'is no scope (RFC 6749)',
        }),
        { maxItems: 16, rules: [{ rule: "'openid' in self", message: 'openid must be among the scopes' }] },
      ).default(['openid']),
      caBundle: pem('Root certificates of the provider, PEM; when absent, those of the system.').optional(),
    }),
  }),
  object('An authority of client certificates.', {
    name: providerNameField,
    type: variant(
      'ClientCertificate',
      'an authority of X.509 certificates; principals bear the issuer `x509:` and the name of the provider.',
    ),
    clientCertificate: object('Whose certificates are taken.', {
      caBundle: pem('Root certificates of the authority, PEM, used for nothing else.'),
    }),
  }),
]);

const idRange = object(
  'A range of ids.',
  {
    first: integer('Lowest id of the range.', { min: 0, max: idMax }),
    last: integer('Highest id of the range.', { min: 0, max: idMax }),
  },
  { rules: [{ rule: 'self.first <= self.last', message: 'first must not be above last', fieldPath: '.last' }] },
);

const localSite = object(
  'The cluster that the operator runs in, as its owner describes it.',
  {
    attributes: attributes.default({}),
    acceptedVirtualOrganizations: listMap(
      'Virtual organizations that may use this site, each with its limits. None by default: the owner of a site has the last word.',
      acceptedVirtualOrganization,
      { maxItems: 256, keys: ['name'] },
    ).default([]),
    isolation: isolation.default(['Namespace']),
    networkIsolation: choice('Whether the networks of virtual organizations are closed by NetworkPolicy here.', {
      Offered: 'they are; while the operator finds that they are not, nothing new of virtual organizations starts.',
      NotOffered:
        'they are not, and the owner of the site accepts it: pods reach pods of others, nodes and the API server. Virtual organizations are told.',
    }).default('Offered'),
    sandboxRuntimeClass: dnsLabel(
      'RuntimeClass that pods get under the isolation `Sandbox`; needed when it is offered.',
    ).optional(),
    kubernetesLogin: flag(
      'Whether the users of this cluster may log in at the gateway with their Kubernetes credentials; principals bear the issuer `kubernetes:` and the name of the site.',
    ).default(true),
    identityProviders: listMap('Who else says who a user is.', identityProvider, {
      maxItems: 32,
      keys: ['name'],
    }).default([]),
    reservedIds: listMap(
      'Ranges of user and group ids that the nodes of this site use for something else. No virtual organization formed here gets a slice that touches one; all slices lie in 2013265920-2147483647.',
      idRange,
      { maxItems: 64, keys: ['first'] },
    ).default([]),
  },
  {
    rules: [
      {
        rule: "!('Sandbox' in self.isolation) || has(self.sandboxRuntimeClass)",
        message: 'name a sandboxRuntimeClass to offer the isolation Sandbox',
        fieldPath: '.sandboxRuntimeClass',
        reason: 'FieldValueRequired',
      },
    ],
  },
);

const peerSite = object('Another cluster that runs XtreemOS.', {
  address: text(
    'Host and port of its gateway, for example `gateway.example.org:7443`. An IPv6 address stands in brackets.',
    {
      minLength: 3,
      maxLength: 259,
      pattern:
        /^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}$/,
      patternMeans: 'use host:port, for example gateway.example.org:7443',
    },
  ),
  trustDomain: text(
    'Its trust domain (SPIFFE): certificates of the peer are accepted under this name only. It can not change: delete the Site and join the peer again.',
    {
      minLength: 1,
      maxLength: 255,
      pattern: /^[a-z0-9._-]+$/,
      patternMeans: 'use lower-case letters, digits, dots, hyphens and underscores',
      rules: [
        { rule: 'self == oldSelf', message: 'trustDomain can not change: delete the Site and join the peer again' },
      ],
    },
  ),
  trustBundle: pem(
    'Its root certificates, PEM, one after another. They are used for this peer alone and are never merged with those of another site.',
  ),
  virtualOrganizations: listSet(
    'Virtual organizations that this site shares with the peer: members of them may have their jobs run at the other site, in either direction, as far as both owners say so. None by default.',
    dnsLabel('Name of the VirtualOrganization.', { maxLength: virtualOrganizationNameMax }),
    { maxItems: 256 },
  ).default([]),
  connection: choice('Whether this site and the peer speak to each other.', {
    Open: 'they do, as soon as each reaches the other.',
    Cut: 'the peer is cut off: nothing is sent to it or taken from it, from the moment that this is written.',
  }).default('Open'),
});

const spec = union(
  'What the owner of this cluster says of the site.',
  'type',
  [
    object('The local site.', {
      type: variant('Local', 'the cluster that the operator runs in; `local` describes it.'),
      local: localSite,
    }),
    object('A peer.', {
      type: variant('Peer', 'another cluster; `peer` says how to reach and to trust it.'),
      peer: peerSite,
    }),
  ],
  {
    rules: [
      {
        rule: 'self.type == oldSelf.type',
        message: 'type can not change: delete the Site and create it anew',
        fieldPath: '.type',
      },
    ],
  },
);

const status = object('What the operator observes. Only the operator writes it.', {
  observedGeneration: generation('The `metadata.generation` that this status is about.').optional(),
  conditions: conditions.optional(),
  nodes: object('Nodes of the site.', {
    count: integer('How many there are.', { min: 0, max: 1_000_000 }),
    ready: integer('How many are ready and schedulable.', { min: 0, max: 1_000_000 }),
  }).optional(),
  capacity: resources('Sum of what the nodes have, by resource name.').optional(),
  allocatable: resources(
    'Sum of what pods can have on the nodes that are ready and schedulable, by resource name.',
  ).optional(),
  kubernetesVersion: text('Version of the API server, for example `v1.36.3`.', { maxLength: 64 }).optional(),
  xtreemosVersion: text('Version of the operator that wrote this status.', { maxLength: 64 }).optional(),
  lastSeenTime: timestamp('When the site was last heard of; refreshed about once a minute.').optional(),
});

/** A site: the cluster that the operator runs in, or a peer. */
export const siteDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'Site',
  plural: 'sites',
  singular: 'site',
  shortNames: [],
  categories: ['xtreemos'],
  namespaced: false,
  about:
    'A Site is a Kubernetes cluster that takes part. The local one stands for the cluster that the operator runs in: the operator makes it, its owner edits it. Others are peers. Each site is whole on its own; there is no hub.',
  spec,
  status,
  rules: [
    {
      rule: 'self.metadata.name.size() <= 63',
      message: 'a Site is named in labels, so its name must have at most 63 characters',
    },
  ],
  columns: [
    { name: 'Type', type: 'string', jsonPath: '.spec.type', description: 'Local or Peer.' },
    {
      name: 'Ready',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].status',
      description: 'Whether the site can run work.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Why it can or can not.',
      priority: 1,
    },
    {
      name: 'Isolated',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="NetworkIsolated")].status',
      description: 'Whether NetworkPolicy is enforced.',
    },
    { name: 'Nodes', type: 'integer', jsonPath: '.status.nodes.count', description: 'How many nodes there are.' },
    {
      name: 'Available',
      type: 'integer',
      jsonPath: '.status.nodes.ready',
      description: 'How many nodes are ready and schedulable.',
    },
    { name: 'CPU', type: 'string', jsonPath: '.status.allocatable.cpu', description: 'CPU for pods on those nodes.' },
    {
      name: 'Memory',
      type: 'string',
      jsonPath: '.status.allocatable.memory',
      description: 'Memory for pods on those nodes.',
    },
    {
      name: 'Kubernetes',
      type: 'string',
      jsonPath: '.status.kubernetesVersion',
      description: 'Version of the API server.',
    },
    {
      name: 'XtreemOS',
      type: 'string',
      jsonPath: '.status.xtreemosVersion',
      description: 'Version of the operator.',
      priority: 1,
    },
    { name: 'Address', type: 'string', jsonPath: '.spec.peer.address', description: 'Gateway of a peer.', priority: 1 },
    { name: 'Seen', type: 'date', jsonPath: '.status.lastSeenTime', description: 'When it was last heard of.' },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When the object was made.' },
  ],
  conditions: [siteReady, nodesReady, networkIsolated],
});

/** The desired state of a Site. */
export type SiteSpec = z.infer<typeof spec>;
/** The observed state of a Site. */
export type SiteStatus = z.infer<typeof status>;

/** A Site object. */
export interface Site extends KubeObject {
  spec: SiteSpec;
  status?: SiteStatus | undefined;
}

/** The kind Site, for the runtime. */
export const sites: Kind<Site> = runtimeKind<Site>(siteDefinition);

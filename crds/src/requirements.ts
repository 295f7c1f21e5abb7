/** What jobs say of the nodes they need. */
import type { z } from 'zod';
import { choice, dnsLabel, integer, listAtomic, listMap, listSet, object, quantity, text } from './vocabulary.ts';

/** Static attributes that one request may constrain; selector/overlay/attributes.ts has the limit of the query. */
const constraintsMax = 16;
/** Live predicates that one request may have: each candidate evaluates all of them. */
const predicatesMax = 4;
const expressionMaxLength = 1024;

const attributeName = text('Name of the attribute, for example `cpu.cores`, `arch` or `site.country`.', {
  minLength: 1,
  maxLength: 63,
  pattern: /^[a-z][A-Za-z0-9]*([._/-][A-Za-z0-9]+)*$/,
  patternMeans:
    'start with a lower-case letter; letters and digits with single dots, underscores, slashes or hyphens between them',
});
const attributeValue = text('One value.', { minLength: 1, maxLength: 253 });

const constraint = object(
  'One attribute and what its value must be.',
  {
    attribute: attributeName,
    min: quantity('Least value, for numbers.').optional(),
    max: quantity('Greatest value, for numbers.').optional(),
    in: listSet('Values of which it must have one, for words.', attributeValue, { maxItems: 32 }).optional(),
    notIn: listSet('Values of which it must have none, for words.', attributeValue, { maxItems: 32 }).optional(),
  },
  {
    rules: [
      {
        rule: 'has(self.min) || has(self.max) || has(self.__in__) || has(self.notIn)',
        message: 'a requirement must say min, max, in or notIn',
      },
      {
        rule: '!(has(self.min) || has(self.max)) || !(has(self.__in__) || has(self.notIn))',
        message: 'min and max are for numbers, in and notIn for words: one requirement takes one kind',
      },
    ],
  },
);

/** `requirements` of a GridJob. */
export const requirements = object(
  'What a node must be like. The overlay of selectors finds such nodes; there is no index.',
  {
    static: listMap(
      'What its attributes must be. All must hold. `xos nodes` shows the attributes of nodes.',
      constraint,
      { maxItems: constraintsMax, keys: ['attribute'] },
    ).default([]),
    dynamic: listAtomic(
      'What must hold on the node at the moment of choice: CEL over `free` (resources by the ledger of the node), `live` (measured values) and `node` (attributes).',
      text('A CEL expression that is true or false, for example `live.load1 < 4.0`.', {
        minLength: 1,
        maxLength: expressionMaxLength,
      }),
      { maxItems: predicatesMax },
    ).default([]),
  },
);

/** `rank` of a GridJob. */
export const rank = text(
  'Which of the nodes that match are better: a CEL expression that is a number, over `free`, `live` and `node`; higher is better. Without it, nodes are filled as `placement.spread` says.',
  { minLength: 1, maxLength: expressionMaxLength },
);

/** `placement` of a GridJob. */
export const placement = object('Where it may run, when that matters.', {
  sites: object('Sites by name.', {
    in: listSet('Only these.', dnsLabel('Name of a Site.'), { maxItems: 64 }).optional(),
    notIn: listSet('None of these.', dnsLabel('Name of a Site.'), { maxItems: 64 }).optional(),
  }).optional(),
  spread: choice('How tasks are laid over the nodes that match.', {
    Pack: 'few nodes, each as full as possible.',
    Spread: 'many nodes, each with as few tasks as possible.',
  }).default('Pack'),
});

/** What one task or slot takes of a node. */
export const demand = object('What one takes of a node: kept for it, and its limit for memory and devices.', {
  cpu: quantity('CPU, for example `500m` or `2`.').default('100m'),
  memory: quantity('Memory, for example `1Gi`.').default('128Mi'),
  ephemeralStorage: quantity(
    'Disk space of the node for its temporary files and output, for example `1Gi`.',
  ).optional(),
  devices: listMap(
    'Devices and other extended resources.',
    object('So many of one resource.', {
      resource: text('Name as nodes announce it, for example `example.org/gpu`.', {
        minLength: 3,
        maxLength: 253,
        pattern: /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/,
        patternMeans: 'use domain/name',
      }),
      count: integer('How many.', { min: 1, max: 1024 }),
    }),
    { maxItems: 8, keys: ['resource'] },
  ).default([]),
});

/** What a node must be like. */
export type Requirements = z.infer<typeof requirements>;
/** What one task or slot takes of a node. */
export type Demand = z.infer<typeof demand>;

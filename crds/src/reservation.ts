import type { z } from 'zod';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import { atStart } from './claim.ts';
import { conditions, defineCondition } from './conditions.ts';
import { ownerName, waitingReasons } from './grid-job.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import { demand, placement, rank, requirements } from './requirements.ts';
import { choice, dnsLabel, generation, integer, listMap, listSet, object, text, timestamp } from './vocabulary.ts';

/** Slots of one reservation. */
const slotsMax = 10_000;
/** Windows of a recurring reservation that are held: the present or next one, and the one after. */
export const windowsAhead = 2;
/** Lengths of `every`, milliseconds. */
export const recurrenceMs = { Day: 86_400_000, Week: 604_800_000 } as const;

/** Whether nodes have promised the slots of the window. */
export const reservationHeld = defineCondition(
  'Held',
  'Nodes have promised every slot for the present or next window.',
  {
    AllSlotsHeld: 'Surfaces when nodes have promised every slot; the promise survives restarts.',
    TooFewSlots:
      'Surfaces while nodes can not promise as many slots; nothing is kept meanwhile, and it is tried again. `status.waiting` says why each refused.',
    NothingMatches: 'Surfaces when no node matches the static requirements at all.',
    NotAccepted: 'Surfaces when the member, the virtual organization or the site does not allow it.',
    InvalidExpression:
      'Surfaces when an expression in `requirements.dynamic` or `rank` can not be evaluated; the message names it.',
    SlotsLost: 'Surfaces when nodes that had promised slots are gone; others are looked for.',
    WindowOver: 'Surfaces when the last window has ended.',
  },
);

/** Whether the window is open now. */
export const reservationActive = defineCondition('Active', 'The window is open and jobs may use the slots.', {
  WindowOpen: 'Surfaces while the window is open and every slot is there.',
  BeforeWindow: 'Surfaces before the window begins.',
  NotHeld: 'Surfaces when the window has begun but not every slot is held.',
  WindowOver: 'Surfaces when the last window has ended.',
});

/** Whether it is over. */
export const reservationExpired = defineCondition(
  'Expired',
  'The last window has ended, and the slots are given back.',
  {
    WindowOver: 'Surfaces when the last window has ended.',
    NotOver: 'Surfaces until the last window has ended.',
  },
);

/** The summary of a reservation. */
export const reservationReady = defineCondition('Ready', 'Summary: the slots are promised, or in use.', {
  Held: 'Surfaces when every slot is promised for the present or next window.',
  Pending: 'Surfaces while not every slot is promised; see `Held`.',
  Expired: 'Surfaces when the last window has ended.',
});

const window = object(
  'When.',
  {
    start: timestamp('When it begins. When the reservation is made, if left out.').optional(),
    end: timestamp('When it ends.').optional(),
    durationSeconds: integer('How long it lasts, instead of `end`.', { min: 1, max: 31_536_000 }).optional(),
    recurrence: object('Further windows of the same length.', {
      every: choice('From one start to the next.', { Day: '24 hours.', Week: '7 days.' }),
      until: timestamp('No window begins after this.'),
    }).optional(),
  },
  {
    rules: [
      {
        rule: 'has(self.end) != has(self.durationSeconds)',
        message: 'say when it ends: either end or durationSeconds',
      },
      {
        rule: '!has(self.end) || has(self.start)',
        message: 'an end needs a start: set start, or durationSeconds instead of end',
        fieldPath: '.end',
      },
      {
        rule: '!has(self.end) || !has(self.start) || timestamp(self.end) > timestamp(self.start)',
        message: 'end must be after start',
        fieldPath: '.end',
      },
      {
        rule: '!has(self.recurrence) || has(self.start)',
        message: 'a recurring window needs a start',
        fieldPath: '.recurrence',
      },
      {
        rule: "!has(self.recurrence) || !has(self.start) || (has(self.durationSeconds) ? self.durationSeconds : (timestamp(self.end) - timestamp(self.start)).getSeconds()) <= (self.recurrence.every == 'Day' ? 86400 : 604800)",
        message: 'a recurring window must be over when the next begins',
        fieldPath: '.recurrence',
      },
    ],
  },
);

const fixed = ['slots', 'resources', 'requirements', 'rank', 'placement', 'window', 'atStart'];

const spec = object(
  'What is reserved, and when.',
  {
    owner: ownerName('Who made it. Filled in from the identity of the request; any other value is refused.').optional(),
    slots: integer('How many slots. All or none are promised, over however many nodes.', { min: 1, max: slotsMax }),
    resources: demand,
    requirements: requirements.default({ static: [], dynamic: [] }),
    rank: rank.optional(),
    placement: placement.default({ spread: 'Pack' }),
    window,
    atStart: atStart.default('Preempt'),
    sharedWith: object('Who may use it besides its owner.', {
      groups: listSet(
        'Groups of the virtual organization: who is in one of them may use it.',
        text('Path of a group.', { minLength: 1, maxLength: 128 }),
        { maxItems: 64 },
      ).default([]),
      members: listSet('Members, by user name.', ownerName('User name of a member.'), { maxItems: 256 }).default([]),
    }).default({ groups: [], members: [] }),
  },
  {
    rules: [
      {
        rule: 'has(self.owner) == has(oldSelf.owner) && (!has(self.owner) || self.owner == oldSelf.owner)',
        message: 'owner can not change: make another reservation',
        fieldPath: '.owner',
      },
      ...fixed.map((field) => ({
        rule: `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`,
        message: `${field} can not change, as nodes have promised it: make another reservation`,
        fieldPath: `.${field}`,
      })),
    ],
  },
);

const count = (about: string): z.ZodInt => integer(about, { min: 0, max: slotsMax });

const status = object('What the operator observes. Only the operator writes it.', {
  observedGeneration: generation('The `metadata.generation` that this status is about.').optional(),
  conditions: conditions.optional(),
  state: choice('The state in one word, for lists.', {
    Pending: 'not every slot is promised.',
    Held: 'every slot is promised for the next window.',
    Active: 'the window is open.',
    Expired: 'the last window has ended.',
  }).optional(),
  windows: listMap(
    'The present or next window, and the one after.',
    object('One window.', {
      start: timestamp('When it begins.'),
      end: timestamp('When it ends.'),
      held: count('How many slots are promised for it.'),
    }),
    { maxItems: windowsAhead, keys: ['start'] },
  ).optional(),
  slots: listMap(
    'Where the slots of the present or next window are.',
    object('Slots on one node.', {
      claim: dnsLabel('Name of the Claim.'),
      site: dnsLabel('Site of the node.'),
      node: text('Name of the node.', { minLength: 1, maxLength: 253 }),
      count: count('How many slots.'),
      address: text('Where its selector was reached last, `host:port`.', { minLength: 1, maxLength: 300 }).optional(),
    }),
    { maxItems: 2_048, keys: ['claim'] },
  ).optional(),
  waiting: waitingReasons('Why not every slot is promised, from the nodes that refused.').optional(),
});

/** Slots of nodes for a window of time. */
export const reservationDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'Reservation',
  plural: 'reservations',
  singular: 'reservation',
  shortNames: ['grsv'],
  categories: ['xtreemos', 'all'],
  namespaced: true,
  about:
    'A Reservation keeps slots on nodes for a window of time: all of them or none. The nodes promise them, and promise the same slot to nobody else. Jobs use them by name.',
  spec,
  status,
  rules: [
    {
      rule: 'self.metadata.name.size() <= 63',
      message: 'a Reservation is named by jobs, so its name must have at most 63 characters',
    },
  ],
  columns: [
    { name: 'Owner', type: 'string', jsonPath: '.spec.owner', description: 'Who made it.' },
    { name: 'State', type: 'string', jsonPath: '.status.state', description: 'Where it stands.' },
    { name: 'Slots', type: 'integer', jsonPath: '.spec.slots', description: 'How many slots.' },
    { name: 'Start', type: 'string', jsonPath: '.status.windows[0].start', description: 'When its window begins.' },
    { name: 'End', type: 'string', jsonPath: '.status.windows[0].end', description: 'When its window ends.' },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Held")].reason',
      description: 'Why it is held or not.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When it was made.' },
  ],
  conditions: [reservationReady, reservationHeld, reservationActive, reservationExpired],
});

/** The desired state of a Reservation. */
export type ReservationSpec = z.infer<typeof spec>;
/** The observed state of a Reservation. */
export type ReservationStatus = z.infer<typeof status>;

/** A Reservation object. */
export interface Reservation extends KubeObject {
  spec: ReservationSpec;
  status?: ReservationStatus | undefined;
}

/** The kind Reservation, for the runtime. */
export const reservations: Kind<Reservation> = runtimeKind<Reservation>(reservationDefinition);

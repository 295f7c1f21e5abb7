import type { z } from 'zod';
import { formatTime } from '#runtime/conditions.ts';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import { conditions, defineCondition } from './conditions.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import { choice, dictionary, dnsLabel, object, quantity, text, timestamp } from './vocabulary.ts';

/** Label of a pod that runs under a claim: its node counts the pod as part of what it promised, not on top of it. */
export const claimLabel = 'xtreemos.io/claim';

/**
 * Annotations that the operator writes on the pods of jobs, and the selector of the node counts them by: they outlive the hold that the pod
 * started under, and every restart.
 */
export const podFacts = {
  /** Name of the Claim with mode Reservation that it draws from. */
  reservation: 'xtreemos.io/draws-from',
  /** When it is over at the latest, RFC 3339; `activeDeadlineSeconds` of the pod makes sure of that. */
  until: 'xtreemos.io/until',
  /** `true` when the selector may end it as a reservation begins that needs its place. */
  givesWay: 'xtreemos.io/gives-way',
  /** The site whose job it belongs to, when that is another one: the selector may end it when that site has not renewed its lease. */
  home: 'xtreemos.io/works-for',
} as const;

/** Reasons of the condition `DisruptionTarget` of pods that were chosen to give way: to what. */
export const givesWayTo = { reservation: 'PreemptionByReservation', priority: 'PreemptionByPriority' } as const;
const disruptionTarget = 'DisruptionTarget';

/** As much of a pod as says whether it was chosen to give way. */
interface Disrupted {
  readonly status?:
    | {
        readonly conditions?:
          | readonly { readonly type: string; readonly status: string; readonly reason?: string | undefined }[]
          | undefined;
      }
    | undefined;
}

/** Whether a pod was chosen to give way, by its node or by the operator: it says so itself, before it is deleted. */
export function wasChosenToGiveWay({ status }: Disrupted): boolean {
  const reasons: readonly string[] = Object.values(givesWayTo);
  return (status?.conditions ?? []).some(
    ({ type, status: is, reason = '' }) => type === disruptionTarget && is === 'True' && reasons.includes(reason),
  );
}

/**
 * The strategic merge patch of a pod's status that says so. It is refused when another pod has the name by now.
 * @param now - milliseconds since the Unix epoch.
 */
export function chosenToGiveWay(uid: string, to: keyof typeof givesWayTo, message: string, now: number): object {
  const condition = { type: disruptionTarget, status: 'True', reason: givesWayTo[to], message };
  return { metadata: { uid }, status: { conditions: [{ ...condition, lastTransitionTime: formatTime(now) }] } };
}

const annotationOf = (pod: string, name: string): string => `${pod}.metadata.?annotations[?'${name}'].orValue('')`;

/** CEL that is true for a pod that gives way. @param pod - CEL of the pod. */
export function givesWay(pod: string): string {
  return `${annotationOf(pod, podFacts.givesWay)} == 'true'`;
}

/** CEL that is true for a pod which a selector may end, if it is on its node. @param pod - CEL of the pod. */
export function mayBeCleared(pod: string): string {
  return `${givesWay(pod)} || ${annotationOf(pod, podFacts.home)} != ''`;
}

/** Whether the work under a claim has to go. */
export const claimPreempted = defineCondition(
  'Preempted',
  'A reservation has begun that needs the place: the job manager stops the work and releases the claim.',
  {
    ReservationBegan:
      'Surfaces when a reserved window of the node begins while work that gives way still holds its place.',
  },
);

/** `atStart` of Reservations and of their Claims. */
export const atStart = choice('What becomes of work that gives way (`preemptible`) when the window begins.', {
  Preempt: 'it is ended so early that the place is clear when the window begins, and starts again elsewhere.',
  Drain: 'besides, none is started in the place that would still run then.',
});

const spec = object(
  'What the node promised. It never changes: a different promise is another Claim.',
  {
    nodeName: text('Name of the Node whose resources are promised. Only the selector of that node writes its Claims.', {
      minLength: 1,
      maxLength: 253,
    }),
    site: dnsLabel(
      'Site of the node, when it is another one. Then the promise is the Claim of this name there, and this one only records it at the home of its reservation: the operator writes it.',
    ).optional(),
    owner: text("Who may release it: the job manager's name for the job or reservation.", {
      minLength: 1,
      maxLength: 253,
    }),
    mode: choice('How firm the promise is.', {
      Firm: 'the place is kept for the whole time.',
      Preemptible: 'it gives way when a reservation begins that needs the place.',
      Reservation: 'the place is kept for other Claims that draw from this one.',
    }).default('Firm'),
    atStart: atStart.optional(),
    resources: dictionary(
      'What is promised, by resource name.',
      quantity('How much of the resource, as a Kubernetes quantity.'),
      { maxProperties: 16, keyMaxLength: 63 },
    ),
    startTime: timestamp('From when on.'),
    endTime: timestamp(
      'Until when; without it, until it is released. The selector deletes Claims that are over.',
    ).optional(),
    reservation: dnsLabel(
      'Name of the Claim with mode Reservation, on the same node, that this one draws from.',
    ).optional(),
  },
  {
    rules: [
      { rule: 'self == oldSelf', message: 'a promise does not change: release the Claim and make another' },
      {
        rule: "!has(self.reservation) || self.mode == 'Firm' || self.mode == 'Preemptible'",
        message: 'a reservation can not draw from another',
        fieldPath: '.reservation',
      },
      {
        rule: "!has(self.atStart) || self.mode == 'Reservation'",
        message: 'only a Claim with mode Reservation says what becomes of others at its start',
        fieldPath: '.atStart',
      },
      {
        rule: '!has(self.endTime) || timestamp(self.endTime) > timestamp(self.startTime)',
        message: 'endTime must be after startTime',
        fieldPath: '.endTime',
      },
    ],
  },
);

const status = object('What the selector of the node observes.', { conditions: conditions.optional() });

/** A promise of a node's resources. */
export const claimDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'Claim',
  plural: 'claims',
  singular: 'claim',
  shortNames: ['gclaim'],
  categories: ['xtreemos'],
  namespaced: true,
  about:
    'A Claim records that a node promised some of its resources to a job or reservation of a virtual organization. The selector of the node writes it before it confirms, counts it after every restart, and forgets the promise when it is deleted. It lies in the namespace of the virtual organization.',
  spec,
  status,
  rules: [],
  columns: [
    { name: 'Node', type: 'string', jsonPath: '.spec.nodeName', description: 'The node that promised.' },
    { name: 'Mode', type: 'string', jsonPath: '.spec.mode', description: 'How firm the promise is.' },
    { name: 'CPU', type: 'string', jsonPath: '.spec.resources.cpu', description: 'CPU promised.' },
    { name: 'Memory', type: 'string', jsonPath: '.spec.resources.memory', description: 'Memory promised.' },
    { name: 'Start', type: 'string', jsonPath: '.spec.startTime', description: 'From when on.' },
    { name: 'End', type: 'string', jsonPath: '.spec.endTime', description: 'Until when, if known.' },
    { name: 'Owner', type: 'string', jsonPath: '.spec.owner', description: 'Who may release it.', priority: 1 },
    {
      name: 'Preempted',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Preempted")].status',
      description: 'Whether it has to give way now.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When it was confirmed.' },
  ],
  conditions: [claimPreempted],
  selectableFields: ['.spec.nodeName'],
});

/** What a node promised. */
export type ClaimSpec = z.infer<typeof spec>;
/** What is observed of a promise. */
export type ClaimStatus = z.infer<typeof status>;

/** A Claim object. */
export interface ClaimObject extends KubeObject {
  spec: ClaimSpec;
  status?: ClaimStatus | undefined;
}

/** The kind Claim, for the runtime. */
export const claims: Kind<ClaimObject> = runtimeKind<ClaimObject>(claimDefinition);

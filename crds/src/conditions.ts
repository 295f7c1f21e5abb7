import { choice, generation, listMap, object, text, timestamp } from './vocabulary.ts';

/** A condition type of a kind, with each reason it may carry and when that reason surfaces. Source of code and of the reference. */
export interface ConditionDefinition<T extends string = string, R extends string = string> {
  /** The condition's `type`: an adjective or past participle. */
  readonly type: T;
  /** What True means. */
  readonly about: string;
  /** Each reason by itself, for use in code. */
  readonly reasons: { readonly [K in R]: K };
  /** For each reason, a sentence that starts with "Surfaces when". */
  readonly surfaces: Readonly<Record<R, string>>;
}

/** Declares a condition type and its reasons, so that code, tests and the reference use the same words. */
export function defineCondition<const T extends string, const R extends string>(
  type: T,
  about: string,
  surfaces: Readonly<Record<R, string>>,
): ConditionDefinition<T, R> {
  const reasons = Object.fromEntries(Object.keys(surfaces).map((reason) => [reason, reason]));
  return { type, about, reasons: reasons as { readonly [K in R]: K }, surfaces };
}

/** `metav1.Condition`, with its own limits (apimachinery `meta/v1/types.go`). */
const condition = object('One observation about the object.', {
  type: text('What is observed, for example `Ready`.', {
    maxLength: 316,
    pattern:
      /^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$/,
  }),
  status: choice('Whether it holds.', {
    True: 'it does.',
    False: 'it does not.',
    Unknown: 'it is not known yet, or no longer.',
  }),
  observedGeneration: generation('The `metadata.generation` that this observation is about.').optional(),
  lastTransitionTime: timestamp('When `status` last changed.'),
  reason: text('Why, as one word for programs; the reference of the kind lists them.', {
    minLength: 1,
    maxLength: 1024,
    pattern: /^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/,
  }),
  message: text('Why, as a sentence for people.', { maxLength: 32768 }),
});

/** The `status.conditions` of a kind. */
export const conditions = listMap('The latest observations, one per type.', condition, {
  maxItems: 16,
  keys: ['type'],
});

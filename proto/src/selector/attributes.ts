import { InvalidInputError } from '#common/errors.ts';

/** A static attribute of a node: a finite number, or a word such as `x86_64`. */
export type AttributeValue = number | string;

/** Attributes by name. A node is the point of these values; nothing about it is kept anywhere else. */
export type Attributes = Readonly<Record<string, AttributeValue>>;

/**
 * One static requirement: a closed range of numbers, or a set of words. A range may be open on either side. A node
 * without the attribute matches only `notIn`, as Kubernetes label selectors have it.
 */
export interface Constraint {
  readonly attribute: string;
  readonly min?: number;
  readonly max?: number;
  readonly in?: readonly string[];
  readonly notIn?: readonly string[];
}

/** Limits of what a descriptor or query may carry, so that memory stays flat whatever a peer sends (threat 50). */
export const attributeLimits = { count: 32, nameLength: 63, valueLength: 253, constraints: 32, words: 64 } as const;

const namePattern = /^[a-z][a-zA-Z0-9]*(?:[._/-][a-zA-Z0-9]+)*$/;

/**
 * Refuses attributes a descriptor may not carry.
 * @throws {InvalidInputError} naming the attribute and the limit.
 */
export function checkAttributes(attributes: Attributes, field = 'attributes'): void {
  const names = Object.keys(attributes);
  if (names.length > attributeLimits.count) {
    throw new InvalidInputError(field, `at most ${attributeLimits.count} attributes, not ${names.length}`);
  }
  for (const name of names) {
    checkName(name, field);
    const value = attributes[name];
    if (typeof value === 'number' ? !Number.isFinite(value) : typeof value !== 'string') {
      throw new InvalidInputError(`${field}.${name}`, `must be a finite number or a word, not ${String(value)}`);
    }
    if (typeof value === 'string' && value.length > attributeLimits.valueLength) {
      throw new InvalidInputError(`${field}.${name}`, `at most ${attributeLimits.valueLength} characters`);
    }
  }
}

/**
 * Refuses requirements that are too many, too long or say nothing.
 * @throws {InvalidInputError} naming the requirement.
 */
export function checkConstraints(constraints: readonly Constraint[], field = 'static'): void {
  if (constraints.length > attributeLimits.constraints) {
    throw new InvalidInputError(
      field,
      `at most ${attributeLimits.constraints} requirements, not ${constraints.length}`,
    );
  }
  for (const [index, constraint] of constraints.entries()) {
    const at = `${field}[${index}]`;
    checkName(constraint.attribute, `${at}.attribute`);
    for (const side of ['min', 'max'] as const) {
      const bound = constraint[side];
      if (bound !== undefined && Number.isNaN(bound)) throw new InvalidInputError(`${at}.${side}`, 'must be a number');
    }
    if (constraint.min !== undefined && constraint.max !== undefined && constraint.min > constraint.max) {
      throw new InvalidInputError(`${at}.min`, `must not exceed max (${constraint.max}), not ${constraint.min}`);
    }
    for (const set of ['in', 'notIn'] as const) {
      const words = constraint[set];
      if (words === undefined) continue;
      if (words.length > attributeLimits.words) {
        throw new InvalidInputError(`${at}.${set}`, `at most ${attributeLimits.words} words, not ${words.length}`);
      }
      if (words.some((word) => word.length > attributeLimits.valueLength)) {
        throw new InvalidInputError(`${at}.${set}`, `each word at most ${attributeLimits.valueLength} characters`);
      }
    }
  }
}

/** Whether a node with `attributes` meets every requirement. Numbers meet `in` by their decimal text. */
export function matchesAll(attributes: Attributes, constraints: readonly Constraint[]): boolean {
  for (const constraint of constraints) if (!matches(attributes, constraint)) return false;
  return true;
}

/** Whether a node with `attributes` meets one requirement. */
export function matches(attributes: Attributes, constraint: Constraint): boolean {
  const value = Object.hasOwn(attributes, constraint.attribute) ? attributes[constraint.attribute] : undefined;
  if (constraint.min !== undefined || constraint.max !== undefined) {
    if (typeof value !== 'number') return false;
    if (constraint.min !== undefined && value < constraint.min) return false;
    if (constraint.max !== undefined && value > constraint.max) return false;
  }
  if (constraint.in !== undefined && (value === undefined || !constraint.in.includes(String(value)))) return false;
  return constraint.notIn === undefined || value === undefined || !constraint.notIn.includes(String(value));
}

function checkName(name: string, field: string): void {
  if (name.length > attributeLimits.nameLength || !namePattern.test(name)) {
    throw new InvalidInputError(
      field,
      `${JSON.stringify(name.slice(0, 80))} is no attribute name: use 1 to ${attributeLimits.nameLength} letters and ` +
        'digits, starting with a lower-case letter, with single dots, slashes, underscores or hyphens between',
    );
  }
}

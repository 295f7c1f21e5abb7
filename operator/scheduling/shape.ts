/** What jobs ask nodes for, in the words of the selector. */
import { InvalidInputError } from '#common/errors.ts';
import { wholeUnits } from '#crds/quantity.ts';
import type { Demand, Requirements } from '#crds/requirements.ts';
import { checkConstraints, type Constraint } from '#proto/selector/attributes.ts';
import type { Predicates } from '#proto/selector/predicate.ts';
import { checkResources, type Resources } from '#proto/selector/resources.ts';

/** What one task needs. Jobs of the same shape share queries: their `key` is equal. */
export interface Shape {
  readonly key: string;
  readonly virtualOrganization: string;
  readonly constraints: readonly Constraint[];
  readonly predicates: readonly string[];
  /** CEL that ranks nodes; undefined when `spread` alone decides. */
  readonly rank: string | undefined;
  readonly spread: 'Pack' | 'Spread';
  /** Sites by name; what is left out is not limited. */
  readonly sites: { readonly in?: readonly string[] | undefined; readonly notIn?: readonly string[] | undefined };
  /** What one task takes: `cpu` in millicores, the rest in bytes or units. */
  readonly demand: Resources;
  /** Whether tasks give way when a reservation begins. */
  readonly isPreemptible: boolean;
  /** How long a task can last, milliseconds; undefined without a limit. */
  readonly lastsMs: number | undefined;
  /** Name of the reservation whose slots the tasks run in. */
  readonly reservation: string | undefined;
}

/** The parts of a GridJob or Reservation that make its shape. */
export interface ShapeSource {
  readonly requirements: Requirements;
  readonly rank?: string | undefined;
  readonly placement: {
    readonly spread: 'Pack' | 'Spread';
    readonly sites?: { readonly in?: string[] | undefined; readonly notIn?: string[] | undefined } | undefined;
  };
  readonly resources: Demand;
  readonly preemptible?: boolean | undefined;
  readonly lastsMs?: number | undefined;
  readonly reservation?: string | undefined;
}

/**
 * Translates requirements.
 * @throws {InvalidInputError} naming the field of the spec that can not be asked.
 */
export function shapeOf(virtualOrganization: string, source: ShapeSource, predicates: Predicates): Shape {
  const { requirements, rank, placement } = source;
  const constraints: Constraint[] = requirements.static.map((constraint, index) => {
    const number = (side: 'min' | 'max'): number | undefined => {
      const text = constraint[side];
      return text === undefined ? undefined : amountOf(text, 1, `spec.requirements.static[${index}].${side}`);
    };
    const [min, max] = [number('min'), number('max')];
    return {
      attribute: constraint.attribute,
      ...(min === undefined ? {} : { min }),
      ...(max === undefined ? {} : { max }),
      ...(constraint.in === undefined ? {} : { in: constraint.in }),
      ...(constraint.notIn === undefined ? {} : { notIn: constraint.notIn }),
    };
  });
  checkConstraints(constraints, 'spec.requirements.static');
  predicates.check(requirements.dynamic, 'spec.requirements.dynamic');
  if (rank !== undefined) predicates.checkRank(rank, 'spec.rank');
  const parts = {
    virtualOrganization,
    constraints,
    predicates: requirements.dynamic,
    rank,
    spread: placement.spread,
    sites: placement.sites ?? {},
    demand: demandOf(source.resources),
    isPreemptible: source.preemptible ?? false,
    lastsMs: source.lastsMs,
    reservation: source.reservation,
  };
  return { key: JSON.stringify(parts), ...parts };
}

/**
 * What one task takes of a node, in the units of ledgers.
 * @throws {InvalidInputError} naming the resource whose amount is no whole number in these units.
 */
export function demandOf({ cpu, memory, ephemeralStorage, devices }: Demand): Resources {
  const demand: Record<string, number> = {
    cpu: amountOf(cpu, 1000, 'resources.cpu'),
    memory: amountOf(memory, 1, 'resources.memory'),
  };
  if (ephemeralStorage !== undefined)
    demand['ephemeral-storage'] = amountOf(ephemeralStorage, 1, 'resources.ephemeralStorage');
  for (const { resource, count } of devices) demand[resource] = count;
  checkResources(demand, 'resources');
  return demand;
}

/** Quantities of Kubernetes by resource name, in the units of ledgers. @throws {InvalidInputError} on what is too much to count. */
export function demandOfQuantities(quantities: Readonly<Record<string, string | number>>): Resources {
  return Object.fromEntries(
    Object.entries(quantities).map(([name, text]) => [name, amountOf(text, name === 'cpu' ? 1000 : 1, name)]),
  );
}

/** A quantity as a number of units, `perUnit` to one. Rounded up, so that no less is kept than was asked. */
function amountOf(text: string | number, perUnit: number, field: string): number {
  const amount = wholeUnits(text, perUnit, 'up');
  if (amount > Number.MAX_SAFE_INTEGER) throw new InvalidInputError(field, `${text} is too much`);
  return amount;
}

/** Whether a shape may run at a site. */
export function isSiteWanted({ sites }: Shape, site: string): boolean {
  return sites.in?.includes(site) !== false && sites.notIn?.includes(site) !== true;
}

/** What so many of a demand take. */
export function times(demand: Resources, count: number): Resources {
  return Object.fromEntries(Object.entries(demand).map(([name, amount]) => [name, amount * count]));
}

/** How often a demand fits into what is free. */
export function fits(demand: Resources, free: Resources): number {
  let count = Infinity;
  for (const [name, amount] of Object.entries(demand)) {
    if (amount > 0) count = Math.min(count, Math.floor(Math.max(0, free[name] ?? 0) / amount));
  }
  return count === Infinity ? 0 : count;
}

/** Whether some node could match both: false only when an attribute rules it out. */
export function mayOverlap(a: readonly Constraint[], b: readonly Constraint[]): boolean {
  return a.every((mine) => b.every((theirs) => mine.attribute !== theirs.attribute || !excludes(mine, theirs)));
}

function excludes(a: Constraint, b: Constraint): boolean {
  const isBelow = (lower: Constraint, upper: Constraint): boolean =>
    lower.max !== undefined && upper.min !== undefined && lower.max < upper.min;
  if (isBelow(a, b) || isBelow(b, a)) return true;
  if (a.in === undefined)
    return b.in !== undefined && a.notIn !== undefined && b.in.every((word) => a.notIn?.includes(word));
  if (b.in !== undefined) return !a.in.some((word) => b.in?.includes(word));
  return b.notIn !== undefined && a.in.every((word) => b.notIn?.includes(word));
}

import { InvalidInputError } from '#common/errors.ts';

/** Amounts by resource name, whole numbers: `cpu` in millicores, `memory` and `disk` in bytes, others in units. */
export type Resources = Readonly<Record<string, number>>;

const namesMax = 16;
const namePattern = /^[a-z0-9]([a-zA-Z0-9._/-]{0,61}[a-zA-Z0-9])?$/;

/** @throws {InvalidInputError} unless every amount is a whole number of at least 0 and every name a resource name. */
export function checkResources(resources: Resources, field: string): void {
  const entries = Object.entries(resources);
  if (entries.length > namesMax)
    throw new InvalidInputError(field, `at most ${namesMax} resources, not ${entries.length}`);
  for (const [name, amount] of entries) {
    if (!namePattern.test(name)) {
      throw new InvalidInputError(
        field,
        `${JSON.stringify(name.slice(0, 80))} is no resource name, such as cpu or memory`,
      );
    }
    if (!Number.isSafeInteger(amount) || amount < 0) {
      throw new InvalidInputError(`${field}.${name}`, `must be a whole number of at least 0, not ${amount}`);
    }
  }
}

/** Adds `amount` to `total` in place. */
export function addTo(total: Record<string, number>, amount: Resources): void {
  for (const [name, value] of Object.entries(amount)) total[name] = (total[name] ?? 0) + value;
}

/** As Kubernetes writes them. */
export function quantitiesOf(amounts: Resources): Record<string, string> {
  return Object.fromEntries(
    Object.entries(amounts).map(([name, amount]) => [name, name === 'cpu' ? `${amount}m` : String(amount)]),
  );
}

/** What all of these want together. */
export function sumOf(parts: readonly { readonly demand: Resources }[]): Resources {
  const sum: Record<string, number> = {};
  for (const { demand } of parts) addTo(sum, demand);
  return sum;
}

/** The same with 0 for what is below. */
export function positive(amounts: Resources): Resources {
  return Object.fromEntries(Object.entries(amounts).map(([name, amount]) => [name, Math.max(0, amount)]));
}

/** The larger of two amounts, resource by resource. */
export function larger(a: Resources, b: Resources): Resources {
  const result: Record<string, number> = { ...a };
  for (const [name, value] of Object.entries(b)) result[name] = Math.max(result[name] ?? 0, value);
  return result;
}

/** The smaller of two amounts, resource by resource; what only one of them names is not limited by the other. */
export function smaller(a: Resources, b: Resources): Record<string, number> {
  const result: Record<string, number> = { ...a };
  for (const [name, value] of Object.entries(b)) result[name] = Math.min(result[name] ?? value, value);
  return result;
}

/** What is left of `capacity` after `used`; below 0 where more is used than there is. */
export function minus(capacity: Resources, used: Resources): Record<string, number> {
  const result: Record<string, number> = { ...capacity };
  for (const [name, value] of Object.entries(used)) result[name] = (result[name] ?? 0) - value;
  return result;
}

/** The first resource of which `free` has less than `demand`, as a sentence part; undefined when it fits. */
export function shortage(demand: Resources, free: Resources): string | undefined {
  for (const [name, wanted] of Object.entries(demand)) {
    const there = Math.max(0, free[name] ?? 0);
    if (wanted > there) return `${name}: ${wanted} wanted, ${there} free`;
  }
  return undefined;
}

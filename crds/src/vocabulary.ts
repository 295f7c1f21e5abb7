/**
 * The words that a kind is written in. Each wraps a zod schema and carries what Kubernetes needs besides (list types, CEL rules,
 * formats) as metadata, which `structural.ts` turns into the schema of a CustomResourceDefinition. A description and every bound are
 * required arguments: a field without them doesn't compile, and `check.ts` refuses one that was built by hand.
 */
import { z } from 'zod';

/** One CEL rule of a schema (`x-kubernetes-validations`). A rule that names `oldSelf` is a transition rule. */
export interface Rule {
  /** The CEL expression; true accepts. `self` is the value that the rule stands on. */
  readonly rule: string;
  /** One sentence for a person: what must hold. */
  readonly message: string;
  /** Field that the error names, relative to `self`, for example `.trustDomain`. */
  readonly fieldPath?: string;
  /** Machine-readable cause; the API server's default is `FieldValueInvalid`. */
  readonly reason?: 'FieldValueRequired' | 'FieldValueForbidden' | 'FieldValueInvalid' | 'FieldValueDuplicate';
}

interface TextLimits {
  readonly maxLength: number;
  readonly minLength?: number;
  readonly pattern?: RegExp;
  /** What the pattern means, for zod's own error; the API server shows the pattern. */
  readonly patternMeans?: string;
  readonly rules?: readonly Rule[];
}

/** Key of the metadata that names the field which tells the variants of a union apart. */
export const discriminatorKey = 'x-xtreemos-discriminator';

/** Longest text of a Kubernetes quantity that is accepted: sign, digits, point, exponent or suffix. */
const quantityMaxLength = 32;

/** apimachinery `resource.Quantity`, as controller-gen writes it into CRDs, without the sign: no quantity here is negative. */
const quantityPattern =
  /^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$/;

/** RFC 3339 with an offset; fractions up to nanoseconds. */
const timestampMaxLength = 40;

const withRules = (rules: readonly Rule[] | undefined): { 'x-kubernetes-validations'?: readonly Rule[] } =>
  rules === undefined || rules.length === 0 ? {} : { 'x-kubernetes-validations': rules };

/** A string field of bounded length. */
export function text(about: string, limits: TextLimits): z.ZodString {
  let schema = z.string().max(limits.maxLength);
  if (limits.minLength !== undefined) schema = schema.min(limits.minLength);
  if (limits.pattern !== undefined) schema = schema.regex(limits.pattern, limits.patternMeans ?? 'has the wrong form');
  return schema.meta({ description: about, ...withRules(limits.rules) });
}

/** A DNS label (RFC 1123): lower-case letters, digits and hyphens. At most 63 characters unless told otherwise. */
export function dnsLabel(about: string, limits: { maxLength?: number } = {}): z.ZodString {
  return text(about, {
    minLength: 1,
    maxLength: limits.maxLength ?? 63,
    pattern: /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
    patternMeans: 'use lower-case letters, digits and hyphens',
  });
}

/** A 32-bit whole number within bounds; larger ranges are written as strings (API conventions). */
export function integer(about: string, limits: { min: number; max: number }): z.ZodInt {
  return z.int().min(limits.min).max(limits.max).meta({ description: about, format: 'int32' });
}

/** A 64-bit number that only the system writes, such as `observedGeneration`. */
export function generation(about: string): z.ZodInt {
  return z.int().min(0).max(Number.MAX_SAFE_INTEGER).meta({ description: about, format: 'int64' });
}

/** Yes or no; reads as a fact. For what may get a third answer, use a `choice`. */
export function flag(about: string): z.ZodBoolean {
  return z.boolean().meta({ description: about });
}

/** One of a few words. `values` says for each word what it means; the meanings become part of the description. */
export function choice<K extends string>(
  about: string,
  values: Readonly<Record<K, string>>,
): z.ZodEnum<{ [key in K]: key }> {
  const words = Object.keys(values) as K[];
  const meanings = words.map((word) => `\`${word}\`: ${values[word]}`).join(' ');
  return z.enum(words).meta({ description: `${about} ${meanings}` });
}

/** A Kubernetes quantity (`500m`, `4`, `200Gi`): a string, or a whole number as users write it. Never negative. */
export function quantity(about: string): z.ZodUnion<readonly [z.ZodInt, z.ZodString]> {
  return z
    .union([
      z.int().min(0),
      z.string().max(quantityMaxLength).regex(quantityPattern, 'is not a quantity such as 4 or 200Gi'),
    ])
    .meta({ description: about, 'x-kubernetes-int-or-string': true });
}

/** A moment, RFC 3339. */
export function timestamp(about: string): z.ZodString {
  const moment = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/;
  return z
    .string()
    .max(timestampMaxLength)
    .refine((value) => moment.test(value), 'is not an RFC 3339 time')
    .meta({ description: about, format: 'date-time' });
}

/** An object with named fields; unknown fields are refused by zod and pruned (or refused, when strict) by the API server. */
export function object<S extends z.core.$ZodLooseShape>(
  about: string,
  shape: S,
  options: { rules?: readonly Rule[] } = {},
): z.ZodObject<S, z.core.$strict> {
  return z.strictObject(shape).meta({ description: about, ...withRules(options.rules) });
}

/** The discriminating field of one variant of a `union`. */
export function variant<K extends string>(name: K, about: string): z.ZodLiteral<K> {
  return z.literal(name).meta({ description: about });
}

type Variant = z.ZodObject<z.core.$ZodLooseShape, z.core.$strict>;

/**
 * An object whose fields depend on one of them. In TypeScript a discriminated union; in the CRD one object with all fields, and CEL
 * rules that require what the variant has and forbid what it hasn't (structural schemas know no real unions).
 */
export function union<const D extends string, V extends readonly [Variant, ...Variant[]]>(
  about: string,
  discriminator: D,
  variants: V,
  options: { rules?: readonly Rule[] } = {},
): z.ZodDiscriminatedUnion<V, D> {
  return z
    .discriminatedUnion(discriminator, variants as never)
    .meta({ description: about, [discriminatorKey]: discriminator, ...withRules(options.rules) });
}

/** A list of distinct plain values; server-side apply merges it value by value. */
export function listSet<T extends z.ZodType>(
  about: string,
  item: T,
  limits: { maxItems: number; rules?: readonly Rule[] },
): z.ZodArray<T> {
  return z
    .array(item)
    .max(limits.maxItems)
    .refine((items) => new Set(items).size === items.length, 'has a value twice')
    .meta({ description: about, 'x-kubernetes-list-type': 'set', ...withRules(limits.rules) });
}

/** An ordered list that is replaced as a whole, such as the arguments of a command. The same value may stand in it twice. */
export function listAtomic<T extends z.ZodType>(about: string, item: T, limits: { maxItems: number }): z.ZodArray<T> {
  return z.array(item).max(limits.maxItems).meta({ description: about, 'x-kubernetes-list-type': 'atomic' });
}

/** A list of named objects; server-side apply merges it by the keys. `minItems` is 0 unless told otherwise. */
export function listMap<T extends z.ZodType>(
  about: string,
  item: T,
  limits: {
    maxItems: number;
    minItems?: number;
    keys: readonly [string, ...string[]];
    rules?: readonly Rule[];
  },
): z.ZodArray<T> {
  const keyOf = (value: unknown): string =>
    JSON.stringify(limits.keys.map((key) => (value as Readonly<Record<string, unknown>>)[key]));
  const list = z.array(item).max(limits.maxItems);
  return (limits.minItems === undefined ? list : list.min(limits.minItems))
    .refine(
      (items) => new Set(items.map(keyOf)).size === items.length,
      `has the same ${limits.keys.join(' and ')} twice`,
    )
    .meta({
      description: about,
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': limits.keys,
      ...withRules(limits.rules),
    });
}

/**
 * A map from words to values. The length of keys can't be bounded by a structural schema, so a CEL rule does it; give other rules about
 * keys in `rules`.
 */
export function dictionary<T extends z.ZodType>(
  about: string,
  value: T,
  limits: { maxProperties: number; keyMaxLength: number; rules?: readonly Rule[] },
): z.ZodRecord<z.ZodString, T> {
  const keyRule: Rule = {
    rule: `self.all(key, key.size() >= 1 && key.size() <= ${limits.keyMaxLength})`,
    message: `each key must have 1 to ${limits.keyMaxLength} characters`,
  };
  return z
    .record(z.string().min(1).max(limits.keyMaxLength), value)
    .refine((map) => Object.keys(map).length <= limits.maxProperties, `has more than ${limits.maxProperties} keys`)
    .meta({
      description: about,
      maxProperties: limits.maxProperties,
      'x-kubernetes-map-type': 'granular',
      ...withRules([keyRule, ...(limits.rules ?? [])]),
    });
}

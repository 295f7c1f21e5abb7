import { z } from 'zod';
import { AssertionError } from '#common/errors.ts';
import { apiVersionOf, type KindDefinition } from './kind.ts';
import { discriminatorKey, type Rule } from './vocabulary.ts';

/** A structural schema of apiextensions.k8s.io/v1: what a CustomResourceDefinition may hold. */
export interface StructuralSchema {
  type?: string;
  description?: string;
  format?: string;
  default?: unknown;
  enum?: unknown[];
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  minItems?: number;
  maxItems?: number;
  minProperties?: number;
  maxProperties?: number;
  required?: string[];
  properties?: Record<string, StructuralSchema>;
  additionalProperties?: StructuralSchema;
  items?: StructuralSchema;
  anyOf?: { type: string }[];
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-list-type'?: string;
  'x-kubernetes-list-map-keys'?: string[];
  'x-kubernetes-map-type'?: string;
  'x-kubernetes-validations'?: Rule[];
}

type JsonSchema = Readonly<Record<string, unknown>>;

/** Keywords that mean the same in JSON Schema and in a structural schema. */
const copied = [
  'type',
  'description',
  'format',
  'default',
  'enum',
  'pattern',
  'minLength',
  'maxLength',
  'minimum',
  'maximum',
  'minItems',
  'maxItems',
  'minProperties',
  'maxProperties',
  'x-kubernetes-int-or-string',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-map-type',
  'x-kubernetes-validations',
] as const;

/** Keywords that are turned into something else below. */
const translated = [
  '$schema',
  'const',
  'properties',
  'required',
  'additionalProperties',
  'propertyNames',
  'items',
  'anyOf',
  'oneOf',
  discriminatorKey,
];

/**
 * Turns a zod schema into a structural schema, as users write it (a field with a default isn't required).
 * @throws {AssertionError} for a construct that a CustomResourceDefinition can't hold; the message names its path.
 */
export function structuralSchema(schema: z.ZodType, path = ''): StructuralSchema {
  return convert(z.toJSONSchema(schema, { io: 'input', target: 'draft-7', reused: 'inline' }), path);
}

function convert(json: JsonSchema, path: string): StructuralSchema {
  for (const key of Object.keys(json)) {
    if (!(copied as readonly string[]).includes(key) && !translated.includes(key)) {
      throw new AssertionError(`${path}: a CustomResourceDefinition can not hold the keyword ${key}`);
    }
  }
  const result: Record<string, unknown> = {};
  for (const key of copied) if (json[key] !== undefined) result[key] = json[key];
  if (json.const !== undefined) result.enum = [json.const];
  if (json['x-kubernetes-int-or-string'] === true) return intOrString(json, result);
  const variants = json.oneOf ?? json.anyOf;
  if (variants !== undefined) return mergeVariants(json, variants as JsonSchema[], path);
  if (json.properties !== undefined) {
    const properties = Object.entries(json.properties as Record<string, JsonSchema>);
    result.properties = Object.fromEntries(
      properties.map(([name, value]) => [name, convert(value, `${path}.${name}`)]),
    );
    const required = json.required as string[] | undefined;
    if (required !== undefined && required.length > 0) result.required = required;
  } else if (typeof json.additionalProperties === 'object') {
    result.additionalProperties = convert(json.additionalProperties as JsonSchema, `${path}.*`);
  }
  if (json.items !== undefined) result.items = convert(json.items as JsonSchema, `${path}[]`);
  return result;
}

/** Quantities and the like: the type is left open, and the limits of the text apply when it is a text. */
function intOrString(json: JsonSchema, result: StructuralSchema): StructuralSchema {
  const text = (json.anyOf as JsonSchema[]).find((option) => option.type === 'string') ?? {};
  const limits: StructuralSchema = { anyOf: [{ type: 'integer' }, { type: 'string' }], minimum: 0 };
  if (typeof text.maxLength === 'number') limits.maxLength = text.maxLength;
  if (typeof text.pattern === 'string') limits.pattern = text.pattern;
  return { ...result, ...limits };
}

/** A union becomes one object with the fields of all variants; rules say which belong to which variant. */
function mergeVariants(json: JsonSchema, variants: readonly JsonSchema[], path: string): StructuralSchema {
  const discriminator = json[discriminatorKey];
  if (typeof discriminator !== 'string') {
    throw new AssertionError(
      `${path}: only unions with a discriminator, made by union(), fit a CustomResourceDefinition`,
    );
  }
  const options = variants.map((variant) => {
    const { properties = {}, required = [] } = convert(variant, path);
    const tag = properties[discriminator];
    const name = String(tag?.enum?.[0]);
    return { name, about: tag?.description ?? '', properties, required };
  });
  const names = options.map((option) => option.name);
  const rules: Rule[] = [...((json['x-kubernetes-validations'] as Rule[] | undefined) ?? [])];
  const properties: Record<string, StructuralSchema> = {
    [discriminator]: {
      type: 'string',
      description: `Which variant this is. ${options.map((option) => `\`${option.name}\`: ${option.about}`).join(' ')}`,
      enum: names,
    },
  };
  const fields = new Set(options.flatMap((option) => Object.keys(option.properties)));
  fields.delete(discriminator);
  const required = [discriminator];
  for (const field of fields) {
    const having = options.filter((option) => option.properties[field] !== undefined);
    const first = having[0]?.properties[field];
    if (
      first === undefined ||
      having.some((option) => JSON.stringify(option.properties[field]) !== JSON.stringify(first))
    ) {
      throw new AssertionError(`${path}.${field}: differs between the variants of a union`);
    }
    properties[field] = first;
    const needing = having.filter((option) => option.required.includes(field));
    if (needing.length === options.length) required.push(field);
    else rules.push(...variantRules(discriminator, field, names, having, needing));
  }
  const description = json.description as string;
  return { type: 'object', description, required, properties, 'x-kubernetes-validations': rules };
}

function variantRules(
  discriminator: string,
  field: string,
  names: readonly string[],
  having: readonly { name: string }[],
  needing: readonly { name: string }[],
): Rule[] {
  const quoted = (options: readonly { name: string }[]): string => options.map(({ name }) => `'${name}'`).join(', ');
  const listed = (options: readonly { name: string }[]): string => options.map(({ name }) => name).join(' or ');
  const rules: Rule[] = [];
  if (needing.length > 0) {
    rules.push({
      rule: `!(self.${discriminator} in [${quoted(needing)}]) || has(self.${field})`,
      message: `${field} is required when ${discriminator} is ${listed(needing)}`,
      reason: 'FieldValueRequired',
      fieldPath: `.${field}`,
    });
  }
  if (having.length < names.length) {
    rules.push({
      rule: `self.${discriminator} in [${quoted(having)}] || !has(self.${field})`,
      message: `${field} may only be set when ${discriminator} is ${listed(having)}`,
      reason: 'FieldValueForbidden',
      fieldPath: `.${field}`,
    });
  }
  return rules;
}

/** The schema of a whole object of a kind, as its CustomResourceDefinition holds it. */
export function objectSchema(definition: KindDefinition): StructuralSchema {
  const schema: StructuralSchema = {
    type: 'object',
    description: definition.about,
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string', description: `Group and version of the schema: \`${apiVersionOf(definition)}\`.` },
      kind: { type: 'string', description: `The kind of the object: \`${definition.kind}\`.` },
      metadata: { type: 'object' },
      spec: structuralSchema(definition.spec, 'spec'),
      ...(definition.status === undefined ? {} : { status: structuralSchema(definition.status, 'status') }),
    },
  };
  if (definition.rules.length > 0) schema['x-kubernetes-validations'] = [...definition.rules];
  return schema;
}

/** A CustomResourceDefinition object (apiextensions.k8s.io/v1). */
export interface CustomResourceDefinition {
  apiVersion: 'apiextensions.k8s.io/v1';
  kind: 'CustomResourceDefinition';
  metadata: { name: string };
  spec: {
    group: string;
    scope: 'Cluster' | 'Namespaced';
    names: Record<string, unknown>;
    versions: {
      name: string;
      served: boolean;
      storage: boolean;
      additionalPrinterColumns: unknown[];
      selectableFields?: { jsonPath: string }[];
      subresources: { status?: Record<string, never> };
      schema: { openAPIV3Schema: StructuralSchema };
    }[];
  };
}

/** The CustomResourceDefinition of a kind. */
export function customResourceDefinition(definition: KindDefinition): CustomResourceDefinition {
  const { kind, plural, singular, shortNames, categories, selectableFields = [] } = definition;
  const names: Record<string, unknown> = { kind, listKind: `${kind}List`, plural, singular };
  if (shortNames.length > 0) names.shortNames = shortNames;
  if (categories.length > 0) names.categories = categories;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${definition.group}` },
    spec: {
      group: definition.group,
      scope: definition.namespaced ? 'Namespaced' : 'Cluster',
      names,
      versions: [
        {
          name: definition.version,
          served: true,
          storage: true,
          additionalPrinterColumns: [...definition.columns],
          ...(selectableFields.length === 0
            ? {}
            : { selectableFields: selectableFields.map((jsonPath) => ({ jsonPath })) }),
          subresources: definition.status === undefined ? {} : { status: {} },
          schema: { openAPIV3Schema: objectSchema(definition) },
        },
      ],
    },
  };
}

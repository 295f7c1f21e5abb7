import { z } from 'zod';
import { defineKind, type Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import type { ConditionDefinition } from './conditions.ts';
import type { Rule } from './vocabulary.ts';

/** The API group of every kind of this project. */
export const group = 'xtreemos.io';

/** One column of `kubectl get` (`additionalPrinterColumns`). */
export interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date' | 'boolean';
  readonly jsonPath: string;
  readonly description: string;
  readonly format?: string;
  /** Above 0: shown by `-o wide` only. */
  readonly priority?: number;
}

/** All that is known of one kind. Manifest, JSON schema, reference and types come from it. */
export interface KindDefinition<
  Spec extends z.ZodType = z.ZodType,
  Status extends z.ZodType | undefined = z.ZodType | undefined,
> {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  readonly singular: string;
  readonly shortNames: readonly string[];
  /** Groups of kinds that `kubectl get` knows, for example `xtreemos`. */
  readonly categories: readonly string[];
  /** What the kind is for, in a few sentences; the head of `kubectl explain` and of the reference. */
  readonly about: string;
  readonly spec: Spec;
  /** What is observed; undefined for kinds that are plain records, which have no status subresource then. */
  readonly status: Status;
  /** CEL rules over the whole object, where `self.metadata.name` can be read. */
  readonly rules: readonly Rule[];
  readonly columns: readonly PrinterColumn[];
  readonly conditions: readonly ConditionDefinition[];
  /** Fields that lists and watches may select on besides name and namespace, for example `.spec.nodeName`. */
  readonly selectableFields?: readonly string[];
}

/** Declares a kind; exists so that the types of spec and status are kept. */
export function describeKind<Spec extends z.ZodType, Status extends z.ZodType | undefined>(
  definition: KindDefinition<Spec, Status>,
): KindDefinition<Spec, Status> {
  return definition;
}

/** The kind as the runtime addresses it; `T` is the shape of its objects. */
export function runtimeKind<T extends KubeObject>(definition: KindDefinition): Kind<T> {
  const { group, version, kind, plural, namespaced } = definition;
  return defineKind<T>({ group, version, kind, plural, namespaced });
}

/** `xtreemos.io/v1alpha1`. */
export function apiVersionOf(definition: KindDefinition): string {
  return `${definition.group}/${definition.version}`;
}

/** The schema of a whole object as users write it, for checking manifests without an API server. CEL rules aren't evaluated. */
export function manifestSchema(definition: KindDefinition): z.ZodType {
  const schema = z.strictObject({
    apiVersion: z.literal(apiVersionOf(definition)).meta({ description: 'Group and version of the schema.' }),
    kind: z.literal(definition.kind).meta({ description: 'The kind of the object.' }),
    metadata: z
      .looseObject({ name: z.string().min(1).max(253).meta({ description: 'Name of the object.' }) })
      .meta({ description: 'Standard metadata: name, labels, annotations and so on.' }),
    spec: definition.spec,
  });
  return definition.status === undefined ? schema : schema.extend({ status: definition.status.optional() });
}

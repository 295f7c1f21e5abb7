import type { StructuralSchema } from './structural.ts';

/** Fields of the object that the API server describes and bounds itself. */
const givenByKubernetes = new Set(['.apiVersion', '.kind', '.metadata']);
/** The one reference into another namespace: a Volume names its FileSystem, whose owner lists who may (`allowedVirtualOrganizations`). */
const authorisedReferences = new Set(['.spec.fileSystem.namespace']);

/**
 * Walks a schema and tells what is unbounded, undocumented or against the API's conventions. An empty answer means: every string, list,
 * map and number has a limit, every field a description, every list a merge strategy, no field names a foreign namespace (threat 57),
 * there are no floats and no `phase`.
 * @returns one line per problem, each starting with the path of the field.
 */
export function findSchemaProblems(schema: StructuralSchema, path = ''): string[] {
  const problems: string[] = [];
  const report = (problem: string): void => void problems.push(`${path === '' ? '.' : path}: ${problem}`);
  if (givenByKubernetes.has(path)) return problems;
  checkDescription(schema, report);
  checkName(path, report);
  checkBounds(schema, report);
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    problems.push(...findSchemaProblems(field, `${path}.${name}`));
  }
  for (const name of schema.required ?? []) {
    if (schema.properties?.[name] === undefined) report(`requires ${name}, which it does not have`);
  }
  if (schema.items !== undefined) problems.push(...findSchemaProblems(schema.items, `${path}[]`));
  if (schema.additionalProperties !== undefined) {
    problems.push(...findSchemaProblems(schema.additionalProperties, `${path}.*`));
  }
  return problems;
}

type Report = (problem: string) => void;

function checkDescription(schema: StructuralSchema, report: Report): void {
  const description = schema.description ?? '';
  if (description === '') report('has no description');
  else if (!description.endsWith('.')) report('has a description that does not end with a full stop');
  for (const rule of schema['x-kubernetes-validations'] ?? []) {
    if (rule.message.trim() === '') report(`has a rule without a message: ${rule.rule}`);
  }
}

function checkName(path: string, report: Report): void {
  const name = path.slice(path.lastIndexOf('.') + 1);
  if (/namespaces?$/i.test(name) && !authorisedReferences.has(path))
    report('names a namespace: references stay inside their own');
  if (name === 'phase') report('is a phase: use conditions');
}

function checkBounds(schema: StructuralSchema, report: Report): void {
  if (schema['x-kubernetes-int-or-string'] === true) {
    if (schema.maxLength === undefined) report('is a text without maxLength');
    if (schema.pattern === undefined) report('is a number or text without a pattern');
    return;
  }
  switch (schema.type) {
    case 'string':
      if (schema.maxLength === undefined && schema.enum === undefined) report('is a text without maxLength');
      break;
    case 'integer':
      if (schema.minimum === undefined || schema.maximum === undefined)
        report('is a number without minimum and maximum');
      if (schema.format !== 'int32' && schema.format !== 'int64') report('is a number without format int32 or int64');
      break;
    case 'array':
      if (schema.maxItems === undefined) report('is a list without maxItems');
      if (schema.items === undefined) report('is a list without a type of items');
      if (schema['x-kubernetes-list-type'] === undefined) report('is a list without x-kubernetes-list-type');
      break;
    case 'object':
      if (schema.additionalProperties !== undefined && schema.maxProperties === undefined) {
        report('is a map without maxProperties');
      }
      if (schema.additionalProperties === undefined && Object.keys(schema.properties ?? {}).length === 0)
        report('is an object without fields');
      break;
    case 'boolean':
      break;
    default:
      report(`has the type ${schema.type ?? 'any'}, which is not allowed`);
  }
}

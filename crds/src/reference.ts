import { apiVersionOf, type KindDefinition } from './kind.ts';
import { objectSchema, type StructuralSchema } from './structural.ts';

/** The reference page of a kind, in markdown. `sample` is a small manifest, as YAML. */
export function referencePage(definition: KindDefinition, sample: string): string {
  const schema = objectSchema(definition);
  const parts = [
    `# ${definition.kind}`,
    definition.about,
    factsTable(definition),
    `A small one:\n\n\`\`\`yaml\n${sample.trim()}\n\`\`\``,
    section('Spec', schema.properties?.spec),
    section('Status', schema.properties?.status),
    rulesSection(schema),
    conditionsSection(definition),
    columnsSection(definition),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** The index of the reference. */
export function referenceIndex(definitions: readonly KindDefinition[]): string {
  const rows = definitions.map(
    (definition) => `| [${definition.kind}](${pageName(definition)}) | ${scopeOf(definition)} | ${definition.about} |`,
  );
  return `# Reference\n\nEvery kind of the API group \`xtreemos.io\`.\n\n| kind | scope | what it is for |\n| --- | --- | --- |\n${rows.join('\n')}\n`;
}

/** File name of the page of a kind. */
export function pageName(definition: KindDefinition): string {
  return `${definition.singular}.md`;
}

function scopeOf(definition: KindDefinition): string {
  return definition.namespaced ? 'namespace' : 'cluster';
}

function factsTable(definition: KindDefinition): string {
  const names = [definition.plural, definition.singular, ...definition.shortNames].map((name) => `\`${name}\``);
  return [
    '| | |',
    '| --- | --- |',
    `| apiVersion | \`${apiVersionOf(definition)}\` |`,
    `| scope | ${scopeOf(definition)} |`,
    `| names in kubectl | ${names.join(', ')} |`,
    `| categories | ${definition.categories.map((name) => `\`${name}\``).join(', ')} |`,
  ].join('\n');
}

function section(title: string, schema: StructuralSchema | undefined): string {
  if (schema === undefined) return `## ${title}\n\nNone.`;
  const rows = fieldRows(schema, title.toLowerCase());
  return [
    `## ${title}`,
    '',
    schema.description ?? '',
    '',
    '| field | type | limits | meaning |',
    '| --- | --- | --- | --- |',
    ...rows,
  ].join('\n');
}

function fieldRows(schema: StructuralSchema, path: string): string[] {
  const rows: string[] = [];
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const fieldPath = `${path}.${name}`;
    const facts = [schema.required?.includes(name) === true ? 'required' : '', ...limitsOf(field)];
    rows.push(
      `| \`${fieldPath}\` | ${typeOf(field)} | ${cell(facts.filter((fact) => fact !== '').join(', '))} | ${cell(meaningOf(field))} |`,
    );
    rows.push(...fieldRows(field, fieldPath));
    if (field.items !== undefined) rows.push(...fieldRows(field.items, `${fieldPath}[]`));
    if (field.additionalProperties !== undefined) rows.push(...fieldRows(field.additionalProperties, `${fieldPath}.*`));
  }
  return rows;
}

/** A field's description; for a list or map of plain words also what each word means. */
function meaningOf(schema: StructuralSchema): string {
  const inner = schema.items ?? schema.additionalProperties;
  const words = inner?.enum === undefined ? '' : ` ${inner.description ?? ''}`;
  return `${schema.description ?? ''}${words}`;
}

/** How a field's type is called for people. */
function typeOf(schema: StructuralSchema): string {
  if (schema['x-kubernetes-int-or-string'] === true) return 'quantity';
  if (schema.format === 'date-time') return 'time';
  if (schema.items !== undefined) return `list of ${typeOf(schema.items)}`;
  if (schema.additionalProperties !== undefined) return `map to ${typeOf(schema.additionalProperties)}`;
  return schema.type ?? 'any';
}

/** Limits of a field and, for lists and maps, of what they hold. */
function limitsOf(schema: StructuralSchema): string[] {
  const limits: string[] = [];
  if (schema.default !== undefined) limits.push(`default \`${JSON.stringify(schema.default)}\``);
  if (schema.enum !== undefined) limits.push(`one of ${schema.enum.map((word) => `\`${String(word)}\``).join(', ')}`);
  const isQuantity = schema['x-kubernetes-int-or-string'] === true;
  if (schema.minimum !== undefined && schema.maximum !== undefined)
    limits.push(`${schema.minimum} to ${schema.maximum}`);
  if (schema.maxLength !== undefined && !isQuantity && schema.format === undefined) {
    limits.push(`${schema.minLength ?? 0} to ${schema.maxLength} characters`);
  }
  if (schema.pattern !== undefined && !isQuantity) limits.push(`matches \`${schema.pattern}\``);
  if (schema.maxItems !== undefined) limits.push(`at most ${schema.maxItems}`);
  if (schema.maxProperties !== undefined) limits.push(`at most ${schema.maxProperties} keys`);
  const keys = schema['x-kubernetes-list-map-keys'];
  if (keys !== undefined) limits.push(`unique by \`${keys.join('`, `')}\``);
  const inner = schema.items ?? schema.additionalProperties;
  if (inner !== undefined && inner.properties === undefined)
    limits.push(...limitsOf(inner).map((limit) => `each ${limit}`));
  return limits;
}

function rulesSection(schema: StructuralSchema): string {
  const rows = ruleRows(schema, '');
  return [
    '## Rules',
    '',
    'What the API server checks besides types and limits.',
    '',
    '| at | what must hold |',
    '| --- | --- |',
  ]
    .concat(rows)
    .join('\n');
}

function ruleRows(schema: StructuralSchema, path: string): string[] {
  const rows = (schema['x-kubernetes-validations'] ?? []).map(
    (rule) => `| ${path === '' ? 'the object' : `\`${path}\``} | ${cell(rule.message)} |`,
  );
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    rows.push(...ruleRows(field, path === '' ? name : `${path}.${name}`));
  }
  if (schema.items !== undefined) rows.push(...ruleRows(schema.items, `${path}[]`));
  if (schema.additionalProperties !== undefined) rows.push(...ruleRows(schema.additionalProperties, `${path}.*`));
  return rows;
}

function conditionsSection(definition: KindDefinition): string {
  const parts = definition.conditions.map((condition) => {
    const reasons = Object.entries(condition.surfaces).map(([reason, when]) => `| \`${reason}\` | ${cell(when)} |`);
    return [`### ${condition.type}`, '', condition.about, '', '| reason | when |', '| --- | --- |', ...reasons].join(
      '\n',
    );
  });
  return ['## Conditions', ...(parts.length === 0 ? ['None.'] : parts)].join('\n\n');
}

function columnsSection(definition: KindDefinition): string {
  const rows = definition.columns.map(
    (column) =>
      `| ${column.name} | ${cell(column.description)}${(column.priority ?? 0) > 0 ? ' With `-o wide`.' : ''} |`,
  );
  return ['## Columns of `kubectl get`', '', '| column | meaning |', '| --- | --- |', ...rows].join('\n');
}

/** Text inside a table cell: a bar would end it. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

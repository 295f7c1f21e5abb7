import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import YAML from 'yaml';
import { kinds } from './kinds.ts';
import { pageName, referenceIndex, referencePage } from './reference.ts';
import { customResourceDefinition, objectSchema, type StructuralSchema } from './structural.ts';

const root = path.resolve(import.meta.dirname, '../..');

function pathsOf(schema: StructuralSchema | undefined, at: string): string[] {
  const fields = Object.entries(schema?.properties ?? {});
  return [
    ...fields.flatMap(([name, field]) => [`${at}.${name}`, ...pathsOf(field, `${at}.${name}`)]),
    ...(schema?.items === undefined ? [] : pathsOf(schema.items, `${at}[]`)),
  ];
}

describe.each(kinds.map((kind) => [kind.kind, kind] as const))('the reference of %s', (_, kind) => {
  const page = referencePage(kind, 'kind: sample');
  const schema = objectSchema(kind);

  test('has every field, rule, reason and column', () => {
    const { spec, status } = schema.properties ?? {};
    for (const field of [...pathsOf(spec, 'spec'), ...pathsOf(status, 'status')])
      expect(page).toContain(`\`${field}\``);
    for (const { message } of schema['x-kubernetes-validations'] ?? []) expect(page).toContain(message);
    for (const condition of kind.conditions) {
      for (const reason of Object.keys(condition.surfaces)) expect(page).toContain(`| \`${reason}\` |`);
    }
    for (const column of kind.columns) expect(page).toContain(`| ${column.name} |`);
  });

  test('has tables whose rows have as many cells as their head', () => {
    const tables = page.split('\n\n').filter((block) => block.startsWith('|'));
    expect(tables.length).toBeGreaterThan(kind.status === undefined ? 3 : 4);
    for (const table of tables) {
      const widths = table
        .trim()
        .split('\n')
        .map((row) => row.replaceAll('\\|', '').split('|').length);
      expect([...new Set(widths)]).toHaveLength(1);
    }
  });

  test('is linked from the index', () => {
    expect(referenceIndex(kinds)).toContain(`(${pageName(kind)})`);
  });

  test('belongs to a manifest that is up to date', () => {
    const definition = customResourceDefinition(kind);
    const file = path.join(root, `crds/manifests/${definition.metadata.name}.yaml`);
    expect(YAML.parse(readFileSync(file, 'utf8'))).toEqual(JSON.parse(JSON.stringify(definition)));
  });
});

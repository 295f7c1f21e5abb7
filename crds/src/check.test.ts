import { describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import { findSchemaProblems } from './check.ts';
import { kinds } from './kinds.ts';
import { objectSchema, structuralSchema, type StructuralSchema } from './structural.ts';
import { dictionary, integer, listMap, listSet, object, quantity, text, timestamp } from './vocabulary.ts';

test.each(kinds.map((kind) => [kind.kind, kind] as const))(
  'every field of %s is bounded, documented and within the conventions',
  (_, kind) => {
    expect(findSchemaProblems(objectSchema(kind))).toEqual([]);
  },
);

test.each(kinds.map((kind) => [kind.kind, kind] as const))(
  'every condition and reason of %s says when it surfaces',
  (_, kind) => {
    expect(kind.conditions.length > 0).toBe(kind.status !== undefined);
    for (const condition of kind.conditions) {
      expect(condition.type).toMatch(/^[A-Z][A-Za-z]+$/);
      for (const [reason, when] of Object.entries(condition.surfaces)) {
        expect(reason).toMatch(/^[A-Z][A-Za-z]+$/);
        expect(when).toMatch(/^Surfaces .*\.$/s);
      }
    }
  },
);

const field = (schema: z.ZodType): StructuralSchema =>
  structuralSchema(z.strictObject({ field: schema }).meta({ description: 'Holds a field.' }));

describe('findSchemaProblems', () => {
  test.each<[string, z.ZodType, string]>([
    ['a text without a limit', z.string().meta({ description: 'Text.' }), 'is a text without maxLength'],
    ['a field without a description', z.string().max(3), 'has no description'],
    ['a description that is no sentence', text('Text', { maxLength: 3 }), 'does not end with a full stop'],
    [
      'a list without a limit',
      z.array(text('Text.', { maxLength: 3 })).meta({ description: 'List.', 'x-kubernetes-list-type': 'set' }),
      'is a list without maxItems',
    ],
    [
      'a list without a merge strategy',
      z
        .array(text('Text.', { maxLength: 3 }))
        .max(3)
        .meta({ description: 'List.' }),
      'is a list without x-kubernetes-list-type',
    ],
    [
      'a map without a limit',
      z.record(z.string(), text('Text.', { maxLength: 3 })).meta({ description: 'Map.' }),
      'is a map without maxProperties',
    ],
    ['a float', z.number().min(0).max(1).meta({ description: 'Number.' }), 'has the type number'],
    ['a number of unknown width', z.int().min(0).max(1).meta({ description: 'N.' }), 'without format int32 or int64'],
    ['anything goes', z.unknown().meta({ description: 'Any.' }), 'has the type any'],
    ['an object without fields', z.strictObject({}).meta({ description: 'Empty.' }), 'is an object without fields'],
    [
      'an unbounded text inside a list',
      listMap('List.', object('Item.', { name: z.string().meta({ description: 'Name.' }) }), {
        maxItems: 2,
        keys: ['name'],
      }),
      '.field[].name: is a text without maxLength',
    ],
    [
      'an undocumented value of a map',
      dictionary('Map.', z.string().max(2), { maxProperties: 2, keyMaxLength: 3 }),
      '.field.*: has no description',
    ],
  ])('finds %s', (_, schema, problem) => {
    expect(findSchemaProblems(field(schema)).join('\n')).toContain(problem);
  });

  test.each(['namespace', 'secretNamespace', 'namespaces'])('refuses a field called %s', (name) => {
    const schema = structuralSchema(object('O.', { [name]: text('A name.', { maxLength: 63 }) }));
    expect(findSchemaProblems(schema)).toEqual([`.${name}: names a namespace: references stay inside their own`]);
  });

  test('refuses a phase', () => {
    const schema = structuralSchema(object('O.', { phase: text('Phase.', { maxLength: 63 }) }));
    expect(findSchemaProblems(schema)).toEqual(['.phase: is a phase: use conditions']);
  });

  test('finds a required field that does not exist', () => {
    const schema: StructuralSchema = {
      type: 'object',
      description: 'O.',
      properties: { a: { type: 'boolean', description: 'A.' } },
      required: ['b'],
    };
    expect(findSchemaProblems(schema)).toEqual(['.: requires b, which it does not have']);
  });

  test('is content with every word of the vocabulary', () => {
    const schema = object('O.', {
      text: text('T.', { maxLength: 3 }),
      integer: integer('I.', { min: 0, max: 3 }),
      quantity: quantity('Q.'),
      timestamp: timestamp('T.'),
      set: listSet('S.', text('T.', { maxLength: 3 }), { maxItems: 3 }),
      map: dictionary('M.', quantity('Q.'), { maxProperties: 3, keyMaxLength: 3 }),
    });
    expect(findSchemaProblems(structuralSchema(schema))).toEqual([]);
  });
});

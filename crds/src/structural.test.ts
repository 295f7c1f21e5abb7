import { describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import { structuralSchema } from './structural.ts';
import { integer, object, quantity, text, union, variant } from './vocabulary.ts';

const shape = union('A shape.', 'type', [
  object('A circle.', {
    type: variant('Circle', 'round.'),
    radius: integer('Radius.', { min: 1, max: 9 }),
    note: text('Note.', { maxLength: 9 }).optional(),
  }),
  object('A square.', {
    type: variant('Square', 'four sides.'),
    side: integer('Side.', { min: 1, max: 9 }),
    note: text('Note.', { maxLength: 9 }).optional(),
  }),
]);

describe('structuralSchema', () => {
  test('a field with a default is not required and keeps its description', () => {
    const schema = structuralSchema(object('O.', { a: integer('A.', { min: 0, max: 5 }).default(3) }));
    expect(schema).toEqual({
      type: 'object',
      description: 'O.',
      properties: { a: { type: 'integer', format: 'int32', description: 'A.', default: 3, minimum: 0, maximum: 5 } },
    });
  });

  test('a quantity may be a number or a text with a pattern', () => {
    expect(structuralSchema(quantity('Q.'))).toMatchObject({
      'x-kubernetes-int-or-string': true,
      anyOf: [{ type: 'integer' }, { type: 'string' }],
      maxLength: 32,
    });
  });

  test('a union has the fields of all variants and requires the discriminator only', () => {
    const schema = structuralSchema(shape);
    expect(Object.keys(schema.properties ?? {})).toEqual(['type', 'radius', 'note', 'side']);
    expect(schema.required).toEqual(['type']);
    expect(schema.properties?.type?.enum).toEqual(['Circle', 'Square']);
    expect(schema.properties?.type?.description).toContain('`Square`: four sides.');
  });

  test('a union requires and forbids by rules that name the field', () => {
    expect(structuralSchema(shape)['x-kubernetes-validations']).toEqual([
      {
        rule: "!(self.type in ['Circle']) || has(self.radius)",
        message: 'radius is required when type is Circle',
        reason: 'FieldValueRequired',
        fieldPath: '.radius',
      },
      {
        rule: "self.type in ['Circle'] || !has(self.radius)",
        message: 'radius may only be set when type is Circle',
        reason: 'FieldValueForbidden',
        fieldPath: '.radius',
      },
      expect.objectContaining({ message: 'side is required when type is Square' }),
      expect.objectContaining({ message: 'side may only be set when type is Square' }),
    ]);
  });

  test.each<[string, z.ZodType, string]>([
    ['a union without a discriminator', z.union([z.string(), z.int()]), 'only unions with a discriminator'],
    [
      'a field that differs between variants',
      union('U.', 'type', [
        object('A.', { type: variant('A', 'a.'), x: integer('X.', { min: 0, max: 1 }) }),
        object('B.', { type: variant('B', 'b.'), x: text('X.', { maxLength: 1 }) }),
      ]),
      'spec.x: differs between the variants',
    ],
    ['a keyword that CRDs lack', z.string().meta({ examples: ['a'] }), 'can not hold the keyword examples'],
  ])('refuses %s', (_, schema, message) => {
    expect(() => structuralSchema(schema, 'spec')).toThrow(message);
  });
});

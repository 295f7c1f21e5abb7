import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { renderSchema } from './generate.ts';

test('the generated schema is that of the .proto file', () => {
  const root = path.join(import.meta.dirname, '../../..');
  expect(readFileSync(path.join(import.meta.dirname, 'generated/schema.ts'), 'utf8')).toBe(renderSchema(root));
});

import { z } from 'zod';
import { Refusal } from './refusal.ts';

/** The body of a request in its shape. @throws {Refusal} that names the field. */
export function readBody<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw new Refusal(
    'InvalidRequest',
    z
      .prettifyError(result.error)
      .replaceAll(/\s*\n\s*/g, ' ')
      .slice(0, 500),
  );
}

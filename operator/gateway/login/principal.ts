import { z } from 'zod';
import type { Principal } from '#common/identity/ids.ts';
import { principalFields } from '#crds/organization.ts';
import { Refusal } from '../refusal.ts';

const schema = z.object(principalFields);

/**
 * Someone as memberships name them. Subjects of Kubernetes itself, such as `system:masters`, never take part, whoever asserts them (threat 41).
 * @throws {Refusal} when the issuer calls them by what no membership can hold.
 */
export function principalOf(issuer: string, subject: string): Principal {
  if (subject.toLowerCase().startsWith('system:')) {
    throw new Refusal(
      'LoginRefused',
      'Users whose names start with system: belong to Kubernetes itself and can not log in.',
      { reason: 'SystemSubject' },
    );
  }
  const read = schema.safeParse({ issuer, subject });
  if (read.success) return { issuer: read.data.issuer, subject: read.data.subject };
  throw new Refusal(
    'LoginRefused',
    'The name that the issuer gives you can not be that of a member: it must be printable ASCII of at most 255 characters.',
    {
      reason: 'SubjectInvalid',
    },
  );
}

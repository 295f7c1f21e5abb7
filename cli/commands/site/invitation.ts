import { InvalidInputError } from '#common/errors.ts';
import { type InvitationText, invitationText } from '#common/identity/gateway-api.ts';

/** What an invitation begins with; the number is the version of its form. */
export const invitationPrefix = 'xos-site-1.';

/** Reads an invitation. @throws {InvalidInputError} */
export function readInvitation(text: string): InvitationText {
  const trimmed = text.trim();
  const fail = (problem: string): InvalidInputError =>
    new InvalidInputError('FILE', `${problem}: give what xos site invite printed at the other site`);
  if (!trimmed.startsWith(invitationPrefix)) throw fail(`does not begin with ${invitationPrefix}`);
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(trimmed.slice(invitationPrefix.length), 'base64url').toString());
  } catch {
    throw fail('is damaged');
  }
  const result = invitationText.safeParse(value);
  if (!result.success) throw fail(`is not understood (${result.error.issues[0]?.path.join('.') ?? ''})`);
  return result.data;
}

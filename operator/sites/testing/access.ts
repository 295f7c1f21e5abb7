import type { MemberAccess } from '#operator/gateway/member-access.ts';
import { Refusal } from '#operator/gateway/refusal.ts';

const refusal = new Refusal('Forbidden', 'Nobody is a member here.');

/** A site without members. */
export const nobody: MemberAccess = {
  refusal: () => refusal,
  credentials: async () => Promise.reject(refusal),
  onChange: () => () => undefined,
};

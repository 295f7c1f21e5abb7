/** Whether a destructive act may be carried out: pure. */
import { isSamePrincipal } from '#common/identity/ids.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { formatTime } from '#runtime/conditions.ts';

/** A principal that owns the virtual organization. */
export type Administrator = VirtualOrganization['spec']['administrators'][number];

/** Who asked and who approved; both are user names that admission pinned to the request that wrote them. */
export interface ActRequest {
  readonly requestedBy?: string | undefined;
  readonly approvedBy?: string | undefined;
}

/** Finds the administrator that a user name of Kubernetes stands for, if any. */
export type ResolveAdministrator = (userName: string) => Administrator | undefined;

/** What governance says to a request. */
export type Verdict =
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'waiting'; readonly message: string; readonly remainingMs: number }
  | { readonly kind: 'granted' };

/** What a decision rests on. */
export interface GovernanceFacts {
  readonly resolve: ResolveAdministrator;
  /** When the spec as it stands was first seen, milliseconds since the Unix epoch. */
  readonly since: number;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
}

/**
 * Decides on a request. A second administrator must be another principal than the first, not only another user name. The delay counts from the
 * last change of the spec, so that a request which was withdrawn and made again, unseen, waits in full.
 */
export function decideRequest(vo: VirtualOrganization, request: ActRequest, facts: GovernanceFacts): Verdict {
  const { secondAdministrator, delaySeconds } = vo.spec.governance;
  if (secondAdministrator) {
    const problem = missingApproval(request, facts.resolve);
    if (problem !== undefined) return { kind: 'refused', message: problem };
  }
  const due = facts.since + delaySeconds * 1000;
  if (facts.now >= due) return { kind: 'granted' };
  const message = `It will be carried out after ${formatTime(due)}; every change of the spec starts the delay anew, and any administrator may withdraw it.`;
  return { kind: 'waiting', message, remainingMs: due - facts.now };
}

/** What is missing for the consent of two administrators. */
function missingApproval({ requestedBy, approvedBy }: ActRequest, resolve: ResolveAdministrator): string | undefined {
  if (requestedBy === undefined) return 'Nobody is recorded as having asked for it: an administrator asks again.';
  const first = resolve(requestedBy);
  if (first === undefined) {
    return `${requestedBy}, who asked for it, is no administrator: an administrator withdraws it and asks again.`;
  }
  if (approvedBy === undefined) return 'A second administrator must approve it: set approvedBy to your user name.';
  const second = resolve(approvedBy);
  if (second === undefined) {
    return `${approvedBy}, who approved it, is no administrator: another administrator approves.`;
  }
  if (isSamePrincipal(first, second)) {
    return 'The same person asked and approved, under two names: another administrator approves.';
  }
  return undefined;
}

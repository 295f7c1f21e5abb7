/** What administrators decided on a member, as records of the audit log. */
import type { AuditRecord } from '#common/audit.ts';
import { membershipReady, type VOMembership } from '#crds/vo-membership.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { Stored } from '#runtime/types.ts';
import { sentences, type SpecChange } from '../decisions.ts';

type State = VOMembership['spec']['state'];

/** The state that was decided before, by the reason that the status tells; undefined when that has several causes. */
function stateBefore({ status }: VOMembership): State | undefined {
  const { reasons } = membershipReady;
  const reason = findCondition(status?.conditions, membershipReady.type)?.reason;
  if (reason === reasons.Requested) return 'Requested';
  if (reason === reasons.Suspended) return 'Suspended';
  if (reason === reasons.Banned) return 'Banned';
  if (reason === undefined || reason === reasons.Expired || reason === reasons.DuplicatePrincipal) return undefined;
  return 'Active';
}

/** What a change of the state is called. */
const verbs: Readonly<Record<State, string>> = {
  Requested: 'membership.request',
  Active: 'membership.approve',
  Suspended: 'membership.suspend',
  Banned: 'membership.ban',
};

function verbOf(before: State | undefined, now: State): string {
  if (before === undefined || before === now) return 'membership.change';
  return before === 'Suspended' && now === 'Active' ? 'membership.resume' : verbs[now];
}

/** What the spec says now, in a line. */
function summaryOf({ principal, state, roles, groups, capabilities, expirationTime }: VOMembership['spec']): string {
  const list = (items: readonly string[]): string => (items.length === 0 ? 'none' : items.join(', '));
  const parts = [
    `${principal.subject} of ${principal.issuer} is ${state}`,
    `roles ${list(roles)}`,
    `groups ${list(groups.map(({ name }) => name))}`,
    `capabilities ${list(capabilities)}`,
    `ends ${expirationTime ?? 'never'}`,
  ];
  return `${parts.join('; ')}.`;
}

/** The decision that a change of the spec is. */
export function decisionOn(membership: Stored<VOMembership>, { actor, isNew }: SpecChange): AuditRecord {
  const { metadata, spec } = membership;
  return {
    who: actor.who,
    what: isNew ? 'membership.create' : verbOf(stateBefore(membership), spec.state),
    on: { VOMembership: `${metadata.namespace ?? ''}/${metadata.name}` },
    outcome: 'Allowed',
    why: spec.state,
    message: sentences(summaryOf(spec), actor.note),
    policy: 'vo/administrators',
  };
}

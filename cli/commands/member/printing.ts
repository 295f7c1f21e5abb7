import type { VOMembership } from '#crds/vo-membership.ts';
import { conditionOf } from '../../api/waiting.ts';
import type { Column } from '../../output/table.ts';
import type { Printing } from '../../output/print.ts';
import { formatAge } from '../../output/times.ts';

/** The state in force, and that which is wanted where it differs. A wanted Active that expired stays Expired. */
export function stateText({ spec, status }: VOMembership): string {
  const inForce = status?.state;
  if (inForce === undefined || inForce === spec.state || inForce === 'Expired') return inForce ?? spec.state;
  return `${inForce} → ${spec.state}`;
}

/** How memberships are printed; the columns are those of `kubectl get vom`. */
export function memberPrinting(nowMs: number, isOfMany = false): Printing<VOMembership> {
  const columns: Column<VOMembership>[] = [
    ...(isOfMany
      ? [{ name: 'vo', value: ({ metadata }: VOMembership) => metadata.namespace?.replace(/^vo-/, '') }]
      : []),
    { name: 'name', value: ({ metadata }) => metadata.name },
    { name: 'state', value: stateText },
    { name: 'user', value: ({ status }) => status?.userName },
    { name: 'subject', value: ({ spec }) => spec.principal.subject },
    { name: 'ready', value: (member) => conditionOf(member, 'Ready')?.status },
    { name: 'reason', value: (member) => conditionOf(member, 'Ready')?.reason },
    { name: 'issuer', isWide: true, value: ({ spec }) => spec.principal.issuer },
    { name: 'uid', isWide: true, value: ({ status }) => status?.uid },
    { name: 'roles', isWide: true, value: ({ spec }) => spec.roles.join(',') },
    { name: 'groups', isWide: true, value: ({ spec }) => spec.groups.map(({ name }) => name).join(',') },
    { name: 'expires', isWide: true, value: ({ spec }) => spec.expirationTime },
    { name: 'age', value: ({ metadata }) => formatAge(metadata.creationTimestamp, nowMs) },
  ];
  return { resource: 'vomembership.xtreemos.io', columns };
}

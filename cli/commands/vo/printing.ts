import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Column } from '../../output/table.ts';
import type { Printing } from '../../output/print.ts';
import { conditionOf } from '../../api/waiting.ts';
import { formatAge } from '../../output/times.ts';

/** What users see of a state: that in force, and that which is wanted where it differs. */
export function stateText({ spec, status }: VirtualOrganization): string {
  const inForce = status?.state;
  return inForce === undefined || inForce === spec.state ? spec.state : `${inForce} → ${spec.state}`;
}

/** How virtual organizations are printed; the columns are those of `kubectl get vo`. */
export function voPrinting(nowMs: number): Printing<VirtualOrganization> {
  const columns: Column<VirtualOrganization>[] = [
    { name: 'name', value: ({ metadata }) => metadata.name },
    { name: 'state', value: stateText },
    { name: 'ready', value: (vo) => conditionOf(vo, 'Ready')?.status },
    { name: 'reason', value: (vo) => conditionOf(vo, 'Ready')?.reason },
    { name: 'members', value: ({ status }) => status?.members?.active },
    { name: 'requests', value: ({ status }) => status?.members?.requested },
    { name: 'enrolment', isWide: true, value: ({ spec }) => spec.enrolment.mode },
    { name: 'home', isWide: true, value: ({ spec }) => spec.homeSite },
    { name: 'epoch', isWide: true, value: ({ status }) => status?.epoch },
    { name: 'age', value: ({ metadata }) => formatAge(metadata.creationTimestamp, nowMs) },
  ];
  return { resource: 'virtualorganization.xtreemos.io', columns };
}

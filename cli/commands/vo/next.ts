import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { conditionOf } from '../../api/waiting.ts';

/** What to do next, each a sentence with a line to type. Pure. */
export function nextSteps(vo: VirtualOrganization, program: string): string[] {
  const { name } = vo.metadata;
  const { status, spec } = vo;
  const isAsked = spec.dissolution !== undefined && status?.state !== 'Dissolved';
  if (spec.state === 'Dissolved' || status?.state === 'Dissolved') return [];
  if (isAsked) {
    const dissolved = conditionOf(vo, 'Dissolved');
    if (dissolved?.reason === 'AwaitingApproval') {
      return [
        `Another administrator approves it: ${program} vo dissolve ${name} --approve`,
        `Or it is withdrawn: ${program} vo dissolve ${name} --withdraw`,
      ];
    }
    return [`See how far it is: ${program} vo show ${name}`];
  }
  const steps: string[] = [];
  const ready = conditionOf(vo, 'Ready');
  const isRefused = ready?.reason === 'NotAccepted' || conditionOf(vo, 'Accepted')?.status === 'False';
  if (isRefused || ready === undefined) {
    steps.push(`The owner of the site lets it in: ${program} vo approve ${name}`);
  }
  if (spec.state === 'Forming') steps.push(`Members can work once it is Operational: ${program} vo activate ${name}`);
  if (spec.state === 'Frozen') steps.push(`Go on with: ${program} vo resume ${name}`);
  const requested = status?.members?.requested ?? 0;
  if (requested > 0) {
    steps.push(`${requested} wait for approval: ${program} member list --vo ${name} --state Requested`);
  }
  if ((status?.members?.active ?? 0) === 0 && spec.enrolment.mode === 'Closed') {
    steps.push(`Invite members: ${program} member invite NAME --vo ${name} --principal ISSUER#SUBJECT`);
  }
  return steps;
}

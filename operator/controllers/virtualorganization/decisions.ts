/** What was decided on a virtual organization, as records of the audit log. Each says nothing that is not in its objects. */
import type { AuditRecord } from '#common/audit.ts';
import { accepted, dissolved } from '#crds/tenancy.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { findCondition } from '#runtime/conditions.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';
import { type Actor, type Decisions, sentences, unknownActor, whoChanged } from '../decisions.ts';
import { changedConditions } from '../status-change.ts';
import type { ActRequest, Administrator } from './governance.ts';
import type { SiteWord } from './site-word.ts';
import type { TenancyStatus } from './status.ts';

/** What the status says is done by the operator itself. */
const operator: Actor = { who: 'operator' };

const verbs: Readonly<Record<VirtualOrganization['spec']['state'], string>> = {
  Forming: 'organization.form',
  Operational: 'organization.operate',
  Frozen: 'organization.freeze',
  Dissolved: 'organization.dissolve',
};

/** Records what administrators, the owner of the site and governance decided on virtual organizations. */
export class OrganizationDecisions {
  private readonly decisions: Decisions;
  private readonly site: SiteWord;

  constructor(decisions: Decisions, site: SiteWord) {
    this.decisions = decisions;
    this.site = site;
  }

  /** The spec bears a decision that the status does not show yet. */
  onSpec(vo: Stored<VirtualOrganization>): void {
    const { spec, status } = vo;
    const change = this.decisions.changeOf(vo, status?.observedGeneration);
    if (change === undefined) return;
    const { actor, isNew } = change;
    const isSameState = !isNew && status?.state === spec.state;
    // To delete it counts as a change too; who did is not in the object.
    if (isSameState && isDeleting(vo)) return;
    const what = isNew ? 'organization.form' : isSameState ? 'organization.change' : verbs[spec.state];
    const decision = { what, outcome: 'Allowed', why: spec.state, policy: 'vo/administrators' } as const;
    this.decisions.recordChange({ ...complete(vo, actor, decision), message: actor.note });
  }

  /** The status is about to tell of a decision. */
  onStatus(vo: Stored<VirtualOrganization>, after: TenancyStatus): void {
    for (const { type, status, reason, message } of changedConditions(vo.status, after)) {
      const outcome = status === 'True' ? 'Allowed' : 'Refused';
      if (type === accepted.type) {
        const policy = 'site/acceptedVirtualOrganizations';
        this.record(vo, this.whoseWord(vo), { what: 'organization.accept', outcome, why: reason, message, policy });
      } else if (type === dissolved.type) this.onDissolution(vo, reason, message);
    }
  }

  /** An administrator is to be removed. @param refusal - why that is not done yet. */
  onRemoval(vo: Stored<VirtualOrganization>, administrator: Administrator, refusal: string | undefined): void {
    // One look for each change of the spec: a refusal is not in the status.
    if (refusal !== undefined && vo.metadata.generation === vo.status?.observedGeneration) return;
    const { issuer, subject, removal = {} } = administrator;
    this.record(vo, askedBy(removal), {
      what: 'administrator.remove',
      on: { Administrator: `${subject} of ${issuer}` },
      outcome: refusal === undefined ? 'Allowed' : 'Refused',
      why: refusal === undefined ? 'Granted' : 'NotGranted',
      message: sentences(approval(removal), refusal),
      policy: 'vo/governance',
      id: `${issuer} ${subject}`,
    });
  }

  private onDissolution(vo: Stored<VirtualOrganization>, reason: string, message: string): void {
    const { reasons } = dissolved;
    const request = vo.spec.dissolution;
    const asked = request === undefined ? whoChanged(vo, vo.status?.observedGeneration) : askedBy(request);
    const what = 'organization.dissolve';
    const policy = 'vo/governance';
    if (reason === reasons.AwaitingApproval || reason === reasons.Delayed) {
      const told = sentences(approval(request ?? {}), message);
      this.record(vo, asked, { what, outcome: 'Refused', why: reason, message: told, policy });
    } else if (reason === reasons.Revoking && isDeleting(vo)) {
      const note = 'The object was deleted; who did is in the audit log of the API server only.';
      this.record(vo, { who: unknownActor, note }, { what, outcome: 'Allowed', why: 'Deleted', policy: 'site/rbac' });
    } else if (reason === reasons.Revoking) {
      this.record(vo, asked, { what, outcome: 'Allowed', why: 'Granted', message: approval(request ?? {}), policy });
    } else if (reason === reasons.Complete) {
      this.record(vo, operator, { what, outcome: 'Allowed', why: reason, message, policy });
    } else if (reason === reasons.NotRequested && wasRequested(vo)) {
      const actor = whoChanged(vo, vo.status?.observedGeneration);
      this.record(vo, actor, { what, outcome: 'Refused', why: 'Withdrawn', policy });
    }
  }

  /** Whoever forms one meets the word of the site; later it is the word that changes. */
  private whoseWord(vo: Stored<VirtualOrganization>): Actor {
    const isFirst = findCondition(vo.status?.conditions, accepted.type) === undefined;
    return isFirst ? whoChanged(vo, vo.status?.observedGeneration) : this.site.changedBy(vo.metadata.name);
  }

  private record(vo: Stored<VirtualOrganization>, actor: Actor, record: Omit<AuditRecord, 'who'>): void {
    this.decisions.record(vo, complete(vo, actor, record), actor.note);
  }
}

function complete(vo: Stored<VirtualOrganization>, actor: Actor, record: Omit<AuditRecord, 'who'>): AuditRecord {
  return { ...record, who: actor.who, on: { VirtualOrganization: vo.metadata.name, ...record.on } };
}

/** Admission pins the name in a request to whoever wrote it. */
function askedBy({ requestedBy }: ActRequest): Actor {
  return requestedBy === undefined ? { who: unknownActor, note: 'The request names nobody.' } : { who: requestedBy };
}

function approval({ requestedBy, approvedBy }: ActRequest): string | undefined {
  if (requestedBy === undefined) return undefined;
  return `Asked for by ${requestedBy}${approvedBy === undefined ? '' : `, approved by ${approvedBy}`}.`;
}

function wasRequested({ status }: VirtualOrganization): boolean {
  const before = findCondition(status?.conditions, dissolved.type);
  return before !== undefined && before.reason !== dissolved.reasons.NotRequested;
}

/** The status of a VirtualOrganization as far as this site's tenancy goes, computed in one pure place. */
import type { ConditionDefinition } from '#crds/conditions.ts';
import { accepted, dissolved, tenancyReady } from '#crds/tenancy.ts';
import {
  type VirtualOrganization,
  virtualOrganizationReady,
  type VirtualOrganizationStatus,
} from '#crds/virtual-organization.ts';
import { findCondition, formatTime, updateConditions } from '#runtime/conditions.ts';
import type { Condition } from '#runtime/types.ts';
import type { Acceptance } from './acceptance.ts';
import { isSame } from '../status-change.ts';

/** One observation: a reason of a condition, with its sentence. */
export interface Finding<R extends string = string> {
  readonly status: Condition['status'];
  readonly reason: R;
  readonly message: string;
}

/** Everything that the status is computed from. */
export interface StatusScope {
  readonly vo: VirtualOrganization;
  readonly localSite: string;
  readonly acceptance: Acceptance;
  readonly tenancy: Finding<keyof typeof tenancyReady.reasons>;
  readonly dissolution: Finding<keyof typeof dissolved.reasons>;
  /** What a dissolution that has begun noted; undefined before. */
  readonly progress: VirtualOrganizationStatus['dissolution'];
  readonly receipt: string | undefined;
  /** When the spec as it stands was first seen, milliseconds since the Unix epoch. */
  readonly since: number;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
}

/** The part of the status that the tenancy controller owns. */
export type TenancyStatus = Pick<
  VirtualOrganizationStatus,
  'observedGeneration' | 'generationTime' | 'conditions' | 'state' | 'sites' | 'dissolution'
>;

/** Condition types that this controller owns; others leave theirs beside them. */
export const ownConditions: readonly string[] = [accepted, tenancyReady, dissolved, virtualOrganizationReady].map(
  ({ type }) => type,
);

/** What the owned part should be. Equal to the one before unless something changed. */
export function computeStatus(scope: StatusScope): TenancyStatus {
  const { vo, localSite, acceptance, tenancy, dissolution, progress, receipt } = scope;
  const state = stateInForce(scope);
  const isAccepted: Finding = {
    status: acceptance.isAccepted ? 'True' : 'False',
    reason: acceptance.reason,
    message: acceptance.message,
  };
  const findings: readonly (readonly [ConditionDefinition, Finding])[] = [
    [accepted, isAccepted],
    [tenancyReady, tenancy],
    [dissolved, dissolution],
    [virtualOrganizationReady, summarize(scope, state)],
  ];
  const observedGeneration = vo.metadata.generation;
  return {
    ...(observedGeneration === undefined ? {} : { observedGeneration }),
    generationTime: formatTime(scope.since),
    conditions: updateConditions(
      vo.status?.conditions,
      findings.map(([{ type }, finding]) => ({ type, ...finding, observedGeneration })),
      scope.now,
    ),
    state,
    sites: [
      {
        name: localSite,
        accepted: acceptance.isAccepted,
        state: acceptance.isAccepted || state === 'Dissolved' ? state : acceptance.reason,
        ...(receipt === undefined ? {} : { receipt }),
      },
    ],
    ...(progress === undefined ? {} : { dissolution: progress }),
  };
}

function stateInForce({ vo, dissolution, progress }: StatusScope): NonNullable<TenancyStatus['state']> {
  if (dissolution.reason === dissolved.reasons.Complete) return 'Dissolved';
  return progress !== undefined || vo.spec.state === 'Dissolved' ? 'Frozen' : vo.spec.state;
}

/** Ready, and if not what to look at first. */
function summarize(scope: StatusScope, state: TenancyStatus['state']): Finding {
  const { acceptance, tenancy, dissolution, progress } = scope;
  const reasons = virtualOrganizationReady.reasons;
  const no = (reason: string, message: string): Finding => ({ status: 'False', reason, message });
  if (state === 'Dissolved') return no(reasons.Dissolved, dissolution.message);
  if (progress !== undefined) return no(reasons.Dissolving, `It is being dissolved. ${dissolution.message}`);
  if (!acceptance.isAccepted) return no(reasons.NotAccepted, acceptance.message);
  if (tenancy.status !== 'True') return no(reasons.NotSetUp, tenancy.message);
  if (state === 'Forming') {
    return no(
      reasons.Forming,
      'It is Forming: set spec.state to Operational when its members and groups are as wanted.',
    );
  }
  if (state === 'Frozen') {
    return no(reasons.Frozen, 'It is Frozen: nothing new starts. Set spec.state to Operational to go on.');
  }
  return { status: 'True', reason: reasons.Operational, message: 'Members can log in and work here.' };
}

/** Whether there is anything to write: the owned part differs from what was read. */
export function isStatusChanged(vo: VirtualOrganization, after: TenancyStatus, localSite: string): boolean {
  return !isSame(ownPart(vo.status, localSite), after);
}

function ownPart(status: VirtualOrganizationStatus | undefined, localSite: string): TenancyStatus {
  const { observedGeneration, generationTime, state, dissolution } = status ?? {};
  return {
    observedGeneration,
    generationTime,
    conditions: ownConditions.flatMap((type) => findCondition(status?.conditions, type) ?? []),
    state,
    sites: (status?.sites ?? []).filter(({ name }) => name === localSite),
    dissolution,
  };
}

/** Who occupies a node, and when. Pure. */
import type { Span } from '#proto/selector/contract.ts';
import { addTo, minus, positive, sumOf, type Resources } from '#proto/selector/resources.ts';
import { overlaps, peakUse, type Booking } from './calendar.ts';
import type { Claim } from './store.ts';

/** A pod bound to this node, whoever made it. */
export interface BoundPod {
  readonly uid: string;
  readonly demand: Resources;
  /** The claim that it names; its promise covers the pod when both are of one virtual organization. */
  readonly claim?: string;
  /** The virtual organization whose namespace it is in. */
  readonly virtualOrganization?: string;
  /** The reservation that it draws from, when the hold it started under is no longer known. */
  readonly reservation?: string;
  /** When it is over at the latest, wall-clock milliseconds: somebody makes sure of that. */
  readonly endMs?: number;
  /** Whether it may be ended when a reservation begins that needs its place. */
  readonly givesWay?: boolean;
  /** How long it has to end, milliseconds. */
  readonly graceMs?: number;
  /** Whether it was asked to end already. */
  readonly isLeaving?: boolean;
}

/** A promise as far as it occupies the node. */
export interface Promised {
  readonly claim: Claim;
  /** Whether it is in memory only. */
  readonly isHeld: boolean;
  /** The most that pods have used under it at once. */
  readonly used: Resources;
}

/** Something on the node's calendar, with the pods that it stands for. */
export interface Occupant extends Booking {
  readonly isPreemptible: boolean;
  /** Whether work that gives way is not even started when it would still run then. */
  readonly isDraining: boolean;
  readonly claim: Claim | undefined;
  readonly isHeld: boolean;
  readonly pods: readonly BoundPod[];
}

/** The calendar of a node: bound pods and promises, each counted once. Built anew for each look. */
export class Occupancy {
  readonly occupants: readonly Occupant[];
  /** The pods under each promise. */
  readonly covered: ReadonlyMap<string, readonly BoundPod[]>;
  /** What is drawn from each reservation. */
  private readonly drawn = new Map<string, Booking[]>();
  private readonly promises: ReadonlyMap<string, Promised>;

  /** @param now - wall clock, milliseconds. Promises and pods come in the order in which they were made. */
  constructor(promises: ReadonlyMap<string, Promised>, pods: readonly BoundPod[], now: number) {
    this.promises = promises;
    const covered = new Map<string, BoundPod[]>();
    const alone: BoundPod[] = [];
    const cover = (id: string, pod: BoundPod): void => void covered.set(id, [...(covered.get(id) ?? []), pod]);
    for (const pod of pods) {
      const named = this.coveringOf(pod);
      const reservation = this.reservationOf(named?.reservation ?? pod.reservation, pod.virtualOrganization);
      if (named !== undefined) cover(named.id, pod);
      if (reservation !== undefined) {
        cover(reservation, pod);
        if (named === undefined) this.draw(reservation, { span: spanOf(pod, now), demand: pod.demand });
      } else if (named === undefined) alone.push(pod);
    }
    this.covered = covered;
    this.occupants = [
      ...alone.map((pod) => ({
        ...{ span: spanOf(pod, now), demand: pod.demand, isPreemptible: pod.givesWay ?? false, isDraining: false },
        ...{ claim: undefined, isHeld: false, pods: [pod] },
      })),
      ...[...promises.values()].flatMap((promised) => this.occupantsOf(promised, now)),
    ];
  }

  /** The claim whose promise covers a pod: the one that it names, when that is of its own virtual organization. */
  coveringOf({ claim, virtualOrganization }: BoundPod): Claim | undefined {
    const named = claim === undefined ? undefined : this.promises.get(claim)?.claim;
    return named?.virtualOrganization === virtualOrganization ? named : undefined;
  }

  /** The most that is used at one moment of a span by those who count. */
  peak(span: Span, counts: (occupant: Occupant) => boolean): Resources {
    return peakUse(this.occupants.filter(counts), span);
  }

  /** The most that is drawn from a reservation at one moment of a span. */
  peakDrawn(reservation: string, span: Span): Resources {
    return peakUse(this.drawn.get(reservation) ?? [], span);
  }

  private occupantsOf({ claim, isHeld, used }: Promised, now: number): Occupant[] {
    const own = this.covered.get(claim.id) ?? [];
    // Of a hold that is what its pods have now, and what none of them has taken up yet.
    const rest = isHeld ? positive(minus(claim.demand, used)) : positive(minus(claim.demand, sumOf(own)));
    const reservation = this.reservationOf(claim.reservation, claim.virtualOrganization);
    if (reservation !== undefined) {
      this.draw(reservation, { span: claim.span, demand: sumOf([{ demand: rest }, ...own]) });
      return [];
    }
    // A claim that is over counts as long as its pods or its record are there.
    const isOver = claim.span.endMs <= now && !isHeld;
    const span = isOver ? { startMs: claim.span.startMs, endMs: Infinity } : claim.span;
    const { isPreemptible, isDraining } = claim;
    const parts = isHeld
      ? [{ demand: rest, pods: [] }, ...own.map((pod) => ({ demand: pod.demand, pods: [pod] }))]
      : [{ demand: sumOf([{ demand: rest }, ...own]), pods: own }];
    return parts.map((part) => ({ ...part, span, isPreemptible, isDraining, claim, isHeld }));
  }

  private reservationOf(id: string | undefined, virtualOrganization: string | undefined): string | undefined {
    const found = id === undefined ? undefined : this.promises.get(id)?.claim;
    return found?.isReservation === true && found.virtualOrganization === virtualOrganization ? id : undefined;
  }

  private draw(reservation: string, booking: Booking): void {
    this.drawn.set(reservation, [...(this.drawn.get(reservation) ?? []), booking]);
  }
}

/** Whether all that it stands for was asked to end. */
export function isLeaving({ pods }: Occupant): boolean {
  return pods.length > 0 && pods.every((pod) => pod.isLeaving === true);
}

/** Who has to leave a node, and when to look again. */
export interface Leaving {
  /** Pods to end now. */
  readonly pods: readonly BoundPod[];
  /** Claims whose place is needed now. */
  readonly claims: readonly Claim[];
  /** When the next has to be told, wall-clock milliseconds; Infinity when none is known. */
  readonly nextAt: number;
}

/** Between the end of the last pod that gives way and the start of a window: what the kubelet needs to notice and tell. */
const marginMs = 3_000;
/** Windows that begin later than this are looked at later: no pod that gives way has more time to end. */
const lookAheadMs = 300_000;

/**
 * Which of the work that gives way has to leave, so that what begins has its place in time: no more of it than is needed, the newest first,
 * each so early that it can end in its own time. What leaves already isn't counted, so that no more is sent away for its slowness.
 */
export function leavingOf(occupancy: Occupancy, allocatable: Resources, now: number): Leaving {
  const staying = occupancy.occupants.filter((one) => !isLeaving(one));
  const moments = staying
    .filter(({ isPreemptible, span }) => !isPreemptible && span.startMs > now && span.startMs <= now + lookAheadMs)
    .map(({ span }) => span.startMs);
  const gone = new Set<Occupant>();
  const [pods, claims]: [BoundPod[], Claim[]] = [[], []];
  let nextAt = Infinity;
  for (const moment of [now, ...new Set(moments)].sort((a, b) => a - b)) {
    const there = staying.filter((one) => !gone.has(one) && overlaps(one.span, { startMs: moment, endMs: moment + 1 }));
    const left = minus(allocatable, sumOf(there));
    for (const one of there.filter(({ isPreemptible }) => isPreemptible).reverse()) {
      if (!Object.values(left).some((amount) => amount < 0)) break;
      const helps = Object.entries(one.demand).some(([name, amount]) => amount > 0 && (left[name] ?? 0) < 0);
      if (!helps) continue;
      addTo(left, one.demand);
      gone.add(one);
      const graceMs = Math.max(0, ...one.pods.map((pod) => pod.graceMs ?? 0));
      const at = moment === now ? now : moment - graceMs - marginMs;
      if (at > now) nextAt = Math.min(nextAt, at);
      else {
        pods.push(...one.pods.filter((pod) => pod.isLeaving !== true));
        if (one.claim !== undefined) claims.push(one.claim);
      }
    }
  }
  return { pods, claims, nextAt };
}

function spanOf({ endMs = Infinity }: BoundPod, now: number): Span {
  // Beyond its time it counts as long as it is there.
  return { startMs: -Infinity, endMs: endMs > now ? endMs : Infinity };
}

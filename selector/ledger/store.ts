import type { HoldRequest, Span } from '#proto/selector/contract.ts';

/** A promise of resources that outlives the process; on Kubernetes a `Claim` object. */
export interface Claim extends Omit<HoldRequest, 'ttlMs' | 'span' | 'isPreemptible' | 'isReservation' | 'isDraining'> {
  readonly span: Span;
  /** Gives way to reservations: counted only against other work of the moment. */
  readonly isPreemptible: boolean;
  readonly isReservation: boolean;
  /** Work that gives way is not even started when it would still run when this begins. */
  readonly isDraining: boolean;
}

/** Where claims are kept. Each call has taken effect durably when its promise resolves. */
export interface ClaimStore {
  list(): Promise<readonly Claim[]>;
  /** Writes a claim. A rejection leaves open whether it was written. */
  put(claim: Claim): Promise<void>;
  /** Removes a claim; removing what isn't there succeeds. */
  remove(claim: Claim): Promise<void>;
  /** Says, for people and job managers to see, that a claim has to give way to a reservation. */
  markPreempted(claim: Claim): Promise<void>;
}

/** Keeps claims in memory: for tests, and for a selector run without anything durable beside it. */
export class MemoryClaimStore implements ClaimStore {
  private readonly claims = new Map<string, Claim>();

  /** Claims that were marked, by id. */
  readonly preempted = new Set<string>();

  /** What is kept now. */
  get all(): readonly Claim[] {
    return [...this.claims.values()];
  }

  async list(): Promise<readonly Claim[]> {
    return this.all;
  }

  async put(claim: Claim): Promise<void> {
    this.claims.set(claim.id, claim);
  }

  async remove({ id }: Claim): Promise<void> {
    this.claims.delete(id);
  }

  async markPreempted({ id }: Claim): Promise<void> {
    this.preempted.add(id);
  }
}

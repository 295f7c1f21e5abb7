import type { Span } from './calendar.ts';
import type { Resources } from './resources.ts';

/** A promise of resources that outlives the process; on Kubernetes a `Claim` object. */
export interface Claim {
  readonly id: string;
  /** Who may confirm and release it: the job manager's name for the job or reservation. */
  readonly owner: string;
  readonly virtualOrganization: string;
  readonly demand: Resources;
  readonly span: Span;
  /** Gives way to reservations: counted only against other work of the moment. */
  readonly isPreemptible: boolean;
  /** The reservation on this node that it draws from, instead of from what is free. */
  readonly reservation?: string;
  /** Whether it is a reservation: others may draw from it. */
  readonly isReservation: boolean;
}

/** Where claims are kept. Each call has taken effect durably when its promise resolves. */
export interface ClaimStore {
  list(): Promise<readonly Claim[]>;
  /** Writes a claim. A rejection leaves open whether it was written. */
  put(claim: Claim): Promise<void>;
  /** Removes a claim; removing what isn't there succeeds. */
  remove(id: string): Promise<void>;
}

/** Keeps claims in memory: for tests, and for a selector run without anything durable beside it. */
export class MemoryClaimStore implements ClaimStore {
  private readonly claims = new Map<string, Claim>();

  async list(): Promise<readonly Claim[]> {
    return [...this.claims.values()];
  }

  async put(claim: Claim): Promise<void> {
    this.claims.set(claim.id, claim);
  }

  async remove(id: string): Promise<void> {
    this.claims.delete(id);
  }
}

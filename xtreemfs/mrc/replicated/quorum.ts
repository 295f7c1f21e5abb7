/**
 * What the processes of one replicated MRC share: who leads, and a log of everything that was acknowledged. Behind it is
 * etcd (`etcd-quorum.ts`); tests put one in memory here. See docs/adr/0200-several-mrcs-share-a-log-in-etcd.md.
 */

/** Who leads, as all of them see it. */
export interface Leader {
  /** UUID of the MRC. */
  readonly uuid: string;
  /** `host:port` under which it is reached. */
  readonly address: string;
  /** Shown by members that fetch the whole database: who can read this could read the log, too. */
  readonly token: string;
}

/** What a member says of itself. */
export interface Member {
  readonly uuid: string;
  /** Every record up to this one is in the member's own database, on its disk. */
  readonly durable: number;
}

/** The shared state at one moment. */
export interface QuorumState {
  /** Names the installation's history: a database that belongs to another one must not be continued. */
  readonly history: string | undefined;
  readonly leader: Leader | undefined;
  /** Number of the first record that is still in the log; undefined when it is empty. */
  readonly first: number | undefined;
  readonly members: readonly Member[];
}

/** One record of the log. */
export interface LoggedRecord {
  readonly number: number;
  readonly bytes: Buffer;
}

/** Thrown when another process leads, or may: nothing more can be acknowledged in this term. */
export class DeposedError extends Error {
  override readonly name = 'DeposedError';
}

/** A time of leadership. Every write of it fails once the term is over, whatever the clocks say. */
export interface Term {
  /** Prolongs the term by its whole length from the moment of the call on. @throws {DeposedError} */
  renew(): Promise<void>;
  /** Resolves when a majority has the record. Repeating it is harmless. @throws {DeposedError} */
  append(number: number, bytes: Buffer): Promise<void>;
  /** Forgets the records up to `through`. @throws {DeposedError} */
  trim(through: number): Promise<void>;
  /** Ends the term at once. */
  resign(): Promise<void>;
}

/** See the head of this file. Reads are linearizable. Whatever fails otherwise than said failed on the way. */
export interface Quorum {
  state(): Promise<QuorumState>;
  /** Whole records behind `after`, in order, some at a time; none at the end of the log. */
  read(after: number): Promise<LoggedRecord[]>;
  /** Names the history unless it has a name. @returns its name. */
  found(history: string): Promise<string>;
  report(member: Member): Promise<void>;
  /** Begins a term if nobody leads. @param termMs - how long it lasts without renewal. */
  campaign(leader: Leader, termMs: number): Promise<Term | undefined>;
  close(): void;
}

/**
 * What a job manager works with to find nodes and to be promised their resources. {@link ResourceSelection} has two
 * implementations that pass one compliance test: `GrpcResourceSelection` (client.ts) speaks to real selectors,
 * `FakeResourceSelection` (testing/fake.ts) keeps nodes in memory.
 */
import { TerminalError } from '#common/errors.ts';
import type { Attributes, Constraint } from './attributes.ts';
import type { Resources } from './resources.ts';

/** Wall-clock time from `startMs` up to, but without, `endMs`, which may be Infinity. */
export interface Span {
  /** 0 stands for now, by the clock of the node. */
  readonly startMs: number;
  readonly endMs: number;
}

/** When and how firmly resources are asked for. By default from now on, without end, and not giving way. */
export interface Occasion {
  readonly span?: Span;
  /** Gives way when a reservation begins that needs its place. */
  readonly isPreemptible?: boolean;
  /** Whether it is itself a reservation: others may draw from it, and work that gives way leaves when it begins. */
  readonly isReservation?: boolean;
}

/** A request for nodes. The same for every node that it reaches. */
export interface Query extends Occasion {
  /** Random; ties the log lines of one query together. */
  readonly id: string;
  /** Ranges and sets over static attributes; they steer the query. */
  readonly constraints: readonly Constraint[];
  /** CEL over live values, evaluated at each candidate; all must be true (docs/selector.md, "Ask"). */
  readonly predicates: readonly string[];
  /** What the candidate's ledger must have free on the occasion, for one unit of work. */
  readonly demand: Resources;
  /** The virtual organization that asks; the candidate's site rules on it. */
  readonly virtualOrganization: string;
  /** Sites by name, for who asks several of them; what is left out is not limited. One site asks itself whatever this says. */
  readonly sites?: { readonly in?: readonly string[] | undefined; readonly notIn?: readonly string[] | undefined };
}

/** Limits of one query; what exceeds them is refused with an InvalidInputError. */
export const queryLimits = {
  predicates: 4,
  predicateLength: 1_024,
  demand: 16,
  wanted: 1_000,
  timeoutMs: 60_000,
} as const;

/** One node's answer that it would take the work now. A promise only once held. */
export interface Offer {
  /** `site/node`. */
  readonly id: string;
  readonly site: string;
  /** Name of the node in its site; on Kubernetes that of the Node object. */
  readonly node: string;
  /** `host:port` of the node's selector: where to hold, confirm, release and watch. */
  readonly address: string;
  /** When the node's selector started, wall-clock milliseconds. */
  readonly incarnation: number;
  readonly attributes: Attributes;
  /** What its ledger has free on the occasion: how often the demand fits, and for ranking. */
  readonly free: Resources;
  /** Measured values of the moment, for ranking. */
  readonly live: Readonly<Record<string, number>>;
}

/** Why candidates that match the static requirements said no: sentence → how many said it. */
export type Refusals = Readonly<Record<string, number>>;

/** How a query went. */
export interface Summary {
  readonly refusals: Refusals;
  /** False when it stopped because enough was found, and more might be. */
  readonly isExhausted: boolean;
  /** Cells all of whose links stayed silent, also after neighbours were asked. 0 means that the answer is whole. */
  readonly unreached: number;
  /** Nodes visited, and those of them that do not match the static requirements. */
  readonly visited: number;
  readonly falseVisits: number;
  /** Longest chain of messages. */
  readonly hops: number;
}

/** What a selection yields: offers as they come, then one summary. */
export type Selected = { readonly offer: Offer } | { readonly summary: Summary };

/** How many nodes are wanted, and for how long to look. */
export interface SelectOptions {
  /** 1 to 1,000. A few more may come. */
  readonly wanted: number;
  /** 1 to 60,000. What was found by then is the answer. */
  readonly timeoutMs: number;
}

/** The object that a claim belongs to: when it is deleted, Kubernetes deletes the Claim, and the node is free again. */
export interface ClaimOwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
}

/** What a caller asks to be held on one node. */
export interface HoldRequest extends Occasion {
  /**
   * Chosen by the caller, a DNS label: name of the Claim object, and value of the label `xtreemos.io/claim` on the pods
   * that run under it. Use each id for one node only. Asking again with the same id is the same hold.
   */
  readonly id: string;
  /** Who may confirm and release it, 1 to 253 characters: the job manager's name for the job or reservation. */
  readonly owner: string;
  /** Name of the virtual organization, a DNS label of at most 60 characters: its namespace holds the Claim. */
  readonly virtualOrganization: string;
  readonly demand: Resources;
  /** How long the hold lasts unless confirmed, 1 to 300,000 milliseconds. */
  readonly ttlMs: number;
  /** Id of a confirmed reservation on the same node that it draws from, instead of from what is free. */
  readonly reservation?: string;
  /** For a reservation: work that gives way is not even started when it would still run when this begins. */
  readonly isDraining?: boolean;
  readonly ownerReference?: ClaimOwnerReference;
}

/** The answer to a hold: granted, or why not, in a sentence. */
export type HoldAnswer =
  { readonly granted: true; readonly ttlMs: number } | { readonly granted: false; readonly reason: string };

/** A hold or claim as its owner names it. */
export type ClaimName = Pick<HoldRequest, 'id' | 'owner'>;

/** Live values of a node under watch. */
export interface LiveUpdate {
  readonly free: Resources;
  readonly live: Readonly<Record<string, number>>;
  /** The first predicate that no longer holds, as a sentence; undefined while all do. */
  readonly broken: string | undefined;
}

/** Thrown by confirm when the hold isn't there: expired, released, or forgotten by a crash. Hold anew. */
export class UnknownClaimError extends TerminalError {
  override readonly name = 'UnknownClaimError';
}

/**
 * Thrown when a selector can't be reached, is starting, or has too much to do. Whether a request took effect is not known:
 * repeating it is safe, and a hold that is left alone goes by itself.
 */
export class SelectorUnavailableError extends Error {
  override readonly name = 'SelectorUnavailableError';
}

/**
 * Finds nodes and is promised their resources. Every method fails with InvalidInputError on a request that can never be
 * granted as it is written, and with {@link SelectorUnavailableError} when trying again later may help.
 */
export interface ResourceSelection {
  /** Finds nodes; the last message is the summary. Leaving the loop early ends the query. */
  select(query: Query, options: SelectOptions): AsyncIterable<Selected>;
  /**
   * Asks a node to hold resources for a short time.
   * @param address - of the offer: the node is the only arbiter of itself.
   */
  hold(address: string, request: HoldRequest): Promise<HoldAnswer>;
  /**
   * Turns a hold into a claim that outlives every process. Confirming again succeeds. The claim is durable when this
   * resolves. @throws {UnknownClaimError}
   */
  confirm(address: string, claim: ClaimName): Promise<void>;
  /** Gives a hold or claim back. Releasing what isn't there succeeds. @throws {UnknownClaimError} when it is another's. */
  release(address: string, claim: ClaimName): Promise<void>;
  /** Live values of a node, now and after each change that matters, until the signal aborts. */
  watch(address: string, predicates: readonly string[], signal: AbortSignal): AsyncIterable<LiveUpdate>;
  /** Gives up connections. Nothing may be asked afterwards. */
  close(): void;
}

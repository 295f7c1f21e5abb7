/** The channel between sites: what those who speak over it need to know, and no more. */
import type { MethodDefinition } from '@grpc/grpc-js';

/**
 * Why a call to a peer, or a request of one, came to nothing.
 * - `Unknown`: there is no Site of type Peer of this name.
 * - `Cut`: the owner of this site cut the peer off.
 * - `Unreachable`: no connection, or no answer in time; the call may or may not have been carried out.
 * - `Refused`: the peer answered that it doesn't want to; again the same would be refused.
 * - `NotFound`: the peer doesn't know what the call is about.
 * - `Invalid`: the message isn't as it must be.
 * - `Busy`: a limit was reached; later it may work.
 * - `Unsupported`: the peer doesn't know the method.
 * - `Failed`: something went wrong at the peer; its log knows what.
 */
export type PeerErrorReason =
  | 'Unknown' | 'Cut' | 'Unreachable' | 'Refused' | 'NotFound' | 'Invalid' | 'Busy' | 'Unsupported' | 'Failed'; // prettier-ignore

/** Thrown by calls to peers, and by handlers to refuse. The message is a sentence for a person, and goes to the peer. */
export class PeerError extends Error {
  override readonly name = 'PeerError';
  readonly reason: PeerErrorReason;

  constructor(reason: PeerErrorReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** How a call is made. */
export interface PeerCallOptions {
  /** The whole call has to be done in this time, milliseconds. Calls of one answer have 10 s by default, streams none. */
  readonly timeoutMs?: number | undefined;
  /** Ends the call when it aborts. */
  readonly signal?: AbortSignal | undefined;
}

/** Calls to one peer. It is authenticated by its certificate under the trust bundle of its own Site object alone. */
export interface PeerChannel {
  /** Name of the Site object of the peer. */
  readonly site: string;
  /** One message, one answer. @throws {PeerError} */
  call<Q, A>(method: MethodDefinition<Q, A>, request: Q, options?: PeerCallOptions): Promise<A>;
  /**
   * Messages one way, answers the other, for every kind of streaming method; each side waits when the other doesn't keep up. Leaving the loop over the
   * answers ends the call. @throws {PeerError} from the iteration.
   */
  stream<Q, A>(
    method: MethodDefinition<Q, A>,
    requests: AsyncIterable<Q>,
    options?: PeerCallOptions,
  ): AsyncIterableIterator<A>;
}

/** Ways to the peers of this site. */
export interface PeerChannels {
  /**
   * The way to a peer; cheap, ask anew for each use. It is made when first used and mended by itself.
   * @throws {PeerError} `Unknown` or `Cut`.
   */
  channel(site: string): PeerChannel;
  /** Names of the peers that aren't cut off, sorted. */
  names(): readonly string[];
  /** Called after {@link names} or the way to a peer changed. @returns a function that ends it. */
  onChange(listener: () => void): () => void;
}

/** Who calls, as a handler sees it. */
export interface PeerCaller {
  /** Name of the Site object of the peer, told by its certificate: never by a message. */
  readonly site: string;
  /** Aborts when the caller goes away, the call takes too long, or the peer is cut off. */
  readonly signal: AbortSignal;
  /**
   * Counts the call for a virtual organization, so that one alone can't take everything that a peer may have. Call it as soon as it is known.
   * @throws {PeerError} `Busy`.
   */
  charge(virtualOrganization: string): void;
}

/** A method that peers may call. Make one with {@link answering} or {@link streaming}. */
export interface PeerMethod {
  readonly definition: MethodDefinition<unknown, unknown>;
  readonly handle:
    | { readonly kind: 'answer'; readonly answer: (request: unknown, caller: PeerCaller) => Promise<unknown> }
    | {
        readonly kind: 'stream';
        readonly stream: (requests: AsyncIterable<unknown>, caller: PeerCaller) => AsyncIterable<unknown>;
      };
}

/** A method of one message and one answer. What the handler throws but a {@link PeerError} is told as `Failed`. */
export function answering<Q, A>(
  definition: MethodDefinition<Q, A>,
  answer: (request: Q, caller: PeerCaller) => Promise<A>,
): PeerMethod {
  return {
    definition: definition as MethodDefinition<unknown, unknown>,
    handle: { kind: 'answer', answer: async (request, caller) => answer(request as Q, caller) },
  };
}

/** A method with a stream on either side or both; a side without one has a single message. */
export function streaming<Q, A>(
  definition: MethodDefinition<Q, A>,
  stream: (requests: AsyncIterable<Q>, caller: PeerCaller) => AsyncIterable<A>,
): PeerMethod {
  return {
    definition: definition as MethodDefinition<unknown, unknown>,
    handle: { kind: 'stream', stream: (requests, caller) => stream(requests as AsyncIterable<Q>, caller) },
  };
}

/** Takes what peers may call. Limits per peer hold outside of the handlers. */
export interface PeerServices {
  /** Before the gateway listens only. @throws {Error} on a method that is there already. */
  add(methods: readonly PeerMethod[]): void;
}

/** Largest message of either side, bytes. */
export const peerMessageBytesMax = 1024 * 1024;
/** What a call of one answer may take unless it is said otherwise, milliseconds. */
export const peerCallTimeoutMs = 10_000;

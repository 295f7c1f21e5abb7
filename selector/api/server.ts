import {
  Server,
  ServerInterceptingCall,
  status,
  type Metadata,
  type ServerInterceptor,
  type sendUnaryData,
  type ServerCredentials,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import { describeError, InvalidInputError, TerminalError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { decodeHold, decodeQuery, encodeOffer, encodeSummary } from '#proto/selector/codec.ts';
import { queryLimits, UnknownClaimError, type LiveUpdate, type Offer, type Query } from '#proto/selector/contract.ts';
import { LedgerNotReadyError, type Ledger } from '#selector/ledger/ledger.ts';
import { messageLimits, type Message, type QueryOutcome } from '#selector/overlay/messages.ts';
import type { Codec } from './codec.ts';
import { overlayMethods, selectorMethods } from '#proto/selector/schema.ts';
import type * as wire from '#proto/selector/wire.ts';

/** What one selector does for those who ask it. */
export interface SelectorService {
  readonly ledger: Ledger;
  /** Why the node's site gives it to no work of this virtual organization now, as a sentence. */
  reasonAgainst(virtualOrganization: string): string | undefined;
  /** Hands an overlay message to the node. */
  receive(message: Message): void;
  /** Starts a query. @returns a function that ends it. */
  select(
    query: Query,
    request: { wanted: number; timeoutMs: number },
    onEnd: (outcome: QueryOutcome) => void,
    onOffers: (offers: readonly Offer[]) => void,
  ): () => void;
  /** @throws {InvalidInputError} on predicates that can't be used. */
  checkPredicates(predicates: readonly string[]): void;
  /** @returns a function that ends the subscription; undefined when there are too many. */
  watch(predicates: readonly string[], listener: (update: LiveUpdate) => void): (() => void) | undefined;
  status(): unknown;
}

/** Selections served at a time. */
const selectionsMax = 64;

/** Streams of peers served at a time; a node has about a hundred peers, so more is somebody's mistake. */
const peerStreamsMax = 512;

/** A refusal with its gRPC status. */
class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly code: status;

  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

/** What a server stands on. */
export interface ServerParts {
  readonly codec: Codec;
  readonly logger: Logger;
}

/** Which port a request came in at, told to handlers as metadata; what a client sends under this name is replaced. */
const portKey = 'xtreemos-local-port';

const tellPort: ServerInterceptor = (_, call) =>
  new ServerInterceptingCall(call, {
    start: (next) =>
      next({
        onReceiveMetadata: (metadata, proceed) => {
          metadata.set(portKey, String(call.getConnectionInfo().localPort ?? 0));
          proceed(metadata);
        },
      }),
  });

/** The gRPC server of selectors: both services on one port for each of them. */
export class SelectorServer {
  private readonly server = new Server({
    'grpc.max_receive_message_length': messageLimits.bytes,
    'grpc.max_send_message_length': messageLimits.bytes,
    'grpc.max_concurrent_streams': 64,
    interceptors: [tellPort],
  });
  private readonly parts: ServerParts;
  private readonly services = new Map<number, SelectorService>();
  private readonly counts = new WeakMap<SelectorService, { selections: number; peerStreams: number }>();

  constructor(parts: ServerParts) {
    this.parts = parts;
    this.server.addService(overlayMethods as unknown as ServiceDefinition, {
      Connect: (call: ServerReadableStream<wire.Envelope, wire.Empty>, done: sendUnaryData<wire.Empty>) =>
        this.connect(call, done),
    });
    this.server.addService(selectorMethods as unknown as ServiceDefinition, {
      Select: (call: ServerWritableStream<wire.SelectRequest, wire.SelectResponse>) => this.select(call),
      Watch: (call: ServerWritableStream<wire.WatchRequest, wire.WatchResponse>) => this.watch(call),
      Hold: this.unary(hold),
      Confirm: this.unary(async ({ ledger }, { id, owner }: wire.ClaimRequest) => {
        await ledger.confirm(id, owner);
        return {};
      }),
      Release: this.unary(async ({ ledger }, { id, owner }: wire.ClaimRequest) => {
        await ledger.release(id, owner);
        return {};
      }),
      Status: this.unary(async (service) => ({ json: JSON.stringify(service.status()) })),
    });
  }

  /** Listens for one selector. @param address - `host:port`; port 0 chooses one. @returns the port. */
  async listen(service: SelectorService, address: string, credentials: ServerCredentials): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.bindAsync(address, credentials, (error, port) => {
        if (error === null) {
          this.services.set(port, service);
          resolve(port);
        } else reject(new Error(`Listen on ${address}: ${error.message}`, { cause: error }));
      });
    });
  }

  /** A selector answers no more. */
  forget(service: SelectorService): void {
    for (const [port, candidate] of this.services) if (candidate === service) this.services.delete(port);
  }

  /** Closes at once: peers notice and go elsewhere. */
  stop(): void {
    this.server.forceShutdown();
  }

  private connect(call: ServerReadableStream<wire.Envelope, wire.Empty>, done: sendUnaryData<wire.Empty>): void {
    const service = this.serviceOf(call.metadata);
    if (service === undefined) {
      done(serviceError(goneError()));
      return;
    }
    const counts = this.countsOf(service);
    if (counts.peerStreams >= peerStreamsMax) {
      done({ code: status.RESOURCE_EXHAUSTED, details: `Already ${peerStreamsMax} peers are connected` });
      return;
    }
    counts.peerStreams++;
    let hasEnded = false;
    const end = (): void => {
      if (!hasEnded) counts.peerStreams--;
      hasEnded = true;
    };
    call.on('data', (envelope: wire.Envelope) => {
      try {
        service.receive(this.parts.codec.decode(envelope));
      } catch (error) {
        if (!(error instanceof InvalidInputError)) throw error;
        this.parts.logger.debug('Dropped a message of a peer', { peer: call.getPeer(), reason: error.message });
      }
    });
    call.on('end', () => {
      end();
      done(null, {});
    });
    call.on('error', end);
    call.on('cancelled', end);
  }

  private select(call: ServerWritableStream<wire.SelectRequest, wire.SelectResponse>): void {
    const { wanted, timeoutMs } = call.request;
    const service = this.serviceOf(call.metadata);
    if (service === undefined) {
      call.emit('error', serviceError(goneError()));
      return;
    }
    const counts = this.countsOf(service);
    let query: Query;
    try {
      query = decodeQuery(call.request.query);
      service.checkPredicates(query.predicates);
      within('wanted', wanted, queryLimits.wanted);
      within('timeoutMs', timeoutMs, queryLimits.timeoutMs);
    } catch (error) {
      call.emit('error', serviceError(error));
      return;
    }
    if (counts.selections >= selectionsMax) {
      call.emit('error', serviceError(new RefusedError(status.RESOURCE_EXHAUSTED, 'Too many selections at once')));
      return;
    }
    counts.selections++;
    let hasEnded = false;
    const cancel = service.select(
      query,
      { wanted, timeoutMs },
      (outcome) => {
        if (!hasEnded) counts.selections--;
        hasEnded = true;
        call.write({ summary: encodeSummary(outcome) });
        call.end();
      },
      (offers) => {
        for (const offer of offers) call.write({ offer: encodeOffer(offer) });
      },
    );
    call.on('cancelled', cancel);
  }

  private watch(call: ServerWritableStream<wire.WatchRequest, wire.WatchResponse>): void {
    const { predicates } = call.request;
    const service = this.serviceOf(call.metadata);
    if (service === undefined) {
      call.emit('error', serviceError(goneError()));
      return;
    }
    try {
      service.checkPredicates(predicates);
    } catch (error) {
      call.emit('error', serviceError(error));
      return;
    }
    const unsubscribe = service.watch(predicates, (update) => {
      // A reader that doesn't keep up misses updates; the next it reads is the newest.
      if (call.writableNeedDrain) return;
      call.write({ free: { ...update.free }, live: { ...update.live }, broken: update.broken ?? '' });
    });
    if (unsubscribe === undefined) {
      call.emit('error', serviceError(new RefusedError(status.RESOURCE_EXHAUSTED, 'Too many subscriptions at once')));
      return;
    }
    call.on('cancelled', unsubscribe);
    call.on('error', unsubscribe);
  }

  private serviceOf(metadata: Metadata): SelectorService | undefined {
    return this.services.get(Number(metadata.get(portKey)[0]));
  }

  private countsOf(service: SelectorService): { selections: number; peerStreams: number } {
    const counts = this.counts.get(service) ?? { selections: 0, peerStreams: 0 };
    this.counts.set(service, counts);
    return counts;
  }

  private unary<Q, A>(handle: (service: SelectorService, request: Q) => Promise<A>) {
    return (call: ServerUnaryCall<Q, A>, done: sendUnaryData<A>): void => {
      const service = this.serviceOf(call.metadata);
      if (service === undefined) {
        done(serviceError(goneError()));
        return;
      }
      handle(service, call.request).then(
        (answer) => done(null, answer),
        (error: unknown) => done(serviceError(error)),
      );
    };
  }
}

function goneError(): RefusedError {
  return new RefusedError(status.UNAVAILABLE, 'No selector listens here any more');
}

async function hold(service: SelectorService, request: wire.HoldRequest): Promise<wire.HoldResponse> {
  const asked = decodeHold(request);
  const reason = service.reasonAgainst(asked.virtualOrganization);
  if (reason !== undefined) throw new RefusedError(status.FAILED_PRECONDITION, reason);
  const answer = service.ledger.hold(asked);
  if (!answer.granted) throw new RefusedError(status.FAILED_PRECONDITION, answer.reason);
  return { ttlMs: answer.ttlMs };
}

function within(field: string, value: number, most: number): void {
  if (value < 1 || value > most) throw new InvalidInputError(field, `must be 1 to ${most}, not ${value}`);
}

function codeOf(error: unknown): status {
  if (error instanceof InvalidInputError) return status.INVALID_ARGUMENT;
  if (error instanceof UnknownClaimError) return status.NOT_FOUND;
  if (error instanceof LedgerNotReadyError) return status.UNAVAILABLE;
  if (error instanceof RefusedError) return error.code;
  return error instanceof TerminalError ? status.FAILED_PRECONDITION : status.INTERNAL;
}

/** Translates a failure into a gRPC status, once, at the boundary. */
function serviceError(error: unknown): Error & { code: status; details: string } {
  const details = describeError(error).slice(0, 2_000);
  return Object.assign(new Error(details), { code: codeOf(error), details });
}

import {
  Server,
  status,
  type sendUnaryData,
  type ServerCredentials,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import type { Clock } from '#common/clock.ts';
import { describeError, InvalidInputError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { decodeHold, decodeQuery, encodeOffer, encodeSummary } from '#proto/selector/codec.ts';
import { queryLimits, UnknownClaimError, type LiveUpdate, type Offer, type Query } from '#proto/selector/contract.ts';
import { LedgerNotReadyError, type Ledger } from '#selector/ledger/ledger.ts';
import { messageLimits, type Message, type QueryOutcome } from '#selector/overlay/messages.ts';
import type { Codec } from './codec.ts';
import { overlayMethods, selectorMethods } from '#proto/selector/schema.ts';
import type * as wire from '#proto/selector/wire.ts';

/** What the service stands on. */
export interface ServiceComponents {
  readonly clock: Clock;
  readonly codec: Codec;
  readonly ledger: Ledger;
  readonly logger: Logger;
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

/** The gRPC server of a selector: both services on one port. */
export class SelectorServer {
  private readonly server = new Server({
    'grpc.max_receive_message_length': messageLimits.bytes,
    'grpc.max_send_message_length': messageLimits.bytes,
    'grpc.max_concurrent_streams': 64,
  });
  private readonly components: ServiceComponents;
  private selections = 0;
  private peerStreams = 0;

  constructor(components: ServiceComponents) {
    this.components = components;
    this.server.addService(overlayMethods as unknown as ServiceDefinition, {
      Connect: (call: ServerReadableStream<wire.Envelope, wire.Empty>, done: sendUnaryData<wire.Empty>) =>
        this.connect(call, done),
    });
    this.server.addService(selectorMethods as unknown as ServiceDefinition, {
      Select: (call: ServerWritableStream<wire.SelectRequest, wire.SelectResponse>) => this.select(call),
      Watch: (call: ServerWritableStream<wire.WatchRequest, wire.WatchResponse>) => this.watch(call),
      Hold: unary((request: wire.HoldRequest) => this.hold(request)),
      Confirm: unary(async ({ id, owner }: wire.ClaimRequest) => {
        await components.ledger.confirm(id, owner);
        return {};
      }),
      Release: unary(async ({ id, owner }: wire.ClaimRequest) => {
        await components.ledger.release(id, owner);
        return {};
      }),
      Status: unary(async () => ({ json: JSON.stringify(components.status()) })),
    });
  }

  /** Listens. @param address - `host:port`; port 0 chooses one. @returns the port. */
  async listen(address: string, credentials: ServerCredentials): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.bindAsync(address, credentials, (error, port) => {
        if (error === null) resolve(port);
        else reject(new Error(`Listen on ${address}: ${error.message}`, { cause: error }));
      });
    });
  }

  /** Closes at once: peers notice and go elsewhere. */
  stop(): void {
    this.server.forceShutdown();
  }

  private connect(call: ServerReadableStream<wire.Envelope, wire.Empty>, done: sendUnaryData<wire.Empty>): void {
    if (this.peerStreams >= peerStreamsMax) {
      done({ code: status.RESOURCE_EXHAUSTED, details: `Already ${peerStreamsMax} peers are connected` });
      return;
    }
    this.peerStreams++;
    let hasEnded = false;
    const end = (): void => {
      if (!hasEnded) this.peerStreams--;
      hasEnded = true;
    };
    call.on('data', (envelope: wire.Envelope) => {
      try {
        this.components.receive(this.components.codec.decode(envelope));
      } catch (error) {
        if (!(error instanceof InvalidInputError)) throw error;
        this.components.logger.debug('Dropped a message of a peer', { peer: call.getPeer(), reason: error.message });
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
    let query: Query;
    try {
      query = decodeQuery(call.request.query);
      this.components.checkPredicates(query.predicates);
      within('wanted', wanted, queryLimits.wanted);
      within('timeoutMs', timeoutMs, queryLimits.timeoutMs);
    } catch (error) {
      call.emit('error', serviceError(error));
      return;
    }
    if (this.selections >= selectionsMax) {
      call.emit('error', serviceError(new RefusedError(status.RESOURCE_EXHAUSTED, 'Too many selections at once')));
      return;
    }
    this.selections++;
    let hasEnded = false;
    const cancel = this.components.select(
      query,
      { wanted, timeoutMs },
      (outcome) => {
        if (!hasEnded) this.selections--;
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

  private async hold(request: wire.HoldRequest): Promise<wire.HoldResponse> {
    const hold = decodeHold(request, this.components.clock.now());
    const answer = this.components.ledger.hold(hold);
    if (!answer.granted) throw new RefusedError(status.FAILED_PRECONDITION, answer.reason);
    return { ttlMs: answer.ttlMs };
  }

  private watch(call: ServerWritableStream<wire.WatchRequest, wire.WatchResponse>): void {
    const { predicates } = call.request;
    try {
      this.components.checkPredicates(predicates);
    } catch (error) {
      call.emit('error', serviceError(error));
      return;
    }
    const unsubscribe = this.components.watch(predicates, (update) => {
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
}

function within(field: string, value: number, most: number): void {
  if (value < 1 || value > most) throw new InvalidInputError(field, `must be 1 to ${most}, not ${value}`);
}

function unary<Q, A>(handle: (request: Q) => Promise<A>) {
  return (call: ServerUnaryCall<Q, A>, done: sendUnaryData<A>): void => {
    handle(call.request).then(
      (answer) => done(null, answer),
      (error: unknown) => done(serviceError(error)),
    );
  };
}

function codeOf(error: unknown): status {
  if (error instanceof InvalidInputError) return status.INVALID_ARGUMENT;
  if (error instanceof UnknownClaimError) return status.NOT_FOUND;
  if (error instanceof LedgerNotReadyError) return status.UNAVAILABLE;
  return error instanceof RefusedError ? error.code : status.INTERNAL;
}

/** Translates a failure into a gRPC status, once, at the boundary. */
function serviceError(error: unknown): Error & { code: status; details: string } {
  const details = describeError(error).slice(0, 2_000);
  return Object.assign(new Error(details), { code: codeOf(error), details });
}

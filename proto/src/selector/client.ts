import { Client, status, type ChannelCredentials, type ClientOptions, type MethodDefinition } from '@grpc/grpc-js';
import { InvalidInputError, TerminalError } from '#common/errors.ts';
import { decodeOffer, decodeSummary, encodeHold, encodeQuery, messageBytesMax } from './codec.ts';
import {
  SelectorUnavailableError,
  UnknownClaimError,
  type ClaimName,
  type HoldAnswer,
  type HoldRequest,
  type LiveUpdate,
  type Query,
  type ResourceSelection,
  type Selected,
  type SelectOptions,
} from './contract.ts';
import { selectorMethods } from './schema.ts';
import type * as wire from './wire.ts';

/** The name every selector's certificate carries; who a peer is, its signed descriptor says (ADR 0063). */
export const selectorServerName = 'selector.xtreemos.io';

/** Options of every client of a selector. */
export const clientOptions: ClientOptions = {
  'grpc.ssl_target_name_override': selectorServerName,
  'grpc.default_authority': selectorServerName,
  'grpc.max_receive_message_length': messageBytesMax,
  'grpc.max_send_message_length': messageBytesMax,
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.keepalive_time_ms': 30_000,
};

const callTimeoutMs = 10_000;
/** An answer may be on its way when the time for looking is over. */
const selectGraceMs = 2_000;
const clientsMax = 1_024;

/** {@link ResourceSelection} over gRPC: asks the selector beside the caller, and holds at the nodes themselves. */
export class GrpcResourceSelection implements ResourceSelection {
  private readonly local: string;
  private readonly credentials: ChannelCredentials;
  private readonly clients = new Map<string, Client>();

  /**
   * @param local - `host:port` of the selector that is asked for nodes; in the operator's pod the one beside it.
   * @param credentials - mutual TLS with a certificate of the site's selectors.
   */
  constructor(local: string, credentials: ChannelCredentials) {
    this.local = local;
    this.credentials = credentials;
  }

  async *select(query: Query, { wanted, timeoutMs }: SelectOptions): AsyncGenerator<Selected> {
    const request = { query: encodeQuery(query), wanted, timeoutMs };
    const { path, requestSerialize, responseDeserialize } = selectorMethods.Select;
    const client = this.clientOf(this.local);
    const stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, {
      deadline: Date.now() + timeoutMs + selectGraceMs,
    });
    try {
      for await (const message of stream as AsyncIterable<wire.SelectResponse>) {
        if (message.offer !== undefined) yield { offer: decodeOffer(message.offer) };
        else if (message.summary !== undefined) yield { summary: decodeSummary(message.summary) };
      }
    } catch (error) {
      throw translate(error, this.local);
    } finally {
      stream.cancel();
    }
  }

  async hold(address: string, request: HoldRequest): Promise<HoldAnswer> {
    try {
      const { ttlMs } = await this.call(address, selectorMethods.Hold, encodeHold(request));
      return { granted: true, ttlMs };
    } catch (error) {
      if (codeOf(error) !== status.FAILED_PRECONDITION) throw translate(error, address);
      return { granted: false, reason: detailsOf(error) };
    }
  }

  async confirm(address: string, { id, owner }: ClaimName): Promise<void> {
    try {
      await this.call(address, selectorMethods.Confirm, { id, owner });
    } catch (error) {
      throw translate(error, address);
    }
  }

  async release(address: string, { id, owner }: ClaimName): Promise<void> {
    try {
      await this.call(address, selectorMethods.Release, { id, owner });
    } catch (error) {
      throw translate(error, address);
    }
  }

  async *watch(address: string, predicates: readonly string[], signal: AbortSignal): AsyncGenerator<LiveUpdate> {
    const { path, requestSerialize, responseDeserialize } = selectorMethods.Watch;
    const request = { predicates: [...predicates] };
    const stream = this.clientOf(address).makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    const onAbort = (): void => stream.cancel();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      for await (const { free, live, broken } of stream as AsyncIterable<wire.WatchResponse>) {
        yield { free, live, broken: broken === '' ? undefined : broken };
      }
    } catch (error) {
      if (!signal.aborted) throw translate(error, address);
    } finally {
      signal.removeEventListener('abort', onAbort);
      stream.cancel();
    }
  }

  /** The status page of a selector, parsed. @throws as {@link ResourceSelection.hold}. */
  async status(address: string = this.local): Promise<unknown> {
    try {
      const { json } = await this.call(address, selectorMethods.Status, {});
      return JSON.parse(json) as unknown;
    } catch (error) {
      throw translate(error, address);
    }
  }

  close(): void {
    for (const client of this.clients.values()) client.close();
    this.clients.clear();
  }

  /** Used last goes to the end: the first of the map is the one to close when there are too many. */
  private clientOf(address: string): Client {
    const client = this.clients.get(address) ?? new Client(address, this.credentials, clientOptions);
    this.clients.delete(address);
    this.clients.set(address, client);
    if (this.clients.size > clientsMax) {
      for (const [oldest, unused] of this.clients) {
        this.clients.delete(oldest);
        // Closing lets the requests in flight end.
        unused.close();
        break;
      }
    }
    return client;
  }

  private async call<Q, A>(address: string, method: MethodDefinition<Q, A>, request: Q): Promise<A> {
    return new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      const options = { deadline: Date.now() + callTimeoutMs };
      this.clientOf(address).makeUnaryRequest(
        ...([path, requestSerialize, responseDeserialize, request, options] as const),
        (error, answer) => {
          if (error !== null) reject(error);
          else if (answer === undefined) reject(new Error(`${path} gave no answer`));
          else resolve(answer);
        },
      );
    });
  }
}

function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
}

function detailsOf(error: unknown): string {
  const isDetailed = typeof error === 'object' && error !== null && 'details' in error;
  return isDetailed && typeof error.details === 'string' ? error.details : '';
}

/** Translates a gRPC failure, once, at the boundary. What isn't one is our own and passes. */
function translate(error: unknown, address: string): unknown {
  const details = detailsOf(error);
  switch (codeOf(error)) {
    case undefined:
      return error;
    case status.INVALID_ARGUMENT: {
      // The selector's own InvalidInputError as text: «field: problem».
      const colon = details.indexOf(': ');
      return new InvalidInputError(colon < 0 ? 'request' : details.slice(0, colon), details.slice(colon + 2), {
        cause: error,
      });
    }
    case status.NOT_FOUND:
      return new UnknownClaimError(details, { cause: error });
    case status.FAILED_PRECONDITION:
      return new TerminalError(details, { cause: error });
    default:
      return new SelectorUnavailableError(`Selector ${address}: ${details}`, { cause: error });
  }
}

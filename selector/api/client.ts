import { Client, type ChannelCredentials, type MethodDefinition } from '@grpc/grpc-js';
import type { Offer, Query, QueryOutcome } from '#selector/overlay/messages.ts';
import type { HoldRequest } from '#selector/ledger/ledger.ts';
import { decodeOffer, decodeSummary, encodeQuery } from './codec.ts';
import { selectorMethods } from './schema.ts';
import { clientOptions } from './transport.ts';
import type * as wire from './wire.ts';

/** What a selection yields: offers as they come, then one summary. */
export type Selected = { readonly offer: Offer } | { readonly summary: Omit<QueryOutcome, 'offers'> };

/**
 * A job manager's side of one selector. Failures are grpc-js ServiceErrors: INVALID_ARGUMENT names the field,
 * FAILED_PRECONDITION of a hold says what the node lacks, NOT_FOUND of a confirm asks for a new hold.
 */
export class SelectorClient {
  private readonly client: Client;

  /** @param address - `host:port` of the selector. */
  constructor(address: string, credentials: ChannelCredentials) {
    this.client = new Client(address, credentials, clientOptions);
  }

  /** Finds nodes; ends with the summary. Leaving the loop early cancels the query. */
  async *select(query: Query, wanted: number, timeoutMs: number): AsyncGenerator<Selected> {
    const { path, requestSerialize, responseDeserialize } = selectorMethods.Select;
    const request = { query: encodeQuery(query), wanted, timeoutMs };
    const stream = this.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, {
      deadline: Date.now() + timeoutMs + 2_000,
    });
    try {
      for await (const message of stream as AsyncIterable<wire.SelectResponse>) {
        if (message.offer !== undefined) yield { offer: decodeOffer(message.offer) };
        else if (message.summary !== undefined) yield { summary: decodeSummary(message.summary) };
      }
    } finally {
      stream.cancel();
    }
  }

  /** Holds resources of the selector's own node. @returns how long, in milliseconds. */
  async hold(request: HoldRequest): Promise<number> {
    const { id, owner, virtualOrganization, demand, ttlMs, span } = request;
    const { ttlMs: granted } = await this.call(selectorMethods.Hold, {
      id,
      owner,
      virtualOrganization,
      demand: { ...demand },
      ttlMs,
      startMs: span?.startMs ?? 0,
      endMs: span === undefined || span.endMs === Infinity ? 0 : span.endMs,
      isPreemptible: request.isPreemptible ?? false,
      reservation: request.reservation ?? '',
      isReservation: request.isReservation ?? false,
    });
    return granted;
  }

  /** Makes a hold durable. */
  async confirm(id: string, owner: string): Promise<void> {
    await this.call(selectorMethods.Confirm, { id, owner });
  }

  /** Gives a hold or claim back. */
  async release(id: string, owner: string): Promise<void> {
    await this.call(selectorMethods.Release, { id, owner });
  }

  /** Live values of the node, and the first predicate that broke, until the signal aborts or the stream fails. */
  async *watch(predicates: readonly string[], signal: AbortSignal): AsyncGenerator<wire.WatchResponse> {
    const { path, requestSerialize, responseDeserialize } = selectorMethods.Watch;
    const request = { predicates: [...predicates] };
    const stream = this.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    const onAbort = (): void => stream.cancel();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      for await (const message of stream as AsyncIterable<wire.WatchResponse>) yield message;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
      stream.cancel();
    }
  }

  /** The status page, parsed. */
  async status(): Promise<unknown> {
    const { json } = await this.call(selectorMethods.Status, {});
    return JSON.parse(json) as unknown;
  }

  close(): void {
    this.client.close();
  }

  private async call<Q, A>(method: MethodDefinition<Q, A>, request: Q): Promise<A> {
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + 10_000 };
      const { path, requestSerialize, responseDeserialize } = method;
      this.client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, options, (error, answer) => {
        if (error !== null) reject(error);
        else if (answer === undefined) reject(new Error(`${path} gave no answer`));
        else resolve(answer);
      });
    });
  }
}

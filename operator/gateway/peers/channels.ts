import { ChannelCredentials, Client, type ClientOptions, type MethodDefinition } from '@grpc/grpc-js';
import { describeError } from '#common/errors.ts';
import {
  type PeerCallOptions,
  peerCallTimeoutMs,
  type PeerChannel,
  type PeerChannels,
  PeerError,
  peerMessageBytesMax,
} from './contract.ts';
import type { Peer, PeerDirectory } from './directory.ts';
import { gatewayIdentity, trustDomainIn } from './peer-identity.ts';
import { fromStatus } from './status-codes.ts';
import { pump } from './pump.ts';

const options: ClientOptions = {
  'grpc.max_receive_message_length': peerMessageBytesMax,
  'grpc.max_send_message_length': peerMessageBytesMax,
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 2000,
  // A link that fell silent is noticed within 15 s.
  'grpc.keepalive_time_ms': 8000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.use_local_subchannel_pool': 1,
};

/** Certificate and key of this gateway, PEM. */
export interface OwnCertificate {
  readonly cert: string;
  readonly key: string;
}

/** A connection to one peer, mended by gRPC. */
interface Way {
  /** What it was made of. */
  readonly madeOf: string;
  readonly client: Client;
  /** Ends the calls on it. */
  readonly stopper: AbortController;
}

/** {@link PeerChannels} over gRPC and mutual TLS: one connection per peer, trusting the bundle of this peer alone. */
export class GrpcPeerChannels implements PeerChannels {
  private readonly directory: PeerDirectory;
  private readonly own: () => OwnCertificate | undefined;
  private readonly ways = new Map<string, Way>();

  /** @param own - read for each new connection; undefined while there is none. */
  constructor(directory: PeerDirectory, own: () => OwnCertificate | undefined) {
    this.directory = directory;
    this.own = own;
    directory.onChange(() => this.closeOld());
  }

  channel(site: string): PeerChannel {
    this.peer(site);
    return {
      site,
      call: async (method, request, settings) => this.call(site, method, request, settings),
      stream: (method, requests, settings) => this.stream(site, method, requests, settings),
    };
  }

  names(): readonly string[] {
    return this.directory.list().flatMap(({ site, isCut }) => (isCut ? [] : [site]));
  }

  onChange(listener: () => void): () => void {
    return this.directory.onChange(listener);
  }

  /** Closes every connection. */
  close(): void {
    for (const way of this.ways.values()) end(way);
    this.ways.clear();
  }

  private peer(site: string): Peer {
    const peer = this.directory.find(site);
    if (peer === undefined)
      throw new PeerError('Unknown', `There is no peer ${JSON.stringify(site)}: see kubectl get sites.`);
    if (peer.isCut) throw new PeerError('Cut', `Site ${site} is cut off: its Site has connection Cut.`);
    return peer;
  }

  private async call<Q, A>(
    site: string,
    { path, requestSerialize, responseDeserialize }: MethodDefinition<Q, A>,
    request: Q,
    { timeoutMs = peerCallTimeoutMs, signal }: PeerCallOptions = {},
  ): Promise<A> {
    const { client, stopper } = this.wayTo(site);
    const ended = AbortSignal.any(signal === undefined ? [stopper.signal] : [stopper.signal, signal]);
    return new Promise((resolve, reject) => {
      const settings = { deadline: Date.now() + timeoutMs };
      const call = client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, settings, (error, answer) => {
        ended.removeEventListener('abort', onAbort);
        if (error !== null) reject(fromStatus(error, site));
        else resolve(answer as A);
      }); // prettier-ignore
      const onAbort = (): void => call.cancel();
      if (ended.aborted) call.cancel();
      ended.addEventListener('abort', onAbort, { once: true });
    });
  }

  private async *stream<Q, A>(
    site: string,
    { path, requestSerialize, responseDeserialize }: MethodDefinition<Q, A>,
    requests: AsyncIterable<Q>,
    { timeoutMs, signal }: PeerCallOptions = {},
  ): AsyncIterableIterator<A> {
    const settings = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
    // On the wire all kinds of streams are the same.
    const { client, stopper } = this.wayTo(site);
    const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, settings);
    const left = new AbortController();
    const ended = AbortSignal.any(signal === undefined ? [stopper.signal] : [stopper.signal, signal]);
    const onAbort = (): void => call.cancel();
    if (ended.aborted) call.cancel();
    ended.addEventListener('abort', onAbort, { once: true });
    let failure: unknown;
    const sending = pump(requests, call, left.signal).catch((error: unknown) => {
      failure = error;
      call.cancel();
    });
    try {
      for await (const answer of call as AsyncIterable<A>) yield answer;
    } catch (error) {
      throw fromStatus(failure ?? error, site);
    } finally {
      ended.removeEventListener('abort', onAbort);
      left.abort();
      call.cancel();
      await sending;
    }
  }

  private wayTo(site: string): Way {
    const { address, trustDomain, trustBundle } = this.peer(site);
    const own = this.own();
    if (own === undefined)
      throw new PeerError('Unreachable', 'This gateway has no certificate yet: cert-manager makes it.');
    const madeOf = JSON.stringify([address, trustDomain, trustBundle, own.cert]);
    const known = this.ways.get(site);
    if (known?.madeOf === madeOf) return known;
    // Another certificate of our own: what runs goes on with the old one.
    known?.client.close();
    const client = clientOf({ address, trustDomain, trustBundle }, own);
    const way = { madeOf, client, stopper: new AbortController() };
    this.ways.set(site, way);
    return way;
  }

  /** Closes the ways to peers that went, were cut off, or are reached or trusted otherwise now. */
  private closeOld(): void {
    for (const [site, way] of this.ways) {
      const peer = this.directory.find(site);
      const [address, trustDomain, trustBundle] = JSON.parse(way.madeOf) as string[];
      const isSame =
        peer?.isCut === false &&
        peer.address === address && peer.trustDomain === trustDomain && peer.trustBundle === trustBundle; // prettier-ignore
      if (isSame) continue;
      this.ways.delete(site);
      end(way);
    }
  }
}

/** @throws {PeerError} when address or bundle are of no use. */
function clientOf(
  { address, trustDomain, trustBundle }: Pick<Peer, 'address' | 'trustDomain' | 'trustBundle'>,
  own: OwnCertificate,
): Client {
  // The identity counts, not the name of a host: that may be redirected.
  const checkServerIdentity = (_: string, { raw }: { readonly raw: Buffer }): Error | undefined =>
    trustDomainIn(raw) === trustDomain
      ? undefined
      : new Error(`The gateway at ${address} is not ${gatewayIdentity(trustDomain)}`);
  try {
    const [roots, key, chain] = [Buffer.from(trustBundle), Buffer.from(own.key), Buffer.from(own.cert)];
    return new Client(address, ChannelCredentials.createSsl(roots, key, chain, { checkServerIdentity }), options);
  } catch (error) {
    const problem = describeError(error).slice(0, 200);
    throw new PeerError('Unreachable', `Address or trust bundle of the peer can not be used: ${problem}.`, {
      cause: error,
    });
  }
}

function end({ client, stopper }: Way): void {
  stopper.abort(new Error('The peer was cut off, or is reached or trusted otherwise now'));
  client.close();
}

import type { MethodDefinition } from '@grpc/grpc-js';
import { systemClock } from '#common/clock.ts';
import { PeerBudget } from '../budget.ts';
import {
  type PeerCallOptions,
  peerCallTimeoutMs,
  type PeerChannel,
  type PeerChannels,
  PeerError,
  type PeerMethod,
  type PeerServices,
} from '../contract.ts';
import { type CallParts, serveAnswer, serveStream } from '../serve-call.ts';

/** Sites in one process that speak to each other without a network; messages go through their codecs all the same. */
export class MemoryPeers {
  private readonly sites = new Map<string, MemorySite>();

  /** A site; made when it is named first. */
  site(name: string): MemorySite {
    const known = this.sites.get(name) ?? new MemorySite(name, (other) => this.sites.get(other));
    this.sites.set(name, known);
    return known;
  }

  /** Makes two sites peers of each other. */
  join(a: string, b: string): void {
    this.site(a).setPeer(b, 'Open');
    this.site(b).setPeer(a, 'Open');
  }
}

/** One of the sites: {@link PeerChannels} and {@link PeerServices} at once. */
export class MemorySite implements PeerChannels, PeerServices {
  readonly name: string;
  /** A link that is down: nothing gets out of this site or into it. */
  isSevered = false;
  private readonly find: (site: string) => MemorySite | undefined;
  private readonly peers = new Map<string, { readonly isCut: boolean; readonly stopper: AbortController }>();
  private readonly methods = new Map<string, PeerMethod>();
  private readonly listeners = new Set<() => void>();
  private readonly budget = new PeerBudget(systemClock);

  constructor(name: string, find: (site: string) => MemorySite | undefined) {
    this.name = name;
    this.find = find;
  }

  /** What the owner of this site says of a peer; undefined: nothing. Ends what runs. */
  setPeer(site: string, connection: 'Open' | 'Cut' | undefined): void {
    this.peers.get(site)?.stopper.abort(new Error('The peer is not served any more'));
    if (connection === undefined) this.peers.delete(site);
    else this.peers.set(site, { isCut: connection === 'Cut', stopper: new AbortController() });
    for (const listener of this.listeners) listener();
  }

  add(methods: readonly PeerMethod[]): void {
    for (const method of methods) {
      const { path } = method.definition;
      if (this.methods.has(path)) throw new Error(`Method ${path} is there already`);
      this.methods.set(path, method);
    }
  }

  names(): readonly string[] {
    return [...this.peers].flatMap(([site, { isCut }]) => (isCut ? [] : [site])).sort();
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  channel(site: string): PeerChannel {
    this.check(site);
    return {
      site,
      call: async (method, request, options) => this.call(site, method, request, options),
      stream: (method, requests, options) => this.stream(site, method, requests, options),
    };
  }

  private check(site: string): void {
    const peer = this.peers.get(site);
    if (peer === undefined) throw new PeerError('Unknown', `There is no peer ${JSON.stringify(site)}.`);
    if (peer.isCut) throw new PeerError('Cut', `Site ${site} is cut off.`);
  }

  private async call<Q, A>(
    site: string,
    definition: MethodDefinition<Q, A>,
    request: Q,
    { timeoutMs = peerCallTimeoutMs, signal }: PeerCallOptions = {},
  ): Promise<A> {
    const { method, parts } = this.enter(site, definition.path, signals(timeoutMs, signal));
    const answering = serveAnswer(method, definition.requestDeserialize(definition.requestSerialize(request)), parts);
    const answer = (await unlessGone(answering, parts.signal, site)) as A;
    return definition.responseDeserialize(definition.responseSerialize(answer));
  }

  private async *stream<Q, A>(
    site: string,
    definition: MethodDefinition<Q, A>,
    requests: AsyncIterable<Q>,
    { timeoutMs, signal }: PeerCallOptions = {},
  ): AsyncIterableIterator<A> {
    const left = new AbortController();
    const { method, parts } = this.enter(site, definition.path, [...signals(timeoutMs, signal), left.signal]);
    const coded = async function* (): AsyncGenerator<Q> {
      for await (const each of requests) yield definition.requestDeserialize(definition.requestSerialize(each));
    };
    const answers = serveStream(method, coded(), parts);
    try {
      for (;;) {
        const next = await unlessGone(answers.next(), parts.signal, site);
        if (next.done === true) return;
        yield definition.responseDeserialize(definition.responseSerialize(next.value as A));
      }
    } finally {
      left.abort(new Error('The caller left'));
      answers.return?.().then(undefined, () => undefined);
    }
  }

  private enter(
    site: string,
    path: string,
    ends: readonly AbortSignal[],
  ): { readonly method: PeerMethod; readonly parts: CallParts } {
    this.check(site);
    const other = this.find(site);
    const us = other?.peers.get(this.name);
    if (other === undefined || us === undefined || us.isCut || this.isSevered || other.isSevered)
      throw new PeerError('Unreachable', `Site ${site}: there is no connection.`);
    const method = other.methods.get(path);
    if (method === undefined) throw new PeerError('Unsupported', `Site ${site}: there is no ${path}.`);
    const own = this.peers.get(site);
    const signal = AbortSignal.any([...ends, us.stopper.signal, ...(own === undefined ? [] : [own.stopper.signal])]);
    return { method, parts: { site: this.name, budget: other.budget, signal, onFailure: () => undefined } };
  }
}

function signals(timeoutMs: number | undefined, signal: AbortSignal | undefined): AbortSignal[] {
  return [
    ...(timeoutMs === undefined ? [] : [AbortSignal.timeout(timeoutMs)]),
    ...(signal === undefined ? [] : [signal]),
  ];
}

async function unlessGone<T>(promise: Promise<T>, signal: AbortSignal, site: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new PeerError('Unreachable', `Site ${site}: the call was ended.`));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

import type { Clock } from '#common/clock.ts';
import type { Site } from '#crds/site.ts';
import { peerMethods } from '#proto/site/schema.ts';
import type { Lister, Runnable } from '#runtime/contracts.ts';
import { answering, type PeerChannels, PeerError, type PeerMethod } from './contract.ts';
import type { PeerStates, PeerView } from './peer-states.ts';

/** Versions of the protocol between gateways that this one speaks. */
export const peerProtocols: readonly number[] = [1];

/** Every peer is greeted so often, milliseconds. */
const greetMs = 4000;
/** An answer has to be there in this time, milliseconds. */
const answerMs = 4000;
/** A peer that is silent for so long counts as away: a lost greeting or two is a glitch, and 15 s are never reached. Milliseconds. */
const silenceMaxMs = 10_000;
const wordMax = 63;

/** What this site says of itself. */
export interface OwnFacts {
  readonly sites: Pick<Lister<Site>, 'get'>;
  readonly localSite: string;
  readonly version: string;
}

/** Answers greetings. */
export function helloMethod({ sites, localSite, version }: OwnFacts): PeerMethod {
  return answering(peerMethods.Hello, async ({ site, protocols }, caller) => {
    if (site !== caller.site)
      throw new PeerError(
        'Refused',
        `This site knows you by another name, ${caller.site}: a Site object has to bear the name of its site.`,
      );
    agree(protocols);
    const { nodes } = sites.get({ name: localSite })?.status ?? {};
    const [count, ready] = [nodes?.count ?? 0, nodes?.ready ?? 0];
    return Promise.resolve({
      site: localSite,
      protocols: [...peerProtocols],
      version,
      nodes: count,
      nodesReady: ready,
    });
  });
}

/** @returns the newest version that both speak. @throws {PeerError} when there is none. */
function agree(offered: readonly number[]): number {
  const common = peerProtocols.filter((protocol) => offered.includes(protocol));
  if (common.length > 0) return Math.max(...common);
  const [theirs, ours] = [offered.slice(0, 16).join(', '), peerProtocols.join(', ')];
  throw new PeerError(
    'Refused',
    `No version of the protocol is common: ${theirs} there, ${ours} here. Upgrade the older site.`,
  );
}

/** What greeting takes. */
export interface GreeterParts {
  readonly channels: PeerChannels;
  readonly states: PeerStates;
  readonly clock: Clock;
  readonly localSite: string;
  readonly synced: (signal: AbortSignal) => Promise<void>;
}

/** Greets every peer again and again, so that the Site objects tell which are there. The leader does it for all replicas. */
export class PeerGreeter implements Runnable {
  readonly name = 'peer-greeter';
  private readonly parts: GreeterParts;

  constructor(parts: GreeterParts) {
    this.parts = parts;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { channels, states, clock } = this.parts;
    let wake = (): void => undefined;
    const stopListening = channels.onChange(() => wake());
    try {
      await this.parts.synced(signal);
      while (!signal.aborted) {
        // A change while peers are greeted counts too.
        const changed = new AbortController();
        wake = () => changed.abort();
        const names = channels.names();
        states.keepOnly(names);
        await Promise.all(names.map(async (site) => states.set(site, await this.greet(site, signal))));
        await clock.sleep(greetMs, AbortSignal.any([signal, changed.signal])).catch(() => undefined);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      stopListening();
    }
  }

  private async greet(site: string, signal: AbortSignal): Promise<PeerView> {
    const { channels, states, clock, localSite } = this.parts;
    const before = states.get(site);
    try {
      const request = { site: localSite, protocols: [...peerProtocols] };
      const answer = await channels.channel(site).call(peerMethods.Hello, request, { timeoutMs: answerMs, signal });
      agree(answer.protocols);
      if (answer.site !== site)
        throw new PeerError(
          'Refused',
          `It calls itself ${clean(answer.site)}: a Site object has to bear the name of its site.`,
        );
      const nodesReady = Math.min(answer.nodes, answer.nodesReady);
      const facts = { version: clean(answer.version), nodes: Math.min(answer.nodes, 1_000_000), nodesReady };
      return { state: 'Connected', message: '', seenMs: clock.now(), ...facts };
    } catch (error) {
      if (!(error instanceof PeerError)) throw error;
      const known = before ?? { seenMs: undefined, version: '', nodes: 0, nodesReady: 0 };
      const isAway = error.reason === 'Unreachable' || error.reason === 'Cut' || error.reason === 'Unknown';
      const isGlitch = isAway && before?.state === 'Connected' && clock.now() - (before.seenMs ?? 0) < silenceMaxMs;
      if (isGlitch) return before;
      return { ...known, state: isAway ? 'Unreachable' : 'Refused', message: error.message };
    }
  }
}

/** What a peer says of itself, fit for a status. */
function clean(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, ' ').slice(0, wordMax);
}

import { describeError } from '#common/errors.ts';
import type { Clock } from '#common/clock.ts';
import { type PeerChannels, PeerError } from '#operator/gateway/peers/contract.ts';
import { ask, type Found } from '#operator/scheduling/ask.ts';
import { addRefusals, refusedAt } from '#operator/scheduling/refusals.ts';
import { decodeOffer, decodeSummary, encodeHold, encodeQuery } from '#proto/selector/codec.ts';
import {
  type ClaimName,
  type HoldAnswer,
  type HoldRequest,
  type LiveUpdate,
  type Offer,
  type Query,
  type Refusals,
  type ResourceSelection,
  type Selected,
  type SelectOptions,
  SelectorUnavailableError,
  UnknownClaimError,
} from '#proto/selector/contract.ts';
import { selectorMethods } from '#proto/selector/schema.ts';
import { workMethods } from '#proto/site/schema.ts';
import type { SharedOrganizations } from './shared.ts';

/** A peer that did not answer is left alone for so long: nobody should wait for it each time. */
const pauseMs = 5_000;
/** What a peer has for its answer. */
const peerTimeoutMs = 3_000;

/** What a {@link SitesSelection} works with. */
export interface SitesSelectionParts {
  /** The selector of this site. */
  readonly local: ResourceSelection;
  readonly channels: PeerChannels;
  readonly shared: SharedOrganizations;
  readonly siteName: string;
  readonly clock: Clock;
}

/**
 * The nodes of all sites that share a virtual organization: a query goes to the selector of this site and, through their gateways, to those
 * of the peers, each of which checks its own rules. A node of a peer is held through the gateway of its site.
 */
export class SitesSelection implements ResourceSelection {
  private readonly parts: SitesSelectionParts;
  /** Until when a peer is left alone (monotonic). */
  private readonly pausedUntil = new Map<string, number>();

  constructor(parts: SitesSelectionParts) {
    this.parts = parts;
  }

  async *select(query: Query, options: SelectOptions): AsyncGenerator<Selected> {
    const { siteName } = this.parts;
    const none: Found = { offers: [], refusals: {}, visited: 0, isWhole: true };
    const isWanted = (site: string): boolean =>
      query.sites?.in?.includes(site) !== false && query.sites?.notIn?.includes(site) !== true;
    const found = await Promise.all([
      isWanted(siteName) ? this.askLocal(query, options) : none,
      ...this.peersFor(query.virtualOrganization)
        .filter(isWanted)
        .map(async (site) => this.askPeer(site, query, options)),
    ]);
    for (const { offers } of found) for (const offer of offers) yield { offer };
    const refusals: Record<string, number> = {};
    for (const each of found) addRefusals(refusals, each.refusals);
    const visited = found.reduce((sum, each) => sum + each.visited, 0);
    const isExhausted = found.every(({ isWhole }) => isWhole);
    yield { summary: { refusals, isExhausted, unreached: 0, visited, falseVisits: 0, hops: 0 } };
  }

  async hold(address: string, request: HoldRequest): Promise<HoldAnswer> {
    const far = placeOf(address);
    if (far === undefined) return this.parts.local.hold(address, request);
    // Who asks, and what the hold belongs to, the other site says itself.
    const hold = selectorMethods.Hold.requestSerialize({ ...encodeHold(request), ownerReference: null });
    try {
      const answer = await this.parts.channels.channel(far.site).call(workMethods.Hold, { node: far.node, hold });
      return answer.granted
        ? { granted: true, ttlMs: answer.ttlMs }
        : { granted: false, reason: refusedAt(answer.reason, far.site) };
    } catch (error) {
      throw unavailable(error, far.site);
    }
  }

  async release(address: string, claim: ClaimName): Promise<void> {
    const far = placeOf(address);
    if (far === undefined) return this.parts.local.release(address, claim);
    try {
      await this.parts.channels.channel(far.site).call(workMethods.Release, { node: far.node, id: claim.id });
    } catch (error) {
      throw unavailable(error, far.site);
    }
  }

  async confirm(address: string, claim: ClaimName): Promise<void> {
    const far = placeOf(address);
    if (far === undefined) return this.parts.local.confirm(address, claim);
    try {
      await this.parts.channels.channel(far.site).call(workMethods.Confirm, { node: far.node, id: claim.id });
    } catch (error) {
      if (error instanceof PeerError && error.reason === 'NotFound')
        throw new UnknownClaimError(`Site ${far.site}: ${error.message}`, { cause: error });
      throw unavailable(error, far.site);
    }
  }

  watch(address: string, predicates: readonly string[], signal: AbortSignal): AsyncIterable<LiveUpdate> {
    return this.parts.local.watch(address, predicates, signal);
  }

  close(): void {
    this.parts.local.close();
  }

  /** What the selector of this site offers is here, whatever it calls the site. */
  private async askLocal(query: Query, options: SelectOptions): Promise<Found> {
    const { local, siteName } = this.parts;
    const found = await ask(local, query, options);
    const offers = found.offers.map((offer) => ({ ...offer, site: siteName, id: `${siteName}/${offer.node}` }));
    return { ...found, offers };
  }

  private peersFor(virtualOrganization: string): string[] {
    const { channels, shared, clock } = this.parts;
    return channels
      .names()
      .filter((site) => shared.has(site, virtualOrganization))
      .filter((site) => (this.pausedUntil.get(site) ?? -Infinity) <= clock.monotonic());
  }

  /** What a peer has. A peer that refuses or does not answer is no more than a reason. */
  private async askPeer(site: string, query: Query, options: SelectOptions): Promise<Found> {
    const offers: Offer[] = [];
    let [refusals, visited, isWhole]: [Refusals, number, boolean] = [{}, 0, false];
    const timeoutMs = Math.min(options.timeoutMs, peerTimeoutMs);
    const request = { query: encodeQuery(query), wanted: options.wanted, timeoutMs };
    try {
      const channel = this.parts.channels.channel(site);
      const answers = channel.stream(selectorMethods.Select, once(request), { timeoutMs });
      for await (const { offer, summary } of answers) {
        if (offer !== undefined) {
          const { node, ...rest } = decodeOffer({ ...offer, site, address: 'gateway:7443' });
          offers.push({ ...rest, node, site, id: `${site}/${node}`, address: addressOf({ site, node }) });
        } else if (summary !== undefined) {
          const read = decodeSummary(summary);
          ({ visited } = read);
          refusals = Object.fromEntries(Object.entries(read.refusals).map(([why, n]) => [refusedAt(why, site), n]));
          isWhole = read.isExhausted && read.unreached === 0;
        }
      }
    } catch (error) {
      if (!(error instanceof PeerError) || error.reason !== 'Refused')
        this.pausedUntil.set(site, this.parts.clock.monotonic() + pauseMs);
      refusals = { [refusedAt(describeError(error).slice(0, 200), site)]: 1 };
      // Its nodes may match: only it knows.
      visited = Math.max(1, visited);
    }
    return { offers, refusals, visited, isWhole };
  }
}

async function* once<T>(message: T): AsyncGenerator<T> {
  yield await Promise.resolve(message);
}

interface Place {
  readonly site: string;
  readonly node: string;
}

/** The node of a peer as an address; those of selectors have no `@`. */
const addressOf = ({ site, node }: Place): string => `${node}@${site}`;

function placeOf(address: string): Place | undefined {
  const at = address.lastIndexOf('@');
  return at === -1 ? undefined : { node: address.slice(0, at), site: address.slice(at + 1) };
}

function unavailable(error: unknown, site: string): SelectorUnavailableError {
  return new SelectorUnavailableError(`Site ${site}: ${describeError(error)}`, { cause: error });
}

import { remember } from '#common/remember.ts';
import { describeError } from '#common/errors.ts';
import type { Clock } from '#common/clock.ts';
import { answering, type PeerCaller, PeerError, type PeerMethod, streaming } from '#operator/gateway/peers/contract.ts';
import { ask } from '#operator/scheduling/ask.ts';
import { decodeHold, decodeQuery, encodeOffer, encodeSummary } from '#proto/selector/codec.ts';
import {
  type HoldRequest,
  queryLimits,
  type ResourceSelection,
  SelectorUnavailableError,
  UnknownClaimError,
} from '#proto/selector/contract.ts';
import { selectorMethods } from '#proto/selector/schema.ts';
import type * as wire from '#proto/selector/wire.ts';
import { workMethods } from '#proto/site/schema.ts';
import { holderOf, type PeerClaims } from './peer-claims.ts';
import type { SharedOrganizations } from './shared.ts';

/** Promised to a peer, and not older than it may be used. */
export interface Promised {
  readonly node: string;
  readonly virtualOrganization: string;
  readonly untilMs: number;
}

/** Addresses of selectors, and promises, that are remembered. */
const rememberedMax = 8_192;
const wantedMax = 1_000;
const selectTimeoutMs = 5_000;
const seekPauseMs = 5_000;

/** Finds nodes of this site for peers, and has them promise resources; the rules of this site hold for them as for its own jobs. */
export class HostedSelection {
  private readonly selection: ResourceSelection;
  private readonly shared: SharedOrganizations;
  private readonly claims: PeerClaims;
  private readonly clock: Clock;
  /** Where nodes that were offered are reached: a peer names nodes, never addresses. */
  private readonly addresses = new Map<string, string>();
  private readonly promises = new Map<string, Promised>();
  /** When nodes were asked who they are (monotonic). */
  private soughtAt = -Infinity;

  constructor(selection: ResourceSelection, shared: SharedOrganizations, claims: PeerClaims, clock: Clock) {
    this.selection = selection;
    this.shared = shared;
    this.claims = claims;
    this.clock = clock;
  }

  /** What peers may call. */
  methods(): PeerMethod[] {
    return [
      streaming(selectorMethods.Select, (requests, caller) => this.select(requests, caller)),
      answering(workMethods.Hold, async ({ node, hold }, caller) =>
        this.hold(node, decodeHold(selectorMethods.Hold.requestDeserialize(Buffer.from(hold))), caller),
      ),
      answering(workMethods.Confirm, async ({ node, id }, caller) => this.confirm(node, id, caller)),
      answering(workMethods.Release, async ({ node, id }, caller) => {
        const address = this.addresses.get(node);
        if (address !== undefined) await this.selection.release(address, { id, owner: holderOf(caller.site) });
        this.promises.delete(promiseKey(caller.site, id));
        return {};
      }),
    ];
  }

  /** Whether tasks of a peer may draw from a Claim. */
  mayDraw(site: string, virtualOrganization: string, claim: string): boolean {
    return this.claims.isOf(site, virtualOrganization, claim);
  }

  /** Whether a node promised its resources under this id to the peer just now. */
  isPromised(site: string, id: string | undefined, node: string, virtualOrganization: string): boolean {
    const promise = this.promises.get(promiseKey(site, id ?? ''));
    if (promise === undefined || promise.untilMs < this.clock.monotonic()) return false;
    return promise.node === node && promise.virtualOrganization === virtualOrganization;
  }

  private async *select(
    requests: AsyncIterable<wire.SelectRequest>,
    caller: PeerCaller,
  ): AsyncGenerator<wire.SelectResponse> {
    for await (const { query: encoded, wanted, timeoutMs } of requests) {
      const query = decodeQuery(encoded);
      this.check(query.virtualOrganization, caller);
      const options = {
        wanted: Math.min(wantedMax, Math.max(1, wanted)),
        timeoutMs: Math.min(selectTimeoutMs, Math.max(1, timeoutMs)),
      };
      try {
        for await (const message of this.selection.select(query, options)) {
          if ('summary' in message) yield { summary: encodeSummary(message.summary) };
          else {
            const { offer } = message;
            remember(this.addresses, offer.node, offer.address, rememberedMax);
            yield { offer: { ...encodeOffer(offer), address: 'gateway:7443' } };
          }
        }
      } catch (error) {
        throw translated(error);
      }
      return;
    }
  }

  private async hold(
    node: string,
    request: HoldRequest,
    caller: PeerCaller,
  ): Promise<{ granted: boolean; ttlMs: number; reason: string }> {
    const { virtualOrganization, id } = request;
    this.check(virtualOrganization, caller);
    const refused = (reason: string): { granted: boolean; ttlMs: number; reason: string } => ({
      granted: false,
      ttlMs: 0,
      reason,
    });
    // Who asks is told by the channel; no object here owns it, and what is reserved is drawn from by who reserved it.
    const {
      demand,
      ttlMs,
      span,
      isPreemptible = false,
      isReservation = false,
      isDraining = false,
      reservation,
    } = request;
    if (reservation !== undefined && !this.claims.isOf(caller.site, virtualOrganization, reservation))
      return refused(`Reservation ${reservation} is not there, or another site's`);
    const address =
      this.addresses.get(node) ?? (reservation === undefined ? undefined : await this.seek(node, virtualOrganization));
    if (address === undefined) return refused(`Node ${node} was not offered through this gateway: ask anew`);
    const asked = {
      ...{ id, virtualOrganization, demand, ttlMs, isPreemptible, isReservation, isDraining },
      ...(span === undefined ? {} : { span }),
      ...(reservation === undefined ? {} : { reservation }),
    };
    try {
      const answer = await this.selection.hold(address, { ...asked, owner: holderOf(caller.site) });
      if (!answer.granted) return refused(answer.reason);
      const untilMs = this.clock.monotonic() + answer.ttlMs;
      remember(this.promises, promiseKey(caller.site, id), { node, virtualOrganization, untilMs }, rememberedMax);
      return { granted: true, ttlMs: answer.ttlMs, reason: '' };
    } catch (error) {
      throw translated(error);
    }
  }

  private async confirm(node: string, id: string, caller: PeerCaller): Promise<Record<string, never>> {
    const promise = this.promises.get(promiseKey(caller.site, id));
    if (promise?.node !== node) throw new PeerError('NotFound', `Node ${node} holds nothing of this name: hold anew.`);
    this.check(promise.virtualOrganization, caller);
    const address = this.addresses.get(node) ?? '';
    try {
      await this.selection.confirm(address, { id, owner: holderOf(caller.site) });
      return {};
    } catch (error) {
      if (error instanceof UnknownClaimError) throw new PeerError('NotFound', describeError(error), { cause: error });
      throw translated(error);
    }
  }

  /** Where a node is on which a peer has slots, and has had since before this process was started: nodes are asked who they are. */
  private async seek(node: string, virtualOrganization: string): Promise<string | undefined> {
    if (this.clock.monotonic() - this.soughtAt < seekPauseMs) return undefined;
    this.soughtAt = this.clock.monotonic();
    const query = {
      id: `seek-${Math.floor(this.soughtAt)}`,
      constraints: [],
      predicates: [],
      demand: {},
      virtualOrganization,
    };
    const found = await ask(this.selection, query, { wanted: queryLimits.wanted, timeoutMs: selectTimeoutMs });
    for (const { node: each, address } of found.offers) remember(this.addresses, each, address, rememberedMax);
    return this.addresses.get(node);
  }

  private check(virtualOrganization: string, caller: PeerCaller): void {
    caller.charge(virtualOrganization);
    if (this.shared.has(caller.site, virtualOrganization)) return;
    throw notShared(virtualOrganization);
  }
}

/** The refusal of a virtual organization that the owner of this site does not share with the peer. */
export function notShared(virtualOrganization: string): PeerError {
  return new PeerError(
    'Refused',
    `This site does not share ${JSON.stringify(virtualOrganization)} with yours: its owner adds it to spec.peer.virtualOrganizations of your Site.`,
  );
}

const promiseKey = (site: string, id: string): string => `${site}/${id}`;

function translated(error: unknown): unknown {
  if (error instanceof SelectorUnavailableError)
    return new PeerError('Busy', `Nodes can not be asked now: ${describeError(error)}`, { cause: error });
  return error;
}

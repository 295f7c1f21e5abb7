import { describeError } from '#common/errors.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { type ClaimObject, claims } from '#crds/claim.ts';
import { type PeerChannels } from '#operator/gateway/peers/contract.ts';
import { workMethods } from '#proto/site/schema.ts';
import type { Client, Informer, Runnable } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';

/** What an {@link AwayClaims} works with. */
export interface AwayClaimsParts {
  readonly claims: Informer<ClaimObject>;
  readonly channels: PeerChannels;
  readonly client: Client;
  readonly clock: Clock;
  readonly log: Logger;
}

const compareEveryMs = 5_000;
/** The peer may not have seen before what its node has just written. */
const settledMs = 15_000;
const timeoutMs = 5_000;

/**
 * Compares what peers have promised to reservations of this site with the record of it here, the Claims that name a site. A promise that is not there
 * any more loses its record, so that the reservation looks for other slots; what has no record here the peer gives back. A peer that can not be asked
 * keeps its promise.
 */
export class AwayClaims implements Runnable {
  readonly name = 'away-claims';
  private readonly parts: AwayClaimsParts;
  /** What each peer said of its clock last. */
  private readonly heard = new Map<string, number>();

  constructor(parts: AwayClaimsParts) {
    this.parts = parts;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { claims: cache, channels, clock, log } = this.parts;
    await cache.synced(signal).catch(() => undefined);
    while (!signal.aborted) {
      await Promise.all(
        channels.names().map(async (site) =>
          this.compare(site, signal).catch((error: unknown) => {
            if (!signal.aborted) log.debug('A site was not reached', { site, problem: describeError(error) });
          }),
        ),
      );
      await clock.sleep(compareEveryMs, signal).catch(() => undefined);
    }
  }

  /** One comparison with one peer. */
  async compare(site: string, signal: AbortSignal): Promise<void> {
    const { claims: cache, channels, clock, client, log } = this.parts;
    const records = cache.list().filter((claim) => claim.spec.site === site && !isDeleting(claim));
    const request = { ids: records.map(({ metadata }) => metadata.name), heardMs: this.heard.get(site) ?? 0 };
    const answer = await channels.channel(site).call(workMethods.Claims, request, { signal, timeoutMs });
    this.heard.set(site, answer.nowMs);
    const there = new Set(answer.ids);
    const isLost = ({ metadata: { name, creationTimestamp } }: Stored<ClaimObject>): boolean =>
      !there.has(name) && clock.now() - Date.parse(creationTimestamp) > settledMs;
    for (const { metadata } of records.filter(isLost)) {
      const { namespace, name, uid } = metadata;
      log.info('A site does not keep what it had promised any more', { site, Claim: name });
      await ignoreNotFound(client.of(claims).delete({ namespace, name }, { preconditions: { uid }, signal }));
    }
  }
}

/** Tests the network when the operator begins to act, and then now and again. */
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Site } from '#crds/site.ts';
import type { Lister, Runnable } from '#runtime/contracts.ts';
import type { NetworkTest } from './network-test.ts';
import type { NetworkVerdict } from './progress.ts';

/** What was last found out about the network; lost with the process, and found out anew. */
export class NetworkFindings {
  private verdict: NetworkVerdict | undefined;
  private readonly listeners = new Set<() => void>();

  get(): NetworkVerdict | undefined {
    return this.verdict;
  }

  set(verdict: NetworkVerdict): void {
    this.verdict = verdict;
    for (const listener of this.listeners) listener();
  }

  /** @returns a function that ends it. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }
}

/** What the watch works with. */
export interface NetworkWatchParts {
  readonly test: Pick<NetworkTest, 'run'>;
  readonly findings: NetworkFindings;
  readonly sites: Lister<Site>;
  /** Name of the local Site. */
  readonly localSite: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Networks are changed seldom, and those who change them can have it tested at once. */
const againMs = 6 * 3_600_000;
/** What is not as it should be is looked at sooner: at first after this time, then after twice as long each time. */
const soonMs = 60_000;
const soonMaxMs = 3_600_000;
/** How soon it is noticed that the owner of the site changed their mind on whether there is something to test. */
const offerPollMs = 5_000;

/** Keeps {@link NetworkFindings} true. */
export class NetworkWatch implements Runnable {
  readonly name = 'network-test';
  private readonly parts: NetworkWatchParts;

  constructor(parts: NetworkWatchParts) {
    this.parts = parts;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, findings, log } = this.parts;
    let soon = soonMs;
    while (!signal.aborted) {
      try {
        await this.untilOffered(signal);
        const verdict = await this.test(signal);
        log.info('Tested NetworkPolicy', { ...verdict });
        findings.set(verdict);
        const isGood = verdict.kind === 'Enforced';
        const pause = isGood ? againMs : soon;
        soon = isGood ? soonMs : Math.min(2 * soon, soonMaxMs);
        await clock.sleep(pause, signal);
      } catch (error) {
        if (hasAborted(signal)) return;
        throw error;
      }
    }
  }

  /** What would stop a whole site has to be seen twice: a node may be slow once. */
  private async test(signal: AbortSignal): Promise<NetworkVerdict> {
    const verdict = await this.parts.test.run(signal);
    return verdict.kind === 'NotEnforced' ? this.parts.test.run(signal) : verdict;
  }

  private async untilOffered(signal: AbortSignal): Promise<void> {
    while (!this.isOffered()) await this.parts.clock.sleep(offerPollMs, signal);
  }

  private isOffered(): boolean {
    const site = this.parts.sites.get({ name: this.parts.localSite });
    return site?.spec.type === 'Local' && site.spec.local.networkIsolation === 'Offered';
  }
}

function hasAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

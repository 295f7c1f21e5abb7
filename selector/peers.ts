import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';

/** Gives every address that a host name stands for. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/** The resolver of the system: files, then DNS. */
export const systemResolve: Resolve = async (host) => (await lookup(host, { all: true })).map(({ address }) => address);

/** The others of a new installation appear within seconds: look more often at first. */
const againAfterMs = [1_000, 2_000, 4_000, 8_000, 16_000];
const againEveryMs = 30_000;
/** A headless Service of a large site stands for thousands of nodes; a few are enough to join through. */
const addressesMax = 64;

/**
 * Turns `host:port` into addresses to join through. A name may stand for many nodes, as a headless Service does, and is
 * looked up again every 30 s, at first more often: after a partition or a restart of everybody it leads to those who live.
 */
export class PeerFinder {
  private readonly peers: readonly string[];
  private readonly parts: { readonly clock: Clock; readonly logger: Logger; readonly resolve: Resolve };
  private timer: Timer | undefined;
  private hasStopped = false;
  private rounds = 0;

  constructor(peers: readonly string[], parts: PeerFinder['parts']) {
    this.peers = peers;
    this.parts = parts;
  }

  /** Looks everything up once. A name that can't be resolved yet gives nothing. */
  async find(): Promise<readonly string[]> {
    const found = await Promise.all(this.peers.map(async (peer) => this.addressesOf(peer)));
    return [...new Set(found.flat())].slice(0, addressesMax);
  }

  /** Looks up again and again, until stopped. */
  follow(listener: (addresses: readonly string[]) => void): void {
    if (this.hasStopped || this.peers.length === 0) return;
    this.timer = this.parts.clock.after(
      againAfterMs[this.rounds++] ?? againEveryMs,
      () => {
        void this.find().then((addresses) => {
          if (this.hasStopped) return;
          listener(addresses);
          this.follow(listener);
        });
      },
      { unref: true },
    );
  }

  stop(): void {
    this.hasStopped = true;
    this.timer?.cancel();
  }

  private async addressesOf(peer: string): Promise<readonly string[]> {
    const at = peer.lastIndexOf(':');
    const host = peer.slice(0, at).replace(/^\[(.*)\]$/, '$1');
    if (isIP(host) !== 0) return [peer];
    try {
      const addresses = await this.parts.resolve(host);
      return addresses.map((address) => `${isIP(address) === 6 ? `[${address}]` : address}${peer.slice(at)}`);
    } catch (error) {
      this.parts.logger.info('Peers can not be looked up yet', { host, reason: describeError(error) });
      return [];
    }
  }
}

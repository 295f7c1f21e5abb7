import type { Random } from '#common/random.ts';
import { wireBytes, type Message, type Transport } from '#selector/overlay/messages.ts';
import type { Scheduler } from './scheduler.ts';

/** What the virtual network does to messages. Times in milliseconds. */
export interface NetworkFaults {
  /** Share of messages that vanish. */
  loss: number;
  /** Share of messages that arrive twice. */
  duplication: number;
  /** Extra delay, uniform in [0, reorderMs]: later messages overtake. */
  reorderMs: number;
}

/** Counters since the last {@link SimNetwork.resetCounters}. */
export interface NetworkCounters {
  messages: number;
  bytes: number;
  /** Bytes and messages by type. */
  readonly byType: Map<string, { messages: number; bytes: number }>;
}

/**
 * A network on a virtual clock. Sites lie in a plane, one-way 5 to 45 ms apart; inside a site a message takes 0.3 to
 * 1 ms. Messages are passed by reference and never changed, so only their size is computed.
 */
export class SimNetwork {
  readonly faults: NetworkFaults = { loss: 0, duplication: 0, reorderMs: 0 };
  counters: NetworkCounters = { messages: 0, bytes: 0, byType: new Map() };
  private readonly scheduler: Scheduler;
  private readonly random: Random;
  private readonly receivers = new Map<string, { receive: (message: Message) => void; place: Place; side: number }>();
  private readonly places = new Map<string, Place>();

  constructor(scheduler: Scheduler, random: Random) {
    this.scheduler = scheduler;
    this.random = random;
  }

  /** Plugs a node in; the transport sends from it. */
  attach(address: string, site: string, receive: (message: Message) => void): Transport {
    const place = this.placeOf(site);
    const own = { receive, place, side: 0 };
    this.receivers.set(address, own);
    return { send: (to, message) => this.send(own, to, message) };
  }

  /** Unplugs a node: what is sent to it vanishes. */
  detach(address: string): void {
    this.receivers.delete(address);
  }

  /** Puts a node on a side; messages pass only between nodes of the same side. */
  setSide(address: string, side: number): void {
    const receiver = this.receivers.get(address);
    if (receiver !== undefined) receiver.side = side;
  }

  resetCounters(): void {
    this.counters = { messages: 0, bytes: 0, byType: new Map() };
  }

  /** One-way delay between two sites, without jitter. */
  delayBetween(a: Place, b: Place): number {
    return a === b ? 0.3 : 5 + 40 * Math.min(1, Math.hypot(a.x - b.x, a.y - b.y));
  }

  /** Where a site lies; made on first use. */
  placeOf(site: string): Place {
    let place = this.places.get(site);
    if (place === undefined) {
      place = { x: this.random.next(), y: this.random.next() };
      this.places.set(site, place);
    }
    return place;
  }

  private send(from: { place: Place; side: number }, to: string, message: Message): void {
    this.count(message);
    const { faults } = this;
    if (faults.loss > 0 && this.random.next() < faults.loss) return;
    const copies = faults.duplication > 0 && this.random.next() < faults.duplication ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const target = this.receivers.get(to);
      if (target === undefined) return;
      const jitter = 0.7 * this.random.next() + (faults.reorderMs > 0 ? faults.reorderMs * this.random.next() : 0);
      const delay = this.delayBetween(from.place, target.place) + jitter;
      this.scheduler.post(delay, () => {
        // Looked up again: the node may have gone, or the network split, meanwhile.
        const receiver = this.receivers.get(to);
        if (receiver?.side === from.side) receiver.receive(message);
      });
    }
  }

  private count(message: Message): void {
    const bytes = wireBytes(message);
    this.counters.messages++;
    this.counters.bytes += bytes;
    const entry = this.counters.byType.get(message.type);
    if (entry === undefined) this.counters.byType.set(message.type, { messages: 1, bytes });
    else {
      entry.messages++;
      entry.bytes += bytes;
    }
  }
}

/** A point of the unit square. */
export interface Place {
  readonly x: number;
  readonly y: number;
}

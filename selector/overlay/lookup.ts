import type { Clock, Timer } from '#common/clock.ts';
import { sharedBits, type Borders } from './borders.ts';
import type { Descriptor } from './descriptor.ts';

/** Nearest nodes that must have answered before the look-up is done. */
const settledCount = 3;

/** What a look-up needs of its node. */
export interface LookupHost {
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Questions at most. */
  readonly asksMax: number;
  /** Sends the question. @returns its token. */
  ask(descriptor: Descriptor): number;
  forget(token: number): void;
  failed(descriptor: Descriptor): void;
  done(): void;
}

/**
 * Finds the nodes nearest to a key, step by step as Kademlia does: asks the nearest known for nearer ones until the
 * {@link settledCount} nearest have answered. What is found enters the node's tables by the way; asking also makes the
 * asker known where it belongs, so a node that looks up its own key is linked to within a second of joining.
 */
export class Lookup {
  private readonly key: Uint32Array;
  private readonly borders: Borders;
  private readonly host: LookupHost;
  private readonly candidates: { descriptor: Descriptor; score: number; isAsked: boolean }[] = [];
  private asked = 0;
  private waitingFor: { token: number; descriptor: Descriptor; timer: Timer } | undefined;
  private hasEnded = false;

  constructor(key: Uint32Array, borders: Borders, host: LookupHost) {
    this.key = key;
    this.borders = borders;
    this.host = host;
  }

  /** Begins with nodes known; calls `done` at once when there is none. */
  start(from: readonly Descriptor[]): void {
    this.add(from);
    this.next();
  }

  /** The answer to a question of this look-up. */
  onFound(token: number, descriptors: readonly Descriptor[]): void {
    if (this.waitingFor?.token !== token) return;
    this.release();
    this.add(descriptors);
    this.next();
  }

  /** Ends without calling `done`. */
  cancel(): void {
    this.hasEnded = true;
    this.release();
  }

  private add(descriptors: readonly Descriptor[]): void {
    for (const descriptor of descriptors) {
      const { id } = descriptor.profile;
      if (this.candidates.some((candidate) => candidate.descriptor.profile.id === id)) continue;
      const score = sharedBits(descriptor.profile.placement(this.borders).key, this.key, this.borders.keyBits);
      this.candidates.push({ descriptor, score, isAsked: false });
    }
    this.candidates.sort((a, b) => b.score - a.score);
    this.candidates.length = Math.min(this.candidates.length, 24);
  }

  private next(): void {
    if (this.hasEnded) return;
    const candidate = this.candidates.slice(0, settledCount).find(({ isAsked }) => !isAsked);
    if (candidate === undefined || this.asked >= this.host.asksMax) {
      this.hasEnded = true;
      this.host.done();
      return;
    }
    candidate.isAsked = true;
    this.asked++;
    const { descriptor } = candidate;
    const token = this.host.ask(descriptor);
    const timer = this.host.clock.after(
      this.host.timeoutMs,
      () => {
        this.release();
        this.candidates.splice(this.candidates.indexOf(candidate), 1);
        this.host.failed(descriptor);
        this.next();
      },
      { unref: true },
    );
    this.waitingFor = { token, descriptor, timer };
  }

  private release(): void {
    if (this.waitingFor === undefined) return;
    this.waitingFor.timer.cancel();
    this.host.forget(this.waitingFor.token);
    this.waitingFor = undefined;
  }
}

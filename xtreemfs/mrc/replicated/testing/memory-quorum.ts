import type { Clock } from '#common/clock.ts';
import type { Random } from '#common/random.ts';
import {
  DeposedError,
  type Leader,
  type LoggedRecord,
  type Member,
  type Quorum,
  type QuorumState,
  type Term,
} from '../quorum.ts';

/** What members share in tests: etcd's promises, without etcd. */
export class SharedState {
  history: string | undefined;
  leader: { readonly leader: Leader; readonly revision: number; expiresAt: number } | undefined;
  revision = 0;
  readonly log = new Map<number, Buffer>();
  readonly members = new Map<string, Member>();
}

/** What goes wrong between one member and the quorum. */
export interface Faults {
  /** Nothing arrives in either direction. */
  isCutOff: boolean;
  /** One in so many requests gets lost, and one in so many answers; 0 for none. */
  lossOneIn: number;
}

/**
 * A member's way to the shared state. The time of the quorum is `clock` as it is; a member may have another one.
 * Each call takes a while; requests and answers may get lost.
 */
export class MemoryQuorum implements Quorum {
  private readonly shared: SharedState;
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly faults: Faults;

  constructor(shared: SharedState, clock: Clock, random: Random, faults: Faults) {
    this.shared = shared;
    this.clock = clock;
    this.random = random;
    this.faults = faults;
  }

  async state(): Promise<QuorumState> {
    return await this.call(() => ({
      history: this.shared.history,
      leader: this.held()?.leader,
      first: this.shared.log.size === 0 ? undefined : Math.min(...this.shared.log.keys()),
      members: [...this.shared.members.values()],
    }));
  }

  async read(after: number): Promise<LoggedRecord[]> {
    return await this.call(() => {
      const numbers = [...this.shared.log.keys()].filter((number) => number > after).sort((a, b) => a - b);
      return numbers.slice(0, 3).map((number) => ({ number, bytes: this.shared.log.get(number) ?? Buffer.alloc(0) }));
    });
  }

  async found(history: string): Promise<string> {
    return await this.call(() => (this.shared.history ??= history));
  }

  async report(member: Member): Promise<void> {
    await this.call(() => void this.shared.members.set(member.uuid, member));
  }

  async campaign(leader: Leader, termMs: number): Promise<Term | undefined> {
    return await this.call(() => {
      if (this.held() !== undefined) return undefined;
      const revision = ++this.shared.revision;
      this.shared.leader = { leader, revision, expiresAt: this.clock.monotonic() + termMs };
      return this.term(revision, termMs);
    });
  }

  close(): void {
    this.faults.isCutOff = true;
  }

  private term(revision: number, termMs: number): Term {
    const fenced = async (work: () => void): Promise<void> =>
      await this.call(() => {
        if (this.held()?.revision !== revision) throw new DeposedError('another leads');
        work();
      });
    return {
      renew: async () =>
        await fenced(() => {
          if (this.shared.leader !== undefined) this.shared.leader.expiresAt = this.clock.monotonic() + termMs;
        }),
      append: async (number, bytes) => await fenced(() => void this.shared.log.set(number, Buffer.from(bytes))),
      trim: async (through) =>
        await fenced(() => {
          for (const number of this.shared.log.keys()) if (number <= through) this.shared.log.delete(number);
        }),
      resign: async () => await fenced(() => void (this.shared.leader = undefined)),
    };
  }

  private held(): SharedState['leader'] {
    const { leader } = this.shared;
    if (leader !== undefined && leader.expiresAt <= this.clock.monotonic()) this.shared.leader = undefined;
    return this.shared.leader;
  }

  private async call<T>(work: () => T): Promise<T> {
    await this.travel();
    const answer = work();
    await this.travel();
    return answer;
  }

  private async travel(): Promise<void> {
    await this.clock.sleep(this.random.int(4));
    const { isCutOff, lossOneIn } = this.faults;
    if (!isCutOff && (lossOneIn === 0 || this.random.int(lossOneIn) > 0)) return;
    await this.clock.sleep(100);
    throw new Error('no answer from the quorum');
  }
}

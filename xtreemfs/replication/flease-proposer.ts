import type { Clock, Timer } from '#common/clock.ts';
import type { Random } from '#common/random.ts';
import type { AgreedLease } from './flease-acceptor.ts';
import {
  compareProposals,
  FleaseType,
  ignoreEpoch,
  noProposal,
  requestEpoch,
  type FleaseMessage,
  type ProposalNumber,
} from './flease-message.ts';

/** Times of Flease, milliseconds (protocol reference, 16.2). All nodes of a group must have the same. */
export interface FleaseTimers {
  /** How long a lease lasts. */
  readonly leaseMs: number;
  /** Bound of the difference between any two nodes' clocks. */
  readonly dMaxMs: number;
  /** A message older than this is dropped; a round takes twice as long. */
  readonly messageTimeoutMs: number;
  /** Rounds that are tried before giving up. */
  readonly retriesMax: number;
}

/** Upstream's times. */
export const upstreamTimers: FleaseTimers = { leaseMs: 14_000, dMaxMs: 1_000, messageTimeoutMs: 500, retriesMax: 3 };

/** How an attempt ends: a lease that is in force, its holder's new epoch if it is ours; or why there is none. */
export type ProposalOutcome =
  | { readonly lease: AgreedLease; readonly masterEpoch: number; readonly proposal: ProposalNumber }
  | { readonly problem: string; readonly view?: number };

/** What a proposer needs of its cell. */
export interface ProposerDeps {
  readonly identity: string;
  readonly senderId: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly timers: FleaseTimers;
  /** Global time, milliseconds. */
  readonly globalNow: () => number;
  /** Sends to every member, the own acceptor included. */
  readonly broadcast: (message: Omit<FleaseMessage, 'cellId' | 'sentAt' | 'view'>) => void;
  /** Members in all, this node included. */
  readonly groupSize: () => number;
}

/** Why an attempt is made: to get a lease, to keep one's own, or to end one's own for everybody. */
export type ProposalAim = 'obtain' | 'renew' | 'release';

type Phase = 'idle' | 'prepare' | 'accept' | 'wait';

/**
 * The proposer of one cell (protocol reference, 16.4). One attempt runs at a time; `answer` feeds it, `done` ends it.
 * It proposes its own node as holder unless the answers of a majority show a lease that is, or may be, in force.
 */
export class FleaseProposer {
  private readonly deps: ProposerDeps;
  private phase: Phase = 'idle';
  private ballot: ProposalNumber = noProposal;
  private lastPrepareAt = -Infinity;
  private answers = new Map<string, FleaseMessage>();
  private roundsLeft = 0;
  private aim: ProposalAim = 'obtain';
  private proposed: AgreedLease = { holder: '', end: 0 };
  private proposedEpoch = ignoreEpoch;
  private timer: Timer | undefined;
  private done: ((outcome: ProposalOutcome) => void) | undefined;

  constructor(deps: ProposerDeps) {
    this.deps = deps;
  }

  get isBusy(): boolean {
    return this.phase !== 'idle';
  }

  /**
   * Begins an attempt. Only `obtain` asks for a new master epoch.
   */
  start(aim: ProposalAim, done: (outcome: ProposalOutcome) => void): void {
    this.cancel();
    this.done = done;
    this.aim = aim;
    this.roundsLeft = this.deps.timers.retriesMax + 1;
    this.prepare();
  }

  /** Drops the attempt without an outcome. */
  cancel(): void {
    this.timer?.cancel();
    this.phase = 'idle';
    this.done = undefined;
  }

  /** Takes an answer. @param from - tells the members apart. */
  answer(from: string, message: FleaseMessage): void {
    const { type } = message;
    const isExpected =
      this.phase === 'prepare'
        ? type === FleaseType.PREPARE_ACK || type === FleaseType.PREPARE_NACK || type === FleaseType.WRONG_VIEW
        : this.phase === 'accept' &&
          (type === FleaseType.ACCEPT_ACK || type === FleaseType.ACCEPT_NACK || type === FleaseType.WRONG_VIEW);
    if (!isExpected || compareProposals(message.proposal, this.ballot) !== 0) return;
    const ahead = message.sentAt - this.deps.globalNow();
    if (ahead > this.deps.timers.dMaxMs) {
      this.end({ problem: `the clock of ${from} is ${ahead} ms ahead; synchronize the clocks` });
      return;
    }
    this.answers.set(from, message);
    if (this.answers.size < Math.floor(this.deps.groupSize() / 2) + 1) return;
    this.decide();
  }

  private prepare(): void {
    if (this.roundsLeft-- <= 0) {
      this.end({ problem: 'no majority of the replicas answered in time' });
      return;
    }
    const now = this.deps.globalNow();
    const { leaseMs } = this.deps.timers;
    // After a pause the clock sets the ballot, so that a node that lost its memory does not fall behind for long.
    const next = now - this.lastPrepareAt > leaseMs ? Math.max(now, this.ballot.number + 1) : this.ballot.number + 1;
    this.lastPrepareAt = now;
    this.ballot = { number: next, senderId: this.deps.senderId };
    this.phase = 'prepare';
    this.answers = new Map();
    this.armRound();
    this.deps.broadcast({
      type: FleaseType.PREPARE,
      proposal: this.ballot,
      previous: noProposal,
      leaseEnd: now + leaseMs,
      holder: this.deps.identity,
      masterEpoch: this.aim === 'obtain' ? requestEpoch : ignoreEpoch,
    });
  }

  private decide(): void {
    const answers = [...this.answers.values()];
    const wrongView = answers.find(({ type }) => type === FleaseType.WRONG_VIEW);
    if (wrongView !== undefined) {
      this.end({ problem: 'the replica set has changed', view: wrongView.view });
      return;
    }
    const nacks = answers.filter(({ type }) => type === FleaseType.PREPARE_NACK || type === FleaseType.ACCEPT_NACK);
    if (nacks.length > 0) {
      const highest = Math.max(this.ballot.number, ...nacks.map(({ previous }) => previous.number));
      this.ballot = { ...this.ballot, number: highest + this.deps.random.int(10) };
      this.retryLater();
      return;
    }
    if (this.phase === 'prepare') this.propose(answers);
    else this.agreed();
  }

  /** A majority promised: proposes an old lease that is or may be in force, else ours. */
  private propose(answers: readonly FleaseMessage[]): void {
    const { identity, timers, globalNow } = this.deps;
    const latest = answers.reduce((best, answer) =>
      compareProposals(answer.previous, best.previous) > 0 ? answer : best,
    );
    const now = globalNow();
    const isOver = latest.holder === '' || latest.leaseEnd + timers.dMaxMs < now;
    if (this.aim !== 'obtain' && latest.holder !== identity) {
      this.end({ problem: 'the lease is not held by this node' });
      return;
    }
    const isOurs = latest.holder === identity || isOver;
    this.proposed = isOurs
      ? { holder: identity, end: now + timers.leaseMs }
      : { holder: latest.holder, end: latest.leaseEnd };
    if (this.aim === 'release') this.proposed = { holder: '', end: 0 };
    const highestEpoch = Math.max(0, ...answers.map(({ masterEpoch }) => masterEpoch));
    this.proposedEpoch = isOurs && this.aim === 'obtain' ? highestEpoch + 1 : ignoreEpoch;
    this.phase = 'accept';
    this.answers = new Map();
    this.armRound();
    this.deps.broadcast({
      type: FleaseType.ACCEPT,
      proposal: this.ballot,
      previous: noProposal,
      leaseEnd: this.proposed.end,
      holder: this.proposed.holder,
      masterEpoch: this.proposedEpoch,
    });
  }

  /** A majority accepted: the lease is what was proposed, if it is still in force. */
  private agreed(): void {
    const { timers, globalNow, clock } = this.deps;
    const { end } = this.proposed;
    const now = globalNow();
    if (end - timers.dMaxMs > now || this.aim === 'release') {
      this.end({ lease: this.proposed, masterEpoch: this.proposedEpoch, proposal: this.ballot });
      return;
    }
    // Over for some clocks and not for others: wait until it is over for all.
    this.phase = 'wait';
    this.timer?.cancel();
    this.roundsLeft = timers.retriesMax + 1;
    this.timer = clock.after(Math.max(0, end + timers.dMaxMs - now) + 1, () => this.prepare());
  }

  private armRound(): void {
    this.timer?.cancel();
    this.timer = this.deps.clock.after(2 * this.deps.timers.messageTimeoutMs, () => this.retryLater());
  }

  private retryLater(): void {
    this.phase = 'wait';
    this.timer?.cancel();
    this.timer = this.deps.clock.after(50 + this.deps.random.int(100), () => this.prepare());
  }

  private end(outcome: ProposalOutcome): void {
    const { done } = this;
    this.cancel();
    done?.(outcome);
  }
}

import type { Clock } from '#common/clock.ts';
import { describeError, TerminalError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import type { DurableStore } from '../store/durable-store.ts';
import { readFrame, type CommitLog } from '../store/log.ts';
import { DeposedError, type Leader, type Quorum, type QuorumState, type Term } from './quorum.ts';
import { QuorumLog } from './quorum-log.ts';

/** What a replica is made of. */
export interface ReplicaOptions {
  readonly quorum: Quorum;
  /** This process, as it would be named as the leader. */
  readonly self: Leader;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Opens the store over `log`, with the leader's part done by `prepareDatabase`. */
  readonly openStore: (log: CommitLog) => Promise<DurableStore>;
  /** Called once, when this process leads and its store has everything: it may serve from now on. */
  readonly onLead: (store: DurableStore) => Promise<void>;
  /** Called while this process leads and another member has joined. */
  readonly onMembers?: () => void;
  /** The process should end and start again: it does not lead any more, or can't go on. */
  readonly onEnd: (error: Error) => void;
  /** How long the others wait for a leader that is silent. Default 4,000. */
  readonly termMs?: number;
  /** Default 200. */
  readonly pollMs?: number;
  /** Default 5,000. */
  readonly reportMs?: number;
  /** Log that is kept for members that are away, bytes. Default 256 MiB. */
  readonly logBytesMax?: number;
}

/** Part of a term that is not used: for the drift of clocks, and for an etcd leader that has just been replaced. */
const unusedShare = 0.25;
/** Random part of the wait before a campaign, so that members don't all try at once. */
const campaignSpreadMs = 50;
/** How long a stop waits for the last records to be acknowledged. */
const stopPatienceMs = 5_000;

/**
 * One process of a replicated MRC: follows the log that all share, and leads when nobody else does.
 *
 *     follow ──(nobody leads, everything read)──▶ campaign ──(won, rest read)──▶ lead ──(deposed)──▶ end of the process
 *
 * A leader is current while its term, reckoned from before each renewal was sent, has not run out by its own monotonic
 * clock: until then nobody else can have acknowledged anything. Its writes need no clock, for etcd refuses them.
 */
export class Replica {
  readonly store: DurableStore;
  private readonly options: ReplicaOptions;
  private readonly log: QuorumLog;
  private readonly abort = new AbortController();
  private loop: Promise<void> | undefined;
  private renewals: Promise<void> | undefined;
  private term: Term | undefined;
  private isServing = false;
  private currentUntil = 0;
  private seen: QuorumState | undefined;
  private waiters: (() => void)[] = [];

  private constructor(options: ReplicaOptions, log: QuorumLog, store: DurableStore) {
    this.options = options;
    this.log = log;
    this.store = store;
  }

  /** Opens the store and begins to follow. */
  static async start(options: ReplicaOptions): Promise<Replica> {
    const log = new QuorumLog(options.clock);
    const replica = new Replica(options, log, await options.openStore(log));
    replica.loop = replica.run().catch((error: unknown) => replica.end(error));
    return replica;
  }

  /** Whether this process leads, and nobody else can have acknowledged anything by now. */
  get isCurrent(): boolean {
    return this.term !== undefined && this.options.clock.monotonic() < this.currentUntil;
  }

  /** Whether this process is the one that serves. */
  get isLeading(): boolean {
    return this.isServing;
  }

  /** Who serves, as far as this process knows. */
  get leader(): Leader | undefined {
    const { self } = this.options;
    if (this.term !== undefined) return this.isServing ? self : undefined;
    // A term of this process before it was started again serves nobody.
    return this.seen?.leader?.uuid === self.uuid ? undefined : this.seen?.leader;
  }

  /** UUIDs of the other members. */
  get others(): readonly string[] {
    return (this.seen?.members ?? []).map(({ uuid }) => uuid).filter((uuid) => uuid !== this.options.self.uuid);
  }

  /** Resolves with the leader once there is one; undefined after `patienceMs`. */
  async findLeader(patienceMs: number): Promise<Leader | undefined> {
    const { clock } = this.options;
    const end = clock.monotonic() + patienceMs;
    while (this.leader === undefined && clock.monotonic() < end && !this.isEnded()) {
      await new Promise<void>((resolve) => {
        const timer = clock.after(end - clock.monotonic(), resolve, { unref: true });
        this.waiters.push(() => {
          timer.cancel();
          resolve();
        });
      });
    }
    return this.leader;
  }

  /** Ends the lead, so that another member goes on at once; callers are told to ask again from now on. */
  async handOver(): Promise<void> {
    if (!this.isEnded()) this.abort.abort(new Error('The MRC stops'));
    await this.loop;
    await this.renewals;
    this.isServing = false;
    this.currentUntil = 0;
    const { term } = this;
    if (term === undefined) return;
    const patience = this.options.clock.after(stopPatienceMs, () => this.log.end(), { unref: true });
    await this.store.settle().catch(() => undefined); // its failure was told
    patience.cancel();
    this.log.end();
    await term.resign().catch(() => undefined);
  }

  /** Gives the lead up and closes the store; calls must have ended. */
  async stop(): Promise<void> {
    await this.handOver();
    await this.store.close().catch(() => undefined);
    this.options.quorum.close();
  }

  private async run(): Promise<void> {
    const { clock, pollMs = 200, reportMs = 5_000 } = this.options;
    let reportedAt = -Infinity;
    while (!this.isEnded()) {
      await this.persist(async () => {
        if (this.term === undefined) await this.follow();
        if (clock.monotonic() - reportedAt < reportMs) return;
        await this.report();
        reportedAt = clock.monotonic();
      });
      await this.pause(pollMs);
    }
  }

  /** One look at the log and the leadership. */
  private async follow(): Promise<void> {
    const { quorum, clock, random, logger, self, termMs = 4_000 } = this.options;
    this.notice(await quorum.state());
    await this.catchUp();
    if (this.seen?.leader !== undefined || this.isEnded()) return;
    await this.pause(random.int(campaignSpreadMs));
    const beganAt = clock.monotonic();
    const term = await quorum.campaign(self, termMs);
    if (term === undefined) return;
    this.term = term;
    this.currentUntil = beganAt + termMs * (1 - unusedShare);
    this.renewals = this.renew(term, termMs).catch((error: unknown) => this.end(error));
    while (!(await this.hasReadRest()));
    if (this.isEnded()) return;
    this.log.begin(term);
    await this.options.onLead(this.store);
    this.isServing = true;
    logger.info('Leading', { uuid: self.uuid, record: this.store.durableTicket });
    this.wake();
  }

  /** What others acknowledged before the election is in the log by now, and nothing can be added but by this term. */
  private async hasReadRest(): Promise<boolean> {
    const isRead = await this.persist(async () => {
      await this.catchUp();
      this.demandNewest(await this.options.quorum.state());
    });
    return isRead || this.isEnded();
  }

  private async catchUp(): Promise<void> {
    const { quorum } = this.options;
    const { store } = this;
    for (let found = await quorum.read(store.durableTicket); found.length > 0;) {
      for (const { number, bytes } of found) {
        if (number !== store.durableTicket + 1) {
          throw new TerminalError(
            `Follow the log: record ${store.durableTicket + 1} is gone, the next one is ${number}; this process starts ` +
              'again and takes the whole database from the leader',
          );
        }
        store.follow(number, readFrame(number, bytes));
        this.log.note(number, bytes.length);
      }
      await store.hasRoom();
      found = await quorum.read(store.durableTicket);
    }
  }

  /** A member that has more than the log ever had: etcd was set back, and going on would let members differ. */
  private demandNewest(state: QuorumState): void {
    const ahead = state.members.find(({ durable }) => durable > this.store.durableTicket);
    if (ahead === undefined) return;
    throw new TerminalError(
      `Lead: etcd ends with record ${this.store.durableTicket}, but member ${ahead.uuid} has ${ahead.durable}: etcd lost what ` +
        'was acknowledged. Restore a dump into empty folders and an empty prefix, or remove the records of members in etcd to go on without them',
    );
  }

  /** Says what is on this disk; the leader then forgets what every member has. */
  private async report(): Promise<void> {
    const { quorum, self, logBytesMax = 256 * 2 ** 20 } = this.options;
    await quorum.report({ uuid: self.uuid, durable: this.store.movedTicket });
    const { term, store } = this;
    if (term === undefined) return;
    const state = await quorum.state();
    this.notice(state);
    const held = Math.min(store.movedTicket, ...state.members.map(({ durable }) => durable));
    const through = Math.min(store.movedTicket, Math.max(held, this.log.overflow(logBytesMax)));
    if (state.first === undefined || through < state.first) return;
    await term.trim(through);
    this.log.forget(through);
  }

  private async renew(term: Term, termMs: number): Promise<void> {
    const { clock } = this.options;
    while (!this.isEnded()) {
      await this.pause(termMs / 8);
      await this.persist(async () => {
        const sentAt = clock.monotonic();
        await term.renew();
        this.currentUntil = sentAt + termMs * (1 - unusedShare);
      });
    }
  }

  /** Does what needs the quorum. @returns false when it failed on the way: it is tried again in the next round. */
  private async persist(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (error instanceof TerminalError || error instanceof DeposedError) throw error;
      if (!this.isEnded()) this.options.logger.warn('etcd does not answer', { problem: describeError(error) });
      return false;
    }
  }

  private notice(state: QuorumState): void {
    const isNew =
      this.isServing && state.members.some(({ uuid }) => !this.seen?.members.some((one) => one.uuid === uuid));
    this.seen = state;
    if (isNew) this.options.onMembers?.();
    if (state.leader !== undefined) this.wake();
  }

  private wake(): void {
    for (const wake of this.waiters.splice(0)) wake();
  }

  private isEnded(): boolean {
    return this.abort.signal.aborted;
  }

  private async pause(ms: number): Promise<void> {
    await this.options.clock.sleep(ms, this.abort.signal).catch(() => undefined);
  }

  private end(error: unknown): void {
    if (this.isEnded()) return;
    this.currentUntil = 0;
    this.isServing = false;
    this.abort.abort(error);
    this.log.end();
    this.wake();
    this.options.onEnd(error instanceof Error ? error : new Error(String(error)));
  }
}

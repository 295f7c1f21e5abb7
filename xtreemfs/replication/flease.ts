import type { Clock, Timer } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import { FleaseAcceptor, type AgreedLease, type CellStore } from './flease-acceptor.ts';
import { FleaseProposer, type FleaseTimers, type ProposalOutcome } from './flease-proposer.ts';
import {
  FleaseType,
  ignoreEpoch,
  invalidatedView,
  javaHash,
  noProposal,
  type FleaseMessage,
  type ProposalNumber,
} from './flease-message.ts';

/** What a node needs. */
export interface FleaseOptions {
  /** UUID of this OSD; no other process may use it. */
  readonly identity: string;
  readonly clock: Clock;
  /** Global time, milliseconds. */
  readonly globalNow: () => number;
  readonly random: Random;
  readonly logger: Logger;
  readonly timers: FleaseTimers;
  readonly store: CellStore;
  /** Sends to a member by its UUID, or an answer to where the question came from. Loss is fine. */
  readonly send: (to: string, message: FleaseMessage) => void;
  /** The node was not stopped in order: acceptors stay silent until all old leases are over. */
  readonly mustWait: boolean;
}

/** Who holds the lease of a cell, as far as this node knows. */
export interface LeaseView {
  /** `primary`: this node; `backup`: `holder` does; `none`: nobody is known to. */
  readonly role: 'primary' | 'backup' | 'none';
  readonly holder: string;
  /** Epoch of this node's lease: higher than that of any lease before it. 0 when it is not primary. */
  readonly masterEpoch: number;
}

const cellsMax = 100_000;

/** Thrown when no lease can be agreed on now. */
export class NoLeaseError extends Error {
  override readonly name = 'NoLeaseError';
  /** A replica knows a newer replica set, of this version. */
  readonly view: number | undefined;

  constructor(message: string, view?: number) {
    super(message);
    this.view = view;
  }
}

/**
 * Flease: leases agreed on by the replicas of a file themselves, without a central service (Kolbeck and others, ZIB
 * Report 10-02; protocol reference, section 16). At any moment at most one node of a cell sees itself as primary,
 * provided that clocks differ by less than `dMaxMs`.
 */
export class Flease {
  readonly options: FleaseOptions;
  readonly senderId: number;
  private readonly cells = new Map<string, Cell>();
  private readonly silentUntil: number;

  constructor(options: FleaseOptions) {
    const { leaseMs, dMaxMs, messageTimeoutMs } = options.timers;
    this.options = options;
    this.senderId = javaHash(options.identity);
    const restartWaitMs = options.mustWait ? leaseMs + 2 * dMaxMs + messageTimeoutMs : 0;
    this.silentUntil = options.clock.monotonic() + restartWaitMs;
  }

  /** Whether acceptors are silent after a restart. */
  get isWaiting(): boolean {
    return this.options.clock.monotonic() < this.silentUntil;
  }

  /** Who holds the lease now. Cheap: ask before every answer. */
  lease(cellId: string): LeaseView {
    return this.cells.get(cellId)?.lease() ?? nobody;
  }

  /**
   * Sets who the members are. A newer view drops the lease known so far.
   * @param others - UUIDs of the other members.
   */
  open(cellId: string, others: readonly string[], view: number): void {
    const cell = this.cell(cellId);
    cell?.open(others, view);
  }

  /**
   * Waits for a lease, this node's or another's; when there is none this node tries to get it, and then keeps it until
   * `close`.
   * @throws {NoLeaseError} when no majority answers, the view is old, or this node still waits after a restart.
   */
  async acquire(cellId: string): Promise<LeaseView> {
    const cell = this.cell(cellId);
    if (cell === undefined) throw new NoLeaseError('too many files are in use');
    return cell.acquire();
  }

  /** Gives the lease up as soon as this node's clock allows others to see it as over; does not renew it. */
  close(cellId: string): void {
    this.cells.get(cellId)?.close();
  }

  /**
   * Hands a lease over in order: this node stops being primary at once, and others may take the lease without waiting for
   * its end. Upstream's nodes do not know this, so leave it out in mixed groups.
   */
  async release(cellId: string): Promise<void> {
    await this.cells.get(cellId)?.release();
  }

  /** The view is invalidated: nobody can get a lease with it. */
  invalidate(cellId: string): void {
    this.cell(cellId)?.open([], invalidatedView);
  }

  /**
   * Takes a message, unless it is old. Upstream leaves the sender's clock out of that: a node whose clock is behind by
   * more than a message may take is then never heard, although clocks are as close as they have to be.
   * @param from - where an answer has to go.
   */
  receive(from: string, message: FleaseMessage): void {
    const { messageTimeoutMs, dMaxMs } = this.options.timers;
    if (message.sentAt + messageTimeoutMs + dMaxMs < this.options.globalNow()) return;
    this.cell(message.cellId)?.receive(from, message);
  }

  /** Forgets cells that nobody uses and whose last lease was over long ago. */
  sweep(): void {
    for (const [cellId, cell] of this.cells) if (cell.isIdle()) this.cells.delete(cellId);
  }

  /** Stops all timers. */
  stop(): void {
    for (const cell of this.cells.values()) cell.close();
  }

  private cell(cellId: string): Cell | undefined {
    let cell = this.cells.get(cellId);
    if (cell === undefined) {
      if (this.cells.size >= cellsMax) this.sweep();
      if (this.cells.size >= cellsMax) return undefined;
      cell = new Cell(this, cellId);
      this.cells.set(cellId, cell);
    }
    return cell;
  }
}

const nobody: LeaseView = { role: 'none', holder: '', masterEpoch: 0 };

/** One cell: its acceptor, its proposer and the lease last agreed on. */
class Cell {
  private readonly node: Flease;
  private readonly cellId: string;
  private readonly acceptor: FleaseAcceptor;
  private readonly proposer: FleaseProposer;
  private others: readonly string[] = [];
  /** Undefined until the store was asked, or this node opened the cell; and when the store knows nothing. */
  private view: number | undefined;
  private isViewLoaded = false;
  private agreed: AgreedLease = { holder: '', end: 0 };
  private masterEpoch = 0;
  private isOpen = false;
  private waiters: { resolve: (lease: LeaseView) => void; reject: (error: Error) => void }[] = [];
  private renewal: Timer | undefined;
  private lastUsed: number;

  constructor(node: Flease, cellId: string) {
    this.node = node;
    this.cellId = cellId;
    const { identity, clock, random, timers, globalNow, store } = node.options;
    this.lastUsed = clock.monotonic();
    this.acceptor = new FleaseAcceptor(cellId, store);
    this.proposer = new FleaseProposer({
      identity,
      senderId: node.senderId,
      clock,
      random,
      timers,
      globalNow,
      broadcast: (message) => this.broadcast(message),
      groupSize: () => this.others.length + 1,
    });
  }

  open(others: readonly string[], view: number): void {
    this.lastUsed = this.node.options.clock.monotonic();
    if (this.view === view && this.isOpen) return;
    this.isOpen = view !== invalidatedView;
    if (this.view !== view) {
      this.drop('the replica set has changed');
      this.agreed = { holder: '', end: 0 };
    }
    this.others = others;
    this.view = view;
    this.isViewLoaded = true;
  }

  /** The lease that is certainly in force; this node's own ends for it before it ends for anybody else. */
  lease(): LeaseView {
    const { identity, globalNow, timers } = this.node.options;
    const { holder, end } = this.agreed;
    if (holder === '' || globalNow() >= end - timers.dMaxMs) return nobody;
    if (holder !== identity) return { role: 'backup', holder, masterEpoch: 0 };
    return this.isOpen && this.masterEpoch > 0 ? { role: 'primary', holder, masterEpoch: this.masterEpoch } : nobody;
  }

  async acquire(): Promise<LeaseView> {
    this.lastUsed = this.node.options.clock.monotonic();
    const known = this.lease();
    if (known.role !== 'none') return known;
    if (!this.isOpen) throw new NoLeaseError('the replica set was invalidated');
    if (this.node.isWaiting) throw new NoLeaseError('this OSD waits for old leases to end after a restart');
    if (!this.proposer.isBusy) this.attempt(false);
    return new Promise((resolve, reject) => this.waiters.push({ resolve, reject }));
  }

  close(): void {
    this.isOpen = false;
    this.drop('the file was closed');
  }

  /** Ends this node's lease for everybody: a majority takes note that there is none. */
  async release(): Promise<void> {
    const isOurs = this.lease().role === 'primary';
    this.close();
    if (!isOurs) return;
    await new Promise<void>((resolve) => {
      const settled = { resolve: () => resolve(), reject: () => resolve() };
      this.waiters.push(settled);
      this.proposer.start('release', (outcome) => {
        if ('lease' in outcome) this.tell(outcome.lease, outcome.proposal);
        this.settle(new NoLeaseError(`No lease of ${this.cellId}: it was handed over`));
      });
    });
    this.agreed = { holder: '', end: 0 };
  }

  isIdle(): boolean {
    const { clock, timers, globalNow } = this.node.options;
    const isQuiet = clock.monotonic() - this.lastUsed > 2 * timers.leaseMs;
    return isQuiet && !this.isOpen && this.acceptor.acceptedLease.end + timers.leaseMs < globalNow();
  }

  receive(from: string, message: FleaseMessage): void {
    this.lastUsed = this.node.options.clock.monotonic();
    switch (message.type) {
      case FleaseType.PREPARE:
      case FleaseType.ACCEPT:
      case FleaseType.LEARN:
        if (!this.node.isWaiting) void this.accept(from, message);
        return;
      default:
        this.proposer.answer(from, message);
    }
  }

  /** The acceptor's part, for other nodes and for our own proposer (`from` is empty then). */
  private async accept(from: string, message: FleaseMessage): Promise<void> {
    try {
      if (!this.isViewLoaded) this.takeStoredView(await this.node.options.store.loadView(this.cellId));
      const isOld = this.isOlderView(message.view);
      if (message.type === FleaseType.LEARN) {
        if (!isOld) this.learn(message);
      } else if (isOld) {
        const none = { previous: noProposal, holder: '', leaseEnd: 0, masterEpoch: ignoreEpoch };
        const { proposal } = message;
        this.reply(from, { type: FleaseType.WRONG_VIEW, proposal, ...none, view: this.view ?? invalidatedView });
      } else {
        const isPrepare = message.type === FleaseType.PREPARE;
        const answer = await (isPrepare ? this.acceptor.prepare(message) : this.acceptor.accept(message));
        this.reply(from, { proposal: message.proposal, ...answer, view: message.view });
      }
    } catch (error) {
      this.node.options.logger.error('The state of a cell cannot be kept', { cell: this.cellId, err: error });
    }
  }

  /** The cell may have been opened, with a view of its own, while the store was asked. */
  private takeStoredView(view: number | undefined): void {
    if (!this.isViewLoaded) this.view = view;
    this.isViewLoaded = true;
  }

  private isOlderView(view: number): boolean {
    return this.view !== undefined && (view < this.view || this.view === invalidatedView);
  }

  private learn(message: FleaseMessage): void {
    if (!this.acceptor.learn(message)) return;
    // Our own lease is known from its proposal; what others tell of it adds nothing.
    if (message.holder !== this.node.options.identity) this.agreed = { holder: message.holder, end: message.leaseEnd };
  }

  private attempt(isRenewal: boolean): void {
    this.renewal?.cancel();
    this.proposer.start(isRenewal ? 'renew' : 'obtain', (outcome) => this.finish(outcome, isRenewal));
  }

  private finish(outcome: ProposalOutcome, isRenewal: boolean): void {
    if ('problem' in outcome) {
      this.node.options.logger.debug('No lease', { cell: this.cellId, problem: outcome.problem });
      // A lease that could not be renewed runs out; until then it is ours.
      if (!isRenewal) this.settle(new NoLeaseError(`No lease of ${this.cellId}: ${outcome.problem}`, outcome.view));
      return;
    }
    const { lease, masterEpoch, proposal } = outcome;
    this.agreed = lease;
    if (lease.holder === this.node.options.identity && masterEpoch > 0) this.masterEpoch = masterEpoch;
    this.tell(lease, proposal);
    if (lease.holder === this.node.options.identity) this.renewLater(lease);
    this.settle();
  }

  private tell(lease: AgreedLease, proposal: ProposalNumber): void {
    const message = { type: FleaseType.LEARN, proposal, previous: noProposal, masterEpoch: ignoreEpoch };
    this.broadcast({ ...message, holder: lease.holder, leaseEnd: lease.end });
  }

  /** Renews four rounds before the end, or at half time when leases are short. */
  private renewLater(lease: AgreedLease): void {
    const { clock, timers, globalNow } = this.node.options;
    const leadMs = Math.min(8 * timers.messageTimeoutMs, (timers.leaseMs - timers.dMaxMs) / 2);
    const delayMs = Math.max(0, lease.end - leadMs - globalNow());
    this.renewal?.cancel();
    this.renewal = clock.after(delayMs, () => {
      const hasTime = globalNow() + 4 * timers.messageTimeoutMs < lease.end || leadMs < 4 * timers.messageTimeoutMs;
      if (this.isOpen && this.lease().role === 'primary' && hasTime) this.attempt(true);
    });
  }

  private settle(error?: Error): void {
    const { waiters } = this;
    this.waiters = [];
    for (const { resolve, reject } of waiters) {
      if (error === undefined) resolve(this.lease());
      else reject(error);
    }
  }

  private drop(reason: string): void {
    this.renewal?.cancel();
    this.proposer.cancel();
    this.masterEpoch = 0;
    this.settle(new NoLeaseError(`No lease of ${this.cellId}: ${reason}`));
  }

  private broadcast(message: Omit<FleaseMessage, 'cellId' | 'sentAt' | 'view'>): void {
    const whole = this.complete({ ...message, view: this.view ?? 0 });
    for (const other of this.others) this.node.options.send(other, whole);
    void this.accept('', whole);
  }

  private reply(to: string, message: Omit<FleaseMessage, 'cellId' | 'sentAt'>): void {
    const whole = this.complete(message);
    if (to === '') this.proposer.answer('', whole);
    else this.node.options.send(to, whole);
  }

  private complete(message: Omit<FleaseMessage, 'cellId' | 'sentAt'>): FleaseMessage {
    return { ...message, cellId: this.cellId, sentAt: this.node.options.globalNow() };
  }
}

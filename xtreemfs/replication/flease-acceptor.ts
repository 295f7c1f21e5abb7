import {
  compareProposals,
  FleaseType,
  ignoreEpoch,
  noProposal,
  requestEpoch,
  type FleaseMessage,
  type ProposalNumber,
} from './flease-message.ts';

/** What a node keeps of each cell, durably. */
export interface CellStore {
  /** The highest master epoch accepted; 0 when none was. */
  loadEpoch(cellId: string): Promise<number>;
  /** Resolves when the epoch survives a crash. A lower one than stored must not replace it. */
  saveEpoch(cellId: string, epoch: number): Promise<void>;
  /** Version of the replica set known here; −1 when it is invalidated, undefined when nothing is known. */
  loadView(cellId: string): Promise<number | undefined>;
}

/** A lease as agreed on. */
export interface AgreedLease {
  /** UUID of the holder; empty for none. */
  readonly holder: string;
  /** When it ends: global time, milliseconds. */
  readonly end: number;
}

/** What an answer carries beside the type. */
export type AcceptorAnswer = Pick<FleaseMessage, 'type' | 'previous' | 'holder' | 'leaseEnd' | 'masterEpoch'>;

/**
 * The acceptor of one cell (protocol reference, 16.3): it promises not to take ballots below the one that it prepared.
 * Its state is in memory only, so after a crash its node must stay silent until every lease it may have helped to agree
 * on is over.
 */
export class FleaseAcceptor {
  private readonly cellId: string;
  private readonly store: CellStore;
  private prepared: ProposalNumber = noProposal;
  private accepted: ProposalNumber = noProposal;
  private lease: AgreedLease = { holder: '', end: 0 };

  constructor(cellId: string, store: CellStore) {
    this.cellId = cellId;
    this.store = store;
  }

  /** The lease last accepted or learned, which need not be agreed on by a majority. */
  get acceptedLease(): AgreedLease {
    return this.lease;
  }

  /** Answers a PREPARE. What is promised is decided at once; only the epoch is read later. */
  async prepare(message: FleaseMessage): Promise<AcceptorAnswer> {
    if (compareProposals(this.prepared, message.proposal) > 0) {
      return {
        type: FleaseType.PREPARE_NACK,
        previous: this.prepared,
        holder: '',
        leaseEnd: 0,
        masterEpoch: ignoreEpoch,
      };
    }
    this.prepared = message.proposal;
    const answer = {
      type: FleaseType.PREPARE_ACK,
      previous: this.accepted,
      holder: this.lease.holder,
      leaseEnd: this.lease.end,
    };
    const masterEpoch = message.masterEpoch === requestEpoch ? await this.store.loadEpoch(this.cellId) : ignoreEpoch;
    return { ...answer, masterEpoch };
  }

  /** Answers an ACCEPT, once the master epoch in it is durable. */
  async accept(message: FleaseMessage): Promise<AcceptorAnswer> {
    const answer = { holder: message.holder, leaseEnd: message.leaseEnd, masterEpoch: message.masterEpoch };
    if (compareProposals(this.prepared, message.proposal) > 0) {
      return { ...answer, type: FleaseType.ACCEPT_NACK, previous: this.prepared };
    }
    this.take(message);
    if (message.masterEpoch > 0) await this.store.saveEpoch(this.cellId, message.masterEpoch);
    return { ...answer, type: FleaseType.ACCEPT_ACK, previous: noProposal };
  }

  /** Takes what a majority agreed on. @returns whether it is news. */
  learn(message: FleaseMessage): boolean {
    const isOld =
      compareProposals(this.prepared, message.proposal) > 0 || compareProposals(this.accepted, message.proposal) > 0;
    if (isOld) return false;
    this.take(message);
    return true;
  }

  private take(message: FleaseMessage): void {
    this.accepted = this.prepared = message.proposal;
    this.lease = { holder: message.holder, end: message.leaseEnd };
  }
}

import type { Clock } from '#common/clock.ts';
import { assert } from '#common/errors.ts';
import { frame, type CommitLog } from '../store/log.ts';
import { DeposedError, type Term } from './quorum.ts';

/** Between two tries of a write that got no answer. */
const retryMs = 100;

/** The log of a replicated MRC as its store writes it: into the leader's term, for as long as that lasts. */
export class QuorumLog implements CommitLog {
  private readonly clock: Clock;
  private term: Term | undefined;
  private isEnded = false;
  /** Sizes of the records that are still in the log, oldest first. What an earlier leader left counts when it was read. */
  private readonly kept: { readonly number: number; readonly bytes: number }[] = [];
  private keptBytes = 0;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Records belong to this term from now on. */
  begin(term: Term): void {
    this.term = term;
  }

  /** Nothing is written any more. */
  end(): void {
    this.isEnded = true;
  }

  async append(number: number, payload: Buffer): Promise<void> {
    const { term } = this;
    assert(term !== undefined, 'only a leader writes');
    const bytes = frame(number, payload);
    for (;;) {
      if (this.isEnded) throw new DeposedError('The term is over');
      try {
        await term.append(number, bytes);
        break;
      } catch (error) {
        // It may have arrived or not; the same record may be written again until somebody else leads.
        if (error instanceof DeposedError) throw error;
        await this.clock.sleep(retryMs);
      }
    }
    this.note(number, bytes.length);
  }

  /** Counts a record of the log. */
  note(number: number, bytes: number): void {
    this.kept.push({ number, bytes });
    this.keptBytes += bytes;
  }

  /** The last record that must go for the log to take at most `bytesMax`; 0 when none must. */
  overflow(bytesMax: number): number {
    let over = this.keptBytes - bytesMax;
    let number = 0;
    for (const record of this.kept) {
      if (over <= 0) break;
      over -= record.bytes;
      ({ number } = record);
    }
    return number;
  }

  /** Records up to `through` are not in the log any more. */
  forget(through: number): void {
    const gone = this.kept.findIndex(({ number }) => number > through);
    const removed = this.kept.splice(0, gone < 0 ? this.kept.length : gone);
    for (const { bytes } of removed) this.keptBytes -= bytes;
  }

  release(): void {
    // The replica says to all members what the database has.
  }

  readonly busySegments = 0;

  async close(): Promise<void> {
    this.isEnded = true;
  }
}

import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { CopyReport, Installation } from '#operator/storage/installation.ts';

/** What is copied. */
export interface CopyOrder {
  /** Names the copy: the uid of the Volume that is filled. */
  readonly uid: string;
  readonly from: { readonly name: string; readonly snapshot: string };
  readonly to: string;
}

/** How a copy stands. */
export interface CopyState {
  readonly isDone: boolean;
  readonly progress: CopyReport;
  /** Why the last try failed; the next one has begun, or waits for its turn. */
  readonly problem: string | undefined;
}

type Copier = Pick<Installation, 'copy'>;

interface Running {
  readonly stop: AbortController;
  isDone: boolean;
  progress: CopyReport;
  problem: string | undefined;
}

/** Copies that run at the same time. */
const runningMax = 2;
/** Pause before a copy that failed is tried again, milliseconds. */
const retryMs = 10_000;

/**
 * Copies of snapshots into Volumes, which take longer than a turn of the reconciler. What is known here may be lost at any time: a copy that is
 * asked for again skips what is there.
 */
export class VolumeCopies {
  private readonly deps: { readonly clock: Clock; readonly log: Logger };
  private readonly copies = new Map<string, Running>();
  private readonly waiting: (() => void)[] = [];
  private runningCount = 0;

  constructor(deps: { readonly clock: Clock; readonly log: Logger }) {
    this.deps = deps;
  }

  /** Sees that a copy runs until it is done. @param signal - ends all copies: that of the process. */
  ask(order: CopyOrder, installation: Copier, signal: AbortSignal): CopyState {
    let copy = this.copies.get(order.uid);
    if (copy === undefined) {
      copy = { stop: new AbortController(), isDone: false, progress: { files: 0, bytes: 0 }, problem: undefined };
      this.copies.set(order.uid, copy);
      void this.run(order, installation, copy, AbortSignal.any([copy.stop.signal, signal]));
    }
    const { isDone, progress, problem } = copy;
    return { isDone, progress, problem };
  }

  /** Ends a copy that nobody wants any more, and forgets one that is done. */
  forget(uid: string): void {
    this.copies.get(uid)?.stop.abort(new Error('The copy is not wanted any more'));
    this.copies.delete(uid);
  }

  private async run(order: CopyOrder, installation: Copier, copy: Running, signal: AbortSignal): Promise<void> {
    const { log, clock } = this.deps;
    const { from, to } = order;
    while (!signal.aborted) {
      await this.takeTurn();
      try {
        signal.throwIfAborted();
        log.info('Copying snapshot', { ...from, to });
        await installation.copy(from, to, (progress) => (copy.progress = progress), signal);
        copy.isDone = true;
        copy.problem = undefined;
        return;
      } catch (error) {
        copy.problem = describeError(error).slice(0, 512);
        log.warn('Copying a snapshot failed', { ...from, to, problem: copy.problem });
      } finally {
        this.giveTurn();
      }
      await clock.sleep(retryMs, signal).catch(() => undefined);
    }
  }

  private async takeTurn(): Promise<void> {
    if (this.runningCount >= runningMax) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.runningCount++;
  }

  private giveTurn(): void {
    const next = this.waiting.shift();
    if (next === undefined) this.runningCount--;
    else next();
  }
}

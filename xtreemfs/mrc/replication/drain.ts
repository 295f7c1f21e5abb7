import { setImmediate as otherWork } from 'node:timers/promises';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { tryAll } from '#common/parallel.ts';
import { readU32, readU48, tables } from '../core/keys.ts';
import { decodeInode } from '../core/records.ts';
import type { Volume } from '../core/volume.ts';
import type { Engine } from '../engine.ts';
import type { OsdCatalogue } from '../placement/osd-catalogue.ts';
import type { Key } from '../store/kv.ts';
import type { Coordinator, FileRef } from './coordinator.ts';

/** How far an OSD is emptied. */
export interface DrainProgress {
  /** No file has a place there. */
  readonly isEmpty: boolean;
  /** Undefined until they were counted. */
  readonly filesLeft: number | undefined;
  /** Why files stay; '' while nothing is in the way. */
  readonly problem: string;
}

/** What {@link Drains} need. */
export interface DrainOptions {
  readonly engine: Engine;
  readonly coordinator: Pick<Coordinator, 'move'>;
  readonly catalogue: OsdCatalogue;
  /** Asks the DIR for the OSDs. @throws when it does not answer. */
  readonly refresh: () => Promise<void>;
  readonly logger: Logger;
}

/** Files moved at a time: one that is written to waits while it is copied, and the others of its client do not. */
const movesAtOnce = 4;
/** Files that one look remembers; the rest is found by the next. */
const filesMax = 10_000;
const pageEntries = 1_000;

interface Run {
  readonly wish: string;
  readonly abort: AbortController;
  progress: DrainProgress;
  /** Undefined when it has ended. */
  ended: Promise<void> | undefined;
  isTold: boolean;
}

/**
 * Empties OSDs that are to go: finds every file that has a place there, by what the MRC keeps and not by what lies at the OSD (a file
 * that was just made has nothing there yet), and moves each to others. An OSD counts as empty when a look that began after the DIR said
 * that it takes no new files found none. Nothing is kept over a restart: who wants an OSD emptied asks until it is.
 */
export class Drains {
  private readonly options: DrainOptions;
  private readonly runs = new Map<string, Run>();

  constructor(options: DrainOptions) {
    this.options = options;
  }

  /**
   * Begins to empty an OSD, or tells how far it is. What a run found is told once; the next question begins another.
   * @param wish - what was found for another one does not count: the OSD may have taken files in between.
   */
  ask(osd: string, wish: string): DrainProgress {
    const known = this.runs.get(osd);
    const isSame = known?.wish === wish;
    if (isSame && !known.isTold) {
      known.isTold = known.ended === undefined;
      return known.progress;
    }
    known?.abort.abort();
    // What was in the way is told until it is known to be gone.
    const { filesLeft, problem } = isSame ? known.progress : { filesLeft: undefined, problem: '' };
    const progress = { isEmpty: false, filesLeft, problem };
    const run: Run = { wish, abort: new AbortController(), progress, ended: undefined, isTold: false };
    this.runs.set(osd, run);
    run.ended = this.carryOut(osd, run).finally(() => (run.ended = undefined));
    return run.progress;
  }

  /** Ends what goes on, but for files that are being moved. */
  async stop(): Promise<void> {
    const running = [...this.runs.values()];
    for (const { abort } of running) abort.abort();
    this.runs.clear();
    await Promise.all(running.map(async ({ ended }) => ended));
  }

  private async carryOut(osd: string, run: Run): Promise<void> {
    const { logger } = this.options;
    try {
      while (!run.abort.signal.aborted && !(await this.round(osd, run)));
    } catch (error) {
      run.progress = { ...run.progress, problem: describeError(error) };
    }
    logger.info('Emptying an OSD ended', { osd, ...run.progress });
  }

  /** @returns whether there is nothing more to do, or nothing more that can be done. */
  private async round(osd: string, run: Run): Promise<boolean> {
    const { catalogue, coordinator, refresh } = this.options;
    await refresh();
    if (catalogue.find(osd)?.status === 0)
      throw new Error(`OSD ${osd} takes new files: set its status to locked first`);
    const leaving = new Set(
      catalogue
        .all()
        .flatMap(({ uuid, status }) => (status === 0 ? [] : [uuid]))
        .concat(osd),
    );
    const { files, count, problem } = await this.look(osd, run.abort.signal);
    if (run.abort.signal.aborted) return true;
    const before = problem === '' ? run.progress.problem : problem;
    run.progress = { isEmpty: count === 0, filesLeft: count, problem: count === 0 ? '' : before };
    let moved = 0;
    let failure = '';
    await tryAll(files, movesAtOnce, async (file) => {
      if (run.abort.signal.aborted) return;
      try {
        await coordinator.move(file, leaving);
        run.progress = { ...run.progress, filesLeft: count - ++moved };
      } catch (error) {
        failure = describeError(error);
      }
    });
    run.progress = { ...run.progress, problem: failure === '' ? problem : failure };
    return moved === 0;
  }

  /** Finds the files that have a place on an OSD. */
  private async look(osd: string, signal: AbortSignal): Promise<{ files: FileRef[]; count: number; problem: string }> {
    const { engine } = this.options;
    const volumes = new Map(engine.allVolumes().map((volume) => [volume.number, volume]));
    const files: FileRef[] = [];
    let count = 0;
    let problem = '';
    const view = await engine.store.view();
    try {
      let after: Key | undefined;
      for (let isMore = true; isMore && !signal.aborted;) {
        const page = view.scan({ prefix: tables.inode, limit: pageEntries, ...(after === undefined ? {} : { after }) });
        for (const { key, value } of page) {
          const volume = volumes.get(readU32(key, 1));
          const ino = readU48(key, 5);
          if (volume === undefined || !hasPlaceOn(osd, decodeInode(volume.number, ino, value))) continue;
          count++;
          if (volume.snapshotOf !== undefined) problem = inSnapshot(volume, volumes);
          else if (files.length < filesMax) files.push({ volume, ino });
        }
        after = page.at(-1)?.key;
        isMore = page.length === pageEntries;
        await otherWork();
      }
    } finally {
      view.close();
    }
    return { files, count, problem };
  }
}

function hasPlaceOn(osd: string, { xlocs }: ReturnType<typeof decodeInode>): boolean {
  return xlocs?.replicas.some(({ osds }) => osds.includes(osd)) === true;
}

function inSnapshot({ snapshotOf }: Volume, volumes: ReadonlyMap<number, Volume>): string {
  const parent = volumes.get(snapshotOf?.volume ?? 0)?.name ?? '';
  return `Snapshot ${snapshotOf?.name ?? ''} of volume ${parent} has files there, and they can not move: delete it first`;
}

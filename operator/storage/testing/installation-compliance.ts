/** What every implementation of the port to an installation does. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { CopyReport, DrainReport, Installation, VolumeLayout, VolumeTerms } from '../installation.ts';

/** An installation with at least one OSD. */
export interface InstallationBench {
  readonly installation: Installation;
  /** Writes a file below the root of a volume. */
  writeFile(volume: string, path: string, bytes: number): Promise<void>;
  close(): Promise<void>;
}

const layout: VolumeLayout = { width: 1, stripeKib: 128, policy: 'None', replicas: 1 };
const terms = (name: string): VolumeTerms => ({
  ...{ name, owner: 'u-alice-2013266944', group: 'vo-physics', mode: 0o770, quotaBytes: 1_000_000_000, layout },
});

/** Declares the tests. */
export function complies(name: string, open: () => Promise<InstallationBench>): void {
  describe(name, () => {
    const { signal } = new AbortController();
    let bench: InstallationBench;
    let installation: Installation;

    let count = 0;
    let volume: string;

    beforeAll(async () => {
      bench = await open();
      ({ installation } = bench);
    }, 30_000);

    beforeEach(() => {
      volume = `vol-${++count}`;
    });

    afterAll(async () => bench.close());

    test('tells of each OSD when it was seen last and how much is free', async () => {
      const [osd] = await installation.osds(signal);
      expect(osd?.uuid).toBe('osd-0');
      expect(osd?.lastSeenS).toBeGreaterThan(0);
      expect(osd?.freeBytes).toBeGreaterThan(0);
      expect(osd?.totalBytes).toBeGreaterThanOrEqual(osd?.freeBytes ?? 0);
    });

    test('has an OSD emptied once it takes no new files, and lets it have files again', async () => {
      const told = async (wish: string, isEnd: (report: DrainReport) => boolean): Promise<DrainReport> => {
        for (;;) {
          const report = await installation.drain('osd-0', wish, signal);
          if (isEnd(report)) return report;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      };
      const refused = await told('first', ({ problem }) => problem !== '');
      expect(refused).toMatchObject({ isEmpty: false, problem: expect.stringMatching(/takes new files/) });
      for (let time = 0; time < 2; time++) await installation.setTakesFiles('osd-0', false, signal);
      expect((await installation.osds(signal))[0]).toMatchObject({ uuid: 'osd-0', takesFiles: false });
      expect(await told('second', ({ isEmpty }) => isEmpty)).toEqual({ isEmpty: true, filesLeft: 0, problem: '' });
      await installation.setTakesFiles('osd-0', true, signal);
      expect((await installation.osds(signal))[0]).toMatchObject({ takesFiles: true });
      expect(await told('third', ({ problem }) => problem !== '')).toMatchObject({ problem: refused.problem });
    });

    test('forgets an OSD that nobody knows', async () => {
      await installation.setTakesFiles('osd-gone', false, signal);
      await installation.forgetOsd('osd-gone', signal);
      expect((await installation.osds(signal)).map(({ uuid }) => uuid)).toEqual(['osd-0']);
    });

    test('knows no volume that was not made', async () => {
      expect(await installation.volume('vol-none', signal)).toBeUndefined();
    });

    test('makes a volume once, however often it is asked', async () => {
      for (let time = 0; time < 2; time++) await installation.make(terms(volume), signal);
      expect(await installation.volume(volume, signal)).toEqual({ quotaBytes: 1_000_000_000, usedBytes: 0, files: 0 });
    });

    test('counts what is used', async () => {
      await installation.make(terms(volume), signal);
      await bench.writeFile(volume, 'results', 4096);
      expect(await installation.volume(volume, signal)).toMatchObject({ usedBytes: 4096, files: 1 });
    });

    test('changes the quota', async () => {
      await installation.make(terms(volume), signal);
      await installation.setQuota(volume, 5_000_000_000, signal);
      expect(await installation.volume(volume, signal)).toMatchObject({ quotaBytes: 5_000_000_000 });
    });

    test('changes where new files go, there and back', async () => {
      await installation.make(terms(volume), signal);
      for (const change of [{ policy: 'Quorum', replicas: 3 }, { width: 2 }, {}] as const) {
        for (let time = 0; time < 2; time++) await installation.setLayout(volume, { ...layout, ...change }, signal);
      }
      expect(await installation.volume(volume, signal)).toBeDefined();
    });

    test('refuses to change a volume that is not there', async () => {
      await expect(installation.setQuota('vol-none', 1, signal)).rejects.toThrow(/vol-none/);
    });

    test('keeps what a snapshot shows, and copies it into another volume, once however often it is asked', async () => {
      await installation.make(terms(volume), signal);
      for (const [path, bytes] of [
        ['one', 4096],
        ['two', 100_000],
      ] as const) {
        await bench.writeFile(volume, path, bytes);
      }
      for (let time = 0; time < 2; time++) await installation.takeSnapshot(volume, 'first', signal);
      const [snapshot, ...others] = await installation.snapshots(volume, signal);
      expect(snapshot).toEqual({ name: 'first', timeMs: expect.any(Number) });
      expect(others).toEqual([]);
      await bench.writeFile(volume, 'three', 10);
      const copy = `${volume}-copy`;
      await installation.make(terms(copy), signal);
      for (let time = 0; time < 2; time++) {
        const told: CopyReport[] = [];
        await installation.copy({ name: volume, snapshot: 'first' }, copy, (report) => told.push(report), signal);
        expect(told.at(-1)).toEqual({ files: 2, bytes: 104_096 });
        expect(await installation.volume(copy, signal)).toMatchObject({ files: 2, usedBytes: 104_096 });
      }
      for (let time = 0; time < 2; time++) await installation.removeSnapshot(volume, 'first', signal);
      expect(await installation.snapshots(volume, signal)).toEqual([]);
      const again = installation.copy({ name: volume, snapshot: 'first' }, copy, () => undefined, signal);
      await expect(again).rejects.toThrow(/first/);
    });

    test('erases step by step, and again without harm', async () => {
      await installation.make(terms(volume), signal);
      for (const path of ['one', 'two', 'three']) await bench.writeFile(volume, path, 10);
      expect(await installation.erase(volume, 2, signal)).toBe(false);
      expect(await installation.volume(volume, signal)).toMatchObject({ files: 1 });
      expect(await installation.erase(volume, 2, signal)).toBe(true);
      expect(await installation.volume(volume, signal)).toBeUndefined();
      expect(await installation.erase(volume, 2, signal)).toBe(true);
    });
  });
}

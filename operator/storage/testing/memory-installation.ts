import type {
  CopyReport,
  DrainReport,
  Installation,
  OsdReport,
  SnapshotReport,
  VolumeLayout,
  VolumeReport,
  VolumeTerms,
} from '../installation.ts';

interface MemoryVolume {
  readonly terms: VolumeTerms;
  layout: VolumeLayout;
  quotaBytes: number;
  files: Map<string, number>;
  readonly snapshots: Map<string, { readonly timeMs: number; readonly files: ReadonlyMap<string, number> }>;
}

/** An installation in memory, which outlasts the operators that ask it. For tests. */
export class MemoryInstallation implements Installation {
  /** By name. */
  readonly volumes = new Map<string, MemoryVolume>();
  osdReports: OsdReport[] = [];
  /** How far OSDs are emptied, by UUID; the wish that was told last is in `wishes`. */
  readonly drains = new Map<string, DrainReport>();
  readonly wishes: string[] = [];
  /** Set: no server can be reached. */
  isDown = false;

  async osds(): Promise<readonly OsdReport[]> {
    this.assertUp();
    return Promise.resolve(this.osdReports);
  }

  async setTakesFiles(uuid: string, takesFiles: boolean): Promise<void> {
    this.assertUp();
    this.osdReports = this.osdReports.map((osd) => (osd.uuid === uuid ? { ...osd, takesFiles } : osd));
    return Promise.resolve();
  }

  async drain(uuid: string, wish: string): Promise<DrainReport> {
    this.assertUp();
    this.wishes.push(wish);
    const isLocked = this.osdReports.some((osd) => osd.uuid === uuid && !osd.takesFiles);
    const report = this.drains.get(uuid) ?? { isEmpty: true, filesLeft: 0, problem: '' };
    return Promise.resolve(isLocked ? report : { isEmpty: false, filesLeft: undefined, problem: 'it takes new files' });
  }

  async forgetOsd(uuid: string): Promise<void> {
    this.assertUp();
    this.osdReports = this.osdReports.filter((osd) => osd.uuid !== uuid);
    return Promise.resolve();
  }

  async volume(name: string): Promise<VolumeReport | undefined> {
    this.assertUp();
    const found = this.volumes.get(name);
    if (found === undefined) return Promise.resolve(undefined);
    const usedBytes = [...found.files.values()].reduce((sum, size) => sum + size, 0);
    return Promise.resolve({ quotaBytes: found.quotaBytes, usedBytes, files: found.files.size });
  }

  async make(terms: VolumeTerms): Promise<void> {
    this.assertUp();
    if (this.volumes.has(terms.name)) return this.setLayout(terms.name, terms.layout);
    const { layout, quotaBytes } = terms;
    this.volumes.set(terms.name, { terms, layout, quotaBytes, files: new Map(), snapshots: new Map() });
    return Promise.resolve();
  }

  async setQuota(name: string, quotaBytes: number): Promise<void> {
    this.existing(name).quotaBytes = quotaBytes;
    return Promise.resolve();
  }

  async setLayout(name: string, layout: VolumeLayout): Promise<void> {
    this.existing(name).layout = layout;
    return Promise.resolve();
  }

  async snapshots(name: string): Promise<readonly SnapshotReport[]> {
    const found = [...this.existing(name).snapshots];
    return Promise.resolve(found.map(([snapshot, { timeMs }]) => ({ name: snapshot, timeMs })));
  }

  async takeSnapshot(name: string, snapshot: string): Promise<void> {
    const { snapshots, files } = this.existing(name);
    if (!snapshots.has(snapshot)) snapshots.set(snapshot, { timeMs: Date.UTC(2026, 10, 27), files: new Map(files) });
    return Promise.resolve();
  }

  async removeSnapshot(name: string, snapshot: string): Promise<void> {
    this.existing(name).snapshots.delete(snapshot);
    return Promise.resolve();
  }

  async copy(
    from: { readonly name: string; readonly snapshot: string },
    to: string,
    report: (progress: CopyReport) => void,
  ): Promise<void> {
    const source = this.existing(from.name).snapshots.get(from.snapshot);
    if (source === undefined) throw new Error(`ENOENT: there is no volume ${from.name}@${from.snapshot}`);
    this.existing(to).files = new Map(source.files);
    report({ files: source.files.size, bytes: [...source.files.values()].reduce((sum, bytes) => sum + bytes, 0) });
    return Promise.resolve();
  }

  async erase(name: string, limit: number): Promise<boolean> {
    this.assertUp();
    const files = this.volumes.get(name)?.files ?? new Map<string, number>();
    for (const file of [...files.keys()].slice(0, limit)) files.delete(file);
    if (files.size > 0) return Promise.resolve(false);
    this.volumes.delete(name);
    return Promise.resolve(true);
  }

  private existing(name: string): MemoryVolume {
    this.assertUp();
    const found = this.volumes.get(name);
    if (found === undefined) throw new Error(`ENOENT: there is no volume ${name}`);
    return found;
  }

  private assertUp(): void {
    if (this.isDown) throw new Error('connect ECONNREFUSED: the servers are away');
  }
}

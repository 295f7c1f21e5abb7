import { Gauge, type Registry } from '#common/metrics.ts';
import type { FileSystemScope } from './status.ts';
import { isOsdOf, osdName } from './shrink.ts';

/** An OSD that was not heard of for so long is away for good, seconds. */
const lostAfterS = 600;

/** Metrics of FileSystems, by name: they lie in one namespace. */
export class FileSystemMetrics {
  private readonly osds: Gauge<'file_system' | 'state'>;
  private readonly filesToMove: Gauge<'file_system'>;
  private readonly space: Gauge<'file_system' | 'kind'>;
  private readonly volumes: Gauge<'file_system'>;

  constructor(registry: Registry) {
    const gauge = <Label extends string>(name: string, help: string, ...more: Label[]): Gauge<'file_system' | Label> =>
      new Gauge({
        name: `xtreemos_file_system_${name}`,
        help,
        labelNames: ['file_system', ...more],
        registers: [registry],
      });
    this.osds = gauge(
      'osds',
      'OSDs of a FileSystem by state: serving, away (its pod is not ready) or lost (the directory knows it, no pod has its folder any more)',
      'state',
    );
    this.filesToMove = gauge('files_to_move', 'Files that are still to be moved off OSDs that are to go');
    this.space = gauge('bytes', 'Space of the OSDs of a FileSystem by kind: capacity or free', 'kind');
    this.volumes = gauge('volumes', 'Volumes on a FileSystem');
  }

  /** Takes what was seen of a FileSystem. What was not asked stays as it was. */
  observe(scope: FileSystemScope): void {
    const { name } = scope.fileSystem.metadata;
    const { ready, wanted } = scope.servers.osd;
    this.osds.set({ file_system: name, state: 'serving' }, ready.length);
    this.osds.set({ file_system: name, state: 'away' }, Math.max(0, wanted - ready.length));
    this.volumes.set({ file_system: name }, scope.volumes);
    const left = [...scope.shrink.drains.values()].reduce((sum, { filesLeft = 0 }) => sum + filesLeft, 0);
    this.filesToMove.set({ file_system: name }, left);
    if (scope.osds === undefined) return;
    const lost = lostOsds(scope);
    this.osds.set({ file_system: name, state: 'lost' }, lost.length);
    const living = scope.osds.filter(({ uuid }) => !lost.includes(uuid));
    const sum = (field: 'freeBytes' | 'totalBytes'): number => living.reduce((all, osd) => all + osd[field], 0);
    this.space.set({ file_system: name, kind: 'capacity' }, sum('totalBytes'));
    this.space.set({ file_system: name, kind: 'free' }, sum('freeBytes'));
  }

  /** The FileSystem is gone. */
  forget(name: string): void {
    for (const state of ['serving', 'away', 'lost']) this.osds.remove({ file_system: name, state });
    for (const kind of ['capacity', 'free']) this.space.remove({ file_system: name, kind });
    this.filesToMove.remove({ file_system: name });
    this.volumes.remove({ file_system: name });
  }
}

/** UUIDs in the place of which another OSD lives now, or none: what lay on them alone is not to be had. */
export function lostOsds({ fileSystem, servers, osds = [], now }: FileSystemScope): string[] {
  const names = Array.from({ length: servers.osd.wanted }, (_, ordinal) => osdName(fileSystem, ordinal));
  return osds.flatMap(({ uuid, lastSeenS }) => {
    const name = names.find((each) => isOsdOf(uuid, each));
    const isReplaced = osds.some(
      (other) => name !== undefined && isOsdOf(other.uuid, name) && other.lastSeenS > lastSeenS,
    );
    return now / 1_000 - lastSeenS > lostAfterS && (name === undefined || isReplaced) ? [uuid] : [];
  });
}

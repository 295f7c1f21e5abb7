import { randomUUID } from 'node:crypto';
import { chmodSync, mkdirSync, rmdirSync } from 'node:fs';
import type { Clock } from '#common/clock.ts';
import { describeError, systemErrorCode } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { Keeper } from '#xtreemfs/fuse/keeper.ts';
import { abortConnection, bindMount, listMounts, type MountInfo, unmount } from '#xtreemfs/fuse/mount.ts';
import type { MountConfig } from '#xtreemfs/fuse/mount-config.ts';
import { posixPolicy, probeVolume } from '#xtreemfs/fuse/probe.ts';
import type { TlsFiles } from '#xtreemfs/rpc/tls.ts';
import { checkMountPath } from './paths.ts';
import {
  type HeldMount,
  HolderError,
  parseSource,
  type PublishTerms,
  sourceText,
  type VolumeSource,
} from './protocol.ts';

/** What a holder needs. */
export interface HolderInit {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Folders that mounts may be made below: the kubelet's. */
  readonly roots: readonly string[];
  /** Program and arguments of a worker. */
  readonly workerCommand: readonly [string, ...string[]];
  /** Certificates for schemes that need them. */
  readonly tls: TlsFiles;
  /** Which ids there are; written by the node agent. */
  readonly issuedIds: { readonly usersPath: string; readonly groupsPath: string };
  /** How long servers may be away while a volume is mounted, milliseconds. */
  readonly reachMs: number;
  readonly logLevel: MountConfig['logLevel'];
}

/** A mount that this process keeps alive. */
interface Held {
  readonly source: string;
  readonly keeper: Keeper;
  /** Settles when the mount is over. */
  readonly ended: Promise<void>;
  isServing: boolean;
  takeovers: number;
}

/** Longest that the last bytes of a mount may take to their servers. */
const unstageMs = 90_000;
const probePauseMs = 1_000;
const serveMs = 30_000;
/** Pause before a mount is made again whose processes died one after the other. */
const remountMs = 15_000;
const transferBytes = 1 << 20;
const fileSystemType = 'fuse.xtreemfs';
/** Of the folder below a mount: whoever gets there while nothing is mounted can do nothing. */
const bareMode = 0o000;

/**
 * Makes and keeps the mounts of a node, one for each volume, and shows them at the paths of pods. What is mounted is read from
 * the kernel's table each time; only the living keepers are in memory, since they end with it. Each request is carried out to
 * its end, whether or not somebody waits, and those about one path one after the other.
 */
export class MountHolder {
  private readonly init: HolderInit;
  private readonly held = new Map<string, Held>();
  private readonly queues = new Map<string, Promise<unknown>>();

  constructor(init: HolderInit) {
    this.init = init;
  }

  /**
   * Mounts a volume, once for the node.
   * @throws {HolderError} `Unreachable` when the servers stay away, `Conflict` when something else is there.
   */
  async stage(source: VolumeSource, path: string): Promise<void> {
    checkMountPath(path, this.init.roots);
    await this.inTurn(path, async () => {
      const wanted = sourceText(source);
      const existing = this.mountAt(path);
      if (existing !== undefined) {
        if (parseSource(existing.source) === undefined || existing.type !== fileSystemType) {
          throw new HolderError('Conflict', `${path} has another mount, of ${existing.source}: unmount that first`);
        }
        if (existing.source !== wanted) {
          throw new HolderError('Conflict', `${path} has the mount of another volume, ${existing.source}`);
        }
        if (this.held.get(path)?.isServing === true) return;
        await this.remount(existing.source);
        return;
      }
      await this.held.get(path)?.ended;
      makeFolder(path);
      await this.reach(source, path);
      await this.start(source, path, true);
    });
  }

  /**
   * Takes a volume's mount away. Nothing happens when there is none.
   * @throws {HolderError} `Busy` while it is shown at other paths.
   */
  async unstage(path: string): Promise<void> {
    checkMountPath(path, this.init.roots);
    await this.inTurn(path, async () => {
      const existing = this.mountAt(path);
      if (existing !== undefined) {
        const users = this.usersOf(existing);
        if (users.length > 0) {
          throw new HolderError('Busy', `${path} is in use at ${users.map(({ mountPoint }) => mountPoint).join(', ')}`);
        }
      }
      const held = this.held.get(path);
      if (held === undefined) {
        if (existing !== undefined && parseSource(existing.source) !== undefined) await this.clear(existing);
        return;
      }
      await held.keeper.stop();
      const isOver = await Promise.race([
        held.ended.then(() => true),
        this.init.clock.sleep(unstageMs).then(() => false),
      ]);
      if (!isOver) throw new HolderError('Busy', `${path}: its last writes are still under way; ask again`);
    });
  }

  /**
   * Shows a staged volume at another path, without set-user-id programs and devices.
   * @throws {HolderError} `NotStaged` when the volume has no living mount, `Conflict` when something else is there, `Busy` when it
   * is to be at one path only and is at another.
   */
  async publish(terms: PublishTerms): Promise<void> {
    checkMountPath(terms.stagingPath, this.init.roots);
    checkMountPath(terms.path, this.init.roots);
    await this.inTurn(terms.stagingPath, async () => this.inTurn(terms.path, async () => this.show(terms)));
  }

  private async show({ stagingPath, path, isReadOnly, isExclusive }: PublishTerms): Promise<void> {
    const staged = this.mountAt(stagingPath);
    if (staged === undefined || this.held.get(stagingPath)?.isServing !== true) {
      throw new HolderError('NotStaged', `the volume has no mount that serves at ${stagingPath}`);
    }
    const existing = this.mountAt(path);
    if (existing?.device === staged.device) {
      if (existing.options.includes('ro') === isReadOnly) return;
      throw new HolderError('Conflict', `${path} has the volume already, ${isReadOnly ? 'writable' : 'read-only'}`);
    }
    const [other] = this.usersOf(staged);
    if (isExclusive && other !== undefined) {
      throw new HolderError('Busy', `the volume may be used once at a time, and is at ${other.mountPoint}`);
    }
    if (existing !== undefined) await this.clearDead(existing);
    makeFolder(path);
    await this.bind(stagingPath, path, isReadOnly, staged.device);
  }

  /** Where else a volume is shown. */
  private usersOf(mount: MountInfo): MountInfo[] {
    return listMounts().filter(({ device, mountPoint }) => device === mount.device && mountPoint !== mount.mountPoint);
  }

  /** Takes away what is shown at a path, and the path. Nothing happens when there is nothing. */
  async unpublish(path: string): Promise<void> {
    checkMountPath(path, this.init.roots);
    await this.inTurn(path, async () => {
      for (let mount = this.mountAt(path); mount !== undefined; mount = this.mountAt(path)) {
        if (mount.type !== fileSystemType) {
          throw new HolderError('Conflict', `${path} has a mount that is not ours, of ${mount.source}`);
        }
        // Lazily: it must not wait for servers. The volume's own mount stays, and takes what is still written.
        await unmount(path, { lazy: true });
      }
      removeFolder(path);
    });
  }

  /** What is held. */
  list(): HeldMount[] {
    return [...this.held].map(([path, { source, isServing, takeovers, keeper }]) => {
      return { path, source, isServing, takeovers, pid: keeper.workerPid ?? 0 };
    });
  }

  /**
   * Brings back what a holder before this one left: its mounts are dead. Each volume is mounted anew at the same path and shown
   * again wherever it was, so that containers which start again, or see mounts of the node, find it; files that were open
   * at that time stay broken.
   */
  async recover(): Promise<void> {
    const sources = new Set(this.ours().map(({ source }) => source));
    await Promise.all(
      [...sources].map(async (source) => {
        try {
          await this.remount(source);
        } catch (error) {
          this.init.logger.error('Could not bring back a mount', { source, reason: describeError(error) });
        }
      }),
    );
  }

  /** Mounts of volumes below our roots. */
  private ours(): MountInfo[] {
    return listMounts().filter(
      ({ type, source, mountPoint }) =>
        type === fileSystemType &&
        parseSource(source) !== undefined &&
        this.init.roots.some((root) => mountPoint.startsWith(`${root}/`)),
    );
  }

  private mountAt(path: string): MountInfo | undefined {
    return listMounts().findLast(({ mountPoint }) => mountPoint === path);
  }

  /** Replaces every dead mount of a volume by a living one. @param known - where it was mounted, when that is not in the table any more. */
  private async remount(text: string, known?: string): Promise<void> {
    const { logger } = this.init;
    const source = parseSource(text);
    const living = new Set(
      [...this.held].filter(([, held]) => held.isServing).map(([path]) => this.mountAt(path)?.device),
    );
    const dead = this.ours().filter((mount) => mount.source === text && !living.has(mount.device));
    if (source === undefined || dead.length === 0) return;
    for (const device of new Set(dead.map((mount) => mount.device))) await abortDevice(device);
    const staging = dead.filter(({ mountPoint }) => isStagingPath(mountPoint)).map(({ mountPoint }) => mountPoint);
    const path = staging[0] ?? known;
    if (path === undefined) {
      // What is shown stays as it is: dead, and not an empty folder that somebody fills.
      logger.error('A volume is shown to pods but has no mount of its own: it stays dead', { source: text });
      return;
    }
    logger.warn('Mounting anew what died', { source: text, paths: dead.length });
    for (const mount of dead) if (staging.includes(mount.mountPoint)) await this.clear(mount);
    await this.start(source, path, false);
    const device = this.mountAt(path)?.device ?? '';
    for (const mount of dead.filter(({ mountPoint }) => !staging.includes(mountPoint))) {
      await unmount(mount.mountPoint, { lazy: true });
      await this.bind(path, mount.mountPoint, mount.options.includes('ro'), device);
    }
  }

  /** Waits until the servers have the volume. */
  private async reach(source: VolumeSource, path: string): Promise<void> {
    const { clock, reachMs } = this.init;
    const until = clock.monotonic() + reachMs;
    for (;;) {
      try {
        const policy = await probeVolume(this.configOf(source, path));
        if (policy === posixPolicy) return;
        throw new HolderError(
          'Invalid',
          `${source.volumeName} has access policy ${policy}: pods get volumes with POSIX modes only`,
        );
      } catch (error) {
        if (error instanceof HolderError) throw error;
        if (clock.monotonic() + probePauseMs >= until) {
          throw new HolderError('Unreachable', describeError(error), { cause: error });
        }
        await clock.sleep(probePauseMs);
      }
    }
  }

  /** Starts a keeper. @param untilServing - otherwise done as soon as the mount is there, whether or not servers answer. */
  private async start(source: VolumeSource, path: string, untilServing: boolean): Promise<void> {
    const { clock, logger, workerCommand } = this.init;
    const text = sourceText(source);
    const serving = Promise.withResolvers<undefined>();
    const keeper = new Keeper({
      ...{ clock, workerCommand, logger: logger.with({ volume: source.volumeName }) },
      config: this.configOf(source, path),
      mount: {
        ...{ mountPoint: path, source: text, subtype: 'xtreemfs', maxReadBytes: transferBytes },
        ...{ allowOther: true, defaultPermissions: true, readOnly: false, extra: ['nosuid', 'nodev'] },
      },
      onMounted: () => {
        const known = this.held.get(path);
        if (known !== undefined) {
          if (known.isServing) known.takeovers++;
          known.isServing = true;
        }
        serving.resolve(undefined);
      },
    });
    const running = keeper.run();
    const held: Held = {
      source: text,
      keeper,
      isServing: false,
      takeovers: 0,
      ended: this.follow(running, text, path),
    };
    this.held.set(path, held);
    running.then(
      () => serving.reject(new HolderError('Failed', `${path} was unmounted while it was being mounted`)),
      (error: unknown) => serving.reject(new HolderError('Failed', describeError(error), { cause: error })),
    );
    await (untilServing ? this.within(serving.promise, keeper, path) : this.mounted(serving.promise, path));
  }

  /** Waits for a mount to serve; takes it away when it doesn't. */
  private async within(serving: Promise<undefined>, keeper: Keeper, path: string): Promise<void> {
    const isServing = await Promise.race([serving.then(() => true), this.init.clock.sleep(serveMs).then(() => false)]);
    if (isServing) return;
    await keeper.stop();
    throw new HolderError(
      'Unreachable',
      `${path} was mounted, but its servers did not answer within ${serveMs / 1000} s`,
    );
  }

  /** Waits for a mount to be in the kernel's table: requests wait in it from then on. */
  private async mounted(serving: Promise<undefined>, path: string): Promise<void> {
    let failure: HolderError | undefined;
    serving.catch((error: unknown) => {
      failure =
        error instanceof HolderError ? error : new HolderError('Failed', describeError(error), { cause: error });
    });
    while (this.mountAt(path) === undefined) {
      if (failure !== undefined) throw failure;
      await this.init.clock.sleep(10);
    }
    const held = this.held.get(path);
    if (held !== undefined) held.isServing = true;
  }

  /** Notes the end of a mount; one that failed is made again as long as its path is wanted. */
  private async follow(running: Promise<void>, source: string, path: string): Promise<void> {
    const { clock, logger } = this.init;
    try {
      await running;
      this.held.delete(path);
    } catch (error) {
      this.held.delete(path);
      logger.error('A mount failed', { source, path, reason: describeError(error) });
      const again = async (): Promise<void> => this.inTurn(path, async () => this.remount(source, path));
      clock.after(remountMs, () => void again().catch(() => undefined), { unref: true });
    }
  }

  private async bind(from: string, to: string, isReadOnly: boolean, device: string): Promise<void> {
    const flags = ['nosuid', 'nodev', ...(isReadOnly ? ['ro'] : [])];
    await bindMount(from, to, flags);
    const made = this.mountAt(to);
    const missing = flags.filter((flag) => made?.options.includes(flag) !== true);
    if (made?.device === device && missing.length === 0) return;
    await unmount(to, { lazy: true });
    throw new HolderError(
      'Failed',
      `${to} was not mounted as asked for: ${missing.join(', ') || 'another file system'}`,
    );
  }

  /** Takes away a mount of a volume that is dead at a path where a living one is wanted. */
  private async clearDead(mount: MountInfo): Promise<void> {
    const isAlive = [...this.held].some(
      ([path, { isServing }]) => isServing && this.mountAt(path)?.device === mount.device,
    );
    if (mount.type !== fileSystemType || isAlive) {
      throw new HolderError('Conflict', `${mount.mountPoint} has another mount, of ${mount.source}`);
    }
    await this.clear(mount);
  }

  /** Ends a dead mount: who waits in it is let go first, since unmounting would wait as well. */
  private async clear(mount: MountInfo): Promise<void> {
    await abortDevice(mount.device);
    await unmount(mount.mountPoint, { lazy: true });
  }

  private configOf(source: VolumeSource, path: string): MountConfig {
    return {
      dirs: source.dirs,
      scheme: source.scheme,
      ...(source.scheme === 'pbrpc' ? {} : { tls: this.init.tls }),
      ...(source.relay === undefined ? {} : { relay: source.relay }),
      volumeName: source.volumeName,
      mountPoint: path,
      consistency: 'close-to-open',
      metadataTtlMs: 10_000,
      readdirChunk: 1024,
      asyncWrites: false,
      dirtyBytesMax: 64 << 20,
      triesMax: 0,
      retryDelayMs: 1_000,
      connectTimeoutMs: 15_000,
      requestTimeoutMs: 15_000,
      lingerMs: 600_000,
      readAheadBytes: 4096 * 1024,
      transferBytes,
      lockClient: randomUUID(),
      posixAcl: true,
      issuedIds: this.init.issuedIds,
      staysWithoutKeeper: true,
      logLevel: this.init.logLevel,
    };
  }

  /** Runs what concerns one path one after the other. */
  private async inTurn<T>(path: string, run: () => Promise<T>): Promise<T> {
    const before = this.queues.get(path) ?? Promise.resolve();
    const mine = before.then(run, run);
    this.queues.set(path, mine);
    try {
      return await mine;
    } finally {
      if (this.queues.get(path) === mine) this.queues.delete(path);
    }
  }
}

/** Where kubelets stage: `…/plugins/kubernetes.io/csi/DRIVER/HASH/globalmount`. Pods' paths are `…/pods/UID/volumes/…/mount`. */
function isStagingPath(path: string): boolean {
  return !path.includes('/pods/');
}

async function abortDevice(device: string): Promise<void> {
  const [, minor] = device.split(':');
  // A connection that is gone already can't be aborted, and needn't be.
  await abortConnection(Number(minor)).catch(() => undefined);
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
    chmodSync(path, bareMode);
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
  }
}

function removeFolder(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') {
      throw new HolderError('Failed', `${path} can not be removed: ${describeError(error)}`, { cause: error });
    }
  }
}

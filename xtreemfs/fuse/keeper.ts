import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { abortConnection, connectionOf, mountDescriptor, type MountOptions, unmount } from './mount.ts';
import type { MountConfig, WorkerMessage } from './mount-config.ts';

/** What a keeper needs. */
export interface KeeperInit {
  readonly config: MountConfig;
  readonly mount: MountOptions;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Program and arguments of a worker: it must call `runWorker`. */
  readonly workerCommand: readonly [string, ...string[]];
  /** Called when the mount can be used. */
  readonly onMounted?: (workerPid: number) => void;
}

const restartDelayMs = { first: 10, max: 5_000 };
/** A worker that lived this long was sound: the next restart is at once again. */
const soundMs = 30_000;
const crashesInRowMax = 20;
const stopTimeoutMs = 30_000;

/**
 * Keeps a mount alive: it holds the FUSE descriptor and the journal, and starts the process that serves them, again
 * and again. It does nothing else, so that there is little to go wrong. When a worker dies, callers wait until the
 * next one has taken over; their files stay open.
 */
export class Keeper {
  private readonly init: KeeperInit;
  private readonly descriptors: number[] = [];
  private worker: ChildProcess | undefined;
  private isStopping = false;
  private crashesInRow = 0;
  private connection: number | undefined;

  constructor(init: KeeperInit) {
    this.init = init;
  }

  /**
   * Mounts, and serves until the file system is unmounted.
   * @throws {TerminalError} when it can't be mounted, or workers die one after the other.
   */
  async run(): Promise<void> {
    const { config, mount } = this.init;
    const fuse = openSync('/dev/fuse', 'r+');
    this.descriptors.push(fuse, ...openJournal());
    try {
      await mountDescriptor(fuse, mount);
      this.connection = connectionOf(config.mountPoint);
      await this.superviseWorkers();
    } finally {
      // Its number is given to another mount from now on, perhaps of another program.
      this.connection = undefined;
      for (const descriptor of this.descriptors) closeSync(descriptor);
    }
  }

  /** Unmounts; open files are let finish for a while, then cut off. */
  async stop(): Promise<void> {
    if (this.isStopping) return;
    this.isStopping = true;
    const { config, logger, clock } = this.init;
    try {
      await unmount(config.mountPoint);
    } catch (error) {
      logger.warn('Files are open: unmounting lazily', { mountPoint: config.mountPoint, reason: describeError(error) });
      await unmount(config.mountPoint, { lazy: true }).catch(() => undefined);
    }
    clock.after(
      stopTimeoutMs,
      () => {
        if (this.connection === undefined) return;
        logger.error('Files stayed open: aborting the connection', { mountPoint: config.mountPoint });
        void abortConnection(this.connection).catch(() => undefined);
      },
      { unref: true },
    );
  }

  private async superviseWorkers(): Promise<void> {
    const { clock, logger } = this.init;
    for (let delayMs = restartDelayMs.first; ;) {
      const startedAt = clock.monotonic();
      const how = await this.runWorkerOnce();
      if (how === 'ended') return;
      const isSound = clock.monotonic() - startedAt > soundMs;
      // Being killed from outside is no fault of the worker's; such a mount goes on however often it happens.
      const isOwnFault = how !== 'signal SIGKILL' && how !== 'signal SIGTERM';
      this.crashesInRow = isSound ? 0 : this.crashesInRow + (isOwnFault ? 1 : 0);
      if (this.crashesInRow > crashesInRowMax) {
        if (this.connection !== undefined) await abortConnection(this.connection).catch(() => undefined);
        await unmount(this.init.config.mountPoint, { lazy: true }).catch(() => undefined);
        throw new Error(`the mount's process died ${this.crashesInRow} times in a row, last by ${how}: see its log`);
      }
      logger.error('The process of the mount died: starting another', { how, crashesInRow: this.crashesInRow });
      await clock.sleep(delayMs);
      delayMs = isSound || !isOwnFault ? restartDelayMs.first : Math.min(restartDelayMs.max, delayMs * 2);
    }
  }

  /** @returns `ended` after a regular end, or how the worker died. */
  private async runWorkerOnce(): Promise<string> {
    const [program, ...args] = this.init.workerCommand;
    const worker = spawn(program, args, {
      stdio: ['ignore', 'inherit', 'inherit', ...this.descriptors, 'ipc'],
      detached: true,
    });
    this.worker = worker;
    worker.on('message', (message: WorkerMessage) => {
      if (message.isResumed) this.init.logger.info('Another process has taken over the mount', { pid: worker.pid });
      this.init.onMounted?.(worker.pid ?? 0);
    });
    worker.send({ kind: 'config', config: this.init.config }, () => undefined);
    return await new Promise((resolve) => {
      worker.once('error', (error) => resolve(describeError(error)));
      worker.once('exit', (code, signal) => {
        this.worker = undefined;
        resolve(code === 0 ? 'ended' : signal === null ? `exit ${code}` : `signal ${signal}`);
      });
    });
  }

  /** Process that serves at the moment. */
  get workerPid(): number | undefined {
    return this.worker?.pid;
  }
}

/** Two files without a name, in memory where there is a file system for that. */
function openJournal(): [number, number] {
  const folder = mkdtempSync(join(memoryFolder(), 'xtreemfs-mount-'));
  try {
    return [openSync(join(folder, 'a'), 'wx+', 0o600), openSync(join(folder, 'b'), 'wx+', 0o600)];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const tmpfsMagic = 0x0102_1994;

function memoryFolder(): string {
  for (const folder of ['/dev/shm', '/run']) {
    try {
      if (statfsSync(folder).type === tmpfsMagic) return folder;
    } catch {
      // Not there: the next one.
    }
  }
  const folder = tmpdir();
  mkdirSync(folder, { recursive: true });
  return folder;
}

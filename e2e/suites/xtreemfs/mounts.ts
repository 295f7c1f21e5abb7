/** Mounts for the suites of XtreemFS: an installation of its own with a mount, and the memory file system. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { abortConnection, connectionOf, unmount } from '#xtreemfs/fuse/mount.ts';

const execute = promisify(execFile);
const program = new URL('../../../xtreemfs/main.ts', import.meta.url).pathname;
const memoryProgram = new URL('./memory-mount.ts', import.meta.url).pathname;
const node = process.execPath;

/** Mounting needs root and the FUSE device; without them these suites are skipped. */
export const canMount = process.getuid?.() === 0 && existsSync('/dev/fuse');

/** Something that is mounted. */
export interface TestMount {
  readonly mountPoint: string;
  /** Unmounts and ends what serves it; a mount that hangs is cut off. */
  stop(): Promise<void>;
}

/** Ends with the program's output; kills it after `timeoutMs`. Throws when it fails. */
export async function sh(command: string, timeoutMs = 20_000): Promise<string> {
  const { stdout } = await execute('sh', ['-c', command], { timeout: timeoutMs, killSignal: 'SIGKILL' });
  return stdout.trim();
}

/** A port of the loopback interface that nobody uses. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** Waits until a process has said a word. @returns what it wrote up to there. */
async function untilReady(child: ChildProcess, word: string): Promise<string> {
  const over = new AbortController();
  let output = '';
  try {
    return await new Promise((resolve, reject) => {
      const take = (chunk: Buffer): void => {
        output += chunk.toString();
        if (output.includes(word)) resolve(output);
      };
      const fail = (code: number | null): void =>
        reject(new Error(`it ended with ${code ?? 'a signal'} before it said ${word}: ${output}`));
      const streams = [child.stdout, child.stderr].filter((stream) => stream !== null);
      for (const stream of streams) stream.on('data', take);
      child.once('exit', fail);
      over.signal.addEventListener('abort', () => {
        for (const stream of streams) stream.off('data', take);
        child.off('exit', fail);
      });
    });
  } finally {
    over.abort();
  }
}

/** Waits until a process has ended. */
export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise((resolve) => child.once('exit', resolve));
}

/** A memory file system, for trying the tests and the FUSE session themselves. */
export async function mountMemory(): Promise<TestMount> {
  const scratch = mkdtempSync(join(tmpdir(), 'xtreemfs-e2e-'));
  const child = spawn(node, [memoryProgram, scratch], { stdio: ['ignore', 'pipe', 'pipe'] });
  await untilReady(child, 'Ready');
  return {
    mountPoint: scratch,
    stop: async () => {
      await unmountOrCutOff(scratch);
      await ended(child);
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

/** A disk that forgets what was not synced when power fails, and has faults: a `ForgetfulFileSystem` that is mounted. */
export class ForgetfulDisk implements TestMount {
  readonly mountPoint: string;
  private readonly scratch: string;
  private child: ChildProcess | undefined;

  constructor() {
    this.scratch = mkdtempSync(join(tmpdir(), 'xtreemfs-disk-'));
    chmodSync(this.scratch, 0o755);
    this.mountPoint = join(this.scratch, 'mount');
    mkdirSync(this.mountPoint);
  }

  /** Power comes on. @param seed - decides what of the unsynced is there after the next cut. */
  async start(seed: number): Promise<void> {
    const args = [memoryProgram, this.mountPoint, String(seed), join(this.scratch, 'image')];
    this.child = spawn(node, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    await untilReady(this.child, 'Ready');
  }

  /** Power fails: every access fails from then on, until {@link start}. */
  async cut(): Promise<void> {
    if (this.child === undefined) throw new Error('the disk has no power');
    const cut = untilReady(this.child, 'Cut');
    this.child.stdin?.write('cut\n');
    await cut;
  }

  /** Makes the disk fail, or heals it: a command of `memory-mount`. @returns the number that it answers with. */
  async fault(command: string): Promise<number> {
    if (this.child === undefined) throw new Error('the disk has no power');
    const done = untilReady(this.child, 'Done');
    this.child.stdin?.write(`${command}\n`);
    return Number(/Done (\d+)/.exec(await done)?.[1]);
  }

  async stop(): Promise<void> {
    await this.detach();
    rmSync(this.scratch, { recursive: true, force: true });
  }

  /** Takes it from the machine; whoever used it must have ended. */
  async detach(): Promise<void> {
    if (this.child === undefined) return;
    await unmountOrCutOff(this.mountPoint);
    await ended(this.child);
    this.child = undefined;
  }
}

async function unmountOrCutOff(mountPoint: string): Promise<void> {
  await unmount(mountPoint).catch(async () => {
    const connection = connectionOf(mountPoint);
    if (connection !== undefined) await abortConnection(connection);
    await unmount(mountPoint, { lazy: true });
  });
}

/** A whole installation with a mount, as `xtreemfs up` makes it. */
export class TestInstallation implements TestMount {
  readonly folder: string;
  readonly mountPoint: string;
  private readonly scratch: string;
  private readonly child: ChildProcess;
  private readonly frozen: number[] = [];

  private constructor(scratch: string, folder: string, child: ChildProcess) {
    this.scratch = scratch;
    this.folder = folder;
    this.mountPoint = join(scratch, 'mount');
    this.child = child;
  }

  /**
   * @param mountOptions - for mount.xtreemfs.
   * @param folder - of the data; one of its own unless given.
   */
  static async start(mountOptions: readonly string[] = [], width = 1, folder?: string): Promise<TestInstallation> {
    const scratch = mkdtempSync(join(tmpdir(), 'xtreemfs-e2e-'));
    chmodSync(scratch, 0o755);
    mkdirSync(join(scratch, 'mount'));
    const data = folder ?? join(scratch, 'data');
    const args = ['up', '--dir', data, '--mount', join(scratch, 'mount'), '-w', String(width)];
    const child = spawn(node, [program, ...args, ...mountOptions.map((option) => `--mount-option=${option}`)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    await untilReady(child, 'Ready');
    return new TestInstallation(scratch, data, child);
  }

  /** Mounts the volume once more, as another client. @param mountOptions - for mount.xtreemfs. */
  async mountAgain(mountOptions: readonly string[] = []): Promise<TestMount> {
    const mountPoint = mkdtempSync(join(tmpdir(), 'xtreemfs-again-'));
    const settings = readFileSync(join(this.folder, 'installation.json'), 'utf8');
    const { dirPort } = JSON.parse(settings) as { dirPort: number };
    const words = [program, 'mount', ...mountOptions, `127.0.0.1:${dirPort}/demo`, mountPoint];
    await sh(`'${node}' ${words.map((word) => `'${word}'`).join(' ')} >/dev/null 2>&1`, 60_000);
    return {
      mountPoint,
      stop: async () => {
        await unmountOrCutOff(mountPoint);
        rmSync(mountPoint, { recursive: true, force: true });
      },
    };
  }

  /** Process ids of `dir`, `mrc`, `osd0`, `osd1`, `mount` (the keeper) and `worker` (which serves the mount). */
  pidOf(name: string): number {
    if (name === 'worker') return childrenOf(this.pidOf('mount'))[0]?.pid ?? 0;
    const children = childrenOf(this.child.pid ?? 0);
    const wanted = name.startsWith('osd') ? `/${name}` : ` ${name} `;
    return children.find((child) => child.command.includes(wanted))?.pid ?? 0;
  }

  /** Kills one process; `up` or the keeper starts it again. @returns its id. */
  kill(name: string): number {
    const pid = this.pidOf(name);
    if (pid === 0) return 0;
    process.kill(pid, 'SIGKILL');
    return pid;
  }

  /** Stops `up` and every server where they are, until {@link stop}. */
  freeze(): void {
    if (this.child.pid !== undefined) process.kill(this.child.pid, 'SIGSTOP');
    for (const name of ['dir', 'mrc', 'osd0', 'osd1']) this.frozen.push(this.pidOf(name));
    for (const pid of this.frozen) process.kill(pid, 'SIGSTOP');
  }

  /** Everything ends at once, without a word: `up`, the servers, the mount. */
  async die(): Promise<void> {
    const names = ['worker', 'mount', 'dir', 'mrc', 'osd0', 'osd1'];
    const pids = [this.child.pid ?? 0, ...names.map((name) => this.pidOf(name))].filter((pid) => pid > 0);
    for (const signal of ['SIGSTOP', 'SIGKILL'] as const) for (const pid of pids) signalIfThere(pid, signal);
    await ended(this.child);
    await unmountOrCutOff(this.mountPoint);
    rmSync(this.scratch, { recursive: true, force: true });
  }

  async stop(): Promise<void> {
    for (const pid of this.frozen) process.kill(pid, 'SIGCONT');
    if (this.frozen.length > 0 && this.child.pid !== undefined) process.kill(this.child.pid, 'SIGCONT');
    const connection = connectionOf(this.mountPoint);
    this.child.kill('SIGTERM');
    const patience = setTimeout(() => {
      if (connection !== undefined) void abortConnection(connection).catch(() => undefined);
    }, 30_000);
    await ended(this.child);
    clearTimeout(patience);
    if (connectionOf(this.mountPoint) !== undefined) await unmount(this.mountPoint, { lazy: true });
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

function childrenOf(parent: number): { pid: number; command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const fields = readFileSync(`/proc/${name}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
        if (fields[1] !== String(parent) || fields[0] === 'Z') return [];
        return [{ pid: Number(name), command: readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ') }];
      } catch {
        return [];
      }
    });
}

/** Sends a signal; a process may have ended by itself meanwhile. */
function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

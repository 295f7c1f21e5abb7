import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { systemErrorCode, TerminalError } from '#common/errors.ts';

/** How a mount looks to the machine. */
export interface MountOptions {
  readonly mountPoint: string;
  /** First column of the mount table, for example `dir.example.org/volume`. */
  readonly source: string;
  /** File system type after `fuse.`. */
  readonly subtype: string;
  /** Other users than the one who mounts may use it. */
  readonly allowOther: boolean;
  /** The kernel checks mode bits; otherwise the file system checks every request itself. */
  readonly defaultPermissions: boolean;
  readonly readOnly: boolean;
  readonly maxReadBytes: number;
  /** Further mount options as `mount -o` takes them, for example `nosuid`. */
  readonly extra: readonly string[];
}

/** One line of `/proc/self/mountinfo`. */
export interface MountInfo {
  readonly mountPoint: string;
  readonly device: string;
  readonly type: string;
  readonly source: string;
  /** Of this mount, not of the file system: `ro`, `nosuid` … */
  readonly options: readonly string[];
}

const unescapeField = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_match, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** The mounts that this process sees. */
export function listMounts(): MountInfo[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      const fields = before.split(' ');
      const [type = '', source = ''] = after.split(' ');
      return {
        mountPoint: unescapeField(fields[4] ?? ''),
        device: fields[2] ?? '',
        type,
        source: unescapeField(source),
        options: (fields[5] ?? '').split(','),
      };
    });
}

/** The topmost mount at a path; undefined when there is none. */
export function mountAt(mountPoint: string): MountInfo | undefined {
  const wanted = resolve(mountPoint);
  return listMounts().findLast((mount) => mount.mountPoint === wanted);
}

/**
 * Checks what can be known before a mount is tried.
 * @throws {TerminalError} naming what is missing and how to mend it.
 */
export function checkMountable(mountPoint: string, device = '/dev/fuse'): void {
  if (process.getuid?.() !== 0) {
    throw new TerminalError('mounting needs root: run the command as root (for example with sudo)');
  }
  try {
    closeSync(openSync(device, 'r+'));
  } catch (error) {
    const code = systemErrorCode(error);
    const remedy =
      code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO'
        ? 'load the kernel module (modprobe fuse); in a container pass the device in (--device /dev/fuse)'
        : 'run as root; in a container allow the device (privileged, or a device rule c 10:229 rw)';
    throw new TerminalError(`${device} can't be opened (${code ?? 'unknown error'}): ${remedy}`, { cause: error });
  }
  checkMountPoint(mountPoint);
}

function checkMountPoint(mountPoint: string): void {
  let isDirectory: boolean;
  try {
    isDirectory = statSync(mountPoint).isDirectory();
  } catch (error) {
    const code = systemErrorCode(error);
    const remedy =
      code === 'ENOENT'
        ? `create it: mkdir -p ${mountPoint}`
        : code === 'ENOTCONN'
          ? `an earlier mount lost its process: run umount -l ${mountPoint}`
          : 'name an existing directory';
    throw new TerminalError(`mount point ${mountPoint} can't be used (${code ?? 'unknown error'}): ${remedy}`, {
      cause: error,
    });
  }
  if (!isDirectory) throw new TerminalError(`mount point ${mountPoint} is no directory: name a directory`);
  const existing = mountAt(mountPoint);
  if (existing?.type.startsWith('fuse') === true) {
    throw new TerminalError(
      `mount point ${mountPoint} is in use (${existing.source}): run umount ${mountPoint} first, or choose another directory`,
    );
  }
}

/**
 * Connects an open descriptor of `/dev/fuse` to a mount point, by mount(8), which inherits the descriptor. It returns
 * when the mount is there; requests can be read from then on, the first of them INIT.
 * @throws {TerminalError} with what mount(8) said.
 */
export async function mountDescriptor(descriptor: number, options: MountOptions, timeoutMs = 20_000): Promise<void> {
  const flags = [
    'fd=3',
    'rootmode=40000',
    'user_id=0',
    'group_id=0',
    `max_read=${options.maxReadBytes}`,
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.defaultPermissions ? ['default_permissions'] : []),
    ...(options.readOnly ? ['ro'] : ['rw']),
    ...options.extra,
  ];
  const args = ['-i', '-t', `fuse.${options.subtype}`, '-o', flags.join(','), options.source, options.mountPoint];
  const { code, output } = await runCommand('mount', args, timeoutMs, descriptor);
  if (code !== 0) {
    throw new TerminalError(
      `mount(8) failed for ${options.mountPoint} (exit ${code ?? 'by signal'}): ${output.trim()}`,
    );
  }
}

/**
 * Shows what is mounted at one path at another one, too.
 * @param flags - options of the new mount alone, for example `ro`; what the first one has, such as `nosuid`, stays.
 * @throws {TerminalError} with what mount(8) said.
 */
export async function bindMount(from: string, to: string, flags: readonly string[], timeoutMs = 20_000): Promise<void> {
  const { code, output } = await runCommand('mount', ['-o', ['bind', ...flags].join(','), from, to], timeoutMs);
  if (code !== 0) throw new TerminalError(`mount(8) failed to bind ${from} to ${to}: ${output.trim()}`);
}

/**
 * Takes a mount away.
 * @param options.lazy - also when files are open: the name goes now, the rest when the last file is closed.
 * @throws {TerminalError} with what umount(8) said.
 */
export async function unmount(mountPoint: string, options: { lazy?: boolean; timeoutMs?: number } = {}): Promise<void> {
  const args = [...(options.lazy === true ? ['-l'] : []), mountPoint];
  const { code, output } = await runCommand('umount', args, options.timeoutMs ?? 20_000);
  if (code !== 0) throw new TerminalError(`umount(8) failed for ${mountPoint}: ${output.trim()}`);
}

/** Number of the FUSE connection behind a mount (the minor number of its device); undefined when there is none. */
export function connectionOf(mountPoint: string): number | undefined {
  const mount = mountAt(mountPoint);
  if (mount?.type.startsWith('fuse') !== true) return undefined;
  return Number(mount.device.split(':')[1]);
}

const connectionsFolder = '/sys/fs/fuse/connections';

/**
 * Ends a connection at once: every caller gets ENOTCONN or ECONNABORTED, also those in uninterruptible sleep.
 * @throws {TerminalError} when the control file system isn't there and can't be mounted.
 */
export async function abortConnection(connection: number): Promise<void> {
  const file = `${connectionsFolder}/${connection}/abort`;
  try {
    writeFileSync(file, '1');
    return;
  } catch {
    // Not mounted yet, most likely: mount it and try again.
  }
  await runCommand('mount', ['-t', 'fusectl', 'fusectl', connectionsFolder], 10_000);
  try {
    writeFileSync(file, '1');
  } catch (error) {
    throw new TerminalError(`FUSE connection ${connection} can't be aborted: mount fusectl on ${connectionsFolder}`, {
      cause: error,
    });
  }
}

/**
 * Sets how far the kernel reads ahead on a mount. Without this reads come in pieces of 128 KiB, whatever was
 * negotiated. Failing is no error: the mount works, only slower.
 * @returns whether it was set.
 */
export function setReadAhead(mountPoint: string, bytes: number): boolean {
  const connection = connectionOf(mountPoint);
  if (connection === undefined) return false;
  try {
    writeFileSync(`/sys/class/bdi/0:${connection}/read_ahead_kb`, String(Math.floor(bytes / 1024)));
    return true;
  } catch {
    return false;
  }
}

/** Runs a program with a time limit; its output is one text. `descriptor` becomes its descriptor 3. */
async function runCommand(
  program: string,
  args: readonly string[],
  timeoutMs: number,
  descriptor?: number,
): Promise<{ code: number | null; output: string }> {
  return await new Promise((resolveRun, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe', ...(descriptor === undefined ? [] : [descriptor])],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let output = '';
    const take = (chunk: Buffer): void => void (output += chunk.toString('utf8').slice(0, 4096));
    child.stdout?.on('data', take);
    child.stderr?.on('data', take);
    child.on('error', (error) =>
      reject(new TerminalError(`${program}(8) can't be run: is it installed?`, { cause: error })),
    );
    child.on('close', (code) => resolveRun({ code, output }));
  });
}

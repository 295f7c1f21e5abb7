/** Installations whose servers and mounts are ours or upstream's, each chosen alone. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '#common/clock.ts';
import { mountAt } from '#xtreemfs/fuse/mount.ts';
import { ended, freePort, sh } from '../suites/xtreemfs/mounts.ts';

/** Folder with upstream's `mount.xtreemfs`, `mkfs.xtreemfs` and so on; empty when it is not given. */
const upstreamBin = process.env.XTREEMOS_UPSTREAM_BIN ?? '';
/** Upstream's `xtreemfs.jar`; empty when it is not given. `java` must be in the path. */
const upstreamJar = process.env.XTREEMOS_UPSTREAM_JAR ?? '';
export const hasUpstreamClient = existsSync(join(upstreamBin, 'mount.xtreemfs'));
export const hasUpstreamServers = upstreamJar !== '' && existsSync(upstreamJar);

/** Who made a server or a client. */
export type Maker = 'ours' | 'upstream';

const program = new URL('../../xtreemfs/main.ts', import.meta.url).pathname;
const host = '127.0.0.1';
/** What the servers share. */
export const capabilitySecret = 'a-secret-of-both';
const startMs = 60_000;
const javaMain = { dir: 'org.xtreemfs.dir.DIR', mrc: 'org.xtreemfs.mrc.MRC', osd: 'org.xtreemfs.osd.OSD' };

/** What is set beside the usual. */
export interface MixedOptions {
  readonly scheme?: 'pbrpc' | 'pbrpcs' | 'pbrpcg';
  /** More options of our servers. */
  readonly server?: (kind: 'dir' | 'mrc' | 'osd') => readonly string[];
  /** More options of our tools and mounts. */
  readonly client?: readonly string[];
}

/** One server process. */
export interface MixedServer {
  readonly uuid: string;
  readonly port: number;
  readonly child: ChildProcess;
}

/** Starts servers and mounts one by one, and ends all of them. */
export class MixedInstallation {
  readonly folder = mkdtempSync(join(tmpdir(), 'xtreemfs-interop-'));
  readonly servers: MixedServer[] = [];
  readonly mounts: { readonly path: string; readonly child: ChildProcess }[] = [];
  private readonly options: MixedOptions;
  private dirPort = 0;
  private mrcPort = 0;

  private constructor(options: MixedOptions) {
    this.options = options;
  }

  /** @param osds - in this order, with UUIDs `osd-0`, `osd-1` and so on. */
  static async start(
    dir: Maker,
    mrc: Maker,
    osds: readonly Maker[],
    options: MixedOptions = {},
  ): Promise<MixedInstallation> {
    const made = new MixedInstallation(options);
    const isPure = [dir, mrc, ...osds].every((maker) => maker === 'ours');
    try {
      made.dirPort = (await made.server('dir', dir, 'dir', isPure)).port;
      for (const [index, maker] of osds.entries()) await made.server('osd', maker, `osd-${index}`, isPure);
      // An MRC asks for OSDs when it starts and then only now and then: so they come first.
      made.mrcPort = (await made.server('mrc', mrc, 'mrc', isPure)).port;
    } catch (error) {
      await made.stop();
      throw error;
    }
    return made;
  }

  /** Runs a tool of either maker on a volume, for example `mkfs.xtreemfs`. @returns what it wrote. */
  async tool(maker: Maker, name: string, options: string, volume = ''): Promise<string> {
    const command = maker === 'upstream' ? join(upstreamBin, name) : `'${process.execPath}' '${program}' ${name}`;
    const client = maker === 'ours' ? (this.options.client ?? []).join(' ') : '';
    const url = `${this.options.scheme ?? 'pbrpc'}://${host}:${this.mrcPort}${volume === '' ? '' : `/${volume}`}`;
    return await sh(`${command} ${client} ${options} ${url} 2>&1`, 60_000);
  }

  /** Runs `xtfsutil` of either maker on a path in a mount. */
  async util(maker: Maker, path: string, options: string): Promise<string> {
    const command =
      maker === 'upstream' ? join(upstreamBin, 'xtfsutil') : `'${process.execPath}' '${program}' xtfsutil`;
    return await sh(`${command} '${path}' ${options} 2>&1`, 60_000);
  }

  /** Mounts a volume, with nothing cached unless `options` are given. @returns the mount point. */
  async mount(maker: Maker, volume: string, options?: readonly string[]): Promise<string> {
    const path = join(this.folder, `mount-${this.mounts.length}-${maker}`);
    mkdirSync(path);
    const [command, own] =
      maker === 'upstream'
        ? [[join(upstreamBin, 'mount.xtreemfs')], ['--metadata-cache-size=0', '--retry-delay=2', '-o', 'user_xattr']]
        : [
            [process.execPath, program, 'mount.xtreemfs'],
            ['--consistency=strict', '--retry-delay=2', ...(this.options.client ?? [])],
          ];
    const url = `${this.options.scheme ?? 'pbrpc'}://${host}:${this.dirPort}/${volume}`;
    const args = ['-f', ...(options ?? own), url, path];
    const child = this.spawn(`mount-${this.mounts.length}`, [...command, ...args]);
    await until(`${path} is mounted`, child, () => Promise.resolve(mountAt(path) !== undefined));
    this.mounts.push({ path, child });
    return path;
  }

  /** Starts another MRC of ours, beside an installation that is all ours. */
  async addMrc(uuid: string): Promise<void> {
    await this.server('mrc', 'ours', uuid, true);
  }

  /** kill -9. */
  kill(uuid: string): void {
    this.servers.find((server) => server.uuid === uuid)?.child.kill('SIGKILL');
  }

  /** Unmounts everything, then ends the servers. */
  async stop(): Promise<void> {
    for (const { path, child } of this.mounts.splice(0)) {
      await sh(`umount '${path}' || umount -l '${path}'`, 30_000).catch(() => undefined);
      const patience = setTimeout(() => child.kill('SIGKILL'), 15_000);
      await ended(child);
      clearTimeout(patience);
    }
    for (const { child } of this.servers.splice(0).reverse()) {
      child.kill('SIGKILL');
      await ended(child);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async server(kind: 'dir' | 'mrc' | 'osd', maker: Maker, uuid: string, isPure: boolean): Promise<MixedServer> {
    const port = await freePort();
    const command =
      maker === 'upstream' ? await this.javaCommand(kind, uuid, port) : this.ownCommand(kind, uuid, port, isPure);
    const child = this.spawn(uuid, command);
    const server = { uuid, port, child };
    this.servers.push(server);
    await until(`${uuid} listens`, child, async () => await canConnect(port));
    return server;
  }

  private ownCommand(kind: 'dir' | 'mrc' | 'osd', uuid: string, port: number, isPure: boolean): string[] {
    const data = join(this.folder, uuid);
    const network = ['--port', String(port), '--listen-host', host, '--host-name', host, '--http-port=-1'];
    const member = ['--uuid', uuid, '--dir', `${host}:${this.dirPort}`];
    if (!isPure) member.push('--upstream-capabilities');
    const own = {
      dir: ['--data-dir', data, '--no-discover'],
      mrc: ['--data-dir', data, ...member],
      osd: ['--object-dir', data, ...member, ...(isPure ? [] : ['--lease-ms=14000', '--clock-skew-max-ms=1000'])],
    };
    const { scheme = 'pbrpc', server } = this.options;
    return [process.execPath, program, kind, '--scheme', scheme, ...network, ...own[kind], ...(server?.(kind) ?? [])];
  }

  private async javaCommand(kind: 'dir' | 'mrc' | 'osd', uuid: string, port: number): Promise<string[]> {
    const data = join(this.folder, uuid);
    mkdirSync(data);
    const settings: Record<string, string | number> = {
      uuid,
      hostname: host,
      'listen.port': port,
      'listen.address': host,
      http_port: await freePort(),
      'ssl.enabled': 'false',
      'dir_service.host': host,
      'dir_service.port': this.dirPort,
      capability_secret: capabilitySecret,
      authentication_provider: 'org.xtreemfs.common.auth.NullAuthProvider',
      policy_dir: join(data, 'policies'),
      osd_check_interval: 10,
      no_atime: 'true',
      local_clock_renewal: 0,
      remote_time_sync: 60_000,
      object_dir: join(data, 'objects'),
      report_free_space: 'true',
      'checksums.enabled': 'false',
      'checksums.algorithm': 'Adler32',
      'babudb.baseDir': join(data, 'database'),
      'babudb.logDir': join(data, 'log'),
      'babudb.sync': 'ASYNC',
      'babudb.debug.level': 4,
      'babudb.worker.maxQueueLength': 250,
      'babudb.worker.numThreads': 0,
      'babudb.maxLogfileSize': 16_777_216,
      'babudb.checkInterval': 300,
      'babudb.pseudoSyncWait': kind === 'dir' ? 200 : 0,
    };
    const file = join(data, 'config.properties');
    const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}`);
    writeFileSync(file, `${lines.join('\n')}\n`);
    return ['java', '-Xmx256m', '-cp', upstreamJar, javaMain[kind], file];
  }

  private spawn(name: string, [command, ...args]: string[]): ChildProcess {
    const log = openSync(join(this.folder, `${name}.log`), 'a');
    const child = spawn(command ?? '', args, {
      stdio: ['ignore', log, log],
      env: { ...process.env, XTREEMOS_CAPABILITY_SECRET: capabilitySecret },
    });
    closeSync(log);
    logs.set(child, join(this.folder, `${name}.log`));
    return child;
  }
}

/** What processes wrote, for messages. */
const logs = new WeakMap<ChildProcess, string>();

async function until(what: string, child: ChildProcess, holds: () => Promise<boolean>): Promise<void> {
  const end = systemClock.monotonic() + startMs;
  while (!(await holds())) {
    const hasEnded = child.exitCode !== null || child.signalCode !== null;
    if (hasEnded || systemClock.monotonic() > end) {
      throw new Error(
        `Not in time: ${what}. Its log ends with: ${readFileSync(logs.get(child) ?? '', 'utf8').slice(-2000)}`,
      );
    }
    await systemClock.sleep(100);
  }
}

async function canConnect(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(port, host, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

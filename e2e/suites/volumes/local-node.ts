/** The mount holder of a node that has no kubelet: the program as it is, in a scratch folder, and an installation of XtreemFS. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { HolderRequest, VolumeSource } from '#nodeagent/holder/protocol.ts';
import { HolderClient } from '#nodeagent/holder/socket.ts';
import { abortConnection, listMounts, unmount } from '#xtreemfs/fuse/mount.ts';
import { ended, TestInstallation } from '../xtreemfs/mounts.ts';

const program = new URL('../../../nodeagent/main.ts', import.meta.url).pathname;

/** Members of a virtual organization, as the node agent would write them. */
export const ann = { name: 'u-ann-2013266944', uid: 2_013_266_944 };
export const bob = { name: 'u-bob-2013266945', uid: 2_013_266_945 };
export const team = { name: 'vo-team', gid: 2_013_265_920 };

/** A node for tests: folders as a kubelet has them, below a scratch folder. */
export class LocalNode {
  readonly installation: TestInstallation;
  readonly scratch: string;
  readonly kubeletDir: string;
  readonly stateDir: string;
  readonly client: HolderClient;
  private holder: ChildProcess | undefined;

  private constructor(installation: TestInstallation, scratch: string) {
    this.installation = installation;
    this.scratch = scratch;
    this.kubeletDir = path.join(scratch, 'kubelet');
    this.stateDir = path.join(scratch, 'state');
    this.client = new HolderClient(path.join(this.stateDir, 'holder.sock'));
  }

  static async start(): Promise<LocalNode> {
    const installation = await TestInstallation.start();
    // What the operator does for a Volume: its root belongs to somebody, here to everybody.
    chmodSync(installation.mountPoint, 0o777);
    const scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-node-'));
    chmodSync(scratch, 0o755);
    const node = new LocalNode(installation, scratch);
    for (const folder of ['plugins', 'pods']) mkdirSync(path.join(node.kubeletDir, folder), { recursive: true });
    mkdirSync(path.join(node.stateDir, 'issued'), { recursive: true });
    const users = [ann, bob].map(({ name, uid }) => `${name}:x:${uid}:${team.gid}:::\n`);
    writeFileSync(path.join(node.stateDir, 'issued/users'), users.join(''));
    writeFileSync(path.join(node.stateDir, 'issued/groups'), `${team.name}:x:${team.gid}:\n`);
    await node.startHolder();
    return node;
  }

  /** The volume of the installation. */
  get source(): VolumeSource {
    const file = path.join(this.installation.folder, 'installation.json');
    const { dirPort } = JSON.parse(readFileSync(file, 'utf8')) as { dirPort: number };
    return { scheme: 'pbrpc', dirs: [{ host: '127.0.0.1', port: dirPort }], volumeName: 'demo' };
  }

  get stagingPath(): string {
    return path.join(this.kubeletDir, 'plugins/globalmount');
  }

  /** Where a pod has the volume. */
  podPath(pod: string): string {
    const folder = path.join(this.kubeletDir, 'pods', pod);
    mkdirSync(folder, { recursive: true });
    return path.join(folder, 'mount');
  }

  async ask(request: HolderRequest): ReturnType<HolderClient['ask']> {
    return this.client.ask(request);
  }

  /** Starts the holder and waits until it answers. */
  async startHolder(): Promise<void> {
    const flags = [
      `--kubelet-dir=${this.kubeletDir}`,
      `--state-dir=${this.stateDir}`,
      '--health-port=0',
      '--log-level=warn',
    ];
    this.holder = spawn(process.execPath, [program, 'mount-holder', ...flags], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    for (let tries = 0; ; tries++) {
      try {
        await this.client.ask({ op: 'list' });
        return;
      } catch (error) {
        if (tries > 200) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  /** Ends the holder as the kernel ends it, with all that it started. */
  async killHolder(): Promise<void> {
    if (this.holder === undefined) return;
    this.holder.kill('SIGKILL');
    await ended(this.holder);
    this.holder = undefined;
  }

  async stop(): Promise<void> {
    for (const mount of listMounts().reverse()) {
      if (!mount.mountPoint.startsWith(`${this.scratch}/`)) continue;
      await abortConnection(Number(mount.device.split(':')[1])).catch(() => undefined);
      await unmount(mount.mountPoint, { lazy: true });
    }
    await this.killHolder();
    await this.installation.stop();
    if (listMounts().some(({ mountPoint }) => mountPoint.startsWith(this.scratch))) return;
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

/** Runs a shell command as one of the members, or anybody; killed after 20 s. @returns what it wrote, and how it ended. */
export function as(uid: number, gid: number, command: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', command], {
    ...{ uid, gid, encoding: 'utf8', timeout: 20_000, killSignal: 'SIGKILL', cwd: '/' },
  });
  return { status, output: `${stdout}${stderr}`.trim() };
}

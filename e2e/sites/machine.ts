/**
 * A machine of an instance: namespaces held by one sleeping process, its anchor. Everything that belongs to the machine
 * (interfaces, firewall rules, mounts) lives in the anchor's namespaces and is gone when the last process is, so there
 * is nothing to clean up after a crash but processes.
 */
import { readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { ControlGroup } from './cgroups.ts';
import { abortFuse } from './fuse.ts';
import { waitFor } from './kube-client.ts';
import { ProcessTable } from './process-table.ts';
import { type CommandOptions, runCommand } from './shell.ts';

/** What a machine is made of. */
export interface MachineOptions {
  readonly name: string;
  /** Folder for records, logs and, with a root of its own, the root. */
  readonly dir: string;
  readonly group: ControlGroup;
  /** A shell script that builds the machine's root in `$1` and ends with `pivot_root`; without it only the network is its own. */
  readonly rootScript?: string;
}

/** Programs in the same namespaces and control group. Opened anew from its folder by any process. */
export class Machine {
  readonly name: string;
  readonly dir: string;
  readonly group: ControlGroup;
  readonly processes: ProcessTable;
  private readonly rootScript: string | undefined;

  constructor(options: MachineOptions) {
    this.name = options.name;
    this.dir = options.dir;
    this.group = options.group;
    this.rootScript = options.rootScript;
    this.processes = new ProcessTable({
      dir: join(options.dir, 'run'),
      logDir: join(options.dir, 'logs'),
      wrap: (command, name) => (name === 'anchor' ? this.inGroup(command) : this.inside(command)),
    });
  }

  /** Root folder of a machine that has one of its own, as seen from outside. Mounts made inside don't show here. */
  get root(): string {
    return join(this.dir, 'root');
  }

  /** The root as the machine sees it, mounts and all: a path through /proc, valid while the machine runs. */
  get liveRoot(): string {
    return `/proc/${this.anchorPid()}/root`;
  }

  /** Whether the machine is switched on. */
  isUp(): boolean {
    return this.processes.isRunning('anchor');
  }

  /** Switches the machine on. @returns false when it was on already. */
  async up(): Promise<boolean> {
    if (this.isUp()) return false;
    this.group.create();
    const system = this.group.child('system');
    system.create();
    const marker = join(this.dir, 'run', 'booted');
    writeFileSync(marker, '');
    await this.processes.start('anchor', ['/usr/bin/unshare', ...this.anchorCommand(marker)]);
    await waitFor(
      `${this.name} has namespaces of its own`,
      () => {
        this.processes.assertRunning('anchor');
        return (
          readFileSync(marker, 'utf8') === 'booted\n' &&
          readlinkSync(`/proc/${this.anchorPid()}/ns/net`) !== hostNetwork()
        );
      },
      { limitMs: 60_000, pauseMs: 5 },
    );
    return true;
  }

  /** Switches the machine off as a power cut would: every process of it is killed, pods too. Files stay. */
  async down(): Promise<void> {
    if (this.isUp()) abortFuse([this.anchorPid()]);
    await this.group.kill();
    // Pods' groups that outlive their pods would keep the next kubelet busy for seconds each.
    await this.group.remove();
  }

  /** Pid of the process that holds the namespaces. @throws when the machine is off. */
  anchorPid(): number {
    const entry = this.processes.find('anchor');
    if (entry === undefined || !this.isUp()) throw new Error(`machine ${this.name} is off`);
    return entry.process.pid;
  }

  /** Runs a command on the machine to its end. @returns standard output. */
  async exec(command: readonly [string, ...string[]], options: CommandOptions = {}): Promise<string> {
    return runCommand(this.inside(command), options);
  }

  /** Runs a shell script on the machine. */
  async script(text: string, options: CommandOptions = {}): Promise<string> {
    return this.exec(['/bin/sh', '-euc', text], options);
  }

  /** Loads nftables rules on the machine, all or none. Uses this machine's nft. */
  async loadRules(rules: string): Promise<void> {
    const command = ['nsenter', `--net=/proc/${this.anchorPid()}/ns/net`, '--', 'nft', '-f', '-'];
    await runCommand(command, { input: rules, timeoutMs: 20_000 });
  }

  private anchorCommand(marker: string): string[] {
    const sleep = 'exec /bin/sleep infinity';
    const namespaces = ['--net', '--uts'];
    if (this.rootScript === undefined) {
      return [...namespaces, '--', '/bin/sh', '-euc', `hostname ${this.name}; echo booted > ${marker}; ${sleep}`];
    }
    const script = `hostname ${this.name}\nexec 9> ${marker}\n${this.rootScript}\necho booted >&9\nexec 9>&-\n${sleep}`;
    return [...namespaces, '--mount', '--propagation', 'private', '--', '/bin/sh', '-euc', script, 'root', this.root];
  }

  private inGroup(command: readonly string[]): [string, ...string[]] {
    return ['/bin/sh', '-c', `${this.group.child('system').joinScript()}; exec "$@"`, this.name, ...command];
  }

  private inside(command: readonly string[]): [string, ...string[]] {
    const pid = this.anchorPid();
    const namespaces = ['net', 'uts', ...(this.rootScript === undefined ? [] : ['mnt'])];
    const option = (kind: string): string => `--${kind === 'mnt' ? 'mount' : kind}=/proc/${pid}/ns/${kind}`;
    return this.inGroup(['/usr/bin/nsenter', ...namespaces.map(option), '--', ...command]);
  }
}

function hostNetwork(): string {
  return readlinkSync('/proc/self/ns/net');
}

/** Harm on purpose, for tests of how the system takes it. Every fault can be mended; `down` mends all. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';

import { TerminalError } from '#common/errors.ts';

import type { Cut, OneWayCut } from './backbone.ts';
import type { Instance } from './instance.ts';
import type { Machine } from './machine.ts';
import type { SiteNode } from './node.ts';
import { runCommand } from './shell.ts';
import type { Site } from './site.ts';

/** Faults of one instance. Sites are named by letter, nodes by number, as in the plan. */
export class Faults {
  private readonly instance: Instance;

  constructor(instance: Instance) {
    this.instance = instance;
  }

  /** A power cut: every process of the node is killed, pods too. Its disk stays. */
  async killNode(site: string, node: string): Promise<void> {
    await this.node(site, node).machine.down();
  }

  /** Switches a killed node on again and waits until it is Ready. */
  async startNode(site: string, node: string): Promise<void> {
    const at = this.instance.site(site);
    await at.startNode(at.node(node));
  }

  /** A power cut of a whole site: all its nodes and its control plane. `up` switches it on again. */
  async killSite(site: string): Promise<void> {
    const at = this.instance.site(site);
    await Promise.all([at.machine, ...at.nodes.map(({ machine }) => machine)].map(async (machine) => machine.down()));
  }

  /** Stops every process of a node where it stands: it answers nobody, and doesn't know that time passes. */
  freezeNode(site: string, node: string): void {
    this.node(site, node).machine.group.setFrozen(true);
  }

  /** Lets a frozen node go on. */
  thawNode(site: string, node: string): void {
    this.node(site, node).machine.group.setFrozen(false);
  }

  /** Ends one process as a crash would. @param machine - `cp`, or a node's number. */
  async killProcess(site: string, machine: string, name: string): Promise<void> {
    const { processes } = this.machine(site, machine);
    if (processes.find(name) === undefined) {
      const known = processes.names().filter((each) => each !== 'anchor');
      throw new TerminalError(`no process ${name} on ${machine} of ${site}; there are: ${known.join(', ')}`);
    }
    await processes.kill(name);
  }

  /** Ends one process in good order if it runs, and starts it again with the same flags. Doesn't wait until it is ready. */
  async restartProcess(site: string, machine: string, name: string): Promise<void> {
    await this.machine(site, machine).processes.restart(name);
  }

  /** Cuts the network between two sites. */
  async cut(a: string, b: string): Promise<void> {
    const pair = this.pair(a, b);
    await this.setCuts([...this.instance.record.cuts.filter((cut) => !isSame(cut, pair)), [...pair]]);
  }

  /** Heals the network between two sites. */
  async heal(a: string, b: string): Promise<void> {
    const pair = this.pair(a, b);
    await this.setCuts(this.instance.record.cuts.filter((cut) => !isSame(cut, pair)));
  }

  /** Loses what one site sends another; what the other sends arrives. */
  async cutOneWay(from: string, to: string): Promise<void> {
    const [source, target] = this.pair(from, to);
    await this.setOneWayCuts([...this.oneWayCutsBut(source, target), { from: source, to: target }]);
  }

  /** Heals what `cutOneWay` cut. */
  async healOneWay(from: string, to: string): Promise<void> {
    await this.setOneWayCuts(this.oneWayCutsBut(...this.pair(from, to)));
  }

  /** Cuts a node, and its pods, off its API server; the node's other connections stay. */
  async cutApi(site: string, node: string): Promise<void> {
    await this.setApiCut(site, node, true);
  }

  /** Heals what `cutApi` cut. */
  async healApi(site: string, node: string): Promise<void> {
    await this.setApiCut(site, node, false);
  }

  /** NetworkPolicy stands for nothing from now on, as under a network plug-in that ignores it. */
  async ignorePolicies(site: string): Promise<void> {
    await this.instance.site(site).enforcePolicies(false);
  }

  /** NetworkPolicy is enforced again. */
  async heedPolicies(site: string): Promise<void> {
    await this.instance.site(site).enforcePolicies(true);
  }

  /** Limits what a site receives from another. Zero takes the limit away. */
  async slow(from: string, to: string, kbitPerSecond: number): Promise<void> {
    const [source, target] = this.pair(from, to);
    const others = this.instance.record.slowLinks.filter((link) => link.from !== source || link.to !== target);
    const slowLinks = kbitPerSecond > 0 ? [...others, { from: source, to: target, kbitPerSecond }] : others;
    this.instance.update({ slowLinks });
    await this.instance.backbone.applySlowLinks(slowLinks);
  }

  /** Limits what a node receives from everywhere else. Zero takes the limit away. */
  async slowNode(site: string, node: string, kbitPerSecond: number): Promise<void> {
    const { port } = this.node(site, node).plan;
    const { machine } = this.instance.backbone;
    await machine.script(`tc qdisc del dev ${port} root 2>/dev/null || true`);
    if (kbitPerSecond > 0) {
      await machine.script(`tc qdisc add dev ${port} root tbf rate ${kbitPerSecond}kbit burst 16kb latency 200ms`);
    }
  }

  /**
   * Puts a small disk of its own under a folder of a node, so that filling it harms nothing else. What the folder held
   * is hidden until `removeDisk`.
   */
  async addDisk(site: string, node: string, path: string, sizeMiB: number): Promise<void> {
    const { machine } = this.node(site, node);
    const image = join(machine.root, diskFile(path));
    await runCommand(['truncate', '-s', `${sizeMiB}M`, image]);
    await runCommand(['mkfs.ext4', '-q', '-F', '-m', '0', image]);
    await machine.script(`mkdir -p '${path}'\nmount -o loop '/${diskFile(path)}' '${path}'`);
  }

  /** Writes until the disk under a folder is full. */
  async fillDisk(site: string, node: string, path: string): Promise<void> {
    // Several rounds: a sync may set free what the file system had put by for its own records.
    const round = (bytes: string, index: number): string =>
      `dd if=/dev/zero of='${path}/.filler.${index}' bs=${bytes} 2>/dev/null || true; sync -f '${path}'`;
    const rounds = ['1M', '4k', '4k', '1k', '1k'].map(round);
    await this.node(site, node).machine.script(rounds.join('\n'), { timeoutMs: 300_000 });
  }

  /** Takes away what `fillDisk` wrote. */
  async freeDisk(site: string, node: string, path: string): Promise<void> {
    await this.node(site, node).machine.script(`rm -f '${path}'/.filler.*`);
  }

  /** Takes away the disk that `addDisk` put under a folder. */
  async removeDisk(site: string, node: string, path: string): Promise<void> {
    const { machine } = this.node(site, node);
    await machine.script(`umount '${path}'`);
    rmSync(join(machine.root, diskFile(path)), { force: true });
  }

  private async setCuts(cuts: InstanceCuts): Promise<void> {
    this.instance.update({ cuts });
    await this.instance.backbone.applyCuts(cuts, this.instance.record.oneWayCuts ?? []);
  }

  private async setOneWayCuts(oneWayCuts: readonly OneWayCut[]): Promise<void> {
    const { instance } = this;
    instance.update({ oneWayCuts: oneWayCuts.length === 0 ? undefined : [...oneWayCuts] });
    await instance.backbone.applyCuts(instance.record.cuts, oneWayCuts);
  }

  private oneWayCutsBut(from: string, to: string): OneWayCut[] {
    return (this.instance.record.oneWayCuts ?? []).filter((cut) => cut.from !== from || cut.to !== to);
  }

  private async setApiCut(site: string, node: string, isCut: boolean): Promise<void> {
    const at = this.instance.site(site);
    const { name } = at.node(node).plan;
    const others = this.instance.record.apiCuts.filter((each) => each !== name);
    this.instance.update({ apiCuts: isCut ? [...others, name] : others });
    await at.applyApiCuts();
  }

  private pair(a: string, b: string): [string, string] {
    const { backbone } = this.instance;
    const [first, second] = [backbone.site(a).letter, backbone.site(b).letter];
    if (first === second) throw new TerminalError(`a site has no link to itself: ${a}, ${b}`);
    return [first, second];
  }

  private node(site: string, node: string): SiteNode {
    return this.instance.site(site).node(node);
  }

  private machine(site: string, machine: string): Machine {
    const at: Site = this.instance.site(site);
    return machine === 'cp' ? at.machine : at.node(machine).machine;
  }
}

type InstanceCuts = Instance['record']['cuts'];

function isSame(a: Cut, b: Cut): boolean {
  return a.every((letter) => b.includes(letter));
}

/** Name of the image file of a disk, below the node's root. */
function diskFile(path: string): string {
  if (!/^\/[\w./-]+$/.test(path))
    throw new TerminalError(`path: must be absolute and of letters, digits, . _ - /, not ${path}`);
  return `.disk${path.replaceAll('/', '-')}.img`;
}

interface FaultCommand {
  readonly usage: string;
  readonly what: string;
  readonly run: (faults: Faults, args: readonly string[]) => Promise<void> | void;
}

const arg = (args: readonly string[], index: number): string => args[index] ?? '';
const number = (text: string): number => {
  const value = Number(text);
  if (text === '' || !Number.isFinite(value) || value < 0)
    throw new TerminalError(`must be a number of 0 or more, not ${text}`);
  return value;
};

const commands: Readonly<Record<string, FaultCommand>> = {
  'kill-node': { usage: 'SITE NODE', what: 'cut its power', run: (f, a) => f.killNode(arg(a, 0), arg(a, 1)) },
  'start-node': { usage: 'SITE NODE', what: 'switch it on again', run: (f, a) => f.startNode(arg(a, 0), arg(a, 1)) },
  'freeze-node': {
    usage: 'SITE NODE',
    what: 'stop all its processes',
    run: (f, a) => f.freezeNode(arg(a, 0), arg(a, 1)),
  },
  'thaw-node': { usage: 'SITE NODE', what: 'let them go on', run: (f, a) => f.thawNode(arg(a, 0), arg(a, 1)) },
  'kill-process': {
    usage: 'SITE cp|NODE PROCESS',
    what: 'end it as a crash would (etcd, kube-apiserver, kubelet, containerd, …)',
    run: (f, a) => f.killProcess(arg(a, 0), arg(a, 1), arg(a, 2)),
  },
  'restart-process': {
    usage: 'SITE cp|NODE PROCESS',
    what: 'end it and start it again',
    run: (f, a) => f.restartProcess(arg(a, 0), arg(a, 1), arg(a, 2)),
  },
  cut: { usage: 'SITE SITE', what: 'cut the network between two sites', run: (f, a) => f.cut(arg(a, 0), arg(a, 1)) },
  heal: { usage: 'SITE SITE', what: 'heal it', run: (f, a) => f.heal(arg(a, 0), arg(a, 1)) },
  'kill-site': {
    usage: 'SITE',
    what: 'cut the power of all of it; make sites NAME=NAME … switches it on again',
    run: (f, a) => f.killSite(arg(a, 0)),
  },
  'cut-one-way': {
    usage: 'FROM TO',
    what: 'lose what a site sends another',
    run: (f, a) => f.cutOneWay(arg(a, 0), arg(a, 1)),
  },
  'heal-one-way': { usage: 'FROM TO', what: 'heal it', run: (f, a) => f.healOneWay(arg(a, 0), arg(a, 1)) },
  'cut-api': {
    usage: 'SITE NODE',
    what: 'cut a node off its API server',
    run: (f, a) => f.cutApi(arg(a, 0), arg(a, 1)),
  },
  'heal-api': { usage: 'SITE NODE', what: 'heal it', run: (f, a) => f.healApi(arg(a, 0), arg(a, 1)) },
  'ignore-policies': {
    usage: 'SITE',
    what: 'enforce no NetworkPolicy, as some network plug-ins do',
    run: (f, a) => f.ignorePolicies(arg(a, 0)),
  },
  'heed-policies': { usage: 'SITE', what: 'enforce it again', run: (f, a) => f.heedPolicies(arg(a, 0)) },
  slow: {
    usage: 'FROM TO KBIT',
    what: 'limit what a site receives from another; 0 ends it',
    run: (f, a) => f.slow(arg(a, 0), arg(a, 1), number(arg(a, 2))),
  },
  'slow-node': {
    usage: 'SITE NODE KBIT',
    what: 'limit what a node receives; 0 ends it',
    run: (f, a) => f.slowNode(arg(a, 0), arg(a, 1), number(arg(a, 2))),
  },
  'add-disk': {
    usage: 'SITE NODE PATH MIB',
    what: 'put a small disk under a folder of a node',
    run: (f, a) => f.addDisk(arg(a, 0), arg(a, 1), arg(a, 2), number(arg(a, 3))),
  },
  'fill-disk': { usage: 'SITE NODE PATH', what: 'fill it', run: (f, a) => f.fillDisk(arg(a, 0), arg(a, 1), arg(a, 2)) },
  'free-disk': {
    usage: 'SITE NODE PATH',
    what: 'empty it again',
    run: (f, a) => f.freeDisk(arg(a, 0), arg(a, 1), arg(a, 2)),
  },
  'remove-disk': {
    usage: 'SITE NODE PATH',
    what: 'take it away',
    run: (f, a) => f.removeDisk(arg(a, 0), arg(a, 1), arg(a, 2)),
  },
};

/** The text of `fault --help`. */
export const faultHelp = `usage: node e2e/sites/main.ts fault FAULT ARGUMENTS [--name NAME]

Sites are named by letter (a, b, …), nodes by number (1, 2, …).
${Object.entries(commands)
  .map(([name, { usage, what }]) => `  ${`${name} ${usage}`.padEnd(40)} ${what}`)
  .join('\n')}

A node's clock can't be shifted here: time namespaces don't cover the wall clock, and the programs ask the kernel
directly, past any preloaded library.`;

/** Runs `fault` of the command line. @returns a sentence about what was done. @throws {TerminalError} for wrong arguments. */
export async function runFault(instance: Instance, [name = '', ...args]: readonly string[]): Promise<string> {
  const command = commands[name];
  if (command === undefined) throw new TerminalError(`unknown fault ${JSON.stringify(name)}\n${faultHelp}`);
  const wanted = command.usage.split(' ').length;
  if (args.length !== wanted) throw new TerminalError(`fault ${name} takes ${command.usage}`);
  await command.run(new Faults(instance), args);
  return `Done: ${name} ${args.join(' ')} (${command.what})`;
}

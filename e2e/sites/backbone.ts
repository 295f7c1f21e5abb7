/** The network between machines: one router with a bridge per site, in a network namespace of its own. */
import type { InstancePlan, SitePlan } from './addresses.ts';
import type { Machine } from './machine.ts';
import { runCommand, tryCommand } from './shell.ts';

/** Two sites that can't reach each other, by letter. */
export type Cut = readonly [string, string];

/** What one site sends another gets lost, by letter. The other way stays open. */
export interface OneWayCut {
  readonly from: string;
  readonly to: string;
}

/** A limit on what one site receives from another, or from all others. */
export interface SlowLink {
  readonly from: string;
  readonly to: string;
  readonly kbitPerSecond: number;
}

/** The router of an instance. */
export class Backbone {
  readonly machine: Machine;
  private readonly plan: InstancePlan;

  constructor(plan: InstancePlan, machine: Machine) {
    this.plan = plan;
    this.machine = machine;
  }

  /** Switches the router on and connects it with this machine. Safe to repeat. */
  async up(cuts: readonly Cut[], oneWayCuts: readonly OneWayCut[]): Promise<void> {
    await this.machine.up();
    const { plan } = this;
    await this.machine.script(
      [
        'ip link set lo up',
        'echo 1 > /proc/sys/net/ipv4/ip_forward',
        // What machines of one site tell each other is theirs: the router's rules are for what it routes.
        'for each in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $each ] || echo 0 > $each; done',
        ...plan.sites.flatMap((site) => [
          `ip link show ${site.bridge} >/dev/null 2>&1 || ip link add ${site.bridge} type bridge`,
          `ip addr replace ${site.router}/24 dev ${site.bridge}`,
          `ip link set ${site.bridge} up`,
        ]),
      ].join('\n'),
    );
    await this.connectHost();
    await this.applyCuts(cuts, oneWayCuts);
  }

  private async connectHost(): Promise<void> {
    const { hostInterface, hostAddress, routerAddress, machines } = this.plan;
    const existing = await tryCommand(['ip', 'link', 'show', hostInterface]);
    if (existing.status !== 0) {
      const peer = ['peer', 'name', 'host0', 'netns', String(this.machine.anchorPid())];
      await runCommand(['ip', 'link', 'add', hostInterface, 'type', 'veth', ...peer]);
    }
    await this.machine.script(`ip addr replace ${routerAddress}/30 dev host0\nip link set host0 up`);
    await runCommand(['ip', 'addr', 'replace', `${hostAddress}/30`, 'dev', hostInterface]);
    await runCommand(['ip', 'link', 'set', hostInterface, 'up']);
    await runCommand(['ip', 'route', 'replace', machines, 'via', routerAddress, 'dev', hostInterface]);
  }

  /** Lays a cable from a machine's `eth0` to its site's bridge, unless it lies already. */
  async plugIn(machine: Machine, site: SitePlan, port: string): Promise<void> {
    const existing = await tryCommand([
      'nsenter',
      `--net=/proc/${machine.anchorPid()}/ns/net`,
      'ip',
      'link',
      'show',
      'eth0',
    ]);
    if (existing.status !== 0) {
      const [inner, outer] = [String(machine.anchorPid()), String(this.machine.anchorPid())];
      // A cable that a dead machine left behind is gone with its namespace, but not always at once.
      await this.machine.script(`ip link del ${port} 2>/dev/null || true`);
      await runCommand([
        'ip',
        'link',
        'add',
        'eth0',
        'netns',
        inner,
        'type',
        'veth',
        'peer',
        'name',
        port,
        'netns',
        outer,
      ]);
    }
    await this.machine.script(`ip link set ${port} master ${site.bridge}\nip link set ${port} up`);
  }

  /** Takes a machine's cable out, or puts it back. */
  async setCable(port: string, isConnected: boolean): Promise<void> {
    await this.machine.script(`ip link set ${port} ${isConnected ? 'up' : 'down'}`);
  }

  /** Loads the rules between sites: machines reach machines, except across a cut; pods never leave their site. */
  async applyCuts(cuts: readonly Cut[], oneWayCuts: readonly OneWayCut[]): Promise<void> {
    await this.machine.loadRules(backboneRules(this.plan, cuts, oneWayCuts));
  }

  /** Limits links between sites; those not named run free. */
  async applySlowLinks(links: readonly SlowLink[]): Promise<void> {
    for (const site of this.plan.sites) {
      const limited = links.filter((link) => link.to === site.letter);
      const script = [`tc qdisc del dev ${site.bridge} root 2>/dev/null || true`];
      if (limited.length > 0) {
        script.push(
          `tc qdisc add dev ${site.bridge} root handle 1: htb default 1`,
          `tc class add dev ${site.bridge} parent 1: classid 1:1 htb rate 40gbit quantum 60000`,
        );
      }
      limited.forEach((link, index) => {
        const from = this.site(link.from);
        const id = index + 2;
        script.push(
          `tc class add dev ${site.bridge} parent 1: classid 1:${id} htb rate ${link.kbitPerSecond}kbit quantum 1514`,
          `tc filter add dev ${site.bridge} parent 1: protocol ip u32 match ip src ${from.subnet} flowid 1:${id}`,
        );
      });
      await this.machine.script(script.join('\n'));
    }
  }

  /** @throws when the instance has no such site. */
  site(letter: string): SitePlan {
    const site = this.plan.sites.find((each) => each.letter === letter || each.name === letter);
    if (site === undefined) {
      throw new Error(`no site ${letter}; there are: ${this.plan.sites.map((each) => each.letter).join(', ')}`);
    }
    return site;
  }
}

/** The router's rules. Replacing them is one step. */
export function backboneRules(plan: InstancePlan, cuts: readonly Cut[], oneWayCuts: readonly OneWayCut[] = []): string {
  const subnet = (letter: string): string => plan.sites.find((site) => site.letter === letter)?.subnet ?? '';
  const bothWays = cuts.flatMap(([a, b]) => [
    { from: a, to: b },
    { from: b, to: a },
  ]);
  const drops = [...bothWays, ...oneWayCuts].map(
    ({ from, to }) => `ip saddr ${subnet(from)} ip daddr ${subnet(to)} drop`,
  );
  return `table ip xtreemos-backbone
delete table ip xtreemos-backbone
table ip xtreemos-backbone {
  chain forward {
    type filter hook forward priority filter; policy drop;
${drops.map((rule) => `    ${rule}\n`).join('')}    ip saddr ${plan.machines} ip daddr ${plan.machines} accept
  }
}
`;
}

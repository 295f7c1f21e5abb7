/** Two real sites, peers of each other, that share a virtual organization. */
import type { GridJob } from '#crds/grid-job.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/index.ts';
import type { Faults } from '#sites/faults.ts';
import { openSites, sharedName, type TestSite, waitFor } from '#sites/harness.ts';
import { down, up } from '#sites/lifecycle.ts';
import { podsOfJob } from '../job-objects.ts';
import { type Login, Product } from '../product.ts';

const quiet = (): void => undefined;

/** What they call each other. */
export const peerNames = { home: 'near', away: 'far' } as const;

/** How to bring them up. */
export interface TwoSitesOptions {
  /** Of the virtual organization, and of the releases. */
  readonly name: string;
  /** Nodes of each site. */
  readonly nodes: number;
  /** Makes the members of one site. */
  readonly populate: (product: Product, isHome: boolean) => Promise<void>;
  /** Whether each calls itself what the other calls it. By default each calls itself `home`, and they refuse each other's greetings. */
  readonly isNamed?: boolean;
  /** Whether the virtual organization is formed at home and followed by the other site; by default each forms one of this name. */
  readonly isFollowed?: boolean;
  /** Further values of the chart. */
  readonly settings?: (isHome: boolean) => readonly string[];
}

/** Sites of their own, as those of the suites may be one only. */
export class TwoSites {
  readonly instance: string;
  readonly faults: Faults;
  /** Where members submit jobs. */
  readonly home: Product;
  readonly away: Product;
  readonly namespace: string;
  private readonly nodes: number;

  private constructor(instance: string, faults: Faults, { name, nodes }: TwoSitesOptions, products: Product[]) {
    const [home, away] = products;
    if (home === undefined || away === undefined) throw new Error('there are not two sites');
    this.instance = instance;
    this.faults = faults;
    this.home = home;
    this.away = away;
    this.namespace = `vo-${name}`;
    this.nodes = nodes;
  }

  /** Starts both, installs what is checked out, forms the virtual organization at each and makes them peers. */
  static async start(options: TwoSitesOptions): Promise<TwoSites> {
    const { name, nodes, populate, settings, isFollowed = false } = options;
    const isNamed = options.isNamed ?? isFollowed;
    const instance = instanceOf(name);
    await down(instance, quiet);
    await up({ name: instance, sites: 2, nodes, report: quiet });
    const { sites, faults } = await openSites(instance);
    if (faults === undefined) throw new Error('these sites can not be harmed');
    const products: Product[] = [];
    for (const [index, domain] of ['near.example', 'far.example'].entries()) {
      const site = sites[index];
      if (site === undefined) throw new Error(`${instance} has fewer than two sites`);
      const more = settings?.(index === 0) ?? [];
      const address = `gateway.address=${site.gatewayAddress}:7443`;
      const values = [address, `site.trustDomain=${domain}`, ...more];
      const siteName = isNamed ? peerNames[index === 0 ? 'home' : 'away'] : 'home';
      const product = await Product.installAt(site, name, values, siteName);
      products.push(product);
      const externalIPs = JSON.stringify({ spec: { externalIPs: [site.gatewayAddress] } });
      await site.kubectl(['patch', 'svc', 'xtreemos-gateway', '-n', name, '--type=merge', '-p', externalIPs]);
      if (!isFollowed) await product.formOrganization();
      if (!isFollowed) await populate(product, index === 0);
    }
    const two = new TwoSites(instance, faults, options, products);
    await join(two.home, peerNames.away, await peerOf(two.away));
    await join(two.away, peerNames.home, await peerOf(two.home));
    if (isFollowed) {
      await two.home.formOrganization({ homeSite: peerNames.home, sites: [peerNames.away] });
      await populate(two.home, true);
      await two.away.follow(peerNames.home);
    }
    return two;
  }

  /** Takes them away, also when only some of them were brought up. */
  static async remove(name: string): Promise<void> {
    await down(instanceOf(name), quiet);
  }

  /** Starts again what was switched off. */
  async switchOn(): Promise<void> {
    await up({ name: this.instance, sites: 2, nodes: this.nodes, report: quiet });
  }

  /** Submits a job at the home. @throws when it is refused. */
  async submit(job: string, spec: object, { login }: Login): Promise<void> {
    const body = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name: job }, spec };
    await this.home.site.kubectl([...login, 'create', '-f', '-'], { input: JSON.stringify(body) });
  }

  /** Waits until a job is as expected. @throws with its status when it is not in time. */
  async jobIs(job: string, is: (job: Stored<GridJob>) => boolean, limitMs = 120_000): Promise<Stored<GridJob>> {
    return this.home.site.until(['gridjob', job, '-n', this.namespace], is, limitMs);
  }

  /** The pods of a job at a site. */
  async podsAt(site: TestSite, job: string): Promise<Pod[]> {
    return podsOfJob(site, this.namespace, job);
  }
}

/** Suites may run one after the other: each has its own. */
const instanceOf = (name: string): string => `${sharedName()}-${name.replace(/^suite-/, '')}`;

async function peerOf({ site }: Product): Promise<object> {
  const { data } = await waitFor('the gateway is published', async () => {
    const found = await site.tryKubectl(['get', 'cm', 'xtreemos-gateway', '-n', 'kube-public', '-o', 'json']);
    return found.status === 0 ? (JSON.parse(found.stdout) as { data: Record<string, string> }) : undefined;
  });
  return { address: data.address, trustDomain: data.trustDomain, trustBundle: data.caBundle };
}

async function join({ site, name }: Product, peerName: string, peer: object): Promise<void> {
  const spec = { type: 'Peer', peer: { ...peer, virtualOrganizations: [name] } };
  await site.apply([{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'Site', metadata: { name: peerName }, spec }]);
}

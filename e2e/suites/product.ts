/** The product of this checkout on a site of the suites, and a virtual organization on it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { systemClock } from '#common/clock.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { requestAccount } from '#operator/identity/accounts.ts';
import { createClient, HttpTransport, kubeConfigCredentials, type Stored } from '#runtime/index.ts';
import { openSites, type TestSite, waitFor } from '#sites/harness.ts';
import YAML from 'yaml';
import { productRecipe } from '../../hack/images/recipes.ts';

const root = path.resolve(import.meta.dirname, '../..');
const about = { apiVersion: 'xtreemos.io/v1alpha1' };

/** Bundles what is checked out, and imports the image into every node of a site. */
export async function loadProduct(site: TestSite): Promise<void> {
  await promisify(execFile)(process.execPath, [path.join(root, 'hack/bundle.ts')], { cwd: root });
  await site.loadRecipes([productRecipe()]);
}

/** A member who may act: flags with which kubectl is them, and nobody else. */
export interface Login {
  readonly userName: string;
  readonly uid: number;
  readonly login: readonly string[];
}

/** A release of the chart, and one virtual organization of the same name. */
export class Product {
  readonly site: TestSite;
  readonly transport: HttpTransport;
  /** Namespace of the release, and name of the virtual organization. */
  readonly name: string;
  /** Namespace of the virtual organization. */
  readonly namespace: string;
  /** What the site calls itself. */
  readonly siteName: string;
  private readonly scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-suite-'));

  private constructor(site: TestSite, name: string, siteName: string) {
    this.site = site;
    this.name = name;
    this.namespace = `vo-${name}`;
    this.siteName = siteName;
    this.transport = new HttpTransport({ credentials: kubeConfigCredentials({ file: site.kubeconfig }) });
  }

  /**
   * Bundles what is checked out, and installs it as the site `home`.
   * @param settings - further values of the chart.
   * @param instance - of the sites; that of the suites unless given.
   */
  static async install(name: string, settings: readonly string[] = [], instance?: string): Promise<Product> {
    const [site] = (await openSites(instance)).sites;
    if (site === undefined) throw new Error('there is no site for the suites');
    return Product.installAt(site, name, settings);
  }

  /** Installs it at one of several sites. */
  static async installAt(
    site: TestSite,
    name: string,
    settings: readonly string[] = [],
    siteName = 'home',
  ): Promise<Product> {
    await loadProduct(site);
    await site.helm([
      ...['install', 'xtreemos', path.join(root, 'charts/xtreemos'), '--namespace', name, '--create-namespace'],
      ...['--wait', '--timeout=180s', '--set', `site.name=${siteName}`, '--set', 'operator.leaseDurationSeconds=6'],
      ...['crds.keep=false', ...settings].flatMap((setting) => ['--set', setting]),
    ]);
    return new Product(site, name, siteName);
  }

  /** Forms the virtual organization, lets the site accept it, and waits for its namespace. */
  async formOrganization(spec: object = {}): Promise<void> {
    await this.accept({ name: this.name });
    const administrators = [{ issuer: `kubernetes:${this.siteName}`, subject: 'root' }];
    const vo = { ...about, kind: 'VirtualOrganization', metadata: { name: this.name } };
    await this.site.apply([{ ...vo, spec: { state: 'Operational', administrators, ...spec } }]);
    await this.hasNamespace();
  }

  /** Lets the site accept the virtual organization from its home, and waits for its namespace. */
  async follow(home: string): Promise<void> {
    await this.accept({ name: this.name, home });
    await this.hasNamespace();
  }

  private async accept(entry: object): Promise<void> {
    const accepted = JSON.stringify({ spec: { local: { acceptedVirtualOrganizations: [entry] } } });
    await this.site.kubectl(['wait', '--for=create', `site/${this.siteName}`, '--timeout=60s']);
    await this.site.kubectl(['patch', 'site', this.siteName, '--type=merge', '-p', accepted]);
  }

  private async hasNamespace(): Promise<void> {
    await waitFor(
      'the namespace is there',
      async () => (await this.site.tryKubectl(['get', 'ns', this.namespace])).status === 0,
    );
  }

  /** Makes a membership of a user of an issuer of tests. */
  async join(name: string, spec: object = {}): Promise<void> {
    const principal = { issuer: 'https://login.example.org', subject: name };
    const membership = { ...about, kind: 'VOMembership', metadata: { name, namespace: this.namespace } };
    await this.site.apply([{ ...membership, spec: { principal, state: 'Active', ...spec } }]);
  }

  /** Waits for the member's id. */
  async member(name: string): Promise<Stored<VOMembership>> {
    return waitFor(
      `${name} has an id`,
      async () => {
        const found = await this.site.get<Stored<VOMembership>>('vom', name, '-n', this.namespace);
        return found.status?.userName === undefined ? undefined : found;
      },
      { limitMs: 60_000 },
    );
  }

  /** Waits for the member's id, and makes their account. */
  async logIn(name: string): Promise<Login> {
    const member = await this.member(name);
    await this.makeAccount(member, Date.now() + 3_600_000);
    const { userName = '', uid = 0 } = member.status ?? {};
    const token = (await this.site.kubectl(['create', 'token', userName, '-n', this.namespace])).trim();
    const config = YAML.parse(readFileSync(this.site.kubeconfig, 'utf8')) as { users: { name: string }[] };
    const users = config.users.map((each) => ({ ...each, user: { token } }));
    const file = path.join(this.scratch, `${name}.kubeconfig`);
    writeFileSync(file, YAML.stringify({ ...config, users }), { mode: 0o600 });
    return { userName, uid, login: ['--kubeconfig', file, '-n', this.namespace] };
  }

  /** Asks for the account of a member, as a login does. @param until - milliseconds since the epoch. */
  async makeAccount(member: Stored<VOMembership>, until: number): Promise<void> {
    await requestAccount(createClient(this.transport, { fieldManager: 'suite' }), systemClock, member, until);
  }

  /** Dissolves the virtual organization, and takes the release away with its kinds. */
  async uninstall(): Promise<void> {
    const { site, name, namespace } = this;
    await site.tryKubectl(['patch', 'vo', name, '--type=merge', '-p', '{"spec":{"state":"Dissolved"}}']);
    await site.tryKubectl(['wait', 'ns', namespace, '--for=delete', '--timeout=90s'], { timeoutMs: 100_000 });
    await site.tryKubectl(['delete', 'vo', name, '--timeout=60s'], { timeoutMs: 70_000 });
    await site.tryKubectl(['delete', 'islice', '--all']);
    await site.helm(['uninstall', 'xtreemos', '--namespace', name, '--wait']);
    await site.tryKubectl(['delete', 'namespace', name, '--wait=false']);
    await this.transport.close();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

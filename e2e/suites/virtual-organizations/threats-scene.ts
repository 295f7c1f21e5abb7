import type { VOMembership } from '#crds/vo-membership.ts';
import type { Stored } from '#runtime/types.ts';
import { loginOf, openSites, type TestSite, type TestSites } from '#sites/harness.ts';
import type { CommandResult } from '#sites/shell.ts';
import { baseEntries, busyboxEntries } from '../../../hack/images/contents.ts';
import { type Login, Product } from '../product.ts';

/** Namespace of the operator, and name of the organization. */
export const system = 'suite-threats';
/** A namespace of nobody's organization. */
export const outside = 'suite-threats-outside';
const gatewayPort = 30_744;
/** An image that says the member is in groups of its own choice. */
export const image = 'xtreemos.io/many-groups:1';
/** Groups that the image says the member is in. */
export const imageGroups = [6, 10];

/** The product on a real site, with two members of one organization. */
export class ThreatScene {
  shared!: TestSites;
  product!: Product;
  site!: TestSite;
  namespace!: string;
  alice!: Login;
  bob!: Login;
  /** The whole member, for what is judged by ids. */
  member!: Stored<VOMembership>;
  /** What must not be seen anywhere. */
  readonly canaries = new Set<string>();

  async start(): Promise<void> {
    this.shared = await openSites();
    const [first] = this.shared.sites;
    if (first === undefined) throw new Error('there is no site for the suites');
    this.product = await Product.install(system, [
      ...['gateway.service.type=NodePort', `gateway.service.nodePort=${gatewayPort}`],
      `gateway.address=${first.gatewayAddress}:${gatewayPort}`,
    ]);
    const { product } = this;
    ({ site: this.site, namespace: this.namespace } = product);
    await product.formOrganization({
      groups: [{ name: 'analysis' }, { name: 'operations' }],
      administrators: ['root', 'carol'].map((subject) => ({ issuer: 'kubernetes:home', subject })),
    });
    await product.join('alice', { groups: [{ name: 'operations' }] });
    await product.join('bob');
    this.member = await product.member('alice');
    [this.alice, this.bob] = [await product.logIn('alice'), await product.logIn('bob')];
    await this.site.kubectl(['create', 'namespace', outside]);
    await this.site.loadRecipes([imageOf(this.alice.uid)]);
  }

  async stop(): Promise<void> {
    await this.site.tryKubectl(['delete', 'namespace', outside, '--wait=false']);
    await this.product.uninstall();
  }

  /** kubectl as a member. */
  async as({ login }: Login, args: readonly string[], input?: object): Promise<CommandResult> {
    return this.site.tryKubectl([...login, ...args], input === undefined ? {} : { input: JSON.stringify(input) });
  }

  /** A member makes an object. */
  async create(who: Login, object: object): Promise<CommandResult> {
    return this.as(who, ['create', '-f', '-'], object);
  }

  /** kubectl as one of the users of the site. */
  async asUser(user: string, args: readonly string[], input?: object): Promise<CommandResult> {
    return this.site.tryKubectl(
      [...loginOf(this.shared, this.site, user), ...args],
      input === undefined ? {} : { input: JSON.stringify(input) },
    );
  }
}

/** A pod as a member writes it most shortly. */
export const pod = (name: string, spec: object = {}, metadata: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, ...metadata },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'main', image, command: ['sh', '-c', 'while :; do sleep 1; done'] }],
    ...spec,
  },
});

/** An image that puts the member into groups of its own choice. */
function imageOf(uid: number): Parameters<TestSite['loadRecipes']>[0][number] {
  const groups = imageGroups.map((gid) => `g${gid}:x:${gid}:me\n`).join('');
  const base = [...baseEntries(), ...busyboxEntries()].filter(({ path }) => !/^\/etc\/(passwd|group)$/.test(path));
  return {
    name: image,
    layers: [
      [
        ...base,
        { type: 'content', path: '/etc/passwd', content: `me:x:${uid}:${uid}::/:/bin/sh\n` },
        { type: 'content', path: '/etc/group', content: groups },
      ],
    ],
    entrypoint: [],
    command: ['/bin/sh'],
  };
}

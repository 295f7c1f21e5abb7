/** A site whose operator keeps virtual organizations, and what its owner and their administrators do there. For tests. */
import { expect } from '@jest/globals';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Stored } from '#runtime/types.ts';
import { type KubeObject, KubeStatusError, waitFor } from '#sites/kube-client.ts';
import { Bench, type Killer, type RunningOperator } from './bench.ts';

/** Where the kinds of XtreemOS are. */
export const root = '/apis/xtreemos.io/v1alpha1';
/** Where virtual organizations are. */
export const organizations = `${root}/virtualorganizations`;
/** The administrator of every virtual organization that says nothing else. */
export const alice = { issuer: 'kubernetes:home', subject: 'alice' };

/** Path of a resource in the namespace of a virtual organization. */
export const inNamespace = (name: string, resource: string): string => `/api/v1/namespaces/vo-${name}/${resource}`;

/** The code that a request was refused with; 200 when it wasn't. */
export async function codeOf(request: Promise<unknown>): Promise<number> {
  return request.then(
    () => 200,
    (error: unknown) => (error instanceof KubeStatusError ? error.code : 0),
  );
}

/** A bench with one local Site, `home`. */
export class World {
  readonly bench: Bench;
  /** How many virtual organizations got a name here. */
  count = 0;
  private readonly started: RunningOperator[] = [];

  private constructor(bench: Bench) {
    this.bench = bench;
  }

  static async open(name: string): Promise<World> {
    const world = new World(await Bench.open(name));
    const home = {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'Site',
      metadata: { name: 'home' },
      spec: { type: 'Local', local: { isolation: ['Namespace'] } },
    };
    await world.create(`${root}/sites`, home);
    return world;
  }

  async close(): Promise<void> {
    for (const each of this.started) await each.stop();
    await this.bench.close();
  }

  /** Starts an operator that is stopped at the end. */
  start(killer?: Killer): RunningOperator {
    const running = this.bench.start(killer);
    this.started.push(running);
    return running;
  }

  /** Every right that an operator used is one that the chart gives. */
  expectNothingForbidden(): void {
    for (const each of this.started) expect(each.log()).not.toMatch(/forbidden|is not allowed|attempting to grant/i);
  }

  async create(at: string, body: object): Promise<KubeObject> {
    return this.bench.client.json('POST', at, { body });
  }

  async patch(at: string, body: object): Promise<KubeObject> {
    return this.bench.client.json('PATCH', at, { body, contentType: 'application/merge-patch+json' });
  }

  /** Accepts exactly these virtual organizations. */
  async accept(...accepted: object[]): Promise<void> {
    await this.patch(`${root}/sites/home`, { spec: { local: { acceptedVirtualOrganizations: accepted } } });
  }

  /** Forms a virtual organization of a new name. */
  async form(spec: object = {}, name = `vo${++this.count}`): Promise<Stored<VirtualOrganization>> {
    const made = await this.create(organizations, {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VirtualOrganization',
      metadata: { name },
      spec: { administrators: [alice], state: 'Operational', ...spec },
    });
    return made as unknown as Stored<VirtualOrganization>;
  }

  async read(name: string): Promise<Stored<VirtualOrganization> | undefined> {
    const found = await this.bench.client.find(`${organizations}/${name}`);
    return found as unknown as Stored<VirtualOrganization> | undefined;
  }

  /** Waits until a condition has a reason that was computed from the spec as it stands. */
  async reason(name: string, type: string, wanted: string): Promise<Stored<VirtualOrganization>> {
    return waitFor(
      `${type} of ${name} is ${wanted}`,
      async () => {
        const vo = await this.read(name);
        const found = vo?.status?.conditions?.find((each) => each.type === type);
        const isCurrent = found?.observedGeneration === vo?.metadata.generation;
        return isCurrent && found?.reason === wanted ? vo : undefined;
      },
      { limitMs: 30_000 },
    );
  }

  /** The limits of the quota. */
  async hard(name: string): Promise<Record<string, string>> {
    const quota = await this.bench.client.json('GET', inNamespace(name, 'resourcequotas/tenancy'));
    return (quota.spec as { hard: Record<string, string> }).hard;
  }

  /** A pod that was admitted; nothing runs it. */
  async createPod(name: string, pod: string): Promise<KubeObject> {
    const main = {
      name: 'main',
      image: 'example.org/none',
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
    };
    const securityContext = { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } };
    const spec = { securityContext, containers: [main] };
    const body = { apiVersion: 'v1', kind: 'Pod', metadata: { name: pod }, spec };
    // The quota controller has to have counted first.
    return waitFor(`pod ${pod} is admitted`, async () => this.create(inNamespace(name, 'pods'), body));
  }
}

import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { InvalidInputError, TerminalError } from '#common/errors.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { SeededRandom } from '#common/random.ts';
import { claims } from '#crds/claim.ts';
import { type Execution, executions } from '#crds/execution.ts';
import { type FileSystem, fileSystemDefinition } from '#crds/file-system.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import { type Reservation, reservations } from '#crds/reservation.ts';
import { siteDefinition } from '#crds/site.ts';
import { HostileObjects } from '#crds/testing/hostile.ts';
import { type VirtualOrganization, virtualOrganizations } from '#crds/virtual-organization.ts';
import { type VOMembership, voMembershipDefinition, voMemberships } from '#crds/vo-membership.ts';
import { type Volume, volumeDefinition, volumes } from '#crds/volume.ts';
import { standingOf } from '#operator/identity/standing.ts';
import { Dispatcher } from '#operator/scheduling/dispatcher.ts';
import { DispatchMetrics } from '#operator/scheduling/metrics.ts';
import { ReservationClaims } from '#operator/scheduling/reserved.ts';
import { aLocalSite, aNode, aVirtualOrganization } from '#operator/testing/builders.ts';
import { aGridJob, anExecution, aReservation } from '#operator/testing/jobs.ts';
import type { ResourceSelection } from '#proto/selector/contract.ts';
import { Predicates } from '#proto/selector/predicate.ts';
import { type Client, done, type Informer, type Reconciler } from '#runtime/contracts.ts';
import { pods } from '#runtime/builtin.ts';
import { Controller } from '#runtime/controller.ts';
import { SharedInformer } from '#runtime/informer.ts';
import type { Kind } from '#runtime/kind.ts';
import { testParts } from '#runtime/testing/parts.ts';
import { formatKey, keyOf, type KubeObject, type Stored } from '#runtime/types.ts';
import { GridJobReconciler } from './gridjob/controller.ts';
import { Preemptor } from './gridjob/preemptor.ts';
import { ReservationReconciler } from './reservation/controller.ts';
import { SlotHolder } from './reservation/holding.ts';
import { readAcceptance } from './virtualorganization/acceptance.ts';
import { decideRequest } from './virtualorganization/governance.ts';
import { isolationFactsOf, planIsolation } from './virtualorganization/isolation.ts';
import { planNetwork, reservedRanges } from './virtualorganization/network.ts';
import { planLimitRange, planQuota } from './virtualorganization/quota.ts';
import { computeStatus as organizationStatus } from './virtualorganization/status.ts';
import { desiredNamespace, desiredObjects, ownersOf } from './virtualorganization/tenancy.ts';
import { computeStatus as standingStatus } from './vomembership/status.ts';
import { claimOf, planClaims } from './volume/claims.ts';
import { chooseFileSystem, ownershipOf, refusalOf } from './volume/resolve.ts';

/** When the valid objects were made. */
const startMs = Date.UTC(2026, 0, 1);
const batchSize = 1_000;
const seed = 14;
/** Seconds on an idle machine. */
const timeoutMs = 600_000;
/** References mean one of these, so that they meet, dangle and run in circles. */
const referable = Array.from({ length: 200 }, (_, i) => `j${i}`);
const references = [...referable, ...referable.slice(0, 20).map((name) => `uid-${name}`), 'physics', 'home'];

/** One kind, and the code that reads its objects. */
interface Arena<T extends KubeObject> {
  readonly kind: Kind<T>;
  readonly valid: (name: string) => Stored<T>;
  readonly reconciler: (objects: Informer<T>, world: World) => Reconciler;
}

/** What reconcilers reach for. Writes are kept by the name of the object. */
class World {
  readonly clock = new VirtualClock(startMs + 60_000);
  readonly parts = testParts(this.clock, seed);
  readonly predicates = new Predicates(this.clock);
  readonly writes = new Map<string, unknown>();
  readonly random = new SeededRandom(seed);
  readonly client = {
    of: () => ({
      find: async () => Promise.resolve(undefined),
      create: async (object: KubeObject) =>
        Promise.resolve({ ...object, metadata: { ...object.metadata, uid: 'new' } }),
      update: async (object: KubeObject) => Promise.resolve(object),
      delete: async () => Promise.resolve(),
      status: { apply: async (object: KubeObject & { status?: unknown }) => this.write(object) },
    }),
  } as unknown as Client;

  informer<T extends KubeObject>(kind: Kind<T>): SharedInformer<T> {
    const listWatch = { list: async () => Promise.reject(new Error('unused')), watch: async () => Promise.resolve() };
    return new SharedInformer<T>(kind, listWatch, {}, this.parts);
  }

  private async write(object: KubeObject & { status?: unknown }): Promise<KubeObject> {
    this.writes.set(object.metadata.name, object.status);
    return Promise.resolve({ ...object, metadata: { ...object.metadata, resourceVersion: '2' } });
  }
}

const noSelection = {
  select: () => {
    throw new Error('No selector is there');
  },
} as unknown as ResourceSelection;

const events = { publish: () => undefined };
const metadata = (name: string, namespace?: string) => ({
  ...{ name, uid: `uid-${name}`, resourceVersion: '1', generation: 1, creationTimestamp: '2026-01-01T00:00:00Z' },
  ...(namespace === undefined ? {} : { namespace }),
});

const jobs: Arena<GridJob> = {
  kind: gridJobs,
  valid: (name) => aGridJob(name, { dependsOn: [] }),
  reconciler: (objects, world) => {
    const hostile = new HostileObjects('executions', references, world.random.fork());
    const known = new Map<string, Stored<Execution>>();
    const parts = world.informer(executions);
    const get = ({ name }: { name: string }): Stored<Execution> | undefined => {
      if (name === 'good') return undefined;
      const made = known.get(name) ?? hostile.of(anExecution(name));
      known.set(name, { ...made, spec: { ...made.spec, gridJob: { name, uid: `uid-${name}`, site: 'home' } } });
      return known.get(name);
    };
    const { clock, predicates, random, client } = world;
    const dispatcher = new Dispatcher({
      ...{ selection: noSelection, predicates, clock, random, log: silentLogger, holder: 'home', reserved: () => [] },
      metrics: new DispatchMetrics(createRegistry()),
    });
    return new GridJobReconciler({
      ...{ jobs: objects, client, events, clock, log: silentLogger, dispatcher, predicates, siteName: 'home' },
      executions: Object.assign(Object.create(parts) as typeof parts, { get }),
      admission: () => undefined,
      partStatuses: { newest: (execution) => execution },
      reservations: Object.assign(Object.create(parts) as Informer<Reservation>, { get: () => undefined }),
      isSharedWith: () => true,
      sitesWithVolumes: () => ['home'],
      missingVolumes: async () => Promise.resolve([]),
      hasLiveBelow: () => false,
      preemptor: new Preemptor({
        ...{ jobs: objects, executions: parts, pods: world.informer(pods), client, events, selection: noSelection },
        ...{ clock, random, log: silentLogger },
      }),
    });
  },
};

const reserved: Arena<Reservation> = {
  kind: reservations,
  valid: (name) => aReservation(name),
  reconciler: (objects, world) => {
    const { clock, predicates, random, client } = world;
    const log = silentLogger;
    return new ReservationReconciler({
      ...{ reservations: objects, predicates, clock, random, client, events, log, siteName: 'home' },
      claims: new ReservationClaims(world.informer(claims)),
      holder: new SlotHolder({
        ...{ selection: noSelection, predicates, clock, random, log },
        record: async () => Promise.resolve(),
      }),
      nodeExists: () => true,
      admission: () => undefined,
    });
  },
};

const home = {
  ...aLocalSite('home'),
  spec: siteDefinition.spec.parse({
    type: 'Local',
    local: { acceptedVirtualOrganizations: [...referable, 'good'].map((name) => ({ name })) },
  }),
};
const nodes = [aNode('n1')];

/** A reconciler that plans, and keeps what it planned. */
function planner<T extends KubeObject>(
  objects: Informer<T>,
  world: World,
  plan: (object: Stored<T>) => unknown,
): Reconciler {
  return {
    reconcile: async (key) => {
      const object = objects.get(key);
      if (object !== undefined) world.writes.set(key.name, plan(object));
      return Promise.resolve(done);
    },
  };
}

function planOrganization(vo: Stored<VirtualOrganization>): unknown {
  const acceptance = readAcceptance(vo, home, 'home', false);
  const isolation = planIsolation(vo, acceptance, isolationFactsOf(nodes, vo.metadata.name, false));
  const network = planNetwork(vo, reservedRanges(nodes, ['10.0.0.1']), {
    namespace: 'xtreemos-system',
    port: 7443,
  });
  const governance = { resolve: () => vo.spec.administrators[0], since: startMs, now: startMs };
  const verdict = decideRequest(vo, vo.spec.dissolution ?? {}, governance);
  const quota = planQuota(vo.spec.quota, acceptance.limits);
  const limits = planLimitRange(vo.spec.quota, acceptance.limits);
  const owners = ownersOf(vo, 'home', () => undefined);
  const objects = isolation.isPossible
    ? [
        desiredNamespace({ vo, isolation }),
        ...desiredObjects({ vo, isolation, policies: network.policies, quota, limits, owners }),
      ]
    : [];
  const waiting = { status: 'Unknown', reason: 'Applying', message: '' } as const;
  const status = organizationStatus({
    ...{ vo, localSite: 'home', acceptance, now: startMs, since: startMs, receipt: undefined },
    tenancy: { ...waiting, reason: 'Closed' },
    dissolution: { ...waiting, reason: 'NotRequested' },
    progress: vo.status?.dissolution,
  });
  return { objects: objects.length, verdict, status };
}

const organizations: Arena<VirtualOrganization> = {
  kind: virtualOrganizations,
  valid: (name) => aVirtualOrganization(name),
  reconciler: (objects, world) => planner(objects, world, planOrganization),
};

const members: Arena<VOMembership> = {
  kind: voMemberships,
  valid: (name) => ({
    metadata: metadata(name, 'vo-physics'),
    spec: voMembershipDefinition.spec.parse({
      principal: { issuer: 'kubernetes:home', subject: name },
      state: 'Active',
    }),
  }),
  reconciler: (objects, world) => {
    const hostile = new HostileObjects('virtualorganizations', references, world.random.fork());
    const base = aVirtualOrganization('physics');
    return planner(objects, world, (membership) => {
      const organization = membership.metadata.name === 'good' ? base : hostile.of(base);
      const standing = standingOf({
        ...{ membership, organization, isAccepted: true, duplicateOf: undefined, nowMs: startMs },
      });
      const facts = { membership, organization, standing, identity: undefined, conflict: undefined };
      return standingStatus(facts, undefined, startMs);
    });
  },
};

const volumesOfMembers: Arena<Volume> = {
  kind: volumes,
  valid: (name) => ({ metadata: metadata(name, 'vo-physics'), spec: volumeDefinition.spec.parse({ size: '1Gi' }) }),
  reconciler: (objects, world) => {
    const hostile = new HostileObjects('filesystems', references, world.random.fork());
    const base: Stored<FileSystem> = {
      metadata: metadata('main', 'xtreemos-system'),
      spec: fileSystemDefinition.spec.parse({ allowedVirtualOrganizations: ['*'] }),
    };
    const organization = aVirtualOrganization('physics');
    return planner(objects, world, (volume) => {
      const fileSystem = volume.metadata.name === 'good' ? base : hostile.of(base);
      const chosen = chooseFileSystem(volume.metadata.namespace, [fileSystem, base]);
      const plans = planClaims(volume);
      return {
        chosen,
        refusal: refusalOf(volume, fileSystem),
        ownership: ownershipOf(volume, organization, []),
        claims: plans.map((plan) => claimOf(volume, plan)),
      };
    });
  },
};

/** Faults that come from our own code stumbling over an object, not from its saying what is wrong with it. */
function isStumble(error: unknown): boolean {
  return !(error instanceof InvalidInputError || error instanceof TerminalError);
}

/** Runs hostile objects of one kind, among them one that is good, through the real controller. */
async function flood<T extends KubeObject>(count: number, { kind, valid, reconciler }: Arena<T>) {
  const world = new World();
  const informer = world.informer(kind);
  const hostile = new HostileObjects(kind.plural, references, world.random.fork());
  const inner = reconciler(informer, world);
  const seen = { looks: 0, waiting: new Set<string>(), stumbles: [] as unknown[] };
  const controller = new Controller<T>(
    {
      ...{ name: kind.plural, primary: informer, resyncMs: 0 },
      reconciler: {
        reconcile: async (key, signal) => {
          seen.looks++;
          try {
            return await inner.reconcile(key, signal);
          } catch (error) {
            if (isStumble(error)) seen.stumbles.push({ key: formatKey(key), object: informer.get(key), error });
            throw error;
          } finally {
            seen.waiting.delete(formatKey(key));
          }
        },
      },
    },
    world.parts,
  );
  const abort = new AbortController();
  const end = controller.run(abort.signal);
  informer.replace([]);
  const looked = async (): Promise<void> => {
    while (seen.waiting.size > 0) await new Promise((resolve) => setImmediate(resolve));
  };
  for (let batch = 0; batch < count / batchSize; batch++) {
    const objects = Array.from({ length: batchSize }, (_, i) => hostile.of(valid(`j${i}`)));
    for (const object of objects) {
      seen.waiting.add(formatKey(keyOf(object)));
      informer.upsert(object);
    }
    await looked();
    for (const object of objects) informer.delete({ ...object, metadata: { ...object.metadata } });
  }
  const good = valid('good');
  seen.waiting.add(formatKey(keyOf(good)));
  informer.upsert(good);
  await looked();
  abort.abort();
  await end;
  return { looks: seen.looks, stumbles: seen.stumbles, good: world.writes.get('good') };
}

describe('threat 14: a hundred thousand objects made to crash a controller', () => {
  test.each<[string, number, (count: number) => ReturnType<typeof flood>, object]>([
    ['jobs', 8_000, async (count) => flood(count, jobs), { conditions: expect.any(Array) as unknown }],
    ['reservations', 4_000, async (count) => flood(count, reserved), { state: 'Pending' }],
    [
      'virtual organizations',
      20_000,
      async (count) => flood(count, organizations),
      { objects: expect.any(Number) as unknown },
    ],
    ['memberships', 34_000, async (count) => flood(count, members), { state: 'Active' }],
    [
      'volumes',
      34_000,
      async (count) => flood(count, volumesOfMembers),
      { claims: [{ spec: expect.any(Object) as unknown }] },
    ],
  ])(
    '%s, %i of them: what is wrong is said, and a good one after them is served',
    async (_, count, run, served) => {
      const { looks, stumbles, good } = await run(count);
      expect(stumbles.slice(0, 3)).toEqual([]);
      expect(looks).toBeGreaterThan(count);
      expect(good).toMatchObject(served);
    },
    timeoutMs,
  );
});

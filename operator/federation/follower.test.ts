/** A site that follows an organization of another one, while the link between them is cut: the product's own code above a made-up API server and link. */
import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { globalId } from '#common/identity/ids.ts';
import { TestOrganization } from '#common/identity/testing/organization.ts';
import { verifyState } from '#common/identity/vo-state.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { identitySlices } from '#crds/identity-slice.ts';
import { type Site, sites } from '#crds/site.ts';
import { type VirtualOrganization, virtualOrganizations } from '#crds/virtual-organization.ts';
import { type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import { type Volume, volumes as volumeKind } from '#crds/volume.ts';
import { type PeerChannel, type PeerChannels, PeerError } from '#operator/gateway/peers/contract.ts';
import { memoryClient, MemoryKind } from '#operator/sites/testing/memory-api.ts';
import { aVirtualOrganization } from '#operator/testing/builders.ts';
import type { FollowEvent, RemindRequest } from '#proto/site/schema.ts';
import { configMaps, leases } from '#runtime/builtin.ts';
import type { Kind } from '#runtime/kind.ts';
import type { Stored } from '#runtime/types.ts';
import { tellMember, tellOrganization, tellSlice } from './documents.ts';
import { Follower } from './follower.ts';
import { Heard } from './heard.ts';
import { SeenStates } from './seen-states.ts';

const second = 1000;
const minute = 60 * second;
let physics: TestOrganization;
let clock: VirtualClock;
let link: TestLink;
let organizations: MemoryKind<VirtualOrganization>;
let volumes: MemoryKind<Volume>;
let memberships: MemoryKind<VOMembership>;
let stopper: AbortController;
let end: Promise<void>;
let start: () => void;

/** The home, and the link to it. Calls end when it is cut, as gRPC ends them when nothing is heard. */
class TestLink {
  state: 'Active' | 'Suspended' = 'Active';
  isUp = true;
  /** How many calls are being told something, which is signed and verified by threads: they know nothing of the clock. */
  telling = 0;
  /** What the home was reminded of. */
  readonly reminders: RemindRequest[] = [];
  private epoch = 1;
  private wake = Promise.withResolvers<undefined>();

  get channels(): PeerChannels {
    const stream = (_method: unknown, _requests: unknown, { signal }: { signal: AbortSignal }) => this.follow(signal);
    const call = async (_method: unknown, request: RemindRequest): Promise<object> => {
      this.assertUp();
      this.reminders.push(request);
      return Promise.resolve({});
    };
    const channel = { site: 'rennes', stream, call } as unknown as PeerChannel;
    return { channel: () => channel, names: () => ['rennes'], onChange: () => () => undefined };
  }

  /** The home decides something, or the link changes. */
  change(change: Partial<Pick<TestLink, 'state' | 'isUp'>>): void {
    Object.assign(this, change);
    this.epoch++;
    this.wake.resolve(undefined);
    this.wake = Promise.withResolvers();
  }

  /** A backup of the home is restored. */
  restore(epoch: number): void {
    this.epoch = epoch - 1;
    this.change({});
  }

  private async *follow(signal: AbortSignal): AsyncGenerator<FollowEvent> {
    this.assertUp();
    yield* this.tell();
    for (;;) {
      // Told of at once also where it ended while everything was told.
      const aborted = Promise.withResolvers<undefined>();
      signal.addEventListener('abort', () => aborted.resolve(undefined));
      if (!signal.aborted) await Promise.race([this.wake.promise, aborted.promise]);
      if (signal.aborted) return;
      this.assertUp();
      yield* this.tell();
    }
  }

  private async *tell(): AsyncGenerator<FollowEvent> {
    this.telling++;
    try {
      yield* await this.everything();
    } finally {
      this.telling--;
    }
  }

  private assertUp(): void {
    if (!this.isUp) throw new PeerError('Unreachable', 'rennes does not answer');
  }

  private async everything(): Promise<FollowEvent[]> {
    const vo = aVirtualOrganization('physics', { enrolment: { mode: 'Open' } });
    const documents = { genesis: physics.genesisJws, state: await physics.stateJws({ epoch: this.epoch }) };
    const about = { ...vo, metadata: { ...vo.metadata, uid: 'uid-of-physics' } };
    const spec = {
      principal: { issuer: 'https://id.example.org', subject: '42' },
      ...{ state: this.state, groups: [], roles: ['member'], capabilities: [], identity: { slice: 7, localId: 2000 } },
    };
    const member = { metadata: { name: 'ada' }, spec, status: { state: this.state } } as unknown as VOMembership;
    const slice = { number: 7, ordinal: 0, issued: '', groups: {} } as Parameters<typeof tellSlice>[0];
    return [
      { kind: 'ORGANIZATION', name: 'physics', json: tellOrganization(about, documents) },
      { kind: 'SLICE', name: '7', json: tellSlice(slice) },
      { kind: 'MEMBER', name: 'ada', json: tellMember(member) ?? '' },
      { kind: 'WHOLE', name: 'physics', json: '' },
    ];
  }
}

beforeAll(async () => {
  physics = await TestOrganization.found();
});

beforeEach(() => {
  clock = new VirtualClock();
  link = new TestLink();
  const random = new SeededRandom(1);
  organizations = new MemoryKind(virtualOrganizations, clock, random);
  memberships = new MemoryKind(voMemberships, clock, random);
  volumes = new MemoryKind(volumeKind, clock, random);
  const slices = new MemoryKind(identitySlices, clock, random);
  const siteObjects = new MemoryKind(sites, clock, random);
  const held = new MemoryKind(leases, clock, random);
  const kept = new MemoryKind(configMaps, clock, random);
  const accepted = { acceptedVirtualOrganizations: [{ name: 'physics', home: 'rennes' }] };
  siteObjects.write({
    metadata: { name: 'lyon' },
    spec: { type: 'Local', local: accepted },
  } as unknown as Stored<Site>);
  start = () => {
    stopper = new AbortController();
    const isAlive = (): boolean => !stopper.signal.aborted;
    const client = memoryClient(
      new Map<Kind, object>([
        [leases, held.client(isAlive, (each) => held.remove(each))],
        [configMaps, kept.client(isAlive, (each) => kept.remove(each))],
        [virtualOrganizations, organizations.client(isAlive, (each) => organizations.remove(each))],
        [voMemberships, memberships.client(isAlive, (each) => memberships.remove(each))],
        [identitySlices, slices.client(isAlive, (each) => slices.remove(each))],
        [volumeKind, volumes.client(isAlive, (each) => volumes.remove(each))],
      ]),
    );
    const follower = new Follower({
      organizations: organizations.cache(),
      memberships: memberships.cache(),
      volumes: volumes.cache(),
      sites: siteObjects.cache(),
      client,
      heard: new Heard(client, clock, 'system'),
      seen: new SeenStates(client, 'system'),
      ...{ channels: link.channels, clock, log: silentLogger, localSite: 'lyon' },
      synced: async () => Promise.resolve(),
    });
    end = follower.run(stopper.signal);
  };
  start();
});

afterEach(async () => kill());

/** The process of the operator ends, and requests that are under way with it. */
async function kill(): Promise<void> {
  let hasEnded = false;
  stopper.abort(new Error('killed'));
  void end.finally(() => (hasEnded = true));
  const limitMs = clock.monotonic() + 10 * minute;
  while (!hasEnded) {
    if (clock.monotonic() > limitMs) throw new Error('the follower does not end');
    await pass(100);
  }
}

/** What lyon knows of physics, and of ada. */
function here(): { state: string | undefined; reason: string | undefined; ada: string | undefined } {
  const vo = organizations.objects.get('physics');
  const reason = vo?.status?.conditions?.find(({ type }) => type === 'StatePublished')?.reason;
  return { state: vo?.spec.state, reason, ada: memberships.objects.get('vo-physics/ada')?.spec.state };
}

/** Lets time pass until lyon is as wanted. @returns milliseconds of the clock that it took. */
async function passUntil(wanted: Partial<ReturnType<typeof here>>, limitMs: number): Promise<number> {
  const begun = clock.monotonic();
  const isThere = (): boolean => Object.entries(wanted).every(([name, value]) => here()[name as 'ada'] === value);
  while (!isThere()) {
    if (clock.monotonic() - begun > limitMs) throw new Error(`lyon is ${JSON.stringify(here())}`);
    await pass(100);
  }
  return clock.monotonic() - begun;
}

/** Lets time pass; it stands still while signatures are made and verified. */
async function pass(durationMs: number): Promise<void> {
  while (link.telling > 0) await new Promise((resolve) => setImmediate(resolve));
  await clock.advanceAsync(durationMs);
}

const followed = { state: 'Operational', reason: 'Followed', ada: 'Active' };

describe('a member who is suspended at the home (threat 39)', () => {
  test('is suspended here within 30 seconds', async () => {
    await passUntil(followed, minute);
    link.change({ state: 'Suspended' });
    expect(await passUntil({ ada: 'Suspended' }, minute)).toBeLessThanOrEqual(30 * second);
  });

  test('while the link is cut starts nothing new here after a quarter of an hour, and is suspended within 30 seconds of its mending', async () => {
    await passUntil(followed, minute);
    link.change({ isUp: false, state: 'Suspended' });
    await pass(10 * minute);
    // Until then what the home said last holds.
    expect(here()).toEqual(followed);
    const leftMs = await passUntil({ state: 'Frozen', reason: 'HomeAway' }, 10 * minute);
    expect(leftMs).toBeLessThanOrEqual(5 * minute + 30 * second);
    await pass(120 * minute);
    expect(here()).toMatchObject({ state: 'Frozen', reason: 'HomeAway' });
    link.change({ isUp: true });
    expect(await passUntil({ ada: 'Suspended', state: 'Operational', reason: 'Followed' }, minute)).toBeLessThanOrEqual(
      30 * second,
    );
  });

  test('while the link is cut starts nothing new here either when the operator of this site is started anew, again and again', async () => {
    await passUntil(followed, minute);
    link.change({ isUp: false, state: 'Suspended' });
    for (let round = 0; round < 4; round++) {
      await pass(4 * minute);
      await kill();
      start();
    }
    expect(await passUntil({ state: 'Frozen', reason: 'HomeAway' }, minute)).toBeLessThanOrEqual(30 * second);
    link.change({ isUp: true });
    await passUntil({ ada: 'Suspended', state: 'Operational', reason: 'Followed' }, minute);
  });

  test('a clock that was set back while no operator ran makes nobody fresh', async () => {
    await passUntil(followed, minute);
    link.change({ isUp: false, state: 'Suspended' });
    await kill();
    clock.step(-60 * minute);
    start();
    expect(await passUntil({ state: 'Frozen', reason: 'HomeAway' }, minute)).toBeLessThanOrEqual(30 * second);
  });
});

describe('a home where a backup was restored (threat 64)', () => {
  test('is reminded of the newest state and of the ids of its members, also by a process that was started since; nothing older is taken', async () => {
    await passUntil(followed, minute);
    link.change({});
    link.change({ state: 'Suspended' });
    await passUntil({ ada: 'Suspended' }, minute);
    const newest = organizations.objects.get('physics')?.status?.epoch ?? 0;
    expect(link.reminders).toEqual([]);
    await kill();
    start();
    link.state = 'Active';
    link.restore(1);
    while (link.reminders.length === 0) await pass(100);
    const [reminder] = link.reminders;
    expect(reminder?.virtualOrganization).toBe('physics');
    expect(reminder?.ids).toEqual([globalId({ slice: 7, localId: 2000 })]);
    const reminded = await verifyState(reminder?.state ?? '', physics.genesis);
    expect(reminded.content.epoch).toBe(newest);
    await pass(minute);
    expect(here()).toMatchObject({ ada: 'Suspended' });
    expect(organizations.objects.get('physics')?.status?.epoch).toBe(newest);
  });
});

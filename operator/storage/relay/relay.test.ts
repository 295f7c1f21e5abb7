/** Both ends of the relay, over a real connection of a node on one side and a stand-in for servers on the other. */
import { PassThrough, type Duplex } from 'node:stream';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { AuditRecord } from '#common/audit.ts';
import { systemClock } from '#common/clock.ts';
import { TerminalError } from '#common/errors.ts';
import { silentLogger } from '#common/logger.ts';
import { MemoryPeers } from '#operator/gateway/peers/testing/memory.ts';
import { createRelayDialer } from '#xtreemfs/rpc/relay.ts';
import { createAuthority, type TestAuthority } from '#xtreemfs/rpc/testing/certificates.ts';
import { type TlsFiles, TlsMaterial } from '#xtreemfs/rpc/tls.ts';
import type { Dialed } from '#xtreemfs/rpc/transport.ts';
import { HostedVolumes, type HostedVolumesOptions } from './hosted-volumes.ts';
import { NodeDoor, type NodeDoorOptions } from './node-door.ts';
import type { RelayTerms } from './volume-relay.ts';

const uid = '11111111-1111-4111-8111-111111111111';
const volumeName = `vol-${uid}`;
const deps = { clock: systemClock, logger: silentLogger };

/** What the two sites say; each test may say otherwise. */
function aWorld() {
  return {
    shared: { near: true, far: true },
    organization: { spec: { homeSite: 'near', sites: ['far'] }, status: { state: 'Operational' } } as object,
    volume: {
      metadata: { name: 'data', namespace: 'vo-physics', uid } as Record<string, unknown>,
      spec: { fileSystem: { name: 'main', namespace: 'system' } },
      status: { fileSystemUID: 'uid-fs' },
    },
    fileSystem: {
      metadata: { name: 'main', namespace: 'system', uid: 'uid-fs' },
      spec: { allowedVirtualOrganizations: ['physics'] },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    },
    mirrored: {
      metadata: { name: 'data', namespace: 'vo-physics' },
      spec: { remote: { site: 'near', volumeUID: uid } },
    },
    groups: ['vo-physics', 'vo-physics/staff'],
  };
}

let world: ReturnType<typeof aWorld>;
let peers: MemoryPeers;
let opened: { readonly terms: RelayTerms; readonly server: string; readonly stream: Duplex }[];
let records: AuditRecord[];
let change: () => void;
let stopper: AbortController;
let door: NodeDoor;
let running: Promise<void>;
let node: TlsMaterial;
let other: TlsMaterial;
let authority: TestAuthority;
let doorFiles: TlsFiles;

beforeAll(async () => {
  authority = await createAuthority('site');
  doorFiles = await authority.issue('CN=relay.xtreemos.io', ['localhost']);
  node = new TlsMaterial(await authority.issue('CN=node', ['node-agent.xtreemos.io']), deps);
  other = new TlsMaterial(await authority.issue('CN=osd', ['osd.main.file-system.xtreemos.io']), deps);
});

beforeEach(async () => {
  world = aWorld();
  [opened, records, stopper] = [[], [], new AbortController()];
  peers = new MemoryPeers();
  peers.join('near', 'far');
  peers.join('near', 'paris');
  const listeners = new Set<() => void>();
  const onChange = (listener: () => void): unknown => listeners.add(listener);
  change = () => listeners.forEach((listener) => listener());
  const hosted = new HostedVolumes({
    volumes: { byIndex: (_: string, value: string) => (value === uid ? [world.volume] : []) },
    fileSystems: { get: () => world.fileSystem },
    organizations: { get: ({ name }: { name: string }) => (name === 'physics' ? world.organization : undefined) },
    shared: { has: (site: string) => site === 'far' && world.shared.near },
    users: { groupsOf: (_: string, name: string) => (name === 'u-alice' ? world.groups : undefined) },
    connector: {
      open: async (terms: RelayTerms, server: string) => {
        if (server.startsWith('evil')) throw new TerminalError(`${server} is no server of FileSystem system/main`);
        if (server.startsWith('down')) throw new Error('connect ECONNREFUSED');
        const stream = new PassThrough({ highWaterMark: 65_536 });
        opened.push({ terms, server, stream });
        return Promise.resolve(stream);
      },
    },
    ...{ onChange, audit: { record: (each: AuditRecord) => void records.push(each) }, clock: systemClock },
    localSite: 'near',
  } as unknown as HostedVolumesOptions);
  peers.site('near').add(hosted.methods());
  door = new NodeDoor({
    volumes: {
      byIndex: (_: string, value: string) => (value === volumeName ? [world.mirrored] : []),
      synced: async () => Promise.resolve(),
    },
    channels: peers.site('far'),
    shared: { has: () => world.shared.far },
    tls: () => new TlsMaterial(doorFiles, deps),
    ...{ onChange, clock: systemClock, log: silentLogger, port: 0 },
  } as unknown as NodeDoorOptions);
  running = door.run(stopper.signal);
  while (door.port === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
});

afterEach(async () => {
  stopper.abort();
  await running;
});

async function dial(server = 'main-osd-0.main-osd.system.svc:32640', volume = volumeName, tls = node): Promise<Dialed> {
  const [host = '', port = ''] = server.split(':');
  const relay = createRelayDialer({ host: 'localhost', port: door.port ?? 0 }, volume, tls);
  const dialed = await relay.dial({ host, port: Number(port) }, AbortSignal.timeout(5_000));
  dialed.socket.on('error', () => undefined);
  return dialed;
}

/** Reads so many bytes. */
async function read({ socket, early }: Dialed, count: number): Promise<Buffer> {
  let got = early ?? Buffer.alloc(0);
  await new Promise<void>((resolve, reject) => {
    const look = (): void => {
      if (got.length >= count) resolve();
    };
    socket.on('data', (chunk: Buffer) => {
      got = Buffer.concat([got, chunk]);
      look();
    });
    socket.on('close', () => reject(new Error(`closed after ${got.length} bytes`)));
    socket.resume();
    look();
  });
  return got;
}

const closed = async ({ socket }: Dialed): Promise<void> => {
  socket.resume();
  if (!socket.destroyed) await new Promise((resolve) => socket.once('close', resolve));
};

test('a node reads and writes what a server of the other site has, whatever the sizes', async () => {
  const dialed = await dial();
  const sent = Buffer.alloc(3_000_000, 'abcdefghij');
  dialed.socket.write(sent);
  expect((await read(dialed, sent.length)).equals(sent)).toBe(true);
  expect(opened).toMatchObject([{ server: 'main-osd-0.main-osd.system.svc:32640', terms: { volumeName } }]);
  expect(records).toMatchObject([{ what: 'volume.relay', outcome: 'Allowed', on: { Site: 'far', Volume: uid } }]);
  dialed.socket.destroy();
  await new Promise((resolve) => opened[0]?.stream.once('close', resolve));
});

test('who writes more than the server takes waits', async () => {
  const dialed = await dial();
  const stream = opened[0]?.stream;
  // Nobody reads the answers: the stand-in takes no more.
  dialed.socket.pause();
  let written = 0;
  const piece = Buffer.alloc(256 * 1024);
  for (; written < 400; written++) {
    if (dialed.socket.write(piece)) continue;
    const isTaken = await Promise.race([
      new Promise<boolean>((resolve) => dialed.socket.once('drain', () => resolve(true))),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 500)),
    ]);
    if (!isTaken) break;
  }
  expect(written).toBeLessThan(100);
  expect(stream?.writableLength).toBeLessThan(1_000_000);
  dialed.socket.destroy();
});

describe('threats 16, 51: a site gets at files of another', () => {
  test.each<[string, () => void, RegExp]>([
    ['which does not share the organization', () => (world.shared.near = false), /does not share "physics" with yours/],
    ['which it does not share itself', () => (world.shared.far = false), /does not share physics with near/],
    [
      'only when the organization names it',
      () => (world.organization = { spec: { homeSite: 'near', sites: [] }, status: { state: 'Operational' } }),
      /does not name yours/,
    ],
    [
      'only at the home of the organization',
      () => (world.organization = { spec: { homeSite: 'rome', sites: ['far'] }, status: { state: 'Operational' } }),
      /not at home at this site/,
    ],
    [
      'not of an organization that is dissolved',
      () => (world.organization = { spec: { homeSite: 'near', sites: ['far'] }, status: { state: 'Dissolved' } }),
      /is Dissolved/,
    ],
    [
      'not of another organization, by the uid of its volume',
      () => (world.volume.metadata = { ...world.volume.metadata, namespace: 'vo-biology' }),
      /no Volume with uid/,
    ],
    [
      'not of what is being deleted',
      () => (world.volume.metadata = { ...world.volume.metadata, deletionTimestamp: 'now' }),
      /no Volume with uid/,
    ],
    [
      'not on a file system that was made anew',
      () => (world.volume.status.fileSystemUID = 'uid-old'),
      /no Volume with uid/,
    ],
    [
      'not on a file system that does not let it in any more',
      () => (world.fileSystem.spec.allowedVirtualOrganizations = []),
      /does not let physics in/,
    ],
    ['not while it does not serve', () => (world.fileSystem.status.conditions = []), /does not serve now/],
  ])('%s', async (_, change_, why) => {
    change_();
    await expect(dial()).rejects.toThrow(why);
    expect(opened).toEqual([]);
  });

  test('and at nothing but servers of the file system', async () => {
    await expect(dial('evil.example:32640')).rejects.toThrow(/no server of FileSystem/);
    await expect(dial('down.example:32640')).rejects.toThrow(/can not be reached: connect ECONNREFUSED/);
    await expect(dial('main-osd-0:1', 'vol-22222222-2222-4222-8222-222222222222')).rejects.toThrow(
      /No Volume of another site/,
    );
    await expect(dial('main-osd-0:1', 'data')).rejects.toThrow(/has to name a volume/);
  });

  test('only through its node agents', async () => {
    await expect(dial(undefined, volumeName, other)).rejects.toThrow();
    const elsewhere = await createAuthority('elsewhere');
    const forged = {
      ...(await elsewhere.issue('CN=node', ['node-agent.xtreemos.io'])),
      trustedPath: doorFiles.trustedPath,
    };
    await expect(dial(undefined, volumeName, new TlsMaterial(forged, deps))).rejects.toThrow();
    expect(opened).toEqual([]);
  });

  test('as members in force, with groups of their own, and as nobody', async () => {
    const dialed = await dial();
    const permits = (username: string, ...groups: string[]): boolean | undefined =>
      opened[0]?.terms.permits({ username, groups });
    expect(permits('u-alice', 'vo-physics')).toBe(true);
    expect(permits('u-alice', 'vo-physics', 'vo-physics/staff', 'nobody')).toBe(true);
    expect(permits('nobody', 'nobody')).toBe(true);
    expect(permits('u-alice', 'vo-physics/secret')).toBe(false);
    expect(permits('u-mallory', 'vo-physics')).toBe(false);
    expect(permits('root', 'root')).toBe(false);
    expect(permits('nobody', 'vo-physics')).toBe(false);
    dialed.socket.destroy();
  });

  test('at the home of a member as that member alone', async () => {
    world.volume.metadata = { ...world.volume.metadata, name: 'home-u-bob' };
    const dialed = await dial();
    expect(opened[0]?.terms.permits({ username: 'u-alice', groups: ['vo-physics'] })).toBe(false);
    dialed.socket.destroy();
  });

  test.each<[string, () => void]>([
    ['the owner of the site of the volume shares the organization no more', () => (world.shared.near = false)],
    ['the owner of its own site does', () => (world.shared.far = false)],
    ['the volume is deleted', () => (world.volume.metadata = { ...world.volume.metadata, deletionTimestamp: 'now' })],
    ['the site is cut off', () => peers.site('near').setPeer('far', 'Cut')],
  ])('until %s', async (_, change_) => {
    const dialed = await dial();
    change_();
    change();
    await closed(dialed);
    expect(opened[0]?.stream.destroyed).toBe(true);
  });
});

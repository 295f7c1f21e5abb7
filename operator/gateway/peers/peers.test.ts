import { createServer, type Server } from 'node:tls';
import { Writable } from 'node:stream';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { JsonAuditLog } from '#common/audit.ts';
import { systemClock } from '#common/clock.ts';
import { createLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { GatewayMetrics } from '../metrics.ts';
import { GatewayServer } from '../server.ts';
import { GrpcPeerChannels } from './channels.ts';
import { answering, PeerError } from './contract.ts';
import { PeerDirectory } from './directory.ts';
import { problemOfCertificate, trustDomainIn } from './peer-identity.ts';
import { PeerServer } from './services.ts';
import { type MadeCertificate, TestAuthority } from './testing/certificates.ts';
import { describePeers, type PeerWorld } from './testing/compliance.ts';
import { MemoryPeers } from './testing/memory.ts';
import { SiteBook } from './testing/site-book.ts';
import { peerMethods } from '#proto/site/schema.ts';

let authorities: Record<'a' | 'b', TestAuthority>;
let certificates: Record<'a' | 'b', MadeCertificate>;
const identity = (site: string): string => `spiffe://${site}.example/gateway`;

beforeAll(async () => {
  const [a, b] = await Promise.all([TestAuthority.create('a'), TestAuthority.create('b')]);
  authorities = { a, b };
  certificates = { a: await a.sign([identity('a')]), b: await b.sign([identity('b')]) };
});

/** Two gateways with their real server, and Site objects without an API server. */
class GrpcWorld implements PeerWorld {
  readonly books = { a: new SiteBook(), b: new SiteBook() };
  readonly lines: string[] = [];
  readonly services: PeerServer;
  readonly a: GrpcPeerChannels;
  port = 0;
  private readonly server: GatewayServer;
  private readonly shown: MadeCertificate;

  /** @param shown - what `a` shows as its certificate. */
  constructor(shown: MadeCertificate) {
    this.shown = shown;
    const destination = new Writable({
      write: (chunk: Buffer, _, done) => {
        this.lines.push(chunk.toString());
        done();
      },
    });
    const log = createLogger({ level: 'error', destination: { write: () => undefined } });
    const common = { clock: systemClock, log, audit: new JsonAuditLog(systemClock, destination) };
    this.services = new PeerServer({ ...common, directory: new PeerDirectory(this.books.b, 'b') });
    this.a = new GrpcPeerChannels(new PeerDirectory(this.books.a, 'a'), () => this.shown);
    this.server = new GatewayServer(
      { ...common, routes: [], metrics: new GatewayMetrics(createRegistry()), peers: this.services },
      { ...certificates.b, ca: [] },
    );
  }

  async start(): Promise<void> {
    this.port = await this.server.start(0, '127.0.0.1');
    this.setPeer('a', 'Open');
    this.setPeer('b', 'Open');
  }

  setPeer(at: 'a' | 'b', connection: 'Open' | 'Cut' | undefined, changes: object = {}): void {
    const other = at === 'a' ? 'b' : 'a';
    const address = `127.0.0.1:${other === 'b' ? this.port : 1}`;
    const trust = { trustDomain: `${other}.example`, trustBundle: authorities[other].bundle };
    const peer = connection === undefined ? undefined : { address, ...trust, connection, ...changes };
    this.books[at].set(other, peer);
  }

  async stop(): Promise<void> {
    this.a.close();
    await this.server.stop();
  }
}

describePeers('peers over gRPC and mutual TLS', async () => Promise.resolve(new GrpcWorld(certificates.a)));

describePeers('peers in one process', async () => {
  const network = new MemoryPeers();
  const [a, b] = [network.site('a'), network.site('b')];
  return Promise.resolve({
    a,
    services: b,
    start: async () => {
      network.join('a', 'b');
      return Promise.resolve();
    },
    setPeer: (at, connection) => network.site(at).setPeer(at === 'a' ? 'b' : 'a', connection),
    stop: async () => Promise.resolve(),
  });
});

describe('who a peer is', () => {
  const worlds: GrpcWorld[] = [];
  const servers: Server[] = [];
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.stop();
    for (const server of servers.splice(0)) server.close();
  });

  /** Calls of a site that shows this certificate. @returns the reason that it came to nothing. */
  async function attempt(shown: MadeCertificate, change?: (world: GrpcWorld) => void): Promise<string> {
    const world = new GrpcWorld(shown);
    worlds.push(world);
    const answer = { site: 'b', protocols: [1], version: '', nodes: 0, nodesReady: 0 };
    world.services.add([answering(peerMethods.Hello, async () => Promise.resolve(answer))]);
    await world.start();
    change?.(world);
    try {
      await world.a.channel('b').call(peerMethods.Hello, { site: 'a', protocols: [1] }, { timeoutMs: 5000 });
      return 'none';
    } catch (error) {
      return error instanceof PeerError ? error.reason : String(error);
    }
  }

  const why = (): string => worlds[0]?.lines.join('') ?? '';

  test('the gateway of its trust domain is taken', async () => {
    expect(await attempt(certificates.a)).toBe('none');
  });

  test('a root of one site that signs for another is refused, though both are peers (threat 30)', async () => {
    const forged = await authorities.b.sign([identity('a')]);
    const reason = await attempt(forged, ({ books }) => {
      const peer = { address: 'c.example:7443', trustDomain: 'c.example', trustBundle: authorities.b.bundle };
      books.b.set('c', peer);
    });
    expect(reason).toBe('Unreachable');
    expect(why()).toContain('No root of the trust bundle of the peer signed the certificate');
  });

  test('a trust domain that two Sites claim belongs to neither', async () => {
    const reason = await attempt(certificates.a, ({ books }) => {
      books.b.set('other', { address: 'c.example:7443', trustDomain: 'a.example', trustBundle: authorities.a.bundle });
    });
    expect(reason).toBe('Unreachable');
    expect(why()).toContain('or more than one');
  });

  test('a gateway that shows another identity than expected is not spoken to (threat 31)', async () => {
    const reason = await attempt(certificates.a, (world) => world.setPeer('a', 'Open', { trustDomain: 'c.example' }));
    expect(reason).toBe('Unreachable');
  });

  test('a gateway that another root vouches for is not spoken to', async () => {
    const reason = await attempt(certificates.a, (world) =>
      world.setPeer('a', 'Open', { trustBundle: authorities.a.bundle }),
    );
    expect(reason).toBe('Unreachable');
  });

  test.each([
    ['address', { address: 'nowhere.example:99999' }],
    ['trust bundle', { trustBundle: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n' }],
  ])('a peer whose %s is damaged is Unreachable, and harms nothing', async (_, change) => {
    expect(await attempt(certificates.a, (world) => world.setPeer('a', 'Open', change))).toBe('Unreachable');
  });

  test('a peer without HTTP/2 or a certificate gets nowhere', async () => {
    const shownByNobody = await authorities.a.sign([]);
    expect(await attempt(shownByNobody)).toBe('Unreachable');
    expect(why()).toContain('No certificate of a gateway was shown');
  });

  test('a redirected address that answers no TLS is Unreachable', async () => {
    const odd = createServer();
    servers.push(odd);
    await new Promise<void>((resolve) => odd.listen(0, '127.0.0.1', () => resolve()));
    const { port } = odd.address() as AddressInfo;
    const reason = await attempt(certificates.a, (world) =>
      world.setPeer('a', 'Open', { address: `127.0.0.1:${port}` }),
    );
    expect(reason).toBe('Unreachable');
  });

  test.each<[string, readonly string[], object, string | undefined]>([
    ['is good', [identity('a')], {}, undefined],
    ['was over', [identity('a')], { fromHours: -3, toHours: -1 }, 'not valid at this time'],
    ['is of the future', [identity('a')], { fromHours: 1 }, 'not valid at this time'],
    ['is for servers only', [identity('a')], { uses: ['serverAuth'] }, 'not for the use of clients'],
    ['has two identities', [identity('a'), identity('b')], {}, 'not that of the gateway'],
    ['is of something else at the site', ['spiffe://a.example/node'], {}, 'not that of the gateway'],
    ['is of a domain that starts the same', ['spiffe://a.example.evil/gateway'], {}, 'not that of the gateway'],
  ])('a certificate that %s is judged so', async (_, uris, options, problem) => {
    const { raw } = await authorities.a.sign(uris, options);
    const peer = { trustDomain: 'a.example', trustBundle: authorities.a.bundle };
    const found = problemOfCertificate(raw, peer, Date.now());
    if (problem === undefined) expect(found).toBeUndefined();
    else expect(found).toContain(problem);
  });

  test('what is no certificate is refused without harm', () => {
    const peer = { trustDomain: 'a.example', trustBundle: authorities.a.bundle };
    expect(trustDomainIn(Buffer.from('nonsense'))).toBeUndefined();
    expect(problemOfCertificate(Buffer.from('nonsense'), peer, Date.now())).toContain('can not be read');
    expect(problemOfCertificate(certificates.a.raw, { ...peer, trustBundle: 'nonsense' }, Date.now())).toContain(
      'No root',
    );
  });
});

import { createServer, type Server, type TLSSocket } from 'node:tls';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import { type Volume, volumeNameOf } from '#crds/volume.ts';
import { OpenStreams } from '#operator/gateway/open-streams.ts';
import { type PeerChannels, PeerError } from '#operator/gateway/peers/contract.ts';
import type { SharedOrganizations } from '#operator/sites/shared.ts';
import { type RelayOpen, type RelayRequest, type RelayResponse, storageMethods } from '#proto/site/schema.ts';
import type { Informer, Runnable } from '#runtime/contracts.ts';
import { identifyPeer } from '#xtreemfs/rpc/peer.ts';
import { readRelayLine, relayLine } from '#xtreemfs/rpc/relay.ts';
import type { TlsMaterial } from '#xtreemfs/rpc/tls.ts';
import { nodeServiceName } from '../names.ts';
import { piecesOf, relayLimits, writeAll } from './streams.ts';

/** Index of Volumes by what they are called at the MRC of the site that keeps them. */
export const byRemoteName = 'relay/remoteName';

/** The name at the MRC of a Volume that another site keeps. */
export function remoteNameOf({ spec }: Volume): string[] {
  return spec.remote === undefined ? [] : [volumeNameOf(spec.remote.volumeUID)];
}

/** What {@link NodeDoor} works with. */
export interface NodeDoorOptions {
  /** With the index {@link byRemoteName}. */
  readonly volumes: Pick<Informer<Volume>, 'byIndex' | 'synced'>;
  readonly channels: PeerChannels;
  readonly shared: SharedOrganizations;
  /** Of the site's own authority; undefined while there is none. */
  readonly tls: () => TlsMaterial | undefined;
  /** Called when what is allowed may have changed. */
  readonly onChange: (listener: () => void) => unknown;
  readonly clock: Clock;
  readonly log: Logger;
  readonly port: number;
}

const wanted = z.strictObject({
  volume: z.string().regex(/^vol-[0-9a-f-]{36}$/),
  server: z.string().regex(/^[A-Za-z0-9][-A-Za-z0-9_.]{0,252}:\d{1,5}$/),
});
/** Handshake, first line and answer of the other site each have to be done in so long, milliseconds. */
const openMs = 10_000;
/** A few for each mount of each node. */
const connectionsMax = 2_048;
const retryMs = 5_000;

/**
 * Where the nodes of this site reach volumes that other sites keep: the pods of two sites never reach each other, their gateways do. Only node agents
 * get in, by their certificates; they say which volume and which server, and who answers for the volume is looked up here.
 */
export class NodeDoor implements Runnable {
  readonly name = 'volume-door';
  readonly needsLeader = false;
  /** Port that it listens on; undefined before. */
  port: number | undefined;
  private readonly options: NodeDoorOptions;
  private readonly streams: OpenStreams;
  private readonly sockets = new Set<TLSSocket>();

  constructor(options: NodeDoorOptions) {
    this.options = options;
    this.streams = new OpenStreams(options.clock, options.onChange, relayLimits);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, volumes } = this.options;
    await volumes.synced(signal).catch(() => undefined);
    let server: Server | undefined;
    while (!signal.aborted) {
      server ??= await this.start(signal);
      await clock.sleep(retryMs, signal).catch(() => undefined);
    }
    this.streams.endAll('The gateway is restarted: connect again.');
    server?.close();
    for (const socket of this.sockets) socket.destroy();
    log.debug('Volume door is closed');
  }

  /** Certificates may come later than this process. */
  private async start(signal: AbortSignal): Promise<Server | undefined> {
    const { log, port } = this.options;
    let tls: TlsMaterial | undefined;
    try {
      tls = this.options.tls();
    } catch (error) {
      log.warn('Volumes of other sites can not be reached yet: no certificate', { problem: describeError(error) });
    }
    if (tls === undefined) return undefined;
    const material = tls;
    const server = createServer({ ...material.serverOptions('pbrpcs'), handshakeTimeout: openMs });
    server.maxConnections = connectionsMax;
    material.onRenewed(() => server.setSecureContext(material.serverOptions('pbrpcs')));
    server.on('tlsClientError', () => undefined);
    server.on('secureConnection', (socket) => {
      this.sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.once('close', () => this.sockets.delete(socket));
      void this.serve(socket, signal);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port }, () => resolve());
    });
    server.on('error', (error) => log.error('Volume door failed', { err: error }));
    const address = server.address();
    this.port = typeof address === 'object' ? address?.port : undefined;
    log.info('Volume door listens', { port: this.port });
    return server;
  }

  private async serve(socket: TLSSocket, stopped: AbortSignal): Promise<void> {
    const isNode = identifyPeer(socket).certificate?.alternativeNames.includes(`DNS:${nodeServiceName}`) === true;
    if (!isNode) {
      socket.destroy();
      return;
    }
    socket.setKeepAlive(true, 30_000);
    const gone = new AbortController();
    socket.once('close', () => gone.abort(new Error('The node closed the connection')));
    const signal = AbortSignal.any([stopped, gone.signal]);
    try {
      await this.relay(socket, signal);
    } catch (error) {
      const problem = describeError(error);
      if (!signal.aborted) this.options.log.info('A node was not connected to a volume', { problem });
      if (socket.writable) socket.end(relayLine({ problem: problem.slice(0, 1_000) }));
    } finally {
      socket.destroySoon();
    }
  }

  private async relay(socket: TLSSocket, signal: AbortSignal): Promise<void> {
    const { value, rest } = await readRelayLine(socket, AbortSignal.any([signal, AbortSignal.timeout(openMs)]));
    if (rest.length > 0) socket.unshift(rest);
    const parsed = wanted.safeParse(value);
    if (!parsed.success) throw new PeerError('Invalid', 'The first line has to name a volume and a server.');
    const { open, site } = this.find(parsed.data);
    const scopes = { peer: site, organization: open.virtualOrganization, member: open.volume };
    const entry = this.streams.enter(scopes, () => this.problem(site, open.virtualOrganization));
    try {
      const ended = AbortSignal.any([signal, entry.signal]);
      const channel = this.options.channels.channel(site);
      const answers = channel.stream(storageMethods.Relay, requests(open, socket), { signal: ended });
      await this.answer(answers, socket, () => entry.touch());
    } finally {
      entry.close();
    }
  }

  /** After the first answer the connection is the client's: a problem can only break it. */
  private async answer(
    answers: AsyncIterableIterator<RelayResponse>,
    socket: TLSSocket,
    touch: () => void,
  ): Promise<void> {
    const first = await answers.next();
    if (first.done === true || first.value.opened !== true)
      throw new PeerError('Unreachable', 'The other site ended the connection.');
    socket.write(relayLine({}));
    const data = async function* (): AsyncGenerator<Uint8Array> {
      for await (const each of answers) {
        touch();
        if (each.data !== undefined) yield each.data;
      }
    };
    await writeAll(data(), socket);
  }

  private find({ volume, server }: z.infer<typeof wanted>): { open: RelayOpen; site: string } {
    const [found] = this.options.volumes.byIndex(byRemoteName, volume);
    const organization = organizationOfNamespace(found?.metadata.namespace);
    const { remote } = found?.spec ?? {};
    if (organization === undefined || remote === undefined)
      throw new PeerError('NotFound', `No Volume of another site is called ${volume} there.`);
    const problem = this.problem(remote.site, organization);
    if (problem !== undefined) throw problem;
    return { open: { virtualOrganization: organization, volume: remote.volumeUID, server }, site: remote.site };
  }

  private problem(site: string, organization: string): PeerError | undefined {
    if (this.options.shared.has(site, organization)) return undefined;
    return new PeerError(
      'Refused',
      `This site does not share ${organization} with ${site}: its owner does in the Site of that name.`,
    );
  }
}

async function* requests(open: RelayOpen, socket: TLSSocket): AsyncGenerator<RelayRequest> {
  yield { open };
  try {
    for await (const data of piecesOf(socket)) yield { data };
  } catch {
    // The node went away: the call ends by its signal.
  }
}

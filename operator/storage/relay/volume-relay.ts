import type { Socket } from 'node:net';
import path from 'node:path';
import { Duplex } from 'node:stream';
import type { Clock } from '#common/clock.ts';
import { TerminalError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { type FileSystem, fileSystemSchemes } from '#crds/file-system.ts';
import { dirProcedures, ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import type { UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Stored } from '#runtime/types.ts';
import { Services } from '#xtreemfs/client/services.ts';
import { type Address, parseAddress } from '#xtreemfs/rpc/address.ts';
import { createDialer } from '#xtreemfs/rpc/transport.ts';
import { TlsMaterial } from '#xtreemfs/rpc/tls.ts';
import { serverAddress, serverHost, type ServerKind, serverKinds, serverPorts } from '../names.ts';
import { FrameCheck } from './frame-check.ts';
import { problemOf } from './request-check.ts';

/** What a relayed connection may do. */
export interface RelayTerms {
  readonly fileSystem: Stored<FileSystem>;
  /** Name of the volume at the MRC. */
  readonly volumeName: string;
  /** Whether the client may speak for a user. Asked for every request that is done with the rights of one. */
  readonly permits: (user: UserCredentials) => boolean;
  readonly isReadOnly: boolean;
}

/** Connects clients that can't reach the servers of a FileSystem to them, for one volume. */
export interface VolumeConnector {
  /**
   * @param server - `HOST:PORT` as the directory names it; the host `dir` is the directory.
   * @returns a stream: what is written goes to the server when the terms let it, what is read are its answers.
   * @throws {TerminalError} when this server, or the volume, is none of the FileSystem; others when it can't be reached.
   */
  open(terms: RelayTerms, server: string, signal: AbortSignal): Promise<Duplex>;
}

/** Host by which clients call the directory of whatever FileSystem it is. */
export const directoryHost = 'dir';
/** What a connection may take to stand, milliseconds. */
const connectMs = 5_000;
const requestMs = 5_000;
const volumesMax = 4_096;
/** Refusals of one connection after which it is ended: a mount has next to none. */
const refusalsMax = 1_000;

/**
 * {@link VolumeConnector} with a certificate that MRCs believe in what it says of users, and that is no administrator. So what it lets through is all that
 * stands between a client and everybody's files: it looks at each request, and passes what a mount asks of this volume (ADR 0170).
 */
export class VolumeRelay implements VolumeConnector {
  private readonly tlsFolder: string;
  private readonly deps: { readonly clock: Clock; readonly logger: Logger };
  private readonly directories = new Map<string, Services>();
  private readonly volumeIds = new Map<string, string>();
  private tls: TlsMaterial | undefined;

  /** @param tlsFolder - has tls.crt, tls.key and ca.crt; read when the first FileSystem with TLS is connected to. */
  constructor(tlsFolder: string, deps: { readonly clock: Clock; readonly logger: Logger }) {
    this.tlsFolder = tlsFolder;
    this.deps = deps;
  }

  async open(terms: RelayTerms, server: string, signal: AbortSignal): Promise<Duplex> {
    const { fileSystem, volumeName, isReadOnly, permits } = terms;
    const { address, kind } = addressIn(fileSystem, server);
    const volumeId = await this.volumeIdOf(fileSystem, volumeName, signal);
    const dialer = createDialer(fileSystemSchemes[fileSystem.spec.tls], this.tlsOf(fileSystem));
    const { socket, early } = await dialer.dial(address, AbortSignal.any([signal, AbortSignal.timeout(connectMs)]));
    let refused = 0;
    const stream: RelayedStream = new RelayedStream(
      socket,
      new FrameCheck(
        (header, message) => problemOf(header, message, { server: kind, volumeName, volumeId, isReadOnly, permits }),
        (problem) => {
          refused += 1;
          this.deps.logger.warn('Refused a request through the relay', { volume: volumeName, problem });
          if (refused >= refusalsMax) stream.destroy(new Error('Too many requests were refused'));
        },
      ),
    );
    if (early !== undefined && early.length > 0) socket.unshift(early);
    return stream;
  }

  /** Closes the connections to the directories. */
  close(): void {
    for (const services of this.directories.values()) services.close();
    this.tls?.close();
  }

  /** The id never changes while the name is there, and the name is never given twice. */
  private async volumeIdOf(fileSystem: Stored<FileSystem>, name: string, signal: AbortSignal): Promise<string> {
    const key = `${fileSystem.metadata.uid}/${name}`;
    const known = this.volumeIds.get(key);
    if (known !== undefined) return known;
    const services = this.directoryOf(fileSystem);
    const call = services.call(services.dirs, dirProcedures.serviceGetByName, { name }, { signal });
    const { response } = await call;
    const found = response.services.find((each) => each.type === ServiceType.VOLUME && each.name === name);
    if (found === undefined) throw new TerminalError(`the directory of ${fileSystem.metadata.name} knows no ${name}`);
    if (this.volumeIds.size >= volumesMax) this.volumeIds.clear();
    this.volumeIds.set(key, found.uuid);
    return found.uuid;
  }

  private directoryOf(fileSystem: Stored<FileSystem>): Services {
    const { uid } = fileSystem.metadata;
    const known = this.directories.get(uid);
    if (known !== undefined) return known;
    const tls = this.tlsOf(fileSystem);
    const made = new Services({
      ...this.deps,
      dirs: [addressIn(fileSystem, `${directoryHost}:${serverPorts.dir.rpc}`).address],
      scheme: fileSystemSchemes[fileSystem.spec.tls],
      ...(tls === undefined ? {} : { tls }),
      ...{ triesMax: 1, connectTimeoutMs: connectMs, requestTimeoutMs: requestMs },
    });
    this.directories.set(uid, made);
    return made;
  }

  private tlsOf({ spec }: Stored<FileSystem>): TlsMaterial | undefined {
    if (spec.tls === 'Disabled') return undefined;
    const file = (name: string): string => path.join(this.tlsFolder, name);
    const files = { certificatePath: file('tls.crt'), privateKeyPath: file('tls.key'), trustedPath: file('ca.crt') };
    return (this.tls ??= new TlsMaterial(files, this.deps));
  }
}

/** Only servers of the FileSystem: whoever asks can't have the relay connect to anything else. @throws {TerminalError} */
function addressIn({ metadata }: Stored<FileSystem>, server: string): { address: Address; kind: ServerKind } {
  const { name, namespace = '' } = metadata;
  if (server === `${directoryHost}:${serverPorts.dir.rpc}`)
    return { address: parseAddress('server', serverAddress(name, namespace, 'dir')), kind: 'dir' };
  for (const kind of serverKinds) {
    const ordinal = /^[a-z0-9-]+-(0|[1-9]\d{0,4})\./.exec(server)?.[1];
    const address = ordinal === undefined ? '' : serverHost(name, namespace, kind, ordinal);
    if (server === `${address}:${serverPorts[kind].rpc}`) return { address: parseAddress('server', server), kind };
  }
  throw new TerminalError(`${JSON.stringify(server.slice(0, 128))} is no server of FileSystem ${namespace}/${name}`);
}

/** The connection to a server, with the check in between. Either side waits when the other does not keep up. */
class RelayedStream extends Duplex {
  private readonly socket: Socket;
  private readonly frames: FrameCheck;
  private goOn: (() => void) | undefined;

  constructor(socket: Socket, frames: FrameCheck) {
    super({ allowHalfOpen: false });
    this.socket = socket;
    this.frames = frames;
    socket.on('data', (chunk: Buffer) => this.answer(chunk));
    socket.on('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
  }

  override _read(): void {
    this.socket.resume();
    const { goOn } = this;
    this.goOn = undefined;
    goOn?.();
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    try {
      for (const piece of this.frames.request(chunk)) this.socket.write(piece);
      this.give(this.frames.due());
    } catch (error) {
      done(error as Error);
      return;
    }
    // Who does not read refusals gets no more of them.
    if (this.readableLength > this.readableHighWaterMark) this.goOn = done;
    else if (this.socket.writableNeedDrain) this.socket.once('drain', done);
    else done();
  }

  override _final(done: () => void): void {
    this.socket.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.socket.destroy();
    done(error);
  }

  private answer(chunk: Buffer): void {
    try {
      this.give(this.frames.answer(chunk));
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  private give(pieces: readonly Buffer[]): void {
    let isFull = false;
    for (const piece of pieces) isFull = !this.push(piece);
    if (isFull) this.socket.pause();
  }
}

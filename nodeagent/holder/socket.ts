import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { MountHolder } from './holder.ts';
import {
  type HeldMount,
  type HolderAnswer,
  holderAnswer,
  HolderError,
  holderRequest,
  type HolderRequest,
  lineBytesMax,
} from './protocol.ts';

const connectionsMax = 64;
/** A request comes in one piece right after the connection. */
const requestMs = 5_000;

/**
 * Answers the node agent over a unix socket that only root of the node may open (mode 0600 in a folder of mode 0700). A caller
 * who goes away changes nothing: what was begun is ended.
 */
export class HolderServer {
  private readonly holder: MountHolder;
  private readonly logger: Logger;
  private readonly server: Server;

  constructor(holder: MountHolder, logger: Logger) {
    this.holder = holder;
    this.logger = logger;
    this.server = createServer((socket) => void this.serve(socket));
    this.server.maxConnections = connectionsMax;
  }

  /** Listens; a socket that an earlier holder left is replaced. */
  async listen(socketPath: string): Promise<void> {
    mkdirSync(path.dirname(socketPath), { recursive: true, mode: 0o700 });
    chmodSync(path.dirname(socketPath), 0o700);
    rmSync(socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(socketPath, () => resolve());
    });
    chmodSync(socketPath, 0o600);
  }

  close(): void {
    this.server.close();
  }

  private async serve(socket: Socket): Promise<void> {
    socket.on('error', () => socket.destroy());
    let answer: HolderAnswer;
    try {
      socket.setTimeout(requestMs, () => socket.destroy());
      const line = await readLine(socket);
      socket.setTimeout(0);
      answer = await this.answer(line);
    } catch (error) {
      answer = { isDone: false, code: 'Invalid', message: describeError(error) };
    }
    socket.end(`${JSON.stringify(answer)}\n`);
  }

  private async answer(line: string): Promise<HolderAnswer> {
    const request = parseRequest(line);
    try {
      const mounts = await this.run(request);
      return mounts === undefined ? { isDone: true } : { isDone: true, mounts };
    } catch (error) {
      const code = error instanceof HolderError ? error.code : 'Failed';
      const message = describeError(error).slice(0, 2_048);
      this.logger.warn('Could not do what was asked', { op: request.op, code, reason: message });
      return { isDone: false, code, message };
    }
  }

  private async run(request: HolderRequest): Promise<HeldMount[] | undefined> {
    switch (request.op) {
      case 'stage':
        await this.holder.stage(request.source, request.path);
        return undefined;
      case 'unstage':
        await this.holder.unstage(request.path);
        return undefined;
      case 'publish':
        await this.holder.publish(request);
        return undefined;
      case 'unpublish':
        await this.holder.unpublish(request.path);
        return undefined;
      case 'list':
        return this.holder.list();
    }
  }
}

function parseRequest(line: string): HolderRequest {
  const parsed = holderRequest.safeParse(JSON.parse(line));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new HolderError('Invalid', `${issue?.path.join('.') ?? 'request'}: ${issue?.message ?? 'not understood'}`);
}

/** How the node agent asks the holder. */
export interface MountClient {
  /** @throws {HolderError} what the holder refused, or `Unreachable` when it is not there. */
  ask(request: HolderRequest): Promise<readonly HeldMount[]>;
}

/** Asks a holder over its socket. There is no time limit: the holder has its own, and what it began must not be begun twice. */
export class HolderClient implements MountClient {
  private readonly socketPath: string;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  async ask(request: HolderRequest): Promise<readonly HeldMount[]> {
    const socket = connect(this.socketPath);
    let line: string;
    try {
      socket.write(`${JSON.stringify(request)}\n`);
      line = await readLine(socket);
    } catch (error) {
      throw new HolderError('NoHolder', `the mount holder of this node can't be asked: ${describeError(error)}`, {
        cause: error,
      });
    } finally {
      socket.destroy();
    }
    const answer = holderAnswer.parse(JSON.parse(line));
    if (!answer.isDone) throw new HolderError(answer.code, answer.message);
    return answer.mounts ?? [];
  }
}

/** The first line that comes. @throws when the other end closes before it is whole, or it is too long. */
async function readLine(socket: Socket): Promise<string> {
  return await new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    socket.on('data', (chunk: Buffer) => {
      length += chunk.length;
      const at = chunk.indexOf(0x0a);
      chunks.push(at < 0 ? chunk : chunk.subarray(0, at));
      if (at >= 0) resolve(Buffer.concat(chunks).toString('utf8'));
      else if (length > lineBytesMax) reject(new Error(`the line is longer than ${lineBytesMax} bytes`));
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the connection was closed too early')));
  });
}

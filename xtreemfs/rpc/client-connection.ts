import type { Clock, Timer } from '#common/clock.ts';
import { MessageType, rpcHeaderCodec } from '#proto/generated/xtreemfs/rpc.ts';
import type { Codec, Procedure } from '#proto/wire.ts';
import { formatAddress, type Address } from './address.ts';
import { fromErrorResponse, ioError } from './errors.ts';
import { defaultFrameLimits, type FrameData } from './frame.ts';
import { FrameSocket } from './frame-socket.ts';
import type { Dialed } from './transport.ts';

/** What a successful call gives. `data` is a view of what was received and may be kept, unless `block` is given back. */
export interface CallResult<Response> {
  readonly response: Response;
  readonly data: Buffer;
  /** What `data` lies in: see {@link blocks}. */
  readonly block?: Buffer | undefined;
}

interface PendingCall {
  readonly name: string;
  readonly codec: Codec<unknown>;
  readonly deadline: number;
  readonly resolve: (result: CallResult<unknown>) => void;
  readonly reject: (error: Error) => void;
}

/** What bounds a connection. */
export interface ClientConnectionOptions {
  readonly clock: Clock;
  /** A connection without calls closes after this time, milliseconds. */
  readonly lingerMs: number;
  /** Calls that may be outstanding. */
  readonly outstandingMax: number;
}

const sweepMs = 100;
/** A server that says nothing at all for so long, although calls wait, is gone: a new connection is tried. */
const silenceMaxMs = 5_000;

/** One connection of a client: many calls at once, answers in any order. */
export class ClientConnection {
  readonly address: Address;
  private readonly options: ClientConnectionOptions;
  private readonly frames: FrameSocket;
  private readonly onClose: (cause: Error) => void;
  private readonly pending = new Map<number, PendingCall>();
  private callId = 0;
  private lastCalled: number;
  /** Since when nothing has come although a call waited; undefined when nothing is owed. */
  private silentSince: number | undefined;
  private sweeper: Timer | undefined;
  private isClosed = false;

  /** @param onClose - called once when the connection is gone. */
  constructor(address: Address, dialed: Dialed, options: ClientConnectionOptions, onClose: (cause: Error) => void) {
    this.address = address;
    this.options = options;
    this.onClose = onClose;
    this.lastCalled = options.clock.monotonic();
    dialed.socket.setKeepAlive(true, 30_000);
    this.frames = new FrameSocket(dialed.socket, defaultFrameLimits, {
      frame: (header, message, data, block) => this.receive(header, message, data, block),
      close: (cause) => this.closed(cause ?? new Error('the server closed the connection')),
    });
    this.frames.open();
    if (dialed.early !== undefined) this.frames.receive(dialed.early);
    this.sweepLater();
  }

  /** Sends a request. Rejects with an {@link RpcError}, or a CodecError when the message does not fit its fields. */
  call<Request, Response>(
    procedure: Procedure<Request, Response>,
    request: Request,
    credentials: Buffer,
    data: FrameData | undefined,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<CallResult<Response>> {
    if (this.isClosed) return Promise.reject(ioError(`${this.describe(procedure.name)}: the connection is closed`));
    if (this.pending.size >= this.options.outstandingMax) {
      return Promise.reject(ioError(`${this.describe(procedure.name)}: ${this.pending.size} calls are outstanding`));
    }
    return new Promise((resolve, reject) => {
      const callId = this.nextId();
      const now = this.options.clock.monotonic();
      this.frames.writer.request(callId, procedure, credentials, procedure.request, request, data);
      this.frames.flushSoon();
      if (this.pending.size === 0 && now - this.lastCalled > silenceMaxMs) this.silentSince = undefined;
      this.silentSince ??= now;
      this.lastCalled = now;
      const { name, response: codec } = procedure;
      this.pending.set(callId, { name, codec, deadline: now + timeoutMs, resolve, reject } as PendingCall);
      if (signal !== undefined) this.abandonOn(signal, callId);
    });
  }

  /** Fails every call and closes. */
  close(cause: Error): void {
    this.frames.destroy(cause);
  }

  private nextId(): number {
    do this.callId = this.callId >= 0x7fff_ffff ? 1 : this.callId + 1;
    while (this.pending.has(this.callId));
    return this.callId;
  }

  private abandonOn(signal: AbortSignal, callId: number): void {
    const call = this.pending.get(callId);
    if (call === undefined) return;
    const onAbort = (): void => {
      if (this.pending.get(callId) !== entry) return;
      this.pending.delete(callId);
      call.reject(signal.reason as Error);
    };
    const off = (): void => signal.removeEventListener('abort', onAbort);
    const entry: PendingCall = {
      ...call,
      resolve: (result) => {
        off();
        call.resolve(result);
      },
      reject: (error) => {
        off();
        call.reject(error);
      },
    };
    this.pending.set(callId, entry);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort);
  }

  private receive(header: Buffer, message: Buffer, data: Buffer, block: Buffer | undefined): void {
    this.dispatch(header, message, data, block);
    this.silentSince = this.pending.size > 0 ? this.options.clock.monotonic() : undefined;
  }

  private dispatch(header: Buffer, message: Buffer, data: Buffer, block: Buffer | undefined): void {
    const isSuccess = header.length === 7 && header[0] === 0x0d && header[5] === 0x10 && header[6] === 1;
    if (isSuccess) {
      this.settle(header.readInt32LE(1), message, data, block);
      return;
    }
    const decoded = rpcHeaderCodec.decode(header);
    if (decoded.messageType === MessageType.RESPONSE_SUCCESS) {
      this.settle(decoded.callId, message, data, block);
      return;
    }
    const call = this.take(decoded.callId);
    if (call === undefined) return;
    if (decoded.errorResponse === undefined) {
      call.reject(ioError(`${this.describe(call.name)}: the answer is neither a success nor an error`));
    } else {
      call.reject(fromErrorResponse(decoded.errorResponse));
    }
  }

  private settle(callId: number, message: Buffer, data: Buffer, block: Buffer | undefined): void {
    const call = this.take(callId);
    if (call === undefined) return;
    let response: unknown;
    try {
      response = call.codec.decode(message);
    } catch (error) {
      call.reject(ioError(`${this.describe(call.name)}: the answer cannot be read`, error));
      return;
    }
    call.resolve({ response, data, block });
  }

  private take(callId: number): PendingCall | undefined {
    const call = this.pending.get(callId);
    this.pending.delete(callId);
    return call;
  }

  private closed(cause: Error): void {
    this.isClosed = true;
    this.sweeper?.cancel();
    const calls = [...this.pending.values()];
    this.pending.clear();
    this.onClose(cause);
    for (const call of calls) call.reject(ioError(`${this.describe(call.name)}: the connection was lost`, cause));
  }

  private describe(name: string): string {
    return `${name} at ${formatAddress(this.address)}`;
  }

  private sweepLater(): void {
    const delayMs = this.pending.size > 0 || this.options.lingerMs < 1000 ? sweepMs : 5 * sweepMs;
    this.sweeper = this.options.clock.after(delayMs, () => this.sweep(), { unref: true });
  }

  /** Fails calls whose time is over; closes a connection that is dead or that nobody uses. */
  private sweep(): void {
    const now = this.options.clock.monotonic();
    let hasExpired = false;
    for (const [callId, call] of this.pending) {
      if (now < call.deadline) continue;
      this.pending.delete(callId);
      call.reject(ioError(`${this.describe(call.name)}: no answer in time`));
      hasExpired = true;
    }
    // Nothing at all came for long: the server or the network is gone without a word.
    if (hasExpired && this.silentSince !== undefined && now - this.silentSince >= silenceMaxMs) {
      this.close(new Error('the server does not answer'));
      return;
    }
    if (this.pending.size === 0 && now - this.lastCalled > this.options.lingerMs) {
      this.close(new Error('the connection was not used'));
      return;
    }
    this.sweepLater();
  }
}

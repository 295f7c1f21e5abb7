import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import {
  type MethodDefinition,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerUnaryCall,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { statusOf } from './errors.ts';
import type { CsiMetrics } from './metrics.ts';

/** Requests of the kubelet and of sidecars are some KiB long. */
const messageBytesMax = 1 << 20;

/** The function of one method. */
type Handler<M> = M extends MethodDefinition<infer Q, infer A> ? (request: Q) => Promise<A> : never;
/** One function for each method of a service. */
export type Handlers<Methods> = { readonly [K in keyof Methods]: Handler<Methods[K]> };

/** What a server stands on. */
export interface CsiServerParts {
  readonly logger: Logger;
  readonly clock: Clock;
  readonly metrics: CsiMetrics;
}

/**
 * gRPC over a unix socket that only root of the node may open: mode 0600, in a folder of its own. A call that its caller gives up
 * is carried on; who asks again waits for the same thing.
 */
export class CsiServer {
  private readonly parts: CsiServerParts;
  private readonly server = new Server({
    'grpc.max_receive_message_length': messageBytesMax,
    'grpc.max_send_message_length': messageBytesMax,
    'grpc.max_concurrent_streams': 64,
  });

  constructor(parts: CsiServerParts) {
    this.parts = parts;
  }

  /** Adds a service: its methods, and what they do. */
  add<Methods extends object>(methods: Methods, handlers: Handlers<Methods>): void {
    const implementation: UntypedServiceImplementation = {};
    for (const [name, handler] of Object.entries<(request: unknown) => Promise<unknown>>(handlers as never)) {
      implementation[name] = (call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>): void => {
        void this.run(name, handler, call.request, done);
      };
    }
    this.server.addService(methods as unknown as ServiceDefinition, implementation);
  }

  /** Listens; a socket that an earlier process left is replaced. */
  async listen(socketPath: string): Promise<void> {
    mkdirSync(path.dirname(socketPath), { recursive: true });
    rmSync(socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), (error) => {
        if (error === null) resolve();
        else reject(new Error(`Listen on ${socketPath}: ${error.message}`, { cause: error }));
      });
    });
    chmodSync(socketPath, 0o600);
  }

  /** Lets calls end for a while. */
  async stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.parts.clock.after(
        5_000,
        () => {
          this.server.forceShutdown();
          resolve();
        },
        { unref: true },
      );
      this.server.tryShutdown(() => resolve());
    });
  }

  private async run(
    name: string,
    handler: (request: unknown) => Promise<unknown>,
    request: unknown,
    done: sendUnaryData<unknown>,
  ): Promise<void> {
    const { clock, logger, metrics } = this.parts;
    const startedAt = clock.monotonic();
    let result = 'OK';
    try {
      done(null, await handler(request));
    } catch (error) {
      const { code, details } = statusOf(error);
      result = String(code);
      logger.warn('Refused a call', { method: name, code, reason: details });
      done({ code, details });
    }
    metrics.calls.observe({ method: name, code: result }, (clock.monotonic() - startedAt) / 1000);
  }
}

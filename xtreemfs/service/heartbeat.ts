import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { AddressMapping, ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import type { KeyValuePair } from '#proto/generated/xtreemfs/global-types.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { isErrno } from '../rpc/errors.ts';
import { dataValue, type DirClient } from './dir-client.ts';

/** What a server tells the DIR of itself, or an MRC of one of its volumes. */
export interface ServiceDescription {
  readonly type: ServiceType;
  readonly uuid: string;
  readonly name: string;
  readonly data: readonly KeyValuePair[];
}

/** A mapping without what all of one service share. */
export type Endpoint = Pick<AddressMapping, 'protocol' | 'address' | 'port' | 'matchNetwork'>;

/** What a heartbeat needs. */
export interface HeartbeatOptions {
  readonly dir: DirClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** UUID of the server. */
  readonly uuid: string;
  /** Asked before each beat: the server itself first, then its volumes. */
  readonly describe: () => Promise<readonly ServiceDescription[]> | readonly ServiceDescription[];
  readonly endpoints: readonly Endpoint[];
  /** Uploaded at the start, for status pages and administrators. Secrets do not belong here. */
  readonly configuration: readonly KeyValuePair[];
  /** Default 60,000. */
  readonly intervalMs?: number;
}

const conflictDelayMs = 5_000;
const conflictTriesMax = 5;
const mappingTtlS = 3_600;

/**
 * Tells the DIR every minute that a server lives (protocol reference, section 6). Keys of the data map that begin with
 * `static.` belong to administrators and are kept as the DIR has them.
 */
export class Heartbeat {
  private readonly options: HeartbeatOptions;
  private readonly abort = new AbortController();
  private loop: Promise<void> | undefined;
  private lastBeat: number | undefined;
  private beating: Promise<void> = Promise.resolve();

  constructor(options: HeartbeatOptions) {
    this.options = options;
  }

  /** Monotonic time of the last beat that the DIR took; undefined before the first. */
  get lastBeatAt(): number | undefined {
    return this.lastBeat;
  }

  private isStopped(): boolean {
    return this.abort.signal.aborted;
  }

  /** Registers the server and begins to beat. @throws {RpcError} when no DIR answers within its retry policy. */
  async start(): Promise<void> {
    const { uuid, configuration } = this.options;
    await this.beat();
    await this.retryConflicts(async () => {
      const { version } = await this.options.dir.configuration(uuid, this.abort.signal);
      const parameter = [...configuration];
      await this.options.dir.setConfiguration({ uuid, version, parameter }, this.abort.signal);
    });
    this.loop = this.run();
  }

  /** Stops beating and tells the DIR that the server is offline. */
  async stop(): Promise<void> {
    this.abort.abort(new Error('stopped'));
    await this.loop;
    const { dir, uuid, logger } = this.options;
    try {
      await dir.setOffline(uuid, AbortSignal.timeout(2_000));
    } catch (error) {
      logger.warn('Cannot tell the DIR that this server stops', { problem: describeError(error) });
    }
  }

  /** One beat now, for example when a volume was made; beats never overlap. */
  async beat(): Promise<void> {
    const next = this.beating.then(() => this.beatOnce());
    this.beating = next.catch(() => undefined);
    await next;
  }

  private async beatOnce(): Promise<void> {
    for (const service of await this.options.describe()) {
      await this.retryConflicts(() => this.register(service));
    }
    await this.retryConflicts(() => this.publishEndpoints());
    this.lastBeat = this.options.clock.monotonic();
  }

  private async run(): Promise<void> {
    const { clock, logger, intervalMs = 60_000 } = this.options;
    while (!this.isStopped()) {
      try {
        await clock.sleep(intervalMs, this.abort.signal);
        await this.beat();
      } catch (error) {
        if (!this.isStopped()) logger.warn('Heartbeat failed', { problem: describeError(error) });
      }
    }
  }

  private async register(service: ServiceDescription): Promise<void> {
    const { dir } = this.options;
    const stored = await dir.service(service.uuid, this.abort.signal);
    const kept = (stored?.data.data ?? []).filter((pair) => pair.key.startsWith('static.'));
    const own = service.data.filter((pair) => dataValue(kept, pair.key) === undefined);
    if (dataValue([...kept, ...own], 'static.status') === undefined) kept.push({ key: 'static.status', value: '0' });
    const { type, uuid, name } = service;
    const data = { data: [...own, ...kept] };
    await dir.registerService(
      { type, uuid, name, version: stored?.version ?? 0, lastUpdatedS: 0, data },
      this.abort.signal,
    );
  }

  private async publishEndpoints(): Promise<void> {
    const { dir, uuid, endpoints } = this.options;
    const stored = await dir.addressMappings(uuid, this.abort.signal);
    const version = stored[0]?.version ?? 0;
    const mappings = endpoints.map((endpoint) => ({
      uuid,
      version,
      ...endpoint,
      ttlS: mappingTtlS,
      uri: `${endpoint.protocol}://${endpoint.address}:${endpoint.port}`,
    }));
    const isSame =
      mappings.length === stored.length && mappings.every((mapping) => stored.some((old) => isEqual(old, mapping)));
    if (!isSame) await dir.setAddressMappings(mappings, this.abort.signal);
  }

  /** Repeats a read-and-write whose version another writer took. */
  private async retryConflicts(write: () => Promise<void>): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await write();
        return;
      } catch (error) {
        if (!isErrno(error, PosixErrno.EAGAIN) || tries >= conflictTriesMax) throw error;
        await this.options.clock.sleep(tries === 1 ? 50 : conflictDelayMs, this.abort.signal);
      }
    }
  }
}

function isEqual(a: AddressMapping, b: AddressMapping): boolean {
  return a.uri === b.uri && a.matchNetwork === b.matchNetwork && a.ttlS === b.ttlS && a.protocol === b.protocol;
}

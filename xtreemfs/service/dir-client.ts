import type { Clock } from '#common/clock.ts';
import {
  dirProcedures,
  type AddressMapping,
  type Configuration,
  type Service,
  type ServiceType,
} from '#proto/generated/xtreemfs/dir.ts';
import type { KeyValuePair, VivaldiCoordinates } from '#proto/generated/xtreemfs/global-types.ts';
import type { UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import type { RpcClient } from '../rpc/client.ts';
import { ioError } from '../rpc/errors.ts';
import { callWithRetries, type AddressResolver, type RetryPolicy, type ServerList } from '../rpc/retry.ts';

/** What a DIR client needs. */
export interface DirClientOptions {
  readonly client: RpcClient;
  readonly clock: Clock;
  /** The DIRs, as `host:port`. */
  readonly dirs: ServerList;
  /** Default: 15 tries, 2,000 ms apart. */
  readonly retry?: RetryPolicy;
}

const userCreds: UserCredentials = { username: 'service', groups: ['xtreemfs'] };

const noResolver: AddressResolver = {
  resolve: async (uuid) => Promise.reject(ioError(`${uuid} is no address of a DIR: use HOST:PORT`)),
  forget: () => undefined,
};

/**
 * The procedures of the DIR as functions. Each throws an {@link RpcError} when the DIR refuses, or when none answers
 * within the retry policy.
 */
export class DirClient {
  private readonly options: DirClientOptions;

  constructor(options: DirClientOptions) {
    this.options = options;
  }

  /** Time of the DIR, milliseconds since the Unix epoch, and how long asking took. One attempt at one DIR. */
  async globalTime(signal?: AbortSignal): Promise<number> {
    const once = { triesMax: 1, retryDelayMs: 0 };
    const { timeInSeconds } = await this.call(dirProcedures.globalTimeSGet, {}, signal, once);
    return timeInSeconds;
  }

  /** Mappings of one service; those of all services for an empty UUID; none when it is unknown. */
  async addressMappings(uuid: string, signal?: AbortSignal): Promise<AddressMapping[]> {
    const { mappings } = await this.call(dirProcedures.addressMappingsGet, { uuid }, signal);
    return mappings;
  }

  /** Writes the mappings of one service. @throws EAGAIN when their version is not the stored one. */
  async setAddressMappings(mappings: AddressMapping[], signal?: AbortSignal): Promise<void> {
    await this.call(dirProcedures.addressMappingsSet, { mappings }, signal);
  }

  async removeAddressMappings(uuid: string, signal?: AbortSignal): Promise<void> {
    await this.call(dirProcedures.addressMappingsRemove, { uuid }, signal);
  }

  /** One service; undefined when it is unknown. */
  async service(uuid: string, signal?: AbortSignal): Promise<Service | undefined> {
    const { services } = await this.call(dirProcedures.serviceGetByUuid, { name: uuid }, signal);
    return services[0];
  }

  /** Services of this name, for example a volume's. */
  async servicesByName(name: string, signal?: AbortSignal): Promise<Service[]> {
    const { services } = await this.call(dirProcedures.serviceGetByName, { name }, signal);
    return services;
  }

  /** Services of a type (MIXED: all), with the extra data key `seconds_since_last_update`. */
  async servicesByType(type: ServiceType, signal?: AbortSignal): Promise<Service[]> {
    const { services } = await this.call(dirProcedures.serviceGetByType, { type }, signal);
    return services;
  }

  /** Writes a service. @returns its new version. @throws EAGAIN when its version is not the stored one. */
  async registerService(service: Service, signal?: AbortSignal): Promise<number> {
    const { newVersion } = await this.call(dirProcedures.serviceRegister, { service }, signal);
    return newVersion;
  }

  async deregisterService(uuid: string, signal?: AbortSignal): Promise<void> {
    await this.call(dirProcedures.serviceDeregister, { uuid }, signal);
  }

  /** Says that the service has stopped. */
  async setOffline(uuid: string, signal?: AbortSignal): Promise<void> {
    await this.call(dirProcedures.serviceOffline, { name: uuid }, signal, { triesMax: 1, retryDelayMs: 0 });
  }

  /** The configuration of a service; an empty one of version 0 when it is unknown. */
  async configuration(uuid: string, signal?: AbortSignal): Promise<Configuration> {
    return this.call(dirProcedures.configurationGet, { uuid }, signal);
  }

  /** Writes a configuration. @throws EAGAIN when its version is not the stored one. */
  async setConfiguration(configuration: Configuration, signal?: AbortSignal): Promise<void> {
    await this.call(dirProcedures.configurationSet, configuration, signal);
  }

  /** Tells where a client stands, for the DIR's status page. */
  async updateVivaldi(coordinates: VivaldiCoordinates, signal?: AbortSignal): Promise<void> {
    await this.call(dirProcedures.vivaldiClientUpdate, coordinates, signal);
  }

  private async call<Request, Response>(
    procedure: Procedure<Request, Response>,
    request: Request,
    signal: AbortSignal | undefined,
    policy?: RetryPolicy,
  ): Promise<Response> {
    const { client, clock, dirs, retry = { triesMax: 15, retryDelayMs: 2_000 } } = this.options;
    const deps = { client, clock, resolver: noResolver };
    const result = await callWithRetries(deps, dirs, procedure, request, policy ?? retry, { userCreds, signal });
    return result.response;
  }
}

/** The value of a key in a service's data map; undefined when it is absent. */
export function dataValue(data: readonly KeyValuePair[], key: string): string | undefined {
  return data.find((pair) => pair.key === key)?.value;
}

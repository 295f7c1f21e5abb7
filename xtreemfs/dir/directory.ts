import type { Clock } from '#common/clock.ts';
import {
  addressMappingSetCodec,
  configurationCodec,
  dirProcedures,
  serviceCodec,
  ServiceType,
  type AddressMappingSet,
  type Configuration,
  type Service,
} from '#proto/generated/xtreemfs/dir.ts';
import type { VivaldiCoordinates } from '#proto/generated/xtreemfs/global-types.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError } from '../rpc/errors.ts';
import type { RequestContext, RpcServer } from '../rpc/server.ts';
import { keyBytesMax, type DirStore, type DirTable } from './store.ts';
import type { Writers } from './writers.ts';

const doNotSetLastUpdated = 'static.do_not_set_last_updated';
const vivaldiClientsMax = 32;
const vivaldiTimeoutMs = 600_000;

/** Where one client stands. */
export interface VivaldiClient {
  readonly address: string;
  readonly coordinates: VivaldiCoordinates;
  /** Monotonic time of the last report, milliseconds. */
  readonly reportedAt: number;
}

/**
 * What a DIR knows and how it changes (protocol reference, section 5). Every record has a version; a write carries the
 * stored one, else it is refused with EAGAIN and the writer reads again.
 */
export class Directory {
  private readonly store: DirStore;
  private readonly clock: Clock;
  private readonly vivaldi = new Map<string, VivaldiClient>();

  constructor(store: DirStore, clock: Clock) {
    this.store = store;
    this.clock = clock;
  }

  /** Mappings of one service, or of all for an empty UUID. */
  async addressMappings(uuid: string): Promise<AddressMappingSet> {
    if (uuid !== '') {
      const record = await this.store.get('mappings', checkKey('uuid', uuid));
      return record === undefined ? { mappings: [] } : addressMappingSetCodec.decode(record.value);
    }
    const records = await this.store.list('mappings');
    return { mappings: [...records.values()].flatMap(({ value }) => addressMappingSetCodec.decode(value).mappings) };
  }

  /** @returns the new version. */
  async setAddressMappings(set: AddressMappingSet): Promise<number> {
    const [first] = set.mappings;
    if (first === undefined) throw invalid('mappings', 'is empty: name at least one');
    const { uuid, version } = first;
    if (set.mappings.some((mapping) => mapping.uuid !== uuid || mapping.version !== version)) {
      throw invalid('mappings', 'must all have the same uuid and version');
    }
    return this.write('mappings', uuid, version, (next) =>
      addressMappingSetCodec.encode({ mappings: set.mappings.map((mapping) => ({ ...mapping, version: next })) }),
    );
  }

  async removeAddressMappings(uuid: string): Promise<void> {
    await this.store.remove('mappings', checkKey('uuid', uuid));
  }

  /** One service; undefined when it is unknown. */
  async service(uuid: string): Promise<Service | undefined> {
    if (uuid === '') return undefined;
    const record = await this.store.get('services', checkKey('uuid', uuid));
    return record === undefined ? undefined : serviceCodec.decode(record.value);
  }

  async servicesByName(name: string): Promise<Service[]> {
    return (await this.services()).filter((service) => service.name === name);
  }

  /**
   * Services of a type (MIXED: all). Each gets the data key `seconds_since_last_update`, without which the default
   * filter of upstream's MRC fails.
   */
  async servicesByType(type: ServiceType): Promise<Service[]> {
    const nowS = this.nowS();
    return (await this.services())
      .filter((service) => type === ServiceType.MIXED || service.type === type)
      .map((service) => {
        const key = 'seconds_since_last_update';
        const data = service.data.data.filter((pair) => pair.key !== key);
        return { ...service, data: { data: [...data, { key, value: String(nowS - service.lastUpdatedS) }] } };
      });
  }

  /** Writes a service and the time. @returns the new version. */
  async registerService(service: Service): Promise<number> {
    const pairs = service.data.data;
    const keepsTime = pairs.some((pair) => pair.key === doNotSetLastUpdated && pair.value === 'true');
    const data = { data: pairs.filter((pair) => pair.key !== doNotSetLastUpdated) };
    const lastUpdatedS = keepsTime ? service.lastUpdatedS : this.nowS();
    return this.write('services', service.uuid, service.version, (version) =>
      serviceCodec.encode({ ...service, version, lastUpdatedS, data }),
    );
  }

  /** Marks a service as offline; an unknown one is no error. */
  async setOffline(uuid: string): Promise<void> {
    const service = await this.service(uuid);
    if (service === undefined) return;
    await this.write('services', uuid, service.version, (version) =>
      serviceCodec.encode({ ...service, version, lastUpdatedS: 0 }),
    );
  }

  async deregisterService(uuid: string): Promise<void> {
    await this.store.remove('services', checkKey('uuid', uuid));
  }

  async configuration(uuid: string): Promise<Configuration> {
    const record = await this.store.get('configurations', checkKey('uuid', uuid));
    return record === undefined ? { uuid: '', parameter: [], version: 0 } : configurationCodec.decode(record.value);
  }

  /** @returns the new version. */
  async setConfiguration(configuration: Configuration): Promise<number> {
    return this.write('configurations', configuration.uuid, configuration.version, (version) =>
      configurationCodec.encode({ ...configuration, version }),
    );
  }

  /** Every configuration. */
  async configurations(): Promise<Configuration[]> {
    return [...(await this.store.list('configurations')).values()].map(({ value }) => configurationCodec.decode(value));
  }

  /** Keeps where a client stands, of at most 32 clients, for ten minutes. */
  reportVivaldi(address: string, coordinates: VivaldiCoordinates): void {
    this.vivaldi.delete(address);
    const oldest = this.vivaldi.keys().next().value;
    if (this.vivaldi.size >= vivaldiClientsMax && oldest !== undefined) this.vivaldi.delete(oldest);
    this.vivaldi.set(address, { address, coordinates, reportedAt: this.clock.monotonic() });
  }

  /** Clients that reported within ten minutes. */
  vivaldiClients(): VivaldiClient[] {
    const since = this.clock.monotonic() - vivaldiTimeoutMs;
    return [...this.vivaldi.values()].filter((client) => client.reportedAt >= since);
  }

  /** The time that every service takes, milliseconds. */
  timeMs(): number {
    return this.clock.now();
  }

  private async services(): Promise<Service[]> {
    return [...(await this.store.list('services')).values()].map(({ value }) => serviceCodec.decode(value));
  }

  private nowS(): number {
    return Math.floor(this.clock.now() / 1000);
  }

  private async write(
    table: DirTable,
    uuid: string,
    version: number,
    encode: (next: number) => Buffer,
  ): Promise<number> {
    checkKey('uuid', uuid);
    if (!(version >= 0)) throw invalid('version', `is ${version}: use the stored version, 0 for a new record`);
    const next = version + 1;
    if (await this.store.replace(table, uuid, version, { version: next, value: encode(next) })) return next;
    throw errnoError(PosixErrno.EAGAIN, `${uuid}: version ${version} is not the stored one; read it again`);
  }
}

/** Registers every procedure of the DIR that upstream implements, at a server. @param writers - who may write what. */
export function serveDirectory(server: RpcServer, directory: Directory, writers: Writers): void {
  const empty = { response: {} };
  const check = async ({ peer }: RequestContext, uuid: string, type?: ServiceType): Promise<void> =>
    writers.check(peer, uuid, await directory.service(uuid), type);
  server.handle(dirProcedures.addressMappingsGet, async (_, { uuid }) => ({
    response: await directory.addressMappings(uuid),
  }));
  server.handle(dirProcedures.addressMappingsSet, async (context, set) => {
    for (const uuid of new Set(set.mappings.map((mapping) => mapping.uuid))) await check(context, uuid);
    return { response: { newVersion: await directory.setAddressMappings(set) } };
  });
  server.handle(dirProcedures.addressMappingsRemove, async (context, { uuid }) => {
    await check(context, uuid);
    await directory.removeAddressMappings(uuid);
    return empty;
  });
  server.handle(dirProcedures.globalTimeSGet, () => ({ response: { timeInSeconds: directory.timeMs() } }));
  server.handle(dirProcedures.serviceDeregister, async (context, { uuid }) => {
    await check(context, uuid);
    await directory.deregisterService(uuid);
    return empty;
  });
  server.handle(dirProcedures.serviceGetByName, async (_, { name }) => ({
    response: { services: await directory.servicesByName(name) },
  }));
  server.handle(dirProcedures.serviceGetByType, async (_, { type }) => ({
    response: { services: await directory.servicesByType(type) },
  }));
  server.handle(dirProcedures.serviceGetByUuid, async (_, { name }) => {
    const service = await directory.service(name);
    return { response: { services: service === undefined ? [] : [service] } };
  });
  server.handle(dirProcedures.serviceOffline, async (context, { name }) => {
    await check(context, name);
    await directory.setOffline(name);
    return empty;
  });
  server.handle(dirProcedures.serviceRegister, async (context, { service }) => {
    await check(context, service.uuid, service.type);
    return { response: { newVersion: await directory.registerService(service) } };
  });
  server.handle(dirProcedures.configurationGet, async (_, { uuid }) => ({
    response: await directory.configuration(uuid),
  }));
  server.handle(dirProcedures.configurationSet, async (context, configuration) => {
    await check(context, configuration.uuid);
    return { response: { newVersion: await directory.setConfiguration(configuration) } };
  });
  server.handle(dirProcedures.vivaldiClientUpdate, (context, coordinates) => {
    directory.reportVivaldi(context.peer.address, coordinates);
    return empty;
  });
}

function invalid(field: string, problem: string): Error {
  return errnoError(PosixErrno.EINVAL, `${field} ${problem}`);
}

function checkKey(field: string, key: string): string {
  const bytes = Buffer.byteLength(key);
  if (bytes === 0 || bytes > keyBytesMax) throw invalid(field, `must have 1 to ${keyBytesMax} bytes, not ${bytes}`);
  if (key.includes('\0')) throw invalid(field, 'must not contain NUL');
  return key;
}

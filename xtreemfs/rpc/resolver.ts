import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Clock } from '#common/clock.ts';
import { dirProcedures, type AddressMapping } from '#proto/generated/xtreemfs/dir.ts';
import type { Address, Scheme } from './address.ts';
import type { RpcClient } from './client.ts';
import { ioError } from './errors.ts';
import { callWithRetries, type AddressResolver, type RetryPolicy, type ServerList } from './retry.ts';

/** What a resolver needs. */
export interface UuidResolverOptions {
  readonly clock: Clock;
  readonly client: RpcClient;
  /** The DIRs, as `host:port`. */
  readonly dirs: ServerList;
  readonly scheme: Scheme;
  /** Default: 3 tries, 1,000 ms apart. */
  readonly retry?: RetryPolicy;
  /** Addresses of this machine; default: those of its network interfaces. */
  readonly localAddresses?: readonly string[];
}

interface Entry {
  readonly address: Address;
  readonly expires: number;
}

const entriesMax = 10_000;
const ttlMaxS = 3_600;

/**
 * Finds services through the DIR and keeps what it says for as long as it says. When no DIR answers, an address that is
 * out of date is still better than none, and is used.
 */
export class UuidResolver implements AddressResolver {
  private readonly options: UuidResolverOptions;
  private readonly entries = new Map<string, Entry>();
  private readonly stale = new Map<string, Address>();
  private readonly asking = new Map<string, Promise<Address>>();

  constructor(options: UuidResolverOptions) {
    this.options = options;
  }

  async resolve(uuid: string, signal?: AbortSignal): Promise<Address> {
    const entry = this.entries.get(uuid);
    if (entry !== undefined && entry.expires > this.options.clock.monotonic()) return entry.address;
    let asking = this.asking.get(uuid);
    if (asking === undefined) {
      asking = this.ask(uuid).finally(() => this.asking.delete(uuid));
      this.asking.set(uuid, asking);
    }
    const address = await asking;
    signal?.throwIfAborted();
    return address;
  }

  forget(uuid: string): void {
    const entry = this.entries.get(uuid);
    if (entry !== undefined) this.stale.set(uuid, entry.address);
    this.entries.delete(uuid);
  }

  private async ask(uuid: string): Promise<Address> {
    const { client, dirs, clock, scheme, retry = { triesMax: 3, retryDelayMs: 1_000 } } = this.options;
    let mappings: readonly AddressMapping[];
    try {
      const answer = await callWithRetries(
        { client, clock, resolver: noResolver },
        dirs,
        dirProcedures.addressMappingsGet,
        { uuid },
        retry,
      );
      mappings = answer.response.mappings;
    } catch (error) {
      const known = this.stale.get(uuid);
      if (known !== undefined) return known;
      throw ioError(`No DIR told the address of service ${uuid}`, error);
    }
    const mapping = chooseMapping(mappings, scheme, this.options.localAddresses ?? localAddresses());
    if (mapping === undefined) throw ioError(`The DIR knows no address of service ${uuid}`);
    const address = { host: mapping.address, port: mapping.port };
    this.keep(uuid, { address, expires: clock.monotonic() + Math.min(mapping.ttlS, ttlMaxS) * 1000 });
    return address;
  }

  private keep(uuid: string, entry: Entry): void {
    for (const map of [this.entries, this.stale]) {
      const oldest = map.size >= entriesMax ? map.keys().next().value : undefined;
      if (oldest !== undefined) map.delete(oldest);
    }
    this.stale.delete(uuid);
    this.entries.set(uuid, entry);
  }
}

const noResolver: AddressResolver = {
  resolve: async (uuid) => Promise.reject(ioError(`${uuid} is no address of a DIR: use HOST:PORT`)),
  forget: () => undefined,
};

/** Resolves nothing but knows these addresses: for tests, and servers that are named on the command line. */
export function fixedResolver(addresses: Readonly<Record<string, Address>>): AddressResolver {
  return {
    resolve: async (uuid) => {
      const address = Object.hasOwn(addresses, uuid) ? addresses[uuid] : undefined;
      if (address === undefined) throw ioError(`Service ${uuid} is not known`);
      return address;
    },
    forget: () => undefined,
  };
}

/**
 * The mapping to use: the first one whose network this machine is in, else the first default (`*`) of our scheme, else
 * the last default (as upstream's C++ client takes it). UDP mappings are only the last choice.
 */
export function chooseMapping(
  mappings: readonly AddressMapping[],
  scheme: Scheme,
  local: readonly string[],
): AddressMapping | undefined {
  const usable = mappings.filter((mapping) => mapping.port >= 1 && mapping.port <= 65_535 && mapping.address !== '');
  const near = usable.find((mapping) => mapping.protocol === scheme && isInNetwork(mapping.matchNetwork, local));
  const defaults = usable.filter((mapping) => mapping.matchNetwork === '*');
  return near ?? defaults.find((mapping) => mapping.protocol === scheme) ?? defaults.at(-1);
}

function isInNetwork(network: string, addresses: readonly string[]): boolean {
  const [, base = '', bits = ''] = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(network) ?? [];
  const prefix = Number(bits);
  const family = isIPv4(base) ? 'ipv4' : isIPv6(base) ? 'ipv6' : undefined;
  if (family === undefined || prefix < 1 || prefix > (family === 'ipv4' ? 32 : 128)) return false;
  const list = new BlockList();
  list.addSubnet(base, prefix, family);
  return addresses.some((address) => (isIPv4(address) ? 'ipv4' : 'ipv6') === family && list.check(address, family));
}

function localAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map((entry) => entry.address));
}

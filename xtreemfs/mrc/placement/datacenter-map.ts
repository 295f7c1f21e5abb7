import { BlockList, isIP } from 'node:net';
import { InvalidInputError } from '#common/errors.ts';

interface Datacenter {
  readonly name: string;
  readonly addresses: BlockList;
  readonly hosts: ReadonlySet<string>;
}

/** Which host is in which datacenter, and how far datacenters are apart (policies 2000 and 3000). */
export class DatacenterMap {
  private readonly datacenters: readonly Datacenter[];
  private readonly distances: ReadonlyMap<string, number>;

  constructor(datacenters: readonly Datacenter[], distances: ReadonlyMap<string, number>) {
    this.datacenters = datacenters;
    this.distances = distances;
  }

  static readonly empty = new DatacenterMap([], new Map());

  /** The datacenter of an address or host name; undefined when the map doesn't say. */
  datacenterOf(address: string): string | undefined {
    const family = isIP(address);
    return this.datacenters.find((datacenter) =>
      family === 0
        ? datacenter.hosts.has(address)
        : datacenter.addresses.check(address, family === 6 ? 'ipv6' : 'ipv4'),
    )?.name;
  }

  /** Distance of two hosts: 0 in one datacenter, Infinity when the map doesn't say. */
  distance(a: string, b: string): number {
    const [from, to] = [this.datacenterOf(a), this.datacenterOf(b)];
    if (from === undefined || to === undefined) return Infinity;
    if (from === to) return 0;
    return this.distances.get(`${from}-${to}`) ?? this.distances.get(`${to}-${from}`) ?? Infinity;
  }
}

/**
 * Reads upstream's file format: `datacenters=A,B`, `distance.A-B=10`, `addresses.A=10.0.0.0/8,host.example`.
 * @throws {InvalidInputError} naming the line that is wrong.
 */
export function parseDatacenterMap(text: string): DatacenterMap {
  const settings = new Map<string, string>();
  for (const line of text.split('\n')) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const equals = trimmed.indexOf('=');
    if (equals < 1) throw new InvalidInputError('datacenter map', `"${trimmed}" is not a setting: write name=value`);
    settings.set(trimmed.slice(0, equals).trim(), trimmed.slice(equals + 1).trim());
  }
  const names = listOf(settings.get('datacenters'));
  const distances = new Map<string, number>();
  for (const [key, value] of settings) {
    if (!key.startsWith('distance.')) continue;
    const distance = Number(value);
    if (!(distance >= 0)) throw new InvalidInputError(key, `"${value}" is not a distance: use a number of at least 0`);
    distances.set(key.slice('distance.'.length), distance);
  }
  return new DatacenterMap(
    names.map((name) => datacenterOf(name, listOf(settings.get(`addresses.${name}`)))),
    distances,
  );
}

function listOf(text: string | undefined): string[] {
  return (text ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function datacenterOf(name: string, members: readonly string[]): Datacenter {
  const addresses = new BlockList();
  const hosts = new Set<string>();
  for (const member of members) {
    const [address = '', bits] = member.split('/', 2);
    const family = isIP(address);
    const type = family === 6 ? 'ipv6' : 'ipv4';
    if (family === 0 && bits === undefined) hosts.add(member);
    else if (family !== 0 && bits === undefined) addresses.addAddress(address, type);
    else if (family !== 0 && /^[0-9]{1,3}$/.test(bits ?? '')) addresses.addSubnet(address, Number(bits), type);
    else throw new InvalidInputError(`addresses.${name}`, `"${member}" is not an address, network or host name`);
  }
  return { name, addresses, hosts };
}

import { InvalidInputError } from '#common/errors.ts';
import { parseAddress, type Address, type Scheme } from '../rpc/address.ts';

/** A volume and where to ask for it. */
export interface VolumeUrl {
  readonly servers: readonly Address[];
  readonly scheme: Scheme;
  /** Empty when the URL names servers only. */
  readonly volumeName: string;
}

/**
 * Reads `[scheme://]host[:port][,host[:port]…][/volume[@snapshot]]` (protocol reference, section 18).
 * @throws {InvalidInputError} when an address is wrong, or two schemes differ.
 */
export function parseVolumeUrl(text: string, defaultPort: number): VolumeUrl {
  const schemeEnd = text.indexOf('://');
  const slash = text.indexOf('/', schemeEnd < 0 ? 0 : schemeEnd + 3);
  const hosts = slash < 0 ? text : text.slice(0, slash);
  const volumeName = slash < 0 ? '' : text.slice(slash + 1).replace(/\/+$/, '');
  if (volumeName.includes('/')) throw new InvalidInputError('volume', `${volumeName} has a slash in its name`);
  const addresses = hosts.split(',').map((part) => parseAddress('volume URL', part.trim(), defaultPort));
  const schemes = new Set(addresses.flatMap((address) => (address.scheme === undefined ? [] : [address.scheme])));
  if (schemes.size > 1) throw new InvalidInputError('volume URL', 'names two schemes; an installation has one');
  const [scheme = 'pbrpc'] = schemes;
  return { servers: addresses.map(({ host, port }) => ({ host, port })), scheme, volumeName };
}

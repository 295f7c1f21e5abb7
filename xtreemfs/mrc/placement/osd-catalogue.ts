import type { VivaldiCoordinates } from '#proto/generated/xtreemfs/global-types.ts';
import type { Service } from '#proto/generated/xtreemfs/dir.ts';

/** An OSD as the DIR describes it (protocol reference, section 6). */
export interface Osd {
  readonly uuid: string;
  /** Host of its address mapping; '' until it is known. */
  readonly address: string;
  /** Time of its last heartbeat by the DIR's clock, seconds; 0 when it said good-bye. */
  readonly lastUpdatedS: number;
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** What the OSD lets files have; at most `freeBytes`. */
  readonly usableBytes: number;
  /** ServiceStatus: 0 available, 1 to be removed, 2 removed. */
  readonly status: number;
  /** OSDHealthResult: 0 passed, 1 warning, 2 failed, 3 not available. */
  readonly health: number;
  readonly coordinates: VivaldiCoordinates | undefined;
  /** Custom attributes (`config.*`), without the prefix. */
  readonly config: ReadonlyMap<string, string>;
}

/** The OSDs of the installation, as last heard from the DIR. */
export class OsdCatalogue {
  private osds = new Map<string, Osd>();

  all(): readonly Osd[] {
    return [...this.osds.values()];
  }

  find(uuid: string): Osd | undefined {
    return this.osds.get(uuid);
  }

  /** Takes the place of what was known. */
  replace(osds: readonly Osd[]): void {
    this.osds = new Map(osds.map((osd) => [osd.uuid, osd]));
  }
}

/** Reads a DIR record of an OSD. Numbers that don't parse count as 0: such an OSD is not chosen for its space. */
export function osdOfService(service: Service, address: string): Osd {
  const data = new Map(service.data.data.map(({ key, value }) => [key, value]));
  const number = (key: string): number => {
    const value = Number(data.get(key) ?? '0');
    return Number.isFinite(value) && value >= 0 ? value : 0;
  };
  const config = [...data].filter(([key]) => key.startsWith('config.'));
  return {
    uuid: service.uuid,
    address,
    lastUpdatedS: service.lastUpdatedS,
    totalBytes: number('total'),
    freeBytes: number('free'),
    usableBytes: number('usable'),
    status: number('static.status'),
    health: number('osd_health_check'),
    coordinates: parseCoordinates(data.get('vivaldi_coordinates')),
    config: new Map(config.map(([key, value]) => [key.slice('config.'.length), value])),
  };
}

/** Reads 48 hex digits: x, y and error as IEEE-754 doubles, each with its least significant nibble first (section 6). */
export function parseCoordinates(text: string | undefined): VivaldiCoordinates | undefined {
  if (text === undefined || !/^[0-9a-fA-F]{48}$/.test(text)) return undefined;
  const [xCoordinate = 0, yCoordinate = 0, localError = 0] = [0, 16, 32].map((at) =>
    Buffer.from(reversed(text.slice(at, at + 16)), 'hex').readDoubleBE(),
  );
  return { xCoordinate, yCoordinate, localError };
}

/** The inverse of `parseCoordinates`, as `xtreemfs.locations` shows it. */
export function formatCoordinates(coordinates: VivaldiCoordinates): string {
  return [coordinates.xCoordinate, coordinates.yCoordinate, coordinates.localError]
    .map((value) => {
      const bytes = Buffer.alloc(8);
      bytes.writeDoubleBE(value);
      return reversed(bytes.toString('hex').toUpperCase());
    })
    .join('');
}

function reversed(hex: string): string {
  return Array.from(hex).reverse().join('');
}

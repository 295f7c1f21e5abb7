import type { Random } from '#common/random.ts';
import type { VivaldiCoordinates } from '#proto/generated/xtreemfs/global-types.ts';
import type { Volume } from '../core/volume.ts';
import type { DatacenterMap } from './datacenter-map.ts';
import type { Osd, OsdCatalogue } from './osd-catalogue.ts';
import { policyById } from './policies.ts';

/** For whom and for what OSDs are chosen. */
export interface PlacementRequest {
  /** OSDs wanted in all. */
  readonly count: number;
  /** Address of the client. */
  readonly client: string;
  readonly coordinates: VivaldiCoordinates | undefined;
  /** Path of the file inside its volume; '' when unknown. */
  readonly path: string;
  /** OSDs that must not be taken (they have a replica already). */
  readonly without: readonly string[];
}

/** What one policy in the chain works with. */
export interface PolicyContext {
  readonly request: PlacementRequest;
  readonly random: Random;
  readonly datacenters: DatacenterMap;
  readonly nowMs: number;
  /** An attribute of this policy: `<id>.<key>` of the volume, else `<key>`. */
  attribute(key: string): string | undefined;
  /** All attributes of this policy by key. */
  readonly attributes: ReadonlyMap<string, string>;
}

/** Whether OSD uuids or free space can be had: what the operations ask of placement. */
export interface Placement {
  /** OSDs for new replicas, best first; fewer than asked when there are not enough. */
  choose(volume: Volume, request: PlacementRequest): string[];
  /** Whether `choose` would find enough if no OSD were full. */
  lacksSpace(volume: Volume, request: PlacementRequest): boolean;
  /** The given OSDs (head OSDs of replicas) in the order that is best for the client. */
  order(volume: Volume, osds: readonly string[], client: Pick<PlacementRequest, 'client' | 'coordinates'>): string[];
  /** OSDs that pass the volume's filters now. */
  usable(volume: Volume): Osd[];
  find(uuid: string): Osd | undefined;
}

/** Ids of the policies that only drop OSDs. */
const isFilter = (id: number): boolean => id < 2000;

/** Runs a volume's chain of policies (protocol reference, section 9.3) over the OSDs that the DIR knows. */
export class ChainPlacement implements Placement {
  private readonly catalogue: OsdCatalogue;
  private readonly random: Random;
  private readonly nowMs: () => number;
  private readonly datacenters: DatacenterMap;

  constructor(options: { catalogue: OsdCatalogue; random: Random; nowMs: () => number; datacenters: DatacenterMap }) {
    this.catalogue = options.catalogue;
    this.random = options.random;
    this.nowMs = options.nowMs;
    this.datacenters = options.datacenters;
  }

  choose(volume: Volume, request: PlacementRequest): string[] {
    const taken = new Set(request.without);
    const free = this.catalogue.all().filter((osd) => !taken.has(osd.uuid));
    return this.run(volume, volume.osdPolicies, free, request)
      .slice(0, request.count)
      .map((osd) => osd.uuid);
  }

  lacksSpace(volume: Volume, request: PlacementRequest): boolean {
    const taken = new Set(request.without);
    const roomy = this.catalogue.all().map((osd) => ({ ...osd, usableBytes: Number.MAX_SAFE_INTEGER }));
    const free = roomy.filter((osd) => !taken.has(osd.uuid));
    return this.run(volume, volume.osdPolicies, free, request).length >= request.count;
  }

  order(volume: Volume, osds: readonly string[], client: Pick<PlacementRequest, 'client' | 'coordinates'>): string[] {
    const known = osds.map((uuid) => this.catalogue.find(uuid)).filter((osd) => osd !== undefined);
    const request = { ...client, count: osds.length, path: '', without: [] };
    const sorted = this.run(volume, volume.replicaPolicies, known, request).map((osd) => osd.uuid);
    return [...sorted, ...osds.filter((uuid) => !sorted.includes(uuid))];
  }

  usable(volume: Volume): Osd[] {
    const request = { count: Number.MAX_SAFE_INTEGER, client: '', coordinates: undefined, path: '', without: [] };
    return this.run(volume, volume.osdPolicies.filter(isFilter), this.catalogue.all(), request);
  }

  find(uuid: string): Osd | undefined {
    return this.catalogue.find(uuid);
  }

  private run(volume: Volume, ids: readonly number[], osds: readonly Osd[], request: PlacementRequest): Osd[] {
    let chosen = [...osds];
    for (const id of ids) {
      const policy = policyById.get(id);
      if (policy === undefined) continue; // set by a newer MRC; the rest of the chain still holds
      const attributes = attributesOf(volume, id);
      chosen = policy(chosen, {
        request,
        random: this.random,
        datacenters: this.datacenters,
        nowMs: this.nowMs(),
        attributes,
        attribute: (key) => attributes.get(key),
      });
    }
    return chosen;
  }
}

function attributesOf(volume: Volume, id: number): Map<string, string> {
  const own = new Map<string, string>();
  for (const [name, value] of Object.entries(volume.policyAttributes)) {
    if (!/^[0-9]+\./.test(name)) own.set(name, value);
  }
  const prefix = `${id}.`;
  for (const [name, value] of Object.entries(volume.policyAttributes)) {
    if (name.startsWith(prefix)) own.set(name.slice(prefix.length), value);
  }
  return own;
}
